"""A file of cases: pairs of images, and what comes with each; read strictly."""

import csv
import difflib
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from landmark_dir.errors import BadPoints, LandmarkDirError
from landmark_dir.io.point_files import read_pairs
from landmark_dir.io.text_files import hashed, read_text, write_rows
from landmark_dir.options import RegisterOptions

PAIRS = ("points", "labels", "mask")  # optional files, each for fixed and moving
SIDES = ("fixed", "moving")
TISSUES = ("rigid", "ignore", "ignore_moving")  # optional files of one case
FILES = (*SIDES, *(f"{side}_{what}" for what in PAIRS for side in SIDES), *TISSUES)
SERIES = tuple(f"{side}_series" for side in SIDES)
COLUMNS = ("case", *FILES, *SERIES, "align")  # all others are carried along
ALIKE = 0.85  # a column whose name is so like one of these is a slip
SAFE_NAME = re.compile(
    r"(?!(con|prn|aux|nul|com\d|lpt\d)(\.|$))[a-z0-9_]([\w.-]{0,78}\w)?", re.I | re.A
)
LARGEST_TABLE = 1 << 30  # bytes
MANY = 10_000  # cases; more are spread over folders


@dataclass(frozen=True)
class Case:
    """One pair: its name, its files, and what its row says besides.

    Attributes
    ----------
    name : str
        As in the file; any letters.
    files : dict
        Absolute paths by the name of their column, `fixed` and `moving` among them.
    series : dict
        `fixed_series`, `moving_series`: which DICOM series to read, where several lie there.
    align : str or None
        Where this case starts; None: as the options say.
    extra : dict
        The other cells, by the name of their column.
    spread : bool
        Its folder lies in one of 256, because there are very many.
    """

    name: str
    files: dict[str, Path]
    series: dict[str, str] = field(default_factory=dict)
    align: str | None = None
    extra: dict[str, str] = field(default_factory=dict)
    spread: bool = False

    @property
    def folder(self) -> str:
        """Its place among the folders of cases: a name that every file system takes."""
        name = folder_name(self.name)
        return f"{hashed(self.name)[:2]}/{name}" if self.spread else name

    def as_json(self) -> dict[str, Any]:
        """What the process that does it has to know, for JSON: not the cells carried along."""
        files = {name: str(path) for name, path in self.files.items()}
        return {"name": self.name, "files": files, "series": self.series, "spread": self.spread}

    @classmethod
    def of_json(cls, given: dict[str, Any]) -> "Case":
        """The case that `as_json` told of."""
        files = {name: Path(file) for name, file in given["files"].items()}
        return cls(**(given | {"files": files}))

    def both(self, what: str) -> tuple[Path, Path] | None:
        """Fixed and moving file of points or labels, if given."""
        found = [self.files.get(f"{side}_{what}") for side in SIDES]
        return None if found[0] is None or found[1] is None else (found[0], found[1])

    def options(self, options: RegisterOptions) -> RegisterOptions:
        """The options of all cases, changed as this one's row says."""
        return options if self.align is None else options.but(align=self.align)


def folder_name(name: str) -> str:
    """The name itself where it is safe on every file system, else what is safe of it and a hash."""
    if SAFE_NAME.fullmatch(name):
        return name
    kept = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:40]
    return f"{kept or 'case'}-{hashed(name)[:10]}"


