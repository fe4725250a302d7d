"""Comparisons as text and as CSV, from the figures that `comparison.json` holds."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmark_dir.evaluation.statistics import LEAST_FOR_P
from landmark_dir.io.text_files import write_rows

if TYPE_CHECKING:
    from landmark_dir.report.content import Answer

ARMS = ("without", "with")  # landmarks; each names a run folder
AFTER = ("affine", *ARMS)
STATES = ("before", *AFTER)
TITLES = {"tre_mm": "TRE (mm)", "held_back_mm": "held back (mm)"}
MEANS = TITLES | {"mean_dice": "Dice"}
SUMMARY = {"mean": "mean", "median": "median", "p95": "p95", "worst30": "worst 30 %", "max": "max"}
NO_TRUTH = (
    "Held-back landmarks come from the network that guides: no independent truth, in its favour."
)
HOW_TO_MEASURE = "Give expert points (--expert) or label maps (--labels) to measure it."
NOT_INDEPENDENT = (
    "Over points of one patient, which are not independent: interval and p look too certain."
)
OVER_CASES = (
    "Each case counts once, with its mean. Difference: with - without; interval: Student's t; "
    f"p: signed-rank test, two-sided, from {LEAST_FOR_P} cases on."
)


def pair_table(figures: dict[str, Any]) -> str:
    """All figures of one pair: a block for each kind of reference, and what they are worth."""
    states, differences = figures["states"], figures["with_minus_without"]
    blocks = [
        f"{_points_block(states, name)}\n{difference_line(differences[name])}"
        for name in TITLES
        if name in differences
    ]
    if "labels" in states["with"]:
        blocks.append(_labels_block(states))
    blocks.append(_images_block(states))
    notes = _notes(differences)
    return "\n\n".join(blocks + ["\n".join(notes)] * bool(notes))


def page_tables(figures: dict[str, Any]) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The same for the page: title, header and rows of each table, as on the terminal."""
    states, differences = figures["states"], figures["with_minus_without"]
    tables: list[tuple[str, list[str], list[list[Any]]]] = []
    for name, title in TITLES.items():
        if name in differences:
            rows: list[list[Any]] = _points_rows(states, name)
            tables.append(
                (title, ["", *SUMMARY.values()], [*rows, [difference_line(differences[name])]])
            )
    if "labels" in states["with"]:
        head, *rows = _labels_rows(states)
        names = ["Dice"] * 4 + ["HD95 (mm)"] * 4 + ["volume (ml)"] * 4
        named = [f"{of}, {state}" for of, state in zip(names, head[1:], strict=True)]
        tables.append(("Labels", [head[0], *named], rows))
    head, *rows = _images_rows(states)
    return [*tables, ("Images, transform and time", head, rows)]


def page_answer(figures: dict[str, Any]) -> "Answer":
    """Whether landmarks helped, by how much, how sure that is, and what to keep in mind."""
    from landmark_dir.report.content import Answer  # the page is slow to load

    differences = figures["with_minus_without"]
    name = next((name for name in TITLES if name in differences), None)
    if name is None:
        return Answer("Whether landmarks helped was not measured", [HOW_TO_MEASURE], [])
    difference, states = differences[name], figures["states"]
    without, with_ = (number(states[arm][name]["mean"]) for arm in ARMS)
    lines = [
        f"{TITLES[name]}: mean {without} without, {with_} with landmarks.",
        f"{difference_line(difference)}.",
    ]
    return Answer(_helped(difference, name), lines, _notes(differences))


def _helped(difference: dict[str, Any], name: str) -> str:
    """The answer in a few words; the interval of the mean difference decides."""
    where = "" if name == "tre_mm" else ", as far as held-back landmarks tell"
    low, high, mm = difference["low"], difference["high"], number(abs(difference["mean"]))
    if difference["pairs"] < 2 or math.isnan(low):
        return "Too few points to say whether landmarks helped"
    if high < 0:
        return f"Landmarks helped: {mm} mm nearer on average{where}"
    if low > 0:
        return f"Landmarks did harm: {mm} mm farther off on average{where}"
    return f"No difference that is sure: landmarks neither helped nor harmed{where}"


