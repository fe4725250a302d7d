"""TRE on simulated follow-ups of the validation volumes: `python -m benchmarks.followups`.

Two pairs of each volume (`training.followups.pair`), small and large motion, registered without
and with landmarks on the same affine stage, parameter file, seed and threads, and with 2,500
perfect landmarks. TRE is taken at 4,000 points of known truth, which never guide. The set is
fixed by its seeds: of volume i (in order of names) seed i; settings were chosen on other seeds
(50 + i).
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arm, data_folder, markdown, session
from landmark_dir.evaluation.metrics import summarise
from landmark_dir.evaluation.statistics import paired_difference
from landmark_dir.evaluation.verdict import residual_mm
from landmark_dir.io.volumes import read_volume
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import Landmarks, landmarks_for
from training.followups.motion import MOTIONS
from training.followups.pair import FollowUp, make_follow_up, truth_points

ARMS = ("without", "with", "perfect")
TRUTHS, PERFECT = 4000, 2500  # points
SHOWN = ("mean", "median", "p95", "worst30")


def truth(pair: FollowUp, count: int, seed: int) -> PointPairs:
    """True correspondences."""
    return PointPairs(*truth_points(pair, count, seed), np.ones(count))


def measure(name: str, pair: FollowUp, seed: int, options: RegisterOptions) -> dict[str, Any]:
    """All arms of one case."""
    truths, perfect = truth(pair, TRUTHS, 1000 + seed), truth(pair, PERFECT, 2000 + seed)
    started = time.monotonic()
    inputs = load_inputs(pair.fixed, pair.moving, options)
    found: dict[str, Any] = {"case": name, "size": pair.fixed.GetSize()}
    with session(inputs, options) as opened:
        affine_s = time.monotonic() - started
        found["affine"] = summarise(residual_mm(opened.affine_chain, truths))._asdict()
        landmarks = landmarks_for(opened)
        seek_s = time.monotonic() - started - affine_s
        guides = landmarks.only_held_back(), landmarks, Landmarks.given(perfect)
        for one, used in zip(ARMS, guides, strict=True):
            started = time.monotonic()
            result = arm(opened, one, used)
            seconds = affine_s + (seek_s if one == "with" else 0) + time.monotonic() - started
            found[one] = summarise(residual_mm(result.chain, truths))._asdict() | {
                "folded": result.metrics["folded_share"],
                "seconds": seconds,
                "verdict": result.verdict.verdict,
                "reasons": result.verdict.reasons,
                "held_back": result.metrics["held_back_mm"],
            }
    return found


def table(cases: list[dict[str, Any]]) -> str:
    """A row for each case, then the mean over all of one motion."""
    header = ["case", *(f"{arm}, {name}" for arm in ARMS for name in SHOWN)]
    header += ["with / without", "folded, %", "verdict", "s, without", "s, with"]
    return markdown(header, [row(case["case"], [case]) for case in cases] + pooled(cases))


def pooled(cases: list[dict[str, Any]]) -> list[list[object]]:
    """Mean over the cases of each motion."""
    groups = {motion: [c for c in cases if f", {motion}" in c["case"]] for motion in MOTIONS}
    return [row(f"**mean, {motion}**", group) for motion, group in groups.items() if group]


def row(name: str, cases: list[dict[str, Any]]) -> list[object]:
    """Figures of one case, or their means over several."""

    def mean(arm: str, key: str) -> float:
        return float(np.mean([case[arm][key] for case in cases]))

    verdicts = sorted({case["with"]["verdict"] for case in cases})
    return [
        name,
        *(f"{mean(arm, key):.2f}" for arm in ARMS for key in SHOWN),
        f"{mean('with', 'mean') / mean('without', 'mean'):.2f}",
        f"{100 * max(case['with']['folded'] for case in cases):.2f}",
        ", ".join(verdicts),
        f"{mean('without', 'seconds'):.0f}",
        f"{mean('with', 'seconds'):.0f}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; `--keep FILE` keeps what is measured, and goes on from there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--motions", nargs="+", choices=MOTIONS, default=list(MOTIONS))
    parser.add_argument("--seed", type=int, default=0, help="added to each case's seed")
    parser.add_argument("--keep", type=Path, help="JSON file of the cases measured so far")
    args = parser.parse_args(arguments)
    options = RegisterOptions.of(preset=args.preset, threads=args.threads)
    kept = args.keep is not None and args.keep.is_file()
    cases: list[dict[str, Any]] = json.loads(args.keep.read_text()) if kept else []
    volumes = sorted((data_folder() / "ct" / "validation").glob("*.nii.gz"))
    for motion in args.motions:
        for number, path in enumerate(volumes):
            name = f"{path.name.split('.')[0]}, {motion}"
            if name in [case["case"] for case in cases]:
                continue
            seed = number + args.seed
            pair = make_follow_up(read_volume(path), motion, seed)
            cases.append(measure(name, pair, seed, options))
            if args.keep is not None:
                args.keep.write_text(json.dumps(cases))
    print(table(cases))
    without, with_ = (np.array([c[arm]["mean"] for c in cases]) for arm in ("without", "with"))
    p = paired_difference(with_, without).p
    worse = int((with_ > 1.02 * without).sum())
    print(f"\n{len(cases)} cases; paired Wilcoxon p = {p:.2g}; worse than 1.02 x: {worse}")


if __name__ == "__main__":
    main()
