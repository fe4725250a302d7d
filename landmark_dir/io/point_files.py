"""Point files: elastix, 3D Slicer, CSV; one rule by suffix says which.

elastix reads most broken point files without a word and registers towards garbage, so ours are
written in exactly one form and a user's are read strictly: refused, with the line, or right.
"""

import re
from pathlib import Path

import numpy as np

from landmark_dir.errors import BadPoints
from landmark_dir.geometry import Points, as_points
from landmark_dir.io.csv_points import read_csv_points, write_csv_points
from landmark_dir.io.slicer_points import (
    PointList,
    read_fcsv,
    read_markups,
    write_fcsv,
    write_markups,
)
from landmark_dir.io.text_files import BLANKS, numbers, quoted, read_text, write_text
from landmark_dir.points import PointPairs

KINDS = "tables (.csv with the columns x, y, z) and 3D Slicer's lists (.mrk.json, .fcsv)"
CSV_COLUMNS = ("fixed_x", "fixed_y", "fixed_z", "moving_x", "moving_y", "moving_z", "score")


def write_elastix_points(points: Points, path: str | Path) -> None:
    """Write an elastix point file in physical mm (LPS), to the nanometre.

    Raises
    ------
    BadPoints
        If there is no point, or one is not finite: elastix would go on without a word.
    """
    points = as_points(points)
    if not len(points):
        raise BadPoints(f"{path}: no points to write, and elastix does not notice an empty file")
    if not np.isfinite(points).all():
        raise BadPoints(f"{path}: NaN or infinite coordinates; drop those points first")
    rows = [" ".join(f"{value:.6f}" for value in row) for row in points.tolist()]
    write_text(path, "\n".join(["point", str(len(rows)), *rows, ""]))


def read_elastix_points(path: str | Path) -> Points:
    """Read an elastix point file of the `point` kind.

    CRLF line ends, tabs and blank lines at the end are accepted: elastix reads them rightly.

    Returns
    -------
    ndarray, shape (N, 3), float64
        LPS mm, N > 0.

    Raises
    ------
    BadPoints
        If elastix would misread the file; the message names the line.
    """
    lines = read_text(path).rstrip(BLANKS).split("\n")
    kind = lines[0].strip(BLANKS)
    if kind == "index":
        raise BadPoints(
            f"{path}, line 1: voxel indices, which elastix rounds to whole voxels"
            "; write physical mm (LPS) under the word 'point'"
        )
    if kind != "point":
        raise BadPoints(
            f"{path}, line 1: expected the word 'point', found {quoted(kind)}; {KINDS} "
            "are told by their suffix"
        )
    count = lines[1].strip(BLANKS) if len(lines) > 1 else ""
    if not (count.isascii() and count.isdigit()):
        raise BadPoints(
            f"{path}, line 2: expected the number of points alone, found {quoted(count)}"
        )
    rows = [_row(line, f"{path}, line {number}") for number, line in enumerate(lines[2:], start=3)]
    if int(count) != len(rows):
        raise BadPoints(f"{path}, line 2: header says {count} points, file holds {len(rows)}")
    if not rows:
        raise BadPoints(f"{path}, line 2: no points, and elastix does not notice an empty file")
    return as_points(rows)


def read_points(path: str | Path) -> Points:
    """Read points [N, 3], LPS mm; see `read_point_list`."""
    return read_point_list(path).points


def read_point_list(path: str | Path) -> PointList:
    """Read points and their labels.

    The suffix tells the kind of file, wherever points are read: `.json` (also `.mrk.json`) and
    `.fcsv` are 3D Slicer's, `.csv` is a table with the columns x, y, z, every other is an elastix
    point file, which has no labels.

    Raises
    ------
    BadPoints
        If the file is not as expected; the message names the line or the point.
    """
    name = str(path).lower()
    if name.endswith(".json"):
        return read_markups(path)
    if name.endswith(".fcsv"):
        return read_fcsv(path)
    if name.endswith(".csv"):
        return read_csv_points(path)
    return PointList(read_elastix_points(path))


def write_point_list(listed: PointList, path: str | Path) -> None:
    """Write points, and their labels where the kind of file has any; kinds as `read_point_list`."""
    name = str(path).lower()
    if name.endswith(".json"):
        write_markups(listed.points, path, labels=listed.labels)
    elif name.endswith(".fcsv"):
        write_fcsv(listed, path)
    elif name.endswith(".csv"):
        write_csv_points(listed, path)
    else:
        write_elastix_points(listed.points, path)


def read_pairs(fixed_path: str | Path, moving_path: str | Path) -> PointPairs:
    """Read two point files that correspond row by row; the score is 1.

    Raises
    ------
    BadPoints
        If one is malformed or their counts differ.
    """
    fixed, moving = read_points(fixed_path), read_points(moving_path)
    if len(fixed) != len(moving):
        raise BadPoints(
            f"{fixed_path} holds {len(fixed)} points, {moving_path} {len(moving)}"
            "; row i of one must be row i of the other"
        )
    return PointPairs(fixed, moving, np.ones(len(fixed)))


def write_csv(pairs: PointPairs, path: str | Path) -> None:
    """Write pairs as a table, LPS mm and score; N may be 0."""
    table = np.column_stack([pairs.fixed, pairs.moving, pairs.score])
    rows = [",".join(f"{value:.6f}" for value in row) for row in table.tolist()]
    write_text(path, "\n".join([",".join(CSV_COLUMNS), *rows, ""]))


def read_csv(path: str | Path) -> PointPairs:
    """Read what `write_csv` wrote.

    Raises
    ------
    BadPoints
        If the header or a row is another one; the message names the line.
    """
    lines = [line.split(",") for line in read_text(path).rstrip(BLANKS).split("\n")]
    if tuple(lines[0]) != CSV_COLUMNS:
        raise BadPoints(f"{path}, line 1: expected the header {','.join(CSV_COLUMNS)}")
    rows = [
        numbers(words, len(CSV_COLUMNS), f"{path}, line {number}")
        for number, words in enumerate(lines[1:], start=2)
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, len(CSV_COLUMNS))
    try:
        return PointPairs(table[:, :3], table[:, 3:6], table[:, 6])
    except ValueError as error:
        raise BadPoints(f"{path}: {error}") from error


def _row(line: str, where: str) -> list[float]:
    if "," in line:
        raise BadPoints(f"{where}: comma in {quoted(line)}; use decimal points and spaces")
    return numbers(re.split("[ \t]+", line.strip(BLANKS)), 3, where)
