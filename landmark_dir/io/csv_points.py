"""Points as a table (`.csv`): a header that names the axes, one row for each point."""

import csv
import io
from pathlib import Path

import numpy as np

from landmark_dir.errors import BadPoints
from landmark_dir.geometry import as_points
from landmark_dir.io.slicer_points import PointList
from landmark_dir.io.text_files import numbers, quoted, read_text, write_text
from landmark_dir.points import RAS_TO_LPS

TO_LPS = {"xyz": np.ones(3), "lps": np.ones(3), "ras": RAS_TO_LPS}  # by the names of the axes
NAMES = ("name", "label", "finding")
EXPECTED = "the columns x, y, z (LPS mm; or l, p, s; or r, a, s) and, if wanted, name"


def read_csv_points(path: str | Path) -> PointList:
    """Read points, and their names where there is a column `name`, `label` or `finding`.

    Returns
    -------
    PointList
        LPS mm, whichever axes the header names; N may be 0.

    Raises
    ------
    BadPoints
        If the header or a row is another one; the message names the line.
    """
    lines = _lines(path)
    header = [word.strip().lower() for word in lines[0]] if lines else []
    axes = [axes for axes in TO_LPS if all(header.count(axis) == 1 for axis in axes)]
    if len(axes) != 1:
        found = quoted(", ".join(header))
        raise BadPoints(f"{path}, line 1: expected {EXPECTED}, found {found}")
    columns = [header.index(axis) for axis in axes[0]]
    named = next((header.index(name) for name in NAMES if name in header), None)
    points, labels = [], []
    for row, line in enumerate(lines[1:], start=2):
        where = f"{path}, line {row}"
        if len(line) != len(header):
            raise BadPoints(f"{where}: expected {len(header)} cells, found {len(line)}")
        points.append(numbers([line[k].strip() for k in columns], 3, where))
        if named is not None:
            labels.append(line[named].strip())
    return PointList(as_points(points) * TO_LPS[axes[0]], tuple(labels))


def _lines(path: str | Path) -> list[list[str]]:
    try:
        return [line for line in csv.reader(io.StringIO(read_text(path)), strict=True) if line]
    except csv.Error as error:
        raise BadPoints(f"{path}: expected cells between commas ({error})") from error


def write_csv_points(listed: PointList, path: str | Path) -> None:
    """Write points as x, y, z in LPS mm, and their names if they have any."""
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow([*(["name"] if listed.labels else []), *"xyz"])
    for k, point in enumerate(listed.points.tolist()):
        name = [listed.labels[k]] if listed.labels else []
        writer.writerow([*name, *(f"{value:.6f}" for value in point)])
    write_text(path, rows.getvalue())
