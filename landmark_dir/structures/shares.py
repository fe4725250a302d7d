"""How much of each voxel lies in a structure, and which voxels then are the structure.

A mask that is looked up voxel by voxel gets uneven, and one that is cut off at a half of its linear
interpolation loses what is small (docs/how-to/structures.md). So a structure keeps its volume
here: it gets as many voxels as its shares sum up to, those with the largest shares.
"""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.geometry import index_to_physical, shape_zyx

FINEST = 8  # parts of a voxel along an axis
NOTHING = 1e-3  # of a voxel: rounding of places
EQUAL = 1e-4  # shares that differ by less are equal

Shares = NDArray[np.float32]  # [z, y, x], 0..1


def shares_of(
    mask: sitk.Image, grid: sitk.Image, transform: sitk.Transform | None = None
) -> Shares:
    """The share of each voxel of a grid that lies in a mask.

    Voxels are divided into parts that are no larger than those of the mask, at whose centres the
    mask is interpolated linearly. Where the voxels of both lie on one another it is 0 or 1.

    Parameters
    ----------
    transform : sitk.Transform, optional
        From points of the grid to points of the mask; identity if none.
    """
    place = sitk.Transform(3, sitk.sitkIdentity) if transform is None else transform
    spacing = np.array(grid.GetSpacing())
    parts = np.clip(np.ceil(spacing / mask.GetSpacing() - 1e-6), 1, FINEST).astype(int)
    first = (1 / parts - 1) / 2
    fine = sitk.Image((parts * grid.GetSize()).tolist(), sitk.sitkUInt8)
    fine.SetSpacing((spacing / parts).tolist())
    fine.SetDirection(grid.GetDirection())
    fine.SetOrigin(index_to_physical(grid, first[None])[0].tolist())
    found = sitk.Resample(mask, fine, place, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    z, y, x = shape_zyx(grid)
    a, b, c = parts
    values = sitk.GetArrayViewFromImage(found).reshape(z, c, y, b, x, a)
    return np.asarray(values.mean(axis=(1, 3, 5)), np.float32)


def fullest(shares: Shares) -> NDArray[np.bool_]:
    """As many voxels as the shares sum up to, those with the largest.

    Of equal ones those come first behind which the structure lies, seen along the axes: where the
    voxels of the mask end in the middle of those of the grid, one face of it gets them all.
    """
    found = shares > 1 - NOTHING
    partial = (shares > NOTHING) & ~found
    count = round(float(shares[partial].sum(dtype=np.float64)))
    padded = np.pad(shares, 1)
    rise = sum(np.diff(padded, axis=axis)[_inner(axis)] for axis in range(3))
    order = (shares + EQUAL * rise)[partial]
    first = np.argsort(-order, kind="stable")[:count]
    found.reshape(-1)[np.flatnonzero(partial)[first]] = True
    return found


def _inner(axis: int) -> tuple[slice, ...]:
    """What of the differences along an axis of a padded array lies behind each voxel."""
    return tuple(slice(1, None) if other == axis else slice(1, -1) for other in range(3))
