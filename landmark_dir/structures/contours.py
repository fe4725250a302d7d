"""Closed planar contours and masks: polygons in mm to voxels, and voxels to polygons.

A contour is a line in space; a voxel belongs to the structure if its centre lies inside. Contours
of one plane are combined by exclusive or, so a contour in another one is a hole, whether it is
drawn as a contour of its own or through a keyhole.

References
----------
[DICOM] PS3.3 C.8.8.6, ROI Contour module
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from landmark_dir.errors import BadStructures
from landmark_dir.geometry import Points, physical_to_index
from landmark_dir.io.dicom_places import LARGEST_GAP_MM
from landmark_dir.structures.structure import as_mask, box_around, cropped, part_of, resampled

log = logging.getLogger(__name__)

FLAT_MM = 0.1  # contours are rounded; nearer to a plane is in the plane
ROUNDING_MM = 1e-3
SKIPPED = 1.5  # times the usual distance of planes; beyond, nothing was drawn between
OUTLINE_STEP = 0.2  # of a pixel; a distance of half a pixel is right to a hundredth of it
FINEST_MM = 0.5  # voxels in which contours across the slices are filled

Polygon = NDArray[np.float64]  # [N, 2], (x, y) in pixels, closed by itself
Plane = NDArray[np.bool_]  # [y, x]


class Drawn(NamedTuple):
    """The contours of one plane."""

    place_mm: float  # across the slices of a grid, from its first one
    polygons: list[Polygon]


def fill(polygons: Sequence[Polygon], shape_yx: tuple[int, int]) -> Plane:
    """Pixels whose centre lies inside an odd number of polygons.

    A centre on a line is inside if the area is at its right or below, so areas that share a line
    share no pixel.
    """
    rows, columns = shape_yx
    flips = np.zeros((rows, columns + 1), np.uint8)
    for polygon in polygons:
        (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
        first = np.clip(np.ceil(np.minimum(y0, y1)), 0, rows).astype(int)
        after = np.clip(np.ceil(np.maximum(y0, y1)), 0, rows).astype(int)
        count = after - first
        edge = np.repeat(np.arange(len(polygon)), count)
        row = np.arange(len(edge)) + np.repeat(first - (np.cumsum(count) - count), count)
        x = x0[edge] + (x1 - x0)[edge] * (row - y0[edge]) / (y1 - y0)[edge]
        column = np.clip(np.ceil(x), 0, columns).astype(int)
        np.add.at(flips, (row, column), 1)
    return np.asarray(np.cumsum(flips, axis=1, dtype=np.uint8)[:, :-1] % 2 == 1)


def mask_of(
    contours: Sequence[Points], grid: sitk.Image, name: str, slab_mm: float | None = None
) -> sitk.Image:
    """The voxels of a grid inside closed planar contours.

    Between planes the shape is interpolated, by distances to both outlines; beyond the first and
    last one it goes on for half the distance of planes, as the slices of a label map do. That is
    the slice distance where any two planes are so far apart, else the median; where it is more than
    `SKIPPED` times as far to the next plane, or more than 10 mm, nothing is between.

    Parameters
    ----------
    contours : sequence of ndarray, shape (N, 3)
        LPS mm; at least one.
    grid : sitk.Image
        What is outside it is left out.
    name : str
        Of the structure, for messages.
    slab_mm : float, optional
        How thick a single plane is; a slice if not said, and never less.

    Returns
    -------
    sitk.Image
        uint8, 0 / 1, cut to the structure.

    Raises
    ------
    BadStructures
        If the contours are not planar, or their planes not parallel.
    """
    contours = _each_once(contours)
    flat = _is_flat(contours, grid)
    frame = grid if flat else _across(contours, grid)
    if not _is_flat(contours, frame):
        raise BadStructures(
            f"{name}: expected planar contours in parallel planes, found points up to "
            f"{_depths(contours, frame).max():.2g} mm off them; export it with contours in one "
            "orientation"
        )
    gaps_mm = np.diff([plane.place_mm for plane in _planes(contours, frame)])
    step_mm = _step(gaps_mm, float(grid.GetSpacing()[2]), slab_mm)
    _tell_gaps(gaps_mm, step_mm, name)
    part = _around(contours, grid, step_mm)
    if flat:
        return cropped(_filled(contours, part, step_mm))
    return cropped(resampled(_filled(contours, frame, step_mm), part))


def _each_once(contours: Sequence[Points]) -> list[Points]:
    """Leave out copies: exclusive or would make holes of them."""
    return list({contour.tobytes(): contour for contour in contours}.values())


def _depths(contours: Sequence[Points], grid: sitk.Image) -> NDArray[np.float64]:
    """How far the points of each contour are spread across the slices of a grid, mm."""
    spread = [np.ptp(physical_to_index(grid, contour)[:, 2]) for contour in contours]
    return np.asarray(np.array(spread) * grid.GetSpacing()[2])


def _is_flat(contours: Sequence[Points], grid: sitk.Image) -> bool:
    return bool((_depths(contours, grid) <= FLAT_MM).all())


def _across(contours: Sequence[Points], grid: sitk.Image) -> sitk.Image:
    """A grid whose slices are parallel to the largest contour, around all contours."""
    largest = max(contours, key=lambda contour: float(np.ptp(contour, axis=0).sum()))
    normal = np.linalg.svd(largest - largest.mean(axis=0))[2][2]
    axes = np.reshape(grid.GetDirection(), (3, 3)).T
    along = axes[np.abs(axes @ normal).argmin()]  # the axis of the grid that is nearest the plane
    first = along - (along @ normal) * normal
    first /= np.linalg.norm(first)
    direction = np.stack([first, np.cross(normal, first), normal], axis=1)
    places = np.concatenate(contours) @ direction  # mm in that frame
    spacing = max(min(grid.GetSpacing()) / 2, FINEST_MM)
    margin = np.array([2 * spacing, 2 * spacing, 2 * max(grid.GetSpacing())])
    low, high = places.min(axis=0) - margin, places.max(axis=0) + margin
    own = sitk.Image([int(n) for n in np.ceil((high - low) / spacing) + 1], sitk.sitkUInt8)
    own.SetSpacing([spacing] * 3)
    own.SetDirection(direction.ravel().tolist())
    own.SetOrigin((direction @ low).tolist())
    return own


def _planes(contours: Sequence[Points], grid: sitk.Image) -> list[Drawn]:
    """The contours by plane, in the pixels of a grid whose slices are parallel to them."""
    planes: list[Drawn] = []
    index = [physical_to_index(grid, contour) for contour in contours]
    for places in sorted(index, key=lambda one: float(one[:, 2].mean())):
        place_mm = float(places[:, 2].mean()) * grid.GetSpacing()[2]
        if not planes or place_mm - planes[-1].place_mm > FLAT_MM:
            planes.append(Drawn(place_mm, []))
        planes[-1].polygons.append(places[:, :2])
    return planes


def _step(gaps_mm: NDArray[np.float64], slice_mm: float, slab_mm: float | None) -> float:
    """The distance of planes that belong together, mm: the slices', or else the usual one."""
    if not len(gaps_mm):
        return max(slab_mm or 0.0, slice_mm)
    usual = float(np.median(gaps_mm))
    on_slices = abs(float(gaps_mm.min()) - slice_mm) <= FLAT_MM
    return slice_mm if on_slices or usual > LARGEST_GAP_MM else usual


