"""A file of cases: pairs of images, and what comes with each; read strictly."""

import csv
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

from landmark_dir.errors import BadPoints, LandmarkDirError
from landmark_dir.io.point_files import read_pairs
from landmark_dir.io.text_files import read_text

PAIRS = ("points", "labels", "mask")  # optional columns, each for fixed and moving
COLUMNS = ("case", *(f"{side}_{what}" for what in PAIRS for side in ("fixed", "moving")))
NEEDED = ("fixed", "moving")
SAFE_NAME = re.compile(r"(?!comparison\.)\w([\w.-]*\w)?", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """One pair to compare: a name that is a folder name, and files by the name of their column."""

    name: str
    files: dict[str, Path]

    def both(self, what: str) -> tuple[Path, Path] | None:
        """Fixed and moving file of points or labels, if given."""
        found = [self.files.get(f"{side}_{what}") for side in NEEDED]
        return None if found[0] is None or found[1] is None else (found[0], found[1])


def read_cases(path: str | Path) -> list[Case]:
    """Read a CSV file of cases; relative paths are relative to it.

    Columns `fixed` and `moving`, and any of `COLUMNS`. Without `case` the cases are named by their
    number.

    Raises
    ------
    LandmarkDirError
        If the header or a row is not as expected, a name is not safe or comes twice, or a file is
        not there; the message names the line.
    """
    path = Path(path)
    lines = _csv_lines(path)
    if not lines:
        raise LandmarkDirError(f"{path}: is empty; expected a header with fixed,moving")
    header = _checked_header(lines[0][1], path)
    if not lines[1:]:
        raise LandmarkDirError(f"{path}: holds no case below its header")
    cases: dict[str, Case] = {}
    for line, row in lines[1:]:
        where = f"{path}, line {line}"
        case = _case(header, row, f"case{len(cases) + 1:02d}", where, path.parent)
        if case.name.lower() in cases:  # some file systems do not tell them apart
            raise LandmarkDirError(f"{where}: the name {case.name} comes twice")
        cases[case.name.lower()] = case
    return list(cases.values())


def _csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and stripped cells of each row that is not blank."""
    try:
        text = read_text(path).removeprefix("\ufeff")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except BadPoints as error:
        raise LandmarkDirError(f"{error}; expected a CSV file in UTF-8") from error
    except csv.Error as error:
        raise LandmarkDirError(f"{path}: expected a CSV file in UTF-8 ({error})") from error
    return [(line, row) for line, row in rows if any(row)]


def _checked_header(header: list[str], path: Path) -> list[str]:
    allowed = (*NEEDED, *COLUMNS)
    if unknown := [name for name in header if name not in allowed]:
        raise LandmarkDirError(
            f"{path}, line 1: unknown column {unknown[0]!r}; expected some of {','.join(allowed)}"
        )
    if missing := [name for name in NEEDED if name not in header]:
        raise LandmarkDirError(f"{path}, line 1: column {missing[0]} is missing")
    if len(set(header)) < len(header):
        raise LandmarkDirError(f"{path}, line 1: a column comes twice")
    return header


def _case(header: list[str], row: list[str], number: str, where: str, folder: Path) -> Case:
    if len(row) != len(header):
        raise LandmarkDirError(f"{where}: {len(row)} cells, but the header has {len(header)}")
    cells = {name: cell for name, cell in zip(header, row, strict=True) if cell}
    name = cells.pop("case", number)
    if not SAFE_NAME.fullmatch(name):
        raise LandmarkDirError(
            f"{where}: the case {name!r} becomes a folder; expected letters, digits, . _ and -"
        )
    for needed in NEEDED:
        if needed not in cells:
            raise LandmarkDirError(f"{where}: no {needed} image")
    case = Case(name, {column: folder / cell for column, cell in cells.items()})
    _check_files(case, where)
    return case


def _check_files(case: Case, where: str) -> None:
    """Refuse what is not there, half a pair, and point files that cannot be read."""
    for column, file in case.files.items():
        # unlike those of Path, these take a name that no file can have
        if not (os.path.isfile(file) or (column in NEEDED and os.path.isdir(file))):
            raise LandmarkDirError(f"{where}: {column} {file}: no such file")
    for what in ("points", "labels"):
        given = [f"{side}_{what}" for side in NEEDED if f"{side}_{what}" in case.files]
        if len(given) == 1:
            raise LandmarkDirError(f"{where}: {given[0]} alone; expected both sides or neither")
    if points := case.both("points"):
        try:
            read_pairs(*points)
        except LandmarkDirError as error:
            raise LandmarkDirError(f"{where}: {error}") from error
