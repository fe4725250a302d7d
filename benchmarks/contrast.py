"""TRE where grey values are not those of CT: `python -m benchmarks.contrast`.

The simulated follow-ups of `benchmarks.followups`, whose images are shown as another modality may
show them (`training.followups.modality`): both by one MR-like curve, by two different ones, or the
moving one as a cone-beam CT. Registered without and with landmarks on the same affine stage,
parameter file, seed and threads; TRE at the same points of known truth.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from benchmarks.common import arm, markdown, session, sources, swept
from benchmarks.followups import TRUTHS, truth
from landmark_dir.errors import LandmarkDirError
from landmark_dir.evaluation.metrics import summarise
from landmark_dir.evaluation.verdict import residual_mm
from landmark_dir.io.volumes import read_volume
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import landmarks_for
from training.followups.modality import as_modality
from training.followups.motion import MOTIONS
from training.followups.pair import FollowUp, make_follow_up

CONTRASTS: dict[str, tuple[str | None, str | None]] = {  # of the fixed and the moving image
    "ct": (None, None),
    "mr": ("mr-t1", "mr-t1"),
    "two mr": ("mr-t1", "mr-t2"),
    "ct, cone beam": (None, "cbct"),
    "ct, mr": (None, "mr-t1"),
}


def shown(pair: FollowUp, contrast: str, seed: int) -> tuple[sitk.Image, sitk.Image]:
    """Both images of a pair in a contrast."""
    fixed, moving = CONTRASTS[contrast]
    return (
        pair.fixed if fixed is None else as_modality(pair.fixed, fixed, 2 * seed),
        pair.moving if moving is None else as_modality(pair.moving, moving, 2 * seed + 1),
    )


def measure(pair: FollowUp, contrast: str, seed: int, options: RegisterOptions) -> dict[str, Any]:
    """Both arms of one pair in such images; if it is refused, why."""
    truths = truth(pair, TRUTHS, 1000 + seed)
    found: dict[str, Any] = {}
    try:
        inputs = load_inputs(*shown(pair, contrast, seed), options)
        with session(inputs, options) as opened:
            found["affine"] = summarise(residual_mm(opened.affine_chain, truths))._asdict()
            landmarks = landmarks_for(opened)
            guides = landmarks.guiding
            off = np.linalg.norm(guides.moving - pair.to_moving(guides.fixed), axis=1)
            found |= {"guides": len(off), "guides_median": float(np.median(off))}
            for name, used in (("without", landmarks.only_held_back()), ("with", landmarks)):
                result = arm(opened, name, used)
                found[name] = summarise(residual_mm(result.chain, truths))._asdict()
                found[name] |= result.verdict.described()
    except LandmarkDirError as error:
        found["refused"] = str(error)
    return found


def table(cases: list[dict[str, Any]]) -> str:
    """Means over the volumes, a row for each motion and contrast."""
    header = ["motion", "images", "cases", "refused", "guides", "off, median", "without, mean"]
    header += ["with, mean", "median", "p95", "with / with of CT", "verdicts with"]
    rows: list[list[object]] = []
    for motion in dict.fromkeys(case["motion"] for case in cases):
        of_motion = [c for c in cases if c["motion"] == motion]
        ct = {c["name"]: c["with"]["mean"] for c in of_motion if c["contrast"] == "ct"}
        for contrast in dict.fromkeys(case["contrast"] for case in of_motion):
            of = [c for c in of_motion if c["contrast"] == contrast]
            done = [c for c in of if "with" in c]
            cells = _cells(done, ct) if done else ["-"] * 8
            rows.append([motion, contrast, len(of), len(of) - len(done), *cells])
    return markdown(header, rows)


def _cells(cases: list[dict[str, Any]], ct: dict[str, float]) -> list[object]:
    """Figures of the cases that were registered; `ct` is what each reaches in CT, mm."""
    in_ct = [ct[c["name"]] for c in cases if c["name"] in ct]
    mean = np.mean([c["with"]["mean"] for c in cases])
    verdicts = [c["with"]["verdict"] for c in cases]
    return [
        f"{np.mean([c['guides'] for c in cases]):.0f}",
        f"{np.mean([c['guides_median'] for c in cases]):.2f}",
        f"{np.mean([c['without']['mean'] for c in cases]):.2f}",
        f"{mean:.2f}",
        *(f"{np.mean([c['with'][k] for c in cases]):.2f}" for k in ("median", "p95")),
        f"{mean / np.mean(in_ct):.2f}" if len(in_ct) == len(cases) else "-",
        ", ".join(f"{verdicts.count(one)} {one}" for one in dict.fromkeys(verdicts)),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; `--keep FILE` keeps what is measured, and goes on from there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--choosing", action="store_true", help="training volumes, other seeds")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--motions", nargs="+", choices=MOTIONS, default=list(MOTIONS))
    parser.add_argument("--contrasts", nargs="+", choices=CONTRASTS, default=list(CONTRASTS))
    parser.add_argument("--keep", type=Path, help="JSON file of the cases measured so far")
    args = parser.parse_args(arguments)
    options = RegisterOptions.of(threads=args.threads, weights=args.weights)

    def make(path: Path, motion: str, seed: int) -> FollowUp:
        return make_follow_up(read_volume(path), motion, seed)

    def found(pair: FollowUp, contrast: str, seed: int) -> dict[str, Any]:
        return measure(pair, contrast, seed, options)

    how = args.motions, args.contrasts, "contrast", make, found, args.keep
    cases = swept(sources(choosing=args.choosing), *how)
    print(table(cases))


if __name__ == "__main__":
    main()
