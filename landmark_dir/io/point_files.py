"""Point files: elastix, 3D Slicer markups, CSV.

elastix reads most broken point files without a word and registers towards garbage, so ours are
written in exactly one form and a user's are read strictly: refused, with the line, or right.
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

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


def read_points(path: str | Path) -> Points:
    """Read points [N, 3], LPS mm, from a 3D Slicer markups file (.json) or an elastix file."""
    return read_markups(path) if str(path).endswith(".json") else read_elastix_points(path)


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
    points: Points, path: str | Path, score: NDArray[np.float64] | None = None
) -> None:
    """Write points [N, 3], LPS mm, as a 3D Slicer point list; N may be 0.

    Labels are the row numbers from 1, so that both sides of a pair carry the same label.
    """
    words = [""] * len(points) if score is None else [f"score {value:.3f}" for value in score]
    control_points = [
        {
            "id": str(row),
            "label": str(row),
            "description": text,
            "position": position,
            "positionStatus": "defined",
            "locked": True,
        }
        for row, (position, text) in enumerate(
            zip(as_points(points).round(6).tolist(), words, strict=True), start=1
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


def read_markups(path: str | Path) -> Points:
    """Read the one point list of a 3D Slicer markups file.

    Returns
    -------
    ndarray, shape (N, 3), float64
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
        points = as_points([_position(point) for point in markup["controlPoints"]])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadPoints(
            f"{path}: expected 3D Slicer markups with one list of placed points ({error})"
        ) from error
    if system not in ("LPS", "RAS") or not (unit == "mm" or "mm" in unit):
        raise BadPoints(f"{path}: expected LPS or RAS in mm, found {system!r} in {unit!r}")
    return points * RAS_TO_LPS if system == "RAS" else points


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
