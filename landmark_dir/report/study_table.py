"""The cases of a study as the script of their page gets them: columns, rows, small pictures."""

import base64
import math
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

from landmark_dir.io.run_folder import ARMS, REPORT

Row: TypeAlias = Mapping[str, Any]
Previews: TypeAlias = Callable[[Row], Path | None]

NO_RESULT = "no result"
WORDS = (NO_RESULT, "failed", "doubtful", "not checked", "good")  # the worst first
PICTURED = ("failed", "doubtful")
STATES = ("before", "affine", *ARMS)
MEASURES = {  # name of a figure -> title, decimals
    "tre_mm_mean": ("TRE (mm)", 2),
    "held_back_mm_mean": ("held back (mm)", 2),
    "held_back_mm_median": ("held back, median (mm)", 2),
    "held_back_mm_p95": ("held back, 95 % (mm)", 2),
    "worst_cluster_mm": ("worst group (mm)", 2),
    "mean_dice": ("Dice", 3),
    "folded_share": ("folded (%)", 2),
    "correlation": ("correlation", 3),
    "landmarks": ("landmarks", 0),
    "seconds": ("seconds", 0),
}
KEY_FIGURES = (  # what is shown unless chosen otherwise: the first few that are there
    *(
        f"{arm}_{name}"
        for name in ("tre_mm_mean", "held_back_mm_mean", "mean_dice")
        for arm in ARMS
    ),
    *("tre_mm_mean", "held_back_mm_median", "held_back_mm_p95", "worst_cluster_mm", "mean_dice"),
    *("with_folded_share", "folded_share", "with_correlation", "correlation", "landmarks"),
)
MOST_KEY_FIGURES = 6
SECONDS = ("seconds", "with_seconds")
TOLD_APART = ("case", "folder", "state", "verdict", "reasons", "error")  # have places of their own
PREVIEW_CHARACTERS = 12_000_000  # of all pictures as base64: the page stays below 20 MB


class Column(NamedTuple):
    """A column of figures, or of what else is known of each case."""

    name: str
    title: str
    digits: int | None  # decimals; None: as it is
    shown: bool  # before anything is chosen


def word(row: Row) -> str:
    """The verdict of a case, `not checked` where it has none, `no result` where it failed."""
    if row["state"] == "failed":
        return NO_RESULT
    return row["verdict"] if row.get("verdict") in WORDS else "not checked"


def study_data(rows: Sequence[Row], previews: Previews) -> dict[str, Any]:
    """Everything that the script shows, the worst case first."""
    ordered = sorted(rows, key=lambda row: WORDS.index(word(row)))
    columns = columns_of(rows)
    return {
        "words": WORDS,
        "columns": [column._asdict() for column in columns],
        "rows": [_cells(row, columns) for row in ordered],
        "links": [_link(row) for row in ordered],
        "pictured": [WORDS.index(one) for one in PICTURED],
        "previews": _embedded(ordered, previews),
    }


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Key figures, seconds, then all else in the order of the rows; none that is always empty."""
    names = dict.fromkeys(
        name for row in rows for name, value in row.items() if known(value) is not None
    )
    others = [name for name in names if name not in TOLD_APART]
    key = [name for name in KEY_FIGURES if name in names][:MOST_KEY_FIGURES]
    key += [name for name in SECONDS if name in names][:1]
    return [
        Column(name, *_told(name), name in key)
        for name in (*key, *(name for name in others if name not in key))
    ]


def _told(name: str) -> tuple[str, int | None]:
    """Title and decimals of a column; one that is not known here keeps its name."""
    state, measure = _parts(name)
    if measure not in MEASURES:
        return name, 2 if "_mm" in name else None
    title, digits = MEASURES[measure]
    return f"{title}, {state}" if state else title, digits


def _parts(name: str) -> tuple[str, str]:
    """The state that a column is of, if any, and what it holds."""
    state, _, measure = name.partition("_")
    return (state, measure) if state in STATES else ("", name)


def known(value: Any) -> float | str | None:
    """A number or a text; None where there is none: an empty text, a number that is none."""
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    return None if value is None else str(value) or None


def figure(row: Row, name: str) -> float | None:
    """A number as it is shown, a share in percent; None where there is none."""
    value = known(row.get(name))
    if value is None or isinstance(value, str):
        return None
    return value * 100 if _parts(name)[1] == "folded_share" else value


def _cells(row: Row, columns: Sequence[Column]) -> list[Any]:
    """Case, number of the verdict, why, and a cell for each column."""
    why = row.get("error") if word(row) == NO_RESULT else row.get("reasons")
    cells = (_cell(row, column) for column in columns)
    return [str(row["case"]), WORDS.index(word(row)), known(why), *cells]


def _cell(row: Row, column: Column) -> Any:
    """A number with the digits that are shown, or a text."""
    number = figure(row, column.name)
    if number is None:
        return known(row.get(column.name))
    number = float(f"{number:.4g}") if column.digits is None else round(number, column.digits)
    return int(number) if number.is_integer() else number


def _link(row: Row) -> str | None:
    """Where the report of a case is, relative to the page."""
    folder = row.get("folder")
    done = folder and row["state"] == "done"
    return f"./{quote(os.fsencode(f'{folder}/{REPORT}'))}" if done else None


def _embedded(rows: Sequence[Row], previews: Previews) -> dict[int, str]:
    """Number of a row -> its picture as base64, as many as there is room for."""
    found: dict[int, str] = {}
    left = PREVIEW_CHARACTERS
    for number, row in enumerate(rows):
        if word(row) not in PICTURED:
            continue
        picture = _base64(previews(row))
        left -= len(picture)
        if left < 0:
            break
        if picture:
            found[number] = picture
    return found


def _base64(path: Path | None) -> str:
    """Content of a file; nothing where it cannot be read."""
    try:
        return base64.b64encode(path.read_bytes()).decode() if path else ""
    except OSError:
        return ""