def _notes(differences: dict[str, Any]) -> list[str]:
    """What the figures of one pair are worth."""
    notes = [NOT_INDEPENDENT] if differences else []
    return notes + [NO_TRUTH] * ("held_back_mm" in differences)


def _points_block(states: dict[str, Any], name: str) -> str:
    return aligned([[TITLES[name], *SUMMARY.values()], *_points_rows(states, name)])


def _points_rows(states: dict[str, Any], name: str) -> list[list[str]]:
    return [[state, *(number(states[state][name][key]) for key in SUMMARY)] for state in STATES]


def difference_line(difference: dict[str, Any]) -> str:
    """One line on `with - without` over points."""
    return (
        f"with - without {number(difference['mean'], signed=True)} mm, 95 % interval "
        f"{interval(difference)}, Wilcoxon {p_value(difference, 'points')}, "
        f"nearer at {difference['lower']} of {difference['pairs']} points"
    )


def _labels_block(states: dict[str, Any]) -> str:
    """A row for each label, a column for each state."""
    groups = ["Dice", "", "", "", "HD95 (mm)", "", "", "", "volume (ml)", "", "", ""]
    return aligned([["", *groups], *_labels_rows(states)])


def _labels_rows(states: dict[str, Any]) -> list[list[str]]:
    names = list(states["with"]["labels"])
    head = ["label", *STATES, *STATES, "fixed", *AFTER]
    rows = []
    for name in names:
        of = {state: states[state]["labels"][name] for state in STATES}
        rows.append(
            [
                name,
                *(number(of[state]["dice"], 3) for state in STATES),
                *(number(of[state]["hd95_mm"], 1) for state in STATES),
                number(of["with"]["fixed_ml"], 1),
                *(number(of[state]["warped_ml"], 1) for state in AFTER),
            ]
        )
    if len(names) > 1:
        means = [number(states[state]["mean_dice"], 3) for state in STATES]
        rows.append(["mean", *means, *[""] * 8])
    return [head, *rows]


def _images_block(states: dict[str, Any]) -> str:
    return aligned(_images_rows(states))


def _images_rows(states: dict[str, Any]) -> list[list[str]]:
    head = ["", "correlation", "folded", "SD log J", "landmarks", "seconds", "verdict"]
    rows = [[state, number(states[state]["correlation"], 3), *[""] * 5] for state in STATES[:2]]
    for arm in ARMS:
        of = states[arm]
        folded = number(100 * of["folded_share"])
        rows.append(
            [
                arm,
                number(of["correlation"], 3),
                f"{folded} %",
                number(of["sd_log_jacobian"], 3),
                str(of["landmarks"]),
                number(of["seconds"], 0),
                of["verdict"],
            ]
        )
    return [head, *rows]


def cases_table(cases: Sequence[dict[str, Any]], pooled: dict[str, dict[str, Any]]) -> str:
    """A row for each case with its mean figures, and what all of them say together."""
    kinds = {name: title for name, title in MEANS.items() if name in pooled}
    columns = [(name, state) for name in kinds for state in AFTER]
    groups = [title if state == AFTER[0] else "" for title in kinds.values() for state in AFTER]
    rows = [
        ["", *groups, *["folded", "", "seconds", "", "verdict"]],
        ["case", *(state for _, state in columns), *ARMS, *ARMS, "with"],
    ]
    done = [case for case in cases if "error" not in case]
    for case in done:
        states = case["states"]
        means = [_mean_text(states[state].get(name), name) for name, state in columns]
        folded = [f"{number(100 * states[arm]['folded_share'])} %" for arm in ARMS]
        seconds = [number(states[arm]["seconds"], 0) for arm in ARMS]
        rows.append([case["case"], *means, *folded, *seconds, states["with"]["verdict"]])
    failed = [f"{case['case']} failed: {case['error']}" for case in cases if "error" in case]
    blocks = [aligned(rows)] * bool(done) + ["\n".join(failed)] * bool(failed)
    return "\n\n".join(blocks + _pooled_blocks(pooled))


