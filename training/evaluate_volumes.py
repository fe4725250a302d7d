"""Measure landmarks in 3D on simulated follow-ups, where the truth is known at every point.

    python -m training.evaluate_volumes CT... --weights default paper -o runs/volumes

Of each volume two follow-ups are made (`training.followups.pair`), of small and large motion;
landmarks are found as a user finds them: `landmark_dir.find_landmarks` with all defaults, elastix's
affine stage included. Errors are those of all pairs it returns, in mm in three dimensions. Motion
is what the best affine map leaves of the true displacement. The folder gets `table.md`, `pairs.csv`
and, last, `evaluation.json`.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmark_dir import RegisterOptions, find_landmarks
from landmark_dir.errors import LandmarkDirError
from landmark_dir.io.run_folder import sha256, write_json
from landmark_dir.io.volumes import read_volume
from landmark_dir.models.weights import find_weights
from landmark_dir.points import PointPairs
from training.evaluation.matchers import weights_name
from training.evaluation.measures import CORRECT_MM
from training.evaluation.tables import machine, markdown, reliability_table
from training.followups.motion import MOTIONS
from training.followups.pair import FollowUp, best_affine, make_follow_up, mapped

BINS_MM = ((0, 10), (10, 20), (20, 40))  # of motion
FAR_MM = 10.0  # an error that a registration cannot bear


@dataclass(frozen=True)
class Case:
    """What was found in one pair with one set of weights; each array [N].

    Attributes
    ----------
    error_mm : ndarray, shape (N, 3)
        Along x, y and through the fixed slices.
    motion_mm : ndarray, shape (N,)
    score : ndarray, shape (N,)
    """

    weights: str
    name: str
    error_mm: NDArray[np.float64]
    motion_mm: NDArray[np.float64]
    score: NDArray[np.float64]
    seconds: float


def judge(weights: str, name: str, pair: FollowUp, found: PointPairs, seconds: float) -> Case:
    """Errors and motion of the pairs found."""
    truth = pair.to_moving(found.fixed)
    axes = np.reshape(pair.fixed.GetDirection(), (3, 3))
    motion = np.linalg.norm(truth - mapped(best_affine(pair), found.fixed), axis=1)
    return Case(weights, name, (found.moving - truth) @ axes, motion, found.score, seconds)


def row(cases: Sequence[Case], low_mm: float = 0.0, high_mm: float = np.inf) -> list[object]:
    """Figures of the pairs of cases whose motion lies within limits."""
    error, motion = (
        np.concatenate([getattr(c, n) for c in cases]) for n in ("error_mm", "motion_mm")
    )
    error = error[(motion >= low_mm) & (motion < high_mm)]
    if not len(error):
        return [0, *["-"] * 7]
    total = np.linalg.norm(error, axis=1)
    return [
        len(error),
        float(np.median(total)),
        float(np.percentile(total, 95)),
        f"{100 * np.mean(total < CORRECT_MM):.1f}",
        f"{100 * np.mean(total > FAR_MM):.2f}",
        float(np.median(np.linalg.norm(error[:, :2], axis=1))),
        float(np.median(np.abs(error[:, 2]))),
        f"{np.median([case.seconds for case in cases]):.0f}",
    ]


def table(cases: Sequence[Case]) -> str:
    """A row per case, then pooled, then by motion; for each weights."""
    header = ["weights", "case", "pairs", "median, mm", "p95", f"< {CORRECT_MM:g} mm, %"]
    header += [f"> {FAR_MM:g} mm, %", "in-plane, median", "through-plane, median", "s"]
    rows: list[list[object]] = []
    for weights in dict.fromkeys(case.weights for case in cases):
        of = [case for case in cases if case.weights == weights]
        rows += [[weights, case.name, *row([case])] for case in of]
        rows.append([f"**{weights}**", "all", *row(of)])
        rows += [
            [f"**{weights}**", f"moved {low} - {high} mm", *row(of, low, high)]
            for low, high in BINS_MM
        ]
    return markdown(header, rows)


def reliability(cases: Iterable[Case]) -> str:
    """How often pairs of each score are right, for each weights."""
    text = []
    by_weights: dict[str, list[Case]] = {}
    for case in cases:
        by_weights.setdefault(case.weights, []).append(case)
    for weights, of in by_weights.items():
        score = np.concatenate([case.score for case in of])
        error = np.concatenate([np.linalg.norm(case.error_mm, axis=1) for case in of])
        text.append(f"`{weights}`:\n\n{reliability_table(score, error < CORRECT_MM)}")
    return "\n\n".join(text)


def evaluate(
    volumes: Sequence[Path], weights: Sequence[str], motions: Sequence[str], threads: int
) -> list[Case]:
    """Find the landmarks of all follow-ups with all weights."""
    cases = []
    for number, path in enumerate(volumes):
        volume = read_volume(path)
        for motion in motions:
            pair = make_follow_up(volume, motion, seed=number)
            name = f"{path.name.split('.')[0]}, {motion}"
            for one in weights:
                started = time.monotonic()
                found = find_landmarks(
                    pair.fixed, pair.moving, RegisterOptions.of(weights=one, threads=threads)
                )
                seconds = time.monotonic() - started
                cases.append(judge(weights_name(one), name, pair, found, seconds))
                print(cases[-1].weights, name, *row(cases[-1:]), file=sys.stderr, flush=True)
    return cases


def write_results(folder: Path, cases: Sequence[Case], about: dict[str, object]) -> str:
    """Write all files, `evaluation.json` last; the text of `table.md`."""
    folder.mkdir(parents=True)
    text = f"{table(cases)}\n\nScores:\n\n{reliability(cases)}\n"
    (folder / "table.md").write_text(text)
    lines = ["weights,case,error_x_mm,error_y_mm,error_z_mm,motion_mm,score"]
    for case in cases:
        columns = np.column_stack([case.error_mm, case.motion_mm, case.score])
        name = case.name.replace(",", "")
        lines += [f"{case.weights},{name},{','.join(f'{v:.4f}' for v in one)}" for one in columns]
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    write_json(folder / "evaluation.json", about)
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("volumes", type=Path, nargs="+", metavar="CT")
    add("-o", "--out", type=Path, required=True, help="folder to create")
    add("--weights", nargs="+", default=["default"], help="shipped names or files")
    add("--motions", nargs="+", choices=MOTIONS, default=list(MOTIONS))
    add("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    if args.out.exists():
        sys.exit(f"error: {args.out} exists already; name another folder")
    try:
        hashes = {weights_name(one): sha256(find_weights(one)) for one in args.weights}
        cases = evaluate(args.volumes, args.weights, args.motions, args.threads)
        about = {
            "volumes": [path.name for path in args.volumes],
            "motions": args.motions,
            "weights_sha256": hashes,
            "machine": machine(),
            "threads": args.threads,
        }
        print(write_results(args.out, cases, about))
    except (LandmarkDirError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