def _tell_gaps(gaps_mm: NDArray[np.float64], step_mm: float, name: str) -> None:
    wide = gaps_mm[gaps_mm > SKIPPED * step_mm]
    if len(wide):
        log.warning(
            "%s: %d times no contour for up to %.3g mm, elsewhere each %.3g mm; left empty there",
            *(name, len(wide), wide.max(), step_mm),
        )


def _around(contours: Sequence[Points], grid: sitk.Image, step_mm: float) -> sitk.Image:
    """The part of a grid that holds the contours and what is within a step of them."""
    reach = np.ceil(step_mm / np.array(grid.GetSpacing())) + 1
    return part_of(grid, *box_around(np.concatenate(contours), grid, reach))


def _filled(contours: Sequence[Points], grid: sitk.Image, step_mm: float) -> sitk.Image:
    """The mask on a grid whose slices are parallel to the contours."""
    planes = _planes(contours, grid)
    places = np.array([plane.place_mm for plane in planes])
    columns, rows, slices = grid.GetSize()
    x_mm, y_mm, z_mm = grid.GetSpacing()

    @lru_cache(maxsize=2)
    def plane(n: int) -> Plane:
        return fill(planes[n].polygons, (rows, columns))

    @lru_cache(maxsize=2)
    def outline(n: int) -> cKDTree:
        return _outline(planes[n].polygons, (x_mm, y_mm))

    def between(near: int, other: int, share: float) -> Plane:
        found, differ = plane(near) & plane(other), plane(near) != plane(other)
        depth = np.zeros(int(differ.sum()))  # inside the outline, mm
        places = np.argwhere(differ)[:, ::-1] * (x_mm, y_mm)
        for n, weight in ((near, 1 - share), (other, share)):
            side = np.where(plane(n)[differ], weight, -weight)
            depth += side * outline(n).query(places)[0]
        found[differ] = depth > 0
        return found

    mask = np.zeros((slices, rows, columns), bool)
    for k in range(slices):
        near = int(np.abs(k * z_mm - places).argmin())
        off = k * z_mm - places[near]
        other = near + (1 if off > 0 else -1)
        gap = abs(places[other] - places[near]) if 0 <= other < len(places) else np.inf
        if abs(off) <= FLAT_MM:
            mask[k] = plane(near)
        elif gap <= SKIPPED * step_mm:
            mask[k] = between(near, other, abs(off) / gap)
        elif -step_mm / 2 <= off + ROUNDING_MM < step_mm / 2:  # a half on one side only
            mask[k] = plane(near)
    return as_mask(mask, grid)


def _outline(polygons: Sequence[Polygon], spacing_mm: tuple[float, float]) -> cKDTree:
    """Points along the lines of polygons, mm; not along those of keyholes, drawn there and back."""
    points = []
    for polygon in polygons:
        starts, ends = polygon * spacing_mm, np.roll(polygon, -1, axis=0) * spacing_mm
        lines = {(start.tobytes(), end.tobytes()) for start, end in zip(starts, ends, strict=True)}
        for start, end in zip(starts, ends, strict=True):
            if (end.tobytes(), start.tobytes()) not in lines:
                length = float(np.linalg.norm(end - start))
                count = int(np.ceil(length / (OUTLINE_STEP * min(spacing_mm)))) + 1
                points.append(np.linspace(start, end, count, endpoint=False))
    return cKDTree(np.concatenate(points))
