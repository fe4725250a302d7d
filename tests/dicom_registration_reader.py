"""A second reader of DICOM registration objects, written from PS3.3 C.20.2.1.1 and C.20.3.1.1.

It shares no code with the package: raw elements in, points mapped from the registered frame of
reference to that of the source out.
"""

import itertools
import math
import struct
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

Points = NDArray[np.float64]


def map_deformable(file: Path, points: Points) -> Points:
    """Registered points to source points: Pre, then the offset found there, then Post."""
    (item,) = pydicom.dcmread(file)[0x0064, 0x0002].value
    (grid,) = item[0x0064, 0x0005].value
    before, after = (matrix(item[0x0064, tag].value[0]) for tag in (0x000F, 0x0010))
    return np.array([transform(after, _offset(grid, p) + transform(before, p)) for p in points])


def node(file: Path, i: int, j: int, k: int) -> tuple[Points, Points]:
    """The place of a node, and the source point that the object names for it."""
    (item,) = pydicom.dcmread(file)[0x0064, 0x0002].value
    (grid,) = item[0x0064, 0x0005].value
    before, after = (matrix(item[0x0064, tag].value[0]) for tag in (0x000F, 0x0010))
    place = _origin(grid) + _axes(grid) @ (np.array([i, j, k]) * _resolution(grid))
    return place, transform(after, transform(before, place) + _vector(grid, i, j, k))


def map_linear(file: Path, frame_of_reference: str, points: Points) -> Points:
    """Points of a source frame of reference to registered points: M1 M2 ... x."""
    registered = None
    for item in pydicom.dcmread(file)[0x0070, 0x0308].value:
        if item[0x0020, 0x0052].value == frame_of_reference:
            (registration,) = item[0x0070, 0x0309].value
            whole = np.eye(4)
            for one in registration[0x0070, 0x030A].value:
                whole = whole @ matrix(one)
            registered = np.array([transform(whole, p) for p in points])
    assert registered is not None
    return registered


def matrix(item: Dataset) -> NDArray[np.float64]:
    """Row by row."""
    found = np.array([float(v) for v in item[0x3006, 0x00C6].value]).reshape(4, 4)
    assert found[3].tolist() == [0, 0, 0, 1]
    if item[0x0070, 0x030C].value == "RIGID":
        assert np.allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-9)
    return found


def transform(m: NDArray[np.float64], point: Points) -> Points:
    return (m @ np.append(point, 1.0))[:3]


def dimensions(file: Path) -> tuple[int, int, int]:
    (item,) = pydicom.dcmread(file)[0x0064, 0x0002].value
    return tuple(item[0x0064, 0x0005].value[0][0x0064, 0x0007].value)


def _origin(grid: Dataset) -> Points:
    return np.array([float(v) for v in grid[0x0020, 0x0032].value])


def _resolution(grid: Dataset) -> Points:
    return np.array(grid[0x0064, 0x0008].value)


def _axes(grid: Dataset) -> Points:
    cosines = np.array([float(v) for v in grid[0x0020, 0x0037].value])
    row, column = cosines[:3], cosines[3:]
    return np.stack([row, column, np.cross(row, column)], axis=1)


def _vector(grid: Dataset, i: int, j: int, k: int) -> Points:
    columns, rows, _ = grid[0x0064, 0x0007].value
    at = 12 * ((k * rows + j) * columns + i)
    return np.array(struct.unpack_from("<3f", grid[0x0064, 0x0009].value, at))


def _offset(grid: Dataset, point: Points) -> Points:
    """Between the eight nodes around a place, by their volumes."""
    index = (_axes(grid).T @ (point - _origin(grid))) / _resolution(grid)
    low = [
        min(math.floor(v), n - 2) for v, n in zip(index, grid[0x0064, 0x0007].value, strict=True)
    ]
    total = np.zeros(3)
    for corner in itertools.product((0, 1), repeat=3):
        shares = [
            v - at if side else 1 - (v - at) for v, at, side in zip(index, low, corner, strict=True)
        ]
        ijk = (at + side for at, side in zip(low, corner, strict=True))
        total += math.prod(shares) * _vector(grid, *ijk)
    return total
