"""Point lists of 3D Slicer: markups (`.mrk.json`), and `.fcsv` of versions before 5."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landmark_dir.errors import BadPoints
from landmark_dir.geometry import FARTHEST_MM, Points, as_points
from landmark_dir.io.text_files import (
    is_place,
    json_value,
    numbers,
    quoted,
    read_text,
    told,
    write_text,
)
from landmark_dir.points import RAS_TO_LPS

MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/"
    "Resources/Schema/markups-schema-v1.0.3.json#"
)
MARKUPS_DISPLAY = {  # every number a float: Slicer drops the whole display otherwise
    "visibility": True,
    "pointLabelsVisibility": False,  # hundreds of labels hide the image
    "glyphType": "Sphere3D",
    "useGlyphScale": False,
    "glyphSize": 3.0,  # mm
}
FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
FCSV_SYSTEMS = {"LPS": "LPS", "RAS": "RAS", "0": "RAS", "1": "LPS"}  # numbers: Slicer before 4.11


class PointList(NamedTuple):
    """Points of one file, and what they are called there."""

    points: Points  # [N, 3] LPS mm
    labels: tuple[str, ...] = ()  # one for each point; empty: none


def write_markups(
    points: Points,
    path: str | Path,
    score: NDArray[np.float64] | None = None,
    labels: Sequence[str] = (),
) -> None:
    """Write points [N, 3], LPS mm, as a 3D Slicer point list; N may be 0.

    Without `labels` they are the row numbers from 1, so that both sides of a pair carry the same.
    """
    words = [""] * len(points) if score is None else [f"score {value:.3f}" for value in score]
    names = labels or _row_numbers(len(points))
    control_points = [
        {
            "id": str(row),
            "label": name,
            "description": text,
            "position": position,
            "positionStatus": "defined",
            "locked": True,
        }
        for row, (position, text, name) in enumerate(
            zip(as_points(points).round(6).tolist(), words, names, strict=True), start=1
        )
    ]
    markup = {
        "type": "Fiducial",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "controlPoints": control_points,
        "display": MARKUPS_DISPLAY,
    }
    document = {"@schema": MARKUPS_SCHEMA, "markups": [markup]}
    write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def _row_numbers(count: int) -> list[str]:
    return [str(row) for row in range(1, count + 1)]


def read_markups(path: str | Path) -> PointList:
    """Read the one point list of a 3D Slicer markups file.

    Returns
    -------
    PointList
        LPS mm, whichever of LPS and RAS the file is in; N may be 0.

    Raises
    ------
    BadPoints
        If it is no markups file, or holds several lists, another unit or unplaced points.
    """
    text = read_text(path)
    try:
        (markup,) = json_value(text)["markups"]
        listed = markup["controlPoints"]
        points = as_points([_position(point) for point in listed])
        labels = tuple(_label(point) for point in listed)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadPoints(
            f"{path}: expected 3D Slicer markups with one list of placed points ({error})"
        ) from error
    system = markup.get("coordinateSystem", "LPS")
    unit = markup.get("coordinateUnits", "mm")
    in_mm = unit == "mm" or (isinstance(unit, list) and unit[:1] == ["mm"])  # code, its system
    if system not in ("LPS", "RAS") or not in_mm:
        found = f"{told(system)} in {told(unit)}"
        raise BadPoints(f"{path}: expected LPS or RAS in mm, found {found}")
    return PointList(points * RAS_TO_LPS if system == "RAS" else points, labels)


def read_fcsv(path: str | Path) -> PointList:
    """Read a point list of 3D Slicer before version 5 (`.fcsv`).

    Raises
    ------
    BadPoints
        If the coordinate system is not named or is voxel indices, or a row is not as expected.
    """
    header: dict[str, str] = {}
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        where = f"{path}, line {number}"
        if line.startswith("#"):
            name, _, value = (part.strip() for part in line.lstrip("# ").partition("="))
            if header.setdefault(name, value) != value:
                raise BadPoints(f"{where}: a second {quoted(name)}, which says another thing")
        elif line.strip():
            rows.append((where, _cells(line, where)))
    system = FCSV_SYSTEMS.get(header.get("CoordinateSystem", ""))
    if system is None:
        raise BadPoints(
            f"{path}: expected a line '# CoordinateSystem = LPS' or RAS, found "
            f"{quoted(header.get('CoordinateSystem', 'none'))}"
        )
    columns = header.get("columns", FCSV_COLUMNS).split(",")
    if [columns.count(axis) for axis in "xyz"] != [1, 1, 1]:
        found = quoted(",".join(columns))
        raise BadPoints(f"{path}: expected one column each for x, y and z, found {found}")
    points, labels = [], []
    for where, cells in rows:
        if len(cells) != len(columns):
            raise BadPoints(f"{where}: expected {len(columns)} columns, found {len(cells)}")
        named = dict(zip(columns, cells, strict=True))
        points.append(numbers([named[axis] for axis in "xyz"], 3, where))
        labels.append(named.get("label", ""))
    listed = as_points(points)
    return PointList(listed * RAS_TO_LPS if system == "RAS" else listed, tuple(labels))


def write_fcsv(listed: PointList, path: str | Path) -> None:
    """Write a point list for 3D Slicer before version 5, in LPS mm; one line a point."""
    names = listed.labels or _row_numbers(len(listed.points))
    names = [" ".join(name.splitlines()) for name in names]
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for row, (point, label) in enumerate(zip(listed.points.tolist(), names, strict=True), start=1):
        place = [f"{value:.6f}" for value in point]
        writer.writerow([str(row), *place, 0, 0, 0, 1, 1, 1, 0, label, "", ""])
    head = ["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS"]
    write_text(path, "\n".join([*head, f"# columns = {FCSV_COLUMNS}", rows.getvalue()]))


def _position(point: dict[str, Any]) -> list[float]:
    if point.get("positionStatus", "defined") != "defined":
        raise ValueError(f"point {_label(point)!r} is not placed")
    position = point["position"]
    if not (isinstance(position, list) and len(position) == 3 and all(map(is_place, position))):
        raise ValueError(f"point {_label(point)!r} is not three numbers up to {FARTHEST_MM:g} mm")
    return [float(value) for value in position]


def _label(point: dict[str, Any]) -> str:
    label = point.get("label", "")
    if not isinstance(label, str):
        raise ValueError(f"label {told(label)} is no text")
    return label


def _cells(line: str, where: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise BadPoints(f"{where}: expected cells between commas ({error})") from error