def _mean_text(figure: float | dict[str, float] | None, name: str) -> str:
    mean = figure["mean"] if isinstance(figure, dict) else figure
    return number(mean, _digits(name))


def _digits(name: str) -> int:
    return 3 if name == "mean_dice" else 2


POOLED_HEAD = [
    *("mean over cases", "cases", *ARMS, "difference", "95 % interval"),
    *("Wilcoxon", "better", "worse"),
]


def pooled_page_tables(
    pooled: dict[str, dict[str, Any]],
) -> list[tuple[str, list[str], list[list[Any]]]]:
    """What all cases say together, for a page; none where there is nothing to say."""
    if not pooled:
        return []
    rows: list[list[Any]] = [*_pooled_rows(pooled)]
    rows += [[note] for note in _pooled_notes(pooled)]
    return [("Without against with landmarks", POOLED_HEAD, rows)]


def _pooled_blocks(pooled: dict[str, dict[str, Any]]) -> list[str]:
    """Means over cases and their differences, and how they are made."""
    if not pooled:
        return []
    return [aligned([POOLED_HEAD, *_pooled_rows(pooled)]), "\n".join(_pooled_notes(pooled))]


def _pooled_notes(pooled: dict[str, dict[str, Any]]) -> list[str]:
    return [OVER_CASES] + [NO_TRUTH] * ("held_back_mm" in pooled)


def _pooled_rows(pooled: dict[str, dict[str, Any]]) -> list[list[str]]:
    rows = []
    for name, found in pooled.items():
        difference = found["with_minus_without"]
        better, worse = difference["lower"], difference["higher"]
        digits = _digits(name)
        if name == "mean_dice":
            better, worse = worse, better
        rows.append(
            [
                MEANS[name],
                str(difference["pairs"]),
                *(_mean_text(found[arm], name) for arm in ARMS),
                number(difference["mean"], digits, signed=True),
                interval(difference, digits),
                p_value(difference, "cases"),
                str(better),
                str(worse),
            ]
        )
    return rows


def interval(difference: dict[str, Any], digits: int = 2) -> str:
    """The confidence interval of a mean difference."""
    low, high = (number(difference[end], digits, signed=True) for end in ("low", "high"))
    return "-" if difference["pairs"] < 2 else f"{low} to {high}"


def p_value(difference: dict[str, Any], over: str) -> str:
    """The p-value, or why there is none; `over` says of what."""
    p = difference["p"]
    if p is None or math.isnan(p):
        return f"too few {over}"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A number for people; what is not known is a dash."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:{'+' if signed else ''}.{digits}f}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def write_figures(figures: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a row for each state of each comparison; one that failed has a row with `error`."""
    rows = [row for each in figures for row in _csv_rows(each)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_rows(path, columns, rows)


def _csv_rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    named: dict[str, Any] = {n: figures[n] for n in ("case", "error") if n in figures}
    states: dict[str, Any] = figures.get("states", {})
    return [named | {"state": s} | flat_figures(of) for s, of in states.items()] or [named]


def flat_figures(figures: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested names joined by underscores, six decimals; what is not a number is an empty cell."""
    flat: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            flat |= flat_figures(value, f"{prefix}{name}_")
        elif isinstance(value, list):
            flat[f"{prefix}{name}"] = "; ".join(map(str, value))
        elif isinstance(value, float):
            flat[f"{prefix}{name}"] = "" if math.isnan(value) else round(value, 6)
        else:
            flat[f"{prefix}{name}"] = value
    return flat
