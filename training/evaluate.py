"""Measure matchers on pairs of slices: `python -m training.evaluate --pack packs/ct -o runs/eval`.

Each matcher sees the same pairs with known correspondence ([paper] sec. 3), SIFT included; errors
are those of all its matches, in the body or not. Real follow-up pairs without truth are judged by
how well each match agrees with its neighbours. The folder gets `table.md`, `pairs.csv`,
`errors.npz`, figures 2 and 3 of the paper, `reliability.png` of the scores, and, last,
`evaluation.json`.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landmark_dir.errors import LandmarkDirError
from landmark_dir.io.run_folder import write_json
from training.data import pack
from training.evaluation import baselines, testsets
from training.evaluation.figures import write_figure_2, write_figure_3, write_reliability
from training.evaluation.matchers import Array, collect_matchers
from training.evaluation.measures import (
    CORRECT_MM,
    FOLLOWUP,
    PairResult,
    SetRun,
    evaluate_followup,
    evaluate_set,
    pooled,
)
from training.evaluation.tables import group, machine, report, scored

PAIR_COLUMNS = (
    *("set", "matcher", "pair", "patient", "matches", "median_mm", "rounded_median_mm"),
    *("correct_or_agreeing", "body_covered", "ms"),
)


def pair_row(result: PairResult) -> list[object]:
    """The line of `pairs.csv`; empty cells where there is no truth or no match."""
    medians = [
        f"{np.median(error):.4f}" if len(error) else ""
        for error in (result.error_mm, result.rounded_mm)
    ]
    covered = "" if np.isnan(result.covered) else f"{result.covered:.4f}"
    found = [len(result.agrees), *medians, int(result.agrees.sum()), covered, f"{result.ms:.1f}"]
    return [result.set, result.matcher, result.pair, result.patient, *found]


def write_results(folder: Path, runs: Mapping[str, SetRun], about: Mapping[str, Any]) -> str:
    """Write all files, `evaluation.json` last: a folder without it is not finished.

    Returns
    -------
    str
        The text of `table.md`.
    """
    text = report(runs)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").unlink(missing_ok=True)
    (folder / "table.md").write_text(text)
    with (folder / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [PAIR_COLUMNS, *(pair_row(r) for run in runs.values() for r in run.results)]
        )
    by_set: dict[str, dict[str, Array]] = {}
    for (kind, matcher), part in group(r for run in runs.values() for r in run.results).items():
        if kind != FOLLOWUP:
            by_set.setdefault(kind, {})[matcher] = pooled(part)
    arrays = {f"{kind}/{name}": error for kind, of in by_set.items() for name, error in of.items()}
    np.savez_compressed(folder / "errors.npz", **arrays)  # type: ignore[arg-type]
    if by_set:
        write_figure_2(by_set, folder / "figure2.png")
        made = [r for kind, run in runs.items() if kind != FOLLOWUP for r in run.results]
        write_reliability(scored(made), folder / "reliability.png")
    for kind, run in runs.items():
        right = "agree" if kind == FOLLOWUP else f"within {CORRECT_MM:g} mm"
        write_figure_3(run.examples, right, folder / f"figure3-{kind}.png")
    write_json(folder / "evaluation.json", dict(about))
    return text


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in ("landmark_dir", "torch", "numpy", "scipy", "opencv-python-headless"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def evaluate(args: argparse.Namespace) -> str:
    """Do what the command line asks for; the text of `table.md`."""
    if args.out.exists() and not args.overwrite:
        raise LandmarkDirError(
            f"{args.out} exists already; name another folder or give --overwrite"
        )
    if unknown := set(args.sets) - set(testsets.SETS):
        raise LandmarkDirError(
            f"sets: expected some of {', '.join(testsets.SETS)}, found {', '.join(sorted(unknown))}"
        )
    matchers, sha256 = collect_matchers(
        args.weights, args.matcher, with_baselines=not args.no_baselines
    )
    slices = pack.read_pack(args.pack, "validation")
    chosen = testsets.choose_slices(slices, args.per_patient)
    if not chosen:
        raise LandmarkDirError(
            f"{args.pack}: expected validation slices that show a body and have a neighbour 2 to"
            " 5 mm away, as followup needs; found none"
        )
    runs = {kind: evaluate_set(kind, slices, chosen, matchers, args.seed) for kind in args.sets}
    if args.followup_slices:
        runs[FOLLOWUP] = evaluate_followup(args.followup_slices, matchers)
    about = {
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "pack_sha256": pack.pack_hash(args.pack),
        "pairs": len(chosen),
        "weights_sha256": sha256,
        "versions": _versions(),
        "machine": machine(),
    }
    return write_results(args.out, runs, about)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--pack", type=Path, required=True, help="folder; its validation slices are used")
    add("-o", "--out", type=Path, required=True, help="folder to create")
    add("--overwrite", action="store_true")
    add("--weights", nargs="*", default=["default", "paper"], help="shipped names or files")
    add("--matcher", nargs="*", default=[], help="module:function, (hu_1, hu_2) -> (xy_1, xy_2)")
    add("--no-baselines", action="store_true", help="leave SIFT out")
    add("--sets", type=lambda text: text.split(","), default=list(testsets.SETS), help="by commas")
    add("--per-patient", type=int, default=24, help="slices")
    add("--followup-slices", type=Path, help=".npz of real pairs, without truth")
    add("--threads", type=int, default=2)
    add("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    try:
        if not args.no_baselines:
            baselines.opencv().setNumThreads(args.threads)
        print(evaluate(args))
    except (LandmarkDirError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
