"""TRE and verdict when landmarks are spoilt: `python -m benchmarks.corruption`.

Wrong pairs are put among the network's before anything is held back or rejected, in each pass:
a share of them replaced by random places within 40 mm, or neighbouring ones moved by 15 mm
together, so many that 50 of the 2,500 that elastix is given would be among them. Beside them pairs
of images that show no common anatomy.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.common import data_folder, markdown
from benchmarks.followups import truth
from landmark_dir.errors import LandmarkDirError
from landmark_dir.evaluation.metrics import summarise
from landmark_dir.evaluation.verdict import residual_mm
from landmark_dir.io.volumes import read_volume
from landmark_dir.matching.volumes import FixedVolume
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.registration.inputs import Volume
from landmark_dir.registration.pipeline import register
from landmark_dir.registration.result import Result
from training.followups.motion import MOTIONS
from training.followups.pair import make_follow_up

CASES = (("crlm-1004", "small", 2), ("sts-044", "large", 6))  # volume, motion, seed
RANDOM_MM = 40.0
CLUSTER, CLUSTER_MM = 50, 15.0
Spoil = Callable[[PointPairs], PointPairs]


def scattered(share: float) -> Spoil:
    """Replace a share of the moving points by random places around them."""

    def spoil(pairs: PointPairs) -> PointPairs:
        rng = np.random.default_rng(0)
        wrong = rng.random(len(pairs)) < share
        moving = pairs.moving.copy()
        moving[wrong] += rng.uniform(-RANDOM_MM, RANDOM_MM, (int(wrong.sum()), 3))
        return replace(pairs, moving=moving)

    return spoil


def cluster(pairs: PointPairs) -> PointPairs:
    """Move neighbours by 15 mm together: of all pairs the share that 50 are of elastix's."""
    rng = np.random.default_rng(0)
    middle = pairs.fixed[rng.integers(len(pairs))]
    count = round(len(pairs) * CLUSTER / RegisterOptions().most_landmarks())
    near = np.argsort(np.linalg.norm(pairs.fixed - middle, axis=1))[:count]
    moving = pairs.moving.copy()
    moving[near] += np.array([0.0, 0.0, CLUSTER_MM])
    return replace(pairs, moving=moving)


SPOILT: dict[str, Spoil] = {
    "as found": lambda pairs: pairs,
    "5 % random": scattered(0.05),
    "20 % random": scattered(0.2),
    "cluster of 50, 15 mm off": cluster,
}


def spoilt_run(fixed: Volume, moving: Volume, spoil: Spoil, options: RegisterOptions) -> Result:
    """Register with spoilt landmarks; the run folder is gone afterwards."""
    find = FixedVolume.match

    def match(*images: Any, **how: Any) -> PointPairs:
        return spoil(find(*images, **how))

    with (
        patch.object(FixedVolume, "match", match),
        tempfile.TemporaryDirectory() as scratch,
    ):
        return register(fixed, moving, Path(scratch) / "run", options)


def measure(name: str, motion: str, seed: int, options: RegisterOptions) -> list[dict[str, Any]]:
    """One pair with landmarks as found and spoilt."""
    volume = read_volume(data_folder() / "ct" / "validation" / f"{name}.nii.gz")
    pair = make_follow_up(volume, motion, seed)
    truths = truth(pair, 4000, 1000 + seed)
    found = []
    for what, spoil in SPOILT.items():
        result = spoilt_run(pair.fixed, pair.moving, spoil, options)
        error = summarise(residual_mm(result.chain, truths))
        said = {"verdict": result.verdict.verdict, "reasons": result.verdict.reasons}
        found.append({"case": f"{name}, {motion}", "landmarks": what} | error._asdict() | said)
    return found


def every_follow_up() -> list[tuple[str, str, int]]:
    """Those of `benchmarks.followups`."""
    volumes = sorted((data_folder() / "ct" / "validation").glob("*.nii.gz"))
    names = [path.name.split(".")[0] for path in volumes]
    return [(name, motion, seed) for motion in MOTIONS for seed, name in enumerate(names)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables; `--keep FILE` keeps what is measured, and goes on from there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", action="store_true", help="all 14 simulated follow-ups")
    parser.add_argument("--keep", type=Path, help="JSON file of the cases measured so far")
    args = parser.parse_args(arguments)
    options = RegisterOptions.of(threads=args.threads)
    kept = args.keep is not None and args.keep.is_file()
    cases: list[dict[str, Any]] = json.loads(args.keep.read_text()) if kept else []
    done = {case["case"] for case in cases}
    for name, motion, seed in every_follow_up() if args.every else CASES:
        if f"{name}, {motion}" in done:
            continue
        cases += measure(name, motion, seed, options)
        if args.keep is not None:
            args.keep.write_text(json.dumps(cases))
    rows: list[list[object]] = [
        [
            case["case"], case["landmarks"], f"{case['mean']:.2f}", f"{case['p95']:.2f}",
            case["verdict"], "; ".join(case["reasons"]),
        ]
        for case in cases
    ]  # fmt: skip
    print(markdown(["case", "landmarks", "mean TRE", "p95", "verdict", "reasons"], rows))
    print(f"\n{strangers(data_folder() / 'ct' / 'validation', options)}")


def strangers(folder: Path, options: RegisterOptions) -> str:
    """What is said of two patients, and of a pair cut so that nothing is seen in both."""
    patients = [read_volume(folder / f"{name}.nii.gz") for name in ("sts-044", "lidc-0001")]
    whole = read_volume(folder / "covidctmd-normal002.nii.gz")
    depth = whole.GetSize()[2]
    halves = whole[:, :, : depth // 2 - 5], whole[:, :, depth // 2 + 5 :]
    pairs = {"two patients, thigh and chest": patients, "two halves of one chest": halves}
    rows: list[list[object]] = []
    for name, (fixed, moving) in pairs.items():
        try:
            out = Path(tempfile.mkdtemp()) / "run"
            result = register(fixed, moving, out, options.but(align="centers"))
            rows.append([name, result.verdict.verdict, "; ".join(result.verdict.reasons)])
        except LandmarkDirError as error:
            rows.append([name, "refused", str(error)])
    return markdown(["pair", "verdict", "said"], rows)


if __name__ == "__main__":
    main()
