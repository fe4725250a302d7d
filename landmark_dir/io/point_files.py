"""Point files: elastix, 3D Slicer markups, CSV.

elastix reads most broken point files without a word and registers towards garbage, so ours are
written in exactly one form and a user's are read strictly: refused, with the line, or right.
"""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landmark_dir.errors import BadPoints, LandmarkDirError
from landmark_dir.geometry import Points, as_points
from landmark_dir.points import RAS_TO_LPS, PointPairs

CSV_COLUMNS = ("fixed_x", "fixed_y", "fixed_z", "moving_x", "moving_y", "moving_z", "score")
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
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")  # what C++ and we read alike


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
    _write_text(path, "\n".join(["point", str(len(rows)), *rows, ""]))


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
    lines = _read_text(path).rstrip().splitlines()
    kind = lines[0].strip() if lines else ""
    if kind == "index":
        raise BadPoints(
            f"{path}, line 1: voxel indices, which elastix rounds to whole voxels"
            "; write physical mm (LPS) under the word 'point'"
        )
    if kind != "point":
        raise BadPoints(f"{path}, line 1: expected the word 'point', found {_quoted(kind)}")
    count = lines[1].strip() if len(lines) > 1 else ""
    if not (count.isascii() and count.isdigit()):
        raise BadPoints(
            f"{path}, line 2: expected the number of points alone, found {_quoted(count)}"
        )
    rows = [_row(line, f"{path}, line {number}") for number, line in enumerate(lines[2:], start=3)]
    if int(count) != len(rows):
        raise BadPoints(f"{path}, line 2: header says {count} points, file holds {len(rows)}")
    if not rows:
        raise BadPoints(f"{path}, line 2: no points, and elastix does not notice an empty file")
    return as_points(rows)


class PointList(NamedTuple):
    """Points of one file, and what they are called there."""

    points: Points  # [N, 3] LPS mm
    labels: tuple[str, ...] = ()  # one for each point; empty: none


def read_points(path: str | Path) -> Points:
    """Read points [N, 3], LPS mm; see `read_point_list`."""
    return read_point_list(path).points


def read_point_list(path: str | Path) -> PointList:
    """Read points and their labels.

    The suffix tells the kind of file, wherever points are read: `.json` (also `.mrk.json`) and
    `.fcsv` are 3D Slicer's, every other is an elastix point file, which has no labels.

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
    return PointList(read_elastix_points(path))


def write_point_list(listed: PointList, path: str | Path) -> None:
    """Write points, and their labels where the kind of file has any; kinds as `read_point_list`."""
    name = str(path).lower()
    if name.endswith(".json"):
        write_markups(listed.points, path, labels=listed.labels)
    elif name.endswith(".fcsv"):
        write_fcsv(listed, path)
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
    _write_text(path, "\n".join([",".join(CSV_COLUMNS), *rows, ""]))


def read_csv(path: str | Path) -> PointPairs:
    """Read what `write_csv` wrote.

    Raises
    ------
    BadPoints
        If the header or a row is another one; the message names the line.
    """
    lines = list(csv.reader(_read_text(path).rstrip().splitlines()))
    if not lines or tuple(lines[0]) != CSV_COLUMNS:
        raise BadPoints(f"{path}, line 1: expected the header {','.join(CSV_COLUMNS)}")
    rows = [
        _numbers(words, len(CSV_COLUMNS), f"{path}, line {number}")
        for number, words in enumerate(lines[1:], start=2)
    ]
    table = np.array(rows, dtype=np.float64).reshape(-1, len(CSV_COLUMNS))
    try:
        return PointPairs(table[:, :3], table[:, 3:6], table[:, 6])
    except ValueError as error:
        raise BadPoints(f"{path}: {error}") from error


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
    _write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


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
        (markup,) = json.loads(_read_text(path))["markups"]
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
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
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
        points.append(_numbers(xyz, 3, f"{path}, line {number}"))
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
    _write_text(path, "\n".join([*head, f"# columns = {FCSV_COLUMNS}", rows.getvalue()]))


def _position(point: dict[str, Any]) -> list[float]:
    if point.get("positionStatus", "defined") != "defined":
        raise ValueError(f"point {point.get('label', '')!r} is not placed")
    position = [float(value) for value in point["position"]]
    if len(position) != 3 or not np.isfinite(position).all():
        raise ValueError(f"point {point.get('label', '')!r} is not three finite numbers")
    return position


def _row(line: str, where: str) -> list[float]:
    if "," in line:
        raise BadPoints(f"{where}: comma in {_quoted(line)}; use decimal points and spaces")
    return _numbers(line.split(), 3, where)


def _numbers(words: list[str], count: int, where: str) -> list[float]:
    if len(words) != count or not all(NUMBER.fullmatch(word.strip()) for word in words):
        raise BadPoints(f"{where}: expected {count} numbers, found {_quoted(' '.join(words))}")
    return [float(word) for word in words]


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise BadPoints(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BadPoints(f"{path}: expected a text file, found binary data") from error


def _write_text(path: str | Path, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise LandmarkDirError(f"{path}: cannot be written ({error.strerror})") from error
