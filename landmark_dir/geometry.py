"""Voxel indices and physical points.

This is the only place where the axis order is reversed. Physical points are LPS millimetres,
as ITK and elastix have them; indices are in ITK order (x, y, z) unless a name says `zyx`.
"""

from typing import TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

Points: TypeAlias = NDArray[np.float64]  # [N, 3], (x, y, z)

FARTHEST_MM = 1e6  # from the origin; a file that speaks of a place beyond is damaged


def as_points(values: ArrayLike) -> Points:
    """Return `values` as an (N, 3) float64 array; N may be 0.

    Raises
    ------
    ValueError
        If the shape is not (N, 3).
    """
    points = np.asarray(values, dtype=np.float64)
    if points.size == 0:
        return np.zeros((0, 3))
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"expected points of shape (N, 3), found {points.shape}")
    return points


def index_to_mm(image: sitk.Image) -> NDArray[np.float64]:
    """Return the 3 x 3 matrix from index steps to mm: direction cosines times spacing."""
    direction = np.asarray(image.GetDirection(), dtype=np.float64).reshape(3, 3)
    return np.asarray(direction * np.asarray(image.GetSpacing()))


def index_to_physical(image: sitk.Image, index_xyz: ArrayLike) -> Points:
    """Map continuous voxel indices to physical points.

    Parameters
    ----------
    index_xyz : array, shape (N, 3)
        ITK order (x, y, z); 0 is the centre of the first voxel. N may be 0.

    Returns
    -------
    ndarray, shape (N, 3), float64
        LPS world coordinates, mm.
    """
    return as_points(as_points(index_xyz) @ index_to_mm(image).T + image.GetOrigin())


def physical_to_index(image: sitk.Image, points: ArrayLike) -> Points:
    """Map physical points (N, 3), LPS mm, to continuous voxel indices (x, y, z)."""
    offset = as_points(points) - np.asarray(image.GetOrigin())
    index_xyz: Points = np.linalg.solve(index_to_mm(image), offset.T).T
    return index_xyz


def inside(image: sitk.Image, points: ArrayLike) -> NDArray[np.bool_]:
    """Tell which physical points (N, 3) lie within the voxels of `image`."""
    index = physical_to_index(image, points)
    last = np.asarray(image.GetSize()) - 0.5
    return np.asarray(np.all((index >= -0.5) & (index <= last), axis=1))


def shape_zyx(image: sitk.Image) -> tuple[int, int, int]:
    """Return the shape of the image's array, [z, y, x]."""
    x, y, z = image.GetSize()
    return z, y, x


def centre(image: sitk.Image) -> Points:
    """Physical centre of the image, shape (1, 3), LPS mm."""
    return index_to_physical(image, [(np.asarray(image.GetSize()) - 1) / 2])


def corners(image: sitk.Image) -> Points:
    """Physical centres of the eight corner voxels, shape (8, 3), LPS mm."""
    size, direction = image.GetSize(), image.GetDirection()
    return grid_corners(size, image.GetSpacing(), image.GetOrigin(), direction)


def grid_corners(
    size_xyz: ArrayLike, spacing_mm: ArrayLike, origin: ArrayLike, direction: ArrayLike
) -> Points:
    """Physical centres of the eight corner voxels of a grid, as ITK describes one."""
    last_mm = (np.asarray(size_xyz) - 1) * np.asarray(spacing_mm, dtype=np.float64)
    axes = np.asarray(direction, dtype=np.float64).reshape(3, 3)
    return as_points(np.array(list(np.ndindex(2, 2, 2))) * last_mm @ axes.T + np.asarray(origin))


def voxel_centres(image: sitk.Image, stride: int = 1) -> Points:
    """Physical centres of every `stride`-th voxel, x running fastest, shape (N, 3), LPS mm."""
    nx, ny, nz = image.GetSize()
    z, y, x = np.mgrid[0:nz:stride, 0:ny:stride, 0:nx:stride]
    return index_to_physical(image, np.stack([x, y, z], axis=-1).reshape(-1, 3))


def same_grid(one: sitk.Image, other: sitk.Image, tolerance_mm: float = 1e-3) -> bool:
    """Tell whether both images have the same size and voxel positions within `tolerance_mm`."""
    if one.GetSize() != other.GetSize():
        return False
    return bool(np.abs(corners(one) - corners(other)).max() <= tolerance_mm)


def distances_mm(one: Points, other: Points) -> NDArray[np.float64]:
    """Euclidean distance, mm, row by row."""
    return np.asarray(np.linalg.norm(one - other, axis=1))