def read_cases(path: str | Path, *, check_files: bool = True) -> list[Case]:
    """Read a CSV file of cases; relative paths are relative to it.

    Columns `fixed` and `moving`, and any of `COLUMNS`; all others are carried along. Without `case`
    the cases are named by their number.

    Parameters
    ----------
    check_files : bool
        Whether each file has to be there.

    Raises
    ------
    LandmarkDirError
        If the header or a row is not as expected, a name comes twice, or a file is not there; the
        message names the line.
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
        case = _case(header, row, f"case{len(cases) + 1:02d}", where, path.absolute().parent)
        if case.folder.lower() in cases:  # some file systems do not tell them apart
            raise LandmarkDirError(f"{where}: the name {case.name} comes twice")
        _check_halves(case, where)
        if check_files:
            check_files_of(case, where)
        cases[case.folder.lower()] = case
    return spread(list(cases.values()))


def spread(cases: Iterable[Case]) -> list[Case]:
    """The same cases; more than `MANY` get their folders below 256 others."""
    cases = list(cases)
    return [replace(case, spread=True) for case in cases] if len(cases) > MANY else cases


def _csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and stripped cells of each row that is not blank."""
    try:
        text = read_text(path, LARGEST_TABLE).removeprefix("\ufeff")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except BadPoints as error:
        raise LandmarkDirError(f"{error}; expected a CSV file in UTF-8") from error
    except csv.Error as error:
        raise LandmarkDirError(f"{path}: expected a CSV file in UTF-8 ({error})") from error
    return [(line, row) for line, row in rows if any(row)]


def _checked_header(header: list[str], path: Path) -> list[str]:
    if missing := [name for name in SIDES if name not in header]:
        hint = "; expected commas between the columns" if ";" in "".join(header) else ""
        raise LandmarkDirError(f"{path}, line 1: column {missing[0]} is missing{hint}")
    if len(set(header)) < len(header) or "" in header:
        raise LandmarkDirError(f"{path}, line 1: a column comes twice or has no name")
    for name in header:
        like = difflib.get_close_matches(name.lower(), COLUMNS, 1, ALIKE)
        if like and name not in COLUMNS:
            raise LandmarkDirError(
                f"{path}, line 1: column {name!r} looks like {like[0]!r}; name it so, or give it a "
                "name that is less like it"
            )
    return header


def _case(header: list[str], row: list[str], number: str, where: str, folder: Path) -> Case:
    if len(row) != len(header):
        raise LandmarkDirError(f"{where}: {len(row)} cells, but the header has {len(header)}")
    cells = dict(zip(header, row, strict=True))
    given = {name: cells[name] for name in COLUMNS if cells.get(name)}
    for needed in SIDES:
        if needed not in given:
            raise LandmarkDirError(f"{where}: no {needed} image")
    case = Case(
        given.get("case", number),
        {name: folder / given[name] for name in FILES if name in given},
        {name: given[name] for name in SERIES if name in given},
        given.get("align"),
        {name: cell for name, cell in cells.items() if name not in COLUMNS},
    )
    try:
        case.options(RegisterOptions())
    except LandmarkDirError as error:
        raise LandmarkDirError(f"{where}: {error}") from error
    return case


def _check_halves(case: Case, where: str) -> None:
    for what in ("points", "labels"):
        given = [f"{side}_{what}" for side in SIDES if f"{side}_{what}" in case.files]
        if len(given) == 1:
            raise LandmarkDirError(f"{where}: {given[0]} alone; expected both sides or neither")


def check_files_of(case: Case, where: str) -> None:
    """Refuse what is not there, and point files that cannot be read; `where` begins the message."""
    for column, file in case.files.items():
        # unlike those of Path, these take a name that no file can have
        if not (os.path.isfile(file) or (column in SIDES and os.path.isdir(file))):
            raise LandmarkDirError(f"{where}: {column} {file}: no such file")
    if points := case.both("points"):
        try:
            read_pairs(*points)
        except LandmarkDirError as error:
            raise LandmarkDirError(f"{where}: {error}") from error


def write_cases(cases: Iterable[Case], path: Path) -> None:
    """Write what `read_cases` reads, with absolute paths."""
    cases = list(cases)
    extra = dict.fromkeys(name for case in cases for name in case.extra)
    rows = (
        {"case": case.name, "align": case.align or "", **case.files, **case.series, **case.extra}
        for case in cases
    )
    write_rows(path, [*COLUMNS, *extra], rows)
