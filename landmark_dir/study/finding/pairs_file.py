"""Found pairs as a CSV file that `read_cases` takes, what was left out beside it, and as text."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from landmark_dir.comparison.tables import aligned
from landmark_dir.errors import BadArgument, BadRunFolder
from landmark_dir.io.outputs import output_place, replacing
from landmark_dir.study.finding.find_pairs import FoundPair, FoundPairs, LeftOut, Side

COLUMNS = (
    *("case", "fixed", "moving", "fixed_series", "moving_series", "align", "patient", "days"),
    *("fixed_description", "moving_description", "fixed_slices", "moving_slices"),
    *("fixed_slice_mm", "moving_slice_mm", "in_common"),
)
LEFT_OUT = ".left-out.csv"
MOST_STEPS_UP = 2  # beyond, a relative path is harder to read than an absolute one, and as fragile
MOST_SHOWN = 40  # lines of what is left out, on screen


def pairs_files(out: Path, overwrite: bool = False) -> tuple[Path, Path]:
    """Return where the pairs and what is left out will be written.

    Raises
    ------
    BadArgument
        If `out` does not end in `.csv`.
    BadRunFolder
        If one is there already and not to be replaced, is a folder, or cannot be created.
    """
    if out.suffix.lower() != ".csv":
        raise BadArgument(f"out: expected a name that ends in .csv, found {out}")
    places = output_place(out), output_place(out.with_name(out.stem + LEFT_OUT))
    for place in places:
        if place.is_dir():
            raise BadRunFolder(f"{place} is a folder; name a file")
        if place.exists() and not overwrite:
            raise BadRunFolder(f"{place} exists already; name another, or add --overwrite")
    return places


def write_pairs(found: FoundPairs, out: str | Path, *, overwrite: bool = False) -> None:
    """Write the pairs to a CSV file, and what was left out to one beside it.

    Paths are relative to the folder of the file where the images lie in it, or up to two folders
    up; else absolute.

    Raises
    ------
    BadArgument, BadRunFolder
        As `pairs_files`, or if a file cannot be written.
    """
    place, beside = pairs_files(Path(out), overwrite)
    _write(place, COLUMNS, (_cells(pair, place.parent) for pair in found.pairs))
    _write(beside, LeftOut._fields, found.left_out)


def _write(place: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    try:
        with replacing(place) as partial:
            with partial.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(header)
                writer.writerows(rows)
    except OSError as error:
        raise BadRunFolder(f"{place}: cannot be written, {error.strerror}") from error


def _cells(pair: FoundPair, folder: Path) -> list[object]:
    sides = pair.fixed, pair.moving
    return [
        pair.case,
        *(_path(side.path, folder) for side in sides),
        *(side.series for side in sides),
        pair.align,
        pair.patient,
        "" if pair.days is None else pair.days,
        *(side.description for side in sides),
        *(side.slices for side in sides),
        *(f"{side.slice_mm:.4g}" for side in sides),
        f"{pair.in_common:.2f}",
    ]


def _path(path: Path, folder: Path) -> str:
    """A path as a cell has it; links are followed, so that `..` leads up where it is taken to."""
    real = os.path.realpath(path)
    relative = os.path.relpath(real, folder)
    return real if relative.split(os.sep).count(os.pardir) > MOST_STEPS_UP else relative


def pairs_table(pairs: Sequence[FoundPair]) -> str:
    """A row for each pair."""
    rows = [["case", "days", "align", "in common", "fixed", "", "moving", ""]]
    for pair in pairs:
        days = "-" if pair.days is None else str(pair.days)
        sides = _scan_cells(pair.fixed) + _scan_cells(pair.moving)
        rows.append([pair.case, days, pair.align, f"{pair.in_common:.0%}", *sides])
    return aligned(rows)


def _scan_cells(side: Side) -> list[str]:
    return [side.description or "-", f"{side.slices} x {side.slice_mm:.4g} mm"]


def left_out_text(left_out: Sequence[LeftOut], file: Path) -> str:
    """A line for each that was left out, as many as a person reads; `file` holds all."""
    lines = [_line(one) for one in left_out[:MOST_SHOWN]]
    if more := len(left_out) - len(lines):
        lines.append(f"... and {more} more in {file}")
    return "\n".join(["left out:", *(f"  {line}" for line in lines)])


def _line(one: LeftOut) -> str:
    exam = f"exam {one.exam}" if one.exam else ""
    return f"{', '.join(filter(None, (one.patient, exam, one.what)))}: {one.why}"
