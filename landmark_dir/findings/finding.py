"""The findings of one scan: places, or structures with a volume."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadPoints
from landmark_dir.geometry import index_to_physical
from landmark_dir.io.point_files import read_point_list
from landmark_dir.structures.reading import read_structures

POINT_SUFFIXES = (".json", ".fcsv", ".txt", ".csv")


class Finding(NamedTuple):
    """One finding.

    Attributes
    ----------
    name : str
    place : ndarray, shape (3,)
        LPS mm; of a structure its centre of mass.
    mask : sitk.Image or None
        Where it is, uint8 0 / 1; None: a point.
    """

    name: str
    place: NDArray[np.float64]
    mask: sitk.Image | None = None


def read_findings(
    path: str | Path, grid: sitk.Image, frame_of_reference: str | None = None
) -> list[Finding]:
    """Read findings; the suffix tells points from structures.

    Points: `.mrk.json`, `.json`, `.fcsv`, `.txt` and `.csv`, as `read_point_list` reads them,
    wherever points are read. Anything else: structures, as
    `read_structures` reads them (label map, DICOM SEG, RTSTRUCT). A map of one label only is taken
    apart into its connected parts.

    Parameters
    ----------
    grid : sitk.Image
        On the grid of the scan that they belong to; contours are drawn on it.
    frame_of_reference : str, optional
        FrameOfReferenceUID of that scan, if it is known: DICOM objects of another are refused.

    Raises
    ------
    BadPoints, BadVolume
        If the file is not as expected, or holds no finding.
    """
    if str(path).lower().endswith(POINT_SUFFIXES):
        found = _points(Path(path))
    else:
        found = _structures(Path(path), grid, frame_of_reference)
    if not found:
        raise BadPoints(f"{path}: expected at least one finding, found none")
    return found


def _points(path: Path) -> list[Finding]:
    points, labels = read_point_list(path)
    names = labels or [str(row) for row in range(1, len(points) + 1)]
    return [Finding(name, place) for name, place in zip(names, points, strict=True)]


def _structures(path: Path, grid: sitk.Image, frame: str | None) -> list[Finding]:
    structures = read_structures(path, grid, frame)
    if len(structures) > 1:
        return [finding_of(one.name, one.mask) for one in structures]
    return [part for one in structures for part in _parts(one.name, one.mask)]


def _parts(name: str, mask: sitk.Image) -> Sequence[Finding]:
    """The connected parts of a mask, voxels that touch at a corner being connected."""
    parts = sitk.ConnectedComponent(mask, True)
    count = int(sitk.GetArrayViewFromImage(parts).max())
    if count == 1:
        return [finding_of(name, mask)]
    return [finding_of(f"{name} {k}", parts == k) for k in range(1, count + 1)]


def finding_of(name: str, mask: sitk.Image) -> Finding:
    """The finding that a mask shows."""
    index_zyx = np.argwhere(sitk.GetArrayViewFromImage(mask))
    return Finding(name, index_to_physical(mask, index_zyx[:, ::-1]).mean(axis=0), mask)
