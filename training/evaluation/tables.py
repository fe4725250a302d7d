"""Tables in Markdown: of an evaluation, some beside the seed paper's numbers, and in general."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.evaluation import testsets
from training.evaluation.matchers import Array
from training.evaluation.measures import (
    AGREE_MM,
    CORRECT_MM,
    COVER_MM,
    FOLLOWUP,
    NEIGHBOURS,
    PairResult,
    SetRun,
    pooled,
)

WITHIN_MM, BEYOND_MM = (1, 2, 4, 8), (16, 64)
# [paper] table 1: matches a pair and error in mm, each for intensity, affine and elastic
PAPER_TABLE_1 = {
    "proposed approach": (
        ("639 (547 - 729)", "466 (391 - 555)", "370 (293 - 452)"),
        ("0.0 (0.0 - 0.0)", "1.0 (0.0 - 1.4)", "1.0 (1.0 - 1.4)"),
    ),
    "SIFT-InverseConsistency": (
        ("711 (594 - 862)", "610 (509 - 749)", "542 (450 - 670)"),
        ("1.0 (1.0 - 1.4)", "1.0 (1.0 - 1.4)", "1.0 (1.0 - 2.0)"),
    ),
    "SIFT-RatioTest": (
        ("698 (578 - 849)", "520 (426 - 663)", "418 (330 - 541)"),
        ("1.0 (1.0 - 1.4)", "1.0 (1.0 - 1.4)", "1.0 (1.0 - 1.4)"),
    ),
}
PAPER_SETS = ("intensity", "affine", "elastic")


def machine() -> str:
    """The processor and how many cores this process may use."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; floats get two decimals."""
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    lines += [" | ".join(_cell(value) for value in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def median_iqr(values: Sequence[float] | Array, digits: int) -> str:
    """`median (lower quartile - upper quartile)`, as the paper has it; "-" of nothing."""
    if not len(values):
        return "-"
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.{digits}f} ({low:.{digits}f} - {high:.{digits}f})"


def _share(hits: NDArray[np.bool_], digits: int = 1) -> str:
    return f"{100 * hits.mean():.{digits}f}" if len(hits) else "-"


def group(results: Iterable[PairResult]) -> dict[tuple[str, str], list[PairResult]]:
    """The results by set and matcher, in the order they came."""
    groups: dict[tuple[str, str], list[PairResult]] = {}
    for result in results:
        groups.setdefault((result.set, result.matcher), []).append(result)
    return groups


def main_table(results: Iterable[PairResult]) -> str:
    """A row per set and matcher; errors pooled over matches, counts over pairs."""
    header = ["set", "matcher", "pairs", "matches", "error, mm", "p95, mm"]
    header += [f"< {mm} mm, %" for mm in WITHIN_MM] + [f"> {mm} mm, %" for mm in BEYOND_MM]
    header += ["correct a pair", "body covered", "ms a pair"]
    return markdown(header, [[*key, *_main_row(part)] for key, part in group(results).items()])


def _main_row(part: list[PairResult]) -> list[object]:
    error = pooled(part)
    return [
        len(part),
        median_iqr([len(result.error_mm) for result in part], 0),
        median_iqr(error, 2),
        f"{np.percentile(error, 95):.2f}" if len(error) else "-",
        *(_share(error < mm) for mm in WITHIN_MM),
        *(_share(error > mm, 2) for mm in BEYOND_MM),
        f"{np.median([result.agrees.sum() for result in part]):.0f}",
        f"{np.mean([result.covered for result in part]):.2f}",
        f"{np.median([result.ms for result in part]):.0f}",
    ]


def paper_table(results: Iterable[PairResult]) -> str:
    """Table 1 of the paper as printed, and our rows under it, continuous and rounded."""
    header = ["", *(f"matches, {kind}" for kind in PAPER_SETS)]
    header += [f"error in mm, {kind}" for kind in PAPER_SETS]
    rows = [[f"published: {name}", *n, *mm] for name, (n, mm) in PAPER_TABLE_1.items()]
    groups = group(results)
    for matcher in dict.fromkeys(name for _, name in groups):
        parts = [groups.get((kind, matcher), []) for kind in PAPER_SETS]
        counts = [median_iqr([len(result.error_mm) for result in part], 0) for part in parts]
        for what, digits, label in (("error_mm", 2, "continuous"), ("rounded_mm", 1, "rounded")):
            found = [median_iqr(pooled(part, what), digits) for part in parts]
            rows.append([f"here: {matcher}, {label}", *counts, *found])
    return markdown(header, rows)


def followup_table(results: Iterable[PairResult]) -> str:
    """Matches of real pairs, and how many agree with their neighbours."""
    header = ["matcher", "pairs", "matches", "agreeing a pair", "agreeing, % of matches", "ms"]
    rows: list[list[object]] = []
    for (_, matcher), part in group(results).items():
        agrees = np.concatenate([result.agrees for result in part])
        rows.append(
            [
                matcher,
                len(part),
                median_iqr([len(result.agrees) for result in part], 0),
                median_iqr([int(result.agrees.sum()) for result in part], 0),
                _share(agrees),
                f"{np.median([result.ms for result in part]):.0f}",
            ]
        )
    return markdown(header, rows)


def moved_line(runs: Mapping[str, SetRun]) -> str:
    """How far the made pairs move the body, beside the paper's numbers; median (IQR)."""
    parts = []
    for kind, run in runs.items():
        if len(run.moved_mm):
            paper = testsets.PAPER_MM.get(kind)
            beside = f", paper {paper}" if paper else ""
            parts.append(f"{kind} {testsets.quartiles(run.moved_mm)}{beside}")
    return f"Displacement of the body, mm, median (IQR): {'; '.join(parts)}."


def report(runs: Mapping[str, SetRun]) -> str:
    """The text of `table.md`."""
    made = [r for kind, run in runs.items() if kind != FOLLOWUP for r in run.results]
    real = runs[FOLLOWUP].results if FOLLOWUP in runs else []
    parts = ["# Matching"]
    if made:
        parts += [
            "The slices are those of the validation patients of the pack. All matches count, "
            "inside the body or not. SIFT uses the grey scale of the network, or a soft tissue "
            "window where the table names it. Matches: median (IQR) over pairs. Errors and shares: "
            f"over the matches of all pairs. Correct: < {CORRECT_MM:g} mm, median. Body covered: "
            f"share of the body of image 1 within {COVER_MM:g} mm of a correct match, mean. The "
            "validation patients were used to choose the checkpoint of a trained network, so its "
            "figures here are validation figures, not test figures.",
            main_table(made),
            moved_line(runs),
            "## Beside table 1 of the paper",
            "Median (IQR). The paper used other images. It rounds points to whole pixels; the rows "
            'named "rounded" do the same.',
            paper_table(made),
        ]
        parts += scores_section(made)
    if real:
        parts += [
            f"## {FOLLOWUP}",
            f"Real prior and current slices, without truth. Agreeing: within {AGREE_MM:g} mm of "
            f"the affine motion that most of the {NEIGHBOURS} nearest other matches share.",
            followup_table(real),
        ]
    return "\n\n".join(parts) + "\n"


def scored(results: Iterable[PairResult]) -> dict[str, tuple[Array, NDArray[np.bool_]]]:
    """Scores and whether the matches are right, of all sets, by matcher that gives scores."""
    by_matcher: dict[str, list[PairResult]] = {}
    for result in results:
        if result.score is not None:
            by_matcher.setdefault(result.matcher, []).append(result)
    return {
        name: (
            np.concatenate([result.score for result in part if result.score is not None]),
            np.concatenate([result.agrees for result in part]),
        )
        for name, part in by_matcher.items()
    }


def scores_section(results: Sequence[PairResult]) -> list[str]:
    """What scores are worth, for each matcher that gives them."""
    parts = ["## Scores", "All sets together, all matches that the matcher returns."]
    for name, (score, right) in scored(results).items():
        parts += [f"{name}:", reliability_table(score, right)]
    return parts if len(parts) > 2 else []


def reliability_table(score: Array, right: NDArray[np.bool_]) -> str:
    """How often pairs [N] of each tenth of the score are right, beside what the score says."""
    tenth = (10 * score).astype(int).clip(0, 9)
    rows = [
        [
            f"{k / 10:.1f} - {(k + 1) / 10:.1f}",
            int(of.sum()),
            float(score[of].mean()),
            float(right[of].mean()),
        ]
        for k in range(10)
        if (of := tenth == k).any()
    ]
    return markdown(["score", "pairs", "mean score", "share within 2 mm"], rows)
