"""Voxels of tilted or uneven planes, resampled to a right-angled box of even slices."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume
from landmark_dir.io.dicom_places import EVEN_OUT, ROUNDED_MM, offsets_mm
from landmark_dir.io.dicom_planes import Vector
from landmark_dir.io.dicom_stack import Stack

AIR_HU = -500.0  # below is air, or what fills the corners of a round field of view

Slice = NDArray[np.float64]


def resampled(values: NDArray[Any], made: Stack, name: str) -> NDArray[Any]:
    """Return the voxels [z, y, x] of the box of `made`.

    Linear between the two neighbouring planes, each moved in its own plane to where it lies. Whole
    numbers stay whole: they are rounded, by 0.5 HU at most. Outside the planes lies the smallest
    value.

    Parameters
    ----------
    values : ndarray, shape (N, rows, columns)
        Of the planes, HU.
    name : str
        For the message.

    Raises
    ------
    BadVolume
        If voxels lie outside the planes and the smallest value is not air.
    """
    offsets = offsets_mm(made.planes, made.direction)
    x_mm, y_mm, step_mm = made.spacing_mm
    shifts = (offsets[:, :2] - offsets[:, :2].min(axis=0)) / (x_mm, y_mm)
    nx, ny, nz = made.size_xyz
    moved = lru_cache(maxsize=2)(lambda k: _moved(values[k], shifts[k], (nx, ny)))
    least = values.min()
    box = np.empty((nz, ny, nx), values.dtype)
    for k in range(nz):
        hu = _between(k * step_mm, offsets[:, 2], moved)
        outside = np.isnan(hu)
        if least > AIR_HU and outside.any():
            raise BadVolume(
                f"{name}: tilted slices would be resampled to a box with {least:g} HU in its empty"
                f" corners, expected air below {AIR_HU:g}, but no voxel is air; resample it to a"
                f" box first ({EVEN_OUT})"
            )
        hu[outside] = least
        box[k] = np.rint(hu) if np.issubdtype(values.dtype, np.integer) else hu
    return box


def _between(height: float, heights: Vector, moved: Callable[[int], Slice]) -> Slice:
    """Return the slice at `height`, mm along the normal, of planes at rising `heights`."""
    upper = int(np.clip(np.searchsorted(heights, height), 1, len(heights) - 1))
    lower = upper - 1
    share = (height - heights[lower]) / (heights[upper] - heights[lower])
    nearest = lower if share < 0.5 else upper
    if abs(height - heights[nearest]) <= ROUNDED_MM:
        return moved(nearest).copy()
    return np.asarray((1 - share) * moved(lower) + share * moved(upper))


def _moved(plane: NDArray[Any], shift: Vector, size_xy: tuple[int, int]) -> Slice:
    """Return a plane in a larger one, moved by `shift` voxels (x, y); NaN where it is not."""
    image = sitk.GetImageFromArray(plane.astype(np.float64))
    image.SetOrigin(shift.tolist())
    wide = sitk.Resample(
        image,
        size_xy,
        sitk.Transform(2, sitk.sitkIdentity),
        sitk.sitkLinear,
        (0.0, 0.0),
        (1.0, 1.0),
        (1.0, 0.0, 0.0, 1.0),
        np.nan,
        sitk.sitkFloat64,
    )
    values: Slice = sitk.GetArrayFromImage(wide)
    return values
