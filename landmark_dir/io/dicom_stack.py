"""Planes of a DICOM series as one stack, judged slice by slice; or why they are none."""

import math
from collections.abc import Callable, Hashable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume
from landmark_dir.io.dicom_files import EXPORT_AGAIN
from landmark_dir.io.dicom_places import (
    FEWEST,
    ROUNDED_MM,
    SAME_PLACE_MM,
    SHORTEST_RUN,
    TOLERATED_MM,
    offsets_mm,
    slice_distance,
    tilt,
)
from landmark_dir.io.dicom_planes import Plane, Vector

TURNED = 0.02  # 1 degree; orientations further apart are views of their own, like a scout


class Stack(NamedTuple):
    """Planes, and the grid that they form or are to be resampled to.

    Attributes
    ----------
    planes : list of Plane
        In the order of their places along the normal.
    origin : ndarray, shape (3,)
        Centre of the first voxel of the grid, LPS mm.
    direction : ndarray, shape (3, 3)
        The axes x, y, z of the grid as columns.
    spacing_mm : tuple of float
    size_xyz : tuple of int
        Voxels of the grid.
    even : bool
        Whether plane k is slice k of the grid; else it has to be resampled.
    warnings : tuple of str
    """

    planes: list[Plane]
    origin: Vector
    direction: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    size_xyz: tuple[int, int, int]
    even: bool
    warnings: tuple[str, ...]


class Group(NamedTuple):
    """Planes of one acquisition, and what tells them from the other groups."""

    planes: list[Plane]
    about: str


def split(planes: list[Plane]) -> list[Group]:
    """Split into views, and these into acquisitions that cover the same part of the body.

    Acquisitions that lie one after the other are parts of one stack, as in a scan step by step.
    """
    views = _views(planes)
    groups = [
        Group(part.planes, ", ".join(filter(None, (_view(view[0], len(views)), part.about))))
        for view in views
        for part in _acquisitions(view)
    ]
    return sorted(groups, key=lambda group: min(map(_rank, group.planes)))


def _rank(plane: Plane) -> tuple[str, int, int, int, str]:
    acquisition = _acquisition_number(plane) or 0
    return plane.time, acquisition, plane.number or 0, plane.frame, str(plane.file)


def _acquisition_number(plane: Plane) -> int | None:
    said = plane.acquisition.get("AcquisitionNumber", "")
    return int(said) if said.isascii() and said.isdigit() else None


def _views(planes: list[Plane]) -> list[list[Plane]]:
    views: list[list[Plane]] = []
    for plane in planes:
        for view in views:
            same = (plane.rows, plane.columns) == (view[0].rows, view[0].columns)
            if same and np.abs(plane.orientation - view[0].orientation).max() <= TURNED:
                view.append(plane)
                break
        else:
            views.append([plane])
    return views


def _view(plane: Plane, count: int) -> str:
    if count == 1:
        return ""
    orientation = " ".join(f"{value:.3g}" for value in plane.orientation)
    return f"{plane.columns} x {plane.rows} voxels, orientation {orientation}"


def _acquisitions(planes: list[Plane]) -> list[Group]:
    names = sorted({name for plane in planes for name in plane.acquisition})
    places = _along_normal(planes)
    labels: dict[str, list[Hashable]] = {
        name: [plane.acquisition.get(name, "(none)") for plane in planes] for name in names
    }
    apart = {name: label for name, label in labels.items() if _overlap(label, places)}
    if not apart:
        runs = {
            "acquired at": _runs(planes, places, lambda plane: plane.time),
            "written at": _runs(planes, places, lambda plane: plane.content_time),
            "acquisition from": _runs(planes, places, _acquisition_number),
            "numbered from": _runs(planes, places, lambda plane: plane.number),
        }
        apart = {name: label for name, label in runs.items() if _overlap(label, places)}
    groups: dict[tuple[Hashable, ...], list[Plane]] = {}
    for plane, *key in zip(planes, *apart.values(), strict=True):
        groups.setdefault(tuple(key), []).append(plane)
    return [
        Group(members, ", ".join(f"{name} {value}" for name, value in zip(apart, key, strict=True)))
        for key, members in groups.items()
    ]


def _along_normal(planes: list[Plane]) -> Vector:
    normal = np.cross(planes[0].orientation[:3], planes[0].orientation[3:])
    return np.array([plane.position @ normal for plane in planes])


