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
from landmark_dir.geometry import Points, as_points
from landmark_dir.io.text_files import numbers, read_text, write_text
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
    try:
        (markup,) = json.loads(read_text(path))["markups"]
        system = markup.get("coordinateSystem", "LPS")
        unit = markup.get("coordinateUnits", "mm")
        listed = markup["controlPoints"]
        points = as_points([_position(point) for point in listed])
        labels = tuple(str(point.get("label", "")) for point in listed)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadPoints(
            f"{path}: expected 3D Slicer markups with one list of placed points ({error})"
        ) from error
    if system not in ("LPS", "RAS") or not (unit == "mm" or "mm" in unit):
        raise BadPoints(f"{path}: expected LPS or RAS in mm, found {system!r} in {unit!r}")
    return PointList(points * RAS_TO_LPS if system == "RAS" else points, labels)


def read_fcsv(path: str | Path) -> PointList:
    """Read a point list of 3D Slicer before version 5 (`.fcsv`).

    Raises
    ------
    BadPoints
        If the coordinate system is not named or is voxel indices, or a row is not as expected.
    """
    header, rows = {}, []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.startswith("#"):
            name, _, value = line.lstrip("# ").partition("=")
            header[name.strip()] = value.strip()
        elif line.strip():
            rows.append((number, next(csv.reader([line]))))
    system = FCSV_SYSTEMS.get(header.get("CoordinateSystem", ""))
    if system is None:
        raise BadPoints(
            f"{path}: expected a line '# CoordinateSystem = LPS' or RAS, found "
            f"{header.get('CoordinateSystem', 'none')!r}"
        )
    columns = header.get("columns", FCSV_COLUMNS).split(",")
    if not {"x", "y", "z"} <= set(columns):
        raise BadPoints(f"{path}: expected the columns x, y and z, found {','.join(columns)}")
    points, labels = [], []
    for number, cells in rows:
        if len(cells) != len(columns):
            raise BadPoints(
                f"{path}, line {number}: expected {len(columns)} columns, found {len(cells)}"
            )
        named = dict(zip(columns, cells, strict=True))
        xyz = [named.get(axis, "") for axis in "xyz"]
        points.append(numbers(xyz, 3, f"{path}, line {number}"))
        labels.append(named.get("label", ""))
    listed = as_points(points)
    return PointList(listed * RAS_TO_LPS if system == "RAS" else listed, tuple(labels))


def write_fcsv(listed: PointList, path: str | Path) -> None:
    """Write a point list for 3D Slicer before version 5, in LPS mm."""
    names = listed.labels or _row_numbers(len(listed.points))
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for row, (point, label) in enumerate(zip(listed.points.tolist(), names, strict=True), start=1):
        place = [f"{value:.6f}" for value in point]
        writer.writerow([str(row), *place, 0, 0, 0, 1, 1, 1, 0, label, "", ""])
    head = ["# Markups fiducial file version = 4.11", "# CoordinateSystem = LPS"]
    write_text(path, "\n".join([*head, f"# columns = {FCSV_COLUMNS}", rows.getvalue()]))


def _position(point: dict[str, Any]) -> list[float]:
    if point.get("positionStatus", "defined") != "defined":
        raise ValueError(f"point {point.get('label', '')!r} is not placed")
    position = [float(value) for value in point["position"]]
    if len(position) != 3 or not np.isfinite(position).all():
        raise ValueError(f"point {point.get('label', '')!r} is not three finite numbers")
    return position