def _overlap(labels: list[Hashable], places: Vector) -> bool:
    """Tell whether planes of different label cover the same part of the normal.

    A label that no two planes share, such as a time of its own for each, tells nothing.
    """
    if len(set(labels)) == len(labels):
        return False
    ends: dict[Hashable, tuple[float, float]] = {}
    for label, place in zip(labels, places.tolist(), strict=True):
        low, high = ends.get(label, (place, place))
        ends[label] = min(low, place), max(high, place)
    inside = sorted(ends.values())
    reached = -math.inf
    for low, high in inside:
        if low < reached + SAME_PLACE_MM:
            return True
        reached = max(reached, high)
    return False


def _runs(
    planes: list[Plane], places: Vector, when: Callable[[Plane], str | int | None]
) -> list[Hashable]:
    """Label planes by how often the scan turned back until then; all alike if that says nothing."""
    said = [when(plane) for plane in planes]
    alike: list[Hashable] = [""] * len(planes)
    if any(value is None or value == "" for value in said):
        return alike
    order = sorted(range(len(planes)), key=lambda k: (said[k], places[k]))
    runs = [[order[0]]]
    heading = 0.0
    for last, here in pairwise(order):
        step = np.sign(np.round(places[here] - places[last], 3))
        if step != 0 and heading in (0.0, step):
            heading = step
            runs[-1].append(here)
        else:
            heading = 0.0
            runs.append([here])
    if min(map(len, runs)) < SHORTEST_RUN:
        return alike
    for run in runs:
        for k in run:
            alike[k] = said[run[0]]
    return alike


def stack(planes: list[Plane], name: str) -> Stack:
    """Sort planes of one acquisition along their normal and return the grid for them.

    It is the even stack that they form. If they are tilted or uneven, it is a right-angled box
    with their axes and even slices that holds all of them, with a warning.

    Raises
    ------
    BadVolume
        If a voxel would lie more than `TOLERATED_MM` beside the place that the tags give it and
        resampling is no honest way out (`slice_distance`, `tilt`), or the planes are not of one
        patient.
    """
    _check_alike(planes, name)
    direction = _direction(planes[0].orientation)
    places = np.array([plane.position for plane in planes]) @ direction[:, 2]
    planes = [planes[k] for k in np.argsort(places, kind="stable")]
    positions = np.array([plane.position for plane in planes])
    step_mm, uneven = slice_distance(positions @ direction[:, 2], planes, name)
    x_mm, y_mm = planes[0].spacing_mm.tolist()
    size_xyz = planes[0].columns, planes[0].rows, len(planes)
    made = Stack(planes, positions[0], direction, (x_mm, y_mm, step_mm), size_xyz, True, ())
    if found := " and ".join(filter(None, (tilt(positions, direction, name), uneven))):
        made = _boxed(made, found, name)
    return made._replace(
        warnings=(*made.warnings, *_check_corners(made, name), *_order_remark(planes))
    )


def _boxed(made: Stack, found: str, name: str) -> Stack:
    """Widen the grid to a box that holds all planes; `found` tells why they need one."""
    if len(made.planes) < FEWEST:
        raise BadVolume(
            f"{name}: {found}, and {len(made.planes)} slices are too few to resample, expected at"
            f" least {FEWEST}; give the whole series"
        )
    offsets = offsets_mm(made.planes, made.direction)
    extent = np.ptp(offsets, axis=0) / made.spacing_mm  # voxels
    wider = np.ceil(extent[:2] - ROUNDED_MM / np.array(made.spacing_mm[:2])).clip(0).astype(int)
    nx, ny, nz = made.size_xyz[0] + wider[0], made.size_xyz[1] + wider[1], 1 + round(extent[2])
    empty = ", with the smallest value outside them" if wider.any() else ""
    said = (
        f"{found}: resampled to a right-angled box of {nx} x {ny} x {nz} voxels, slices"
        f" {made.spacing_mm[2]:.4g} mm apart, linearly between neighbouring slices{empty}"
    )
    return made._replace(
        origin=made.origin + made.direction[:, :2] @ offsets[:, :2].min(axis=0),
        size_xyz=(int(nx), int(ny), nz),
        even=False,
        warnings=(said,),
    )


def _direction(orientation: Vector) -> NDArray[np.float64]:
    row = orientation[:3] / np.linalg.norm(orientation[:3])
    column = orientation[3:] - (orientation[3:] @ row) * row
    column /= np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)], axis=1)


def _check_alike(planes: list[Plane], name: str) -> None:
    if len(planes) < 2:
        raise BadVolume(
            f"{name}: one DICOM slice, expected a volume; give the folder of the series"
        )
    if len({plane.patient for plane in planes}) > 1:
        raise BadVolume(
            f"{name}: slices of different patients in one series (PatientID, name or birth date"
            f" differ); {EXPORT_AGAIN}"
        )
    if len({plane.frame_of_reference for plane in planes}) > 1:
        raise BadVolume(
            f"{name}: slices with different FrameOfReferenceUID in one series, so their positions"
            f" cannot be compared; {EXPORT_AGAIN}"
        )
    if len({plane.rescaled for plane in planes}) > 1:
        raise BadVolume(
            f"{name}: some slices state RescaleSlope and RescaleIntercept, others do not"
            f"; {EXPORT_AGAIN}"
        )
    _check_concatenations(planes, name)
    _check_pixel_spacing(planes, name)
    _check_orientation(planes, name)


def _check_concatenations(planes: list[Plane], name: str) -> None:
    files: dict[tuple[str, int], set[str]] = {}
    for plane in planes:
        files.setdefault(plane.concatenation, set()).add(str(plane.file))
    for (uid, expected), found in files.items():
        if uid and expected and len(found) != expected:
            raise BadVolume(
                f"{name}: {len(found)} of the {expected} files of one image (a concatenation) are"
                f" here; {EXPORT_AGAIN}"
            )


def _check_pixel_spacing(planes: list[Plane], name: str) -> None:
    spacing_mm = np.array([plane.spacing_mm for plane in planes])
    size = np.array([planes[0].columns, planes[0].rows])
    if (np.ptp(spacing_mm, axis=0) * size).max() > TOLERATED_MM:
        low, high = (
            " x ".join(f"{v:.6g}" for v in e(spacing_mm, axis=0)) for e in (np.min, np.max)
        )
        raise BadVolume(
            f"{name}: PixelSpacing changes within the series, {low} to {high} mm; {EXPORT_AGAIN}"
            " with one field of view"
        )


def _check_orientation(planes: list[Plane], name: str) -> None:
    apart = np.array([plane.orientation for plane in planes]) - planes[0].orientation
    size_mm = planes[0].spacing_mm * [planes[0].columns, planes[0].rows]
    if (np.abs(apart).max(axis=0).reshape(2, 3) * size_mm[:, None]).max() > TOLERATED_MM:
        degrees = math.degrees(float(np.linalg.norm(apart.reshape(-1, 2, 3), axis=2).max()))
        raise BadVolume(
            f"{name}: slices are turned against each other by up to {degrees:.2g} degrees within"
            f" the series; {EXPORT_AGAIN}"
        )


def _corner_error_mm(made: Stack) -> float:
    """How far a corner of a slice lies beside the place that its own tags give it, mm, at most."""
    far = 0.0
    x_mm, y_mm, z_mm = made.spacing_mm
    for k, plane in enumerate(made.planes):
        first = made.origin + made.direction[:, 2] * (k * z_mm) if made.even else plane.position
        for x in (0, plane.columns - 1):
            for y in (0, plane.rows - 1):
                dx, dy = plane.spacing_mm * (x, y)
                own = plane.position + dx * plane.orientation[:3] + dy * plane.orientation[3:]
                grid = first + made.direction[:, :2] @ (x * x_mm, y * y_mm)
                far = max(far, float(np.linalg.norm(own - grid)))
    return far


def _check_corners(made: Stack, name: str) -> tuple[str, ...]:
    """Last of all, and whatever the reason: every corner lies where its tags say.

    Planes that are to be resampled are taken from where they are.
    """
    off = _corner_error_mm(made)
    if off > TOLERATED_MM:
        raise BadVolume(
            f"{name}: position, orientation and spacing of the slices do not fit one even stack"
            f", corners lie up to {off:.2g} mm beside their place; {EXPORT_AGAIN}"
        )
    if off <= ROUNDED_MM:
        return ()
    return (f"the DICOM tags form no perfectly even stack, voxels lie up to {off:.2g} mm off",)


def _order_remark(planes: list[Plane]) -> tuple[str, ...]:
    """Warn of an order that may tell of a mixture; frames may lie in any order, but not in runs."""
    numbers = [plane.number for plane in planes if plane.number is not None]
    if len({one < other for one, other in pairwise(numbers)}) > 1:
        return ("DICOM numbers the slices in another order than their positions, which are used",)
    places = _along_normal(planes)
    if len({plane.file for plane in planes}) == 1 and _overlap(
        _runs(planes, places, lambda plane: plane.frame), places
    ):
        return (
            "the frames of the DICOM file run through the body more than once: look whether"
            " several acquisitions are mixed",
        )
    return ()
