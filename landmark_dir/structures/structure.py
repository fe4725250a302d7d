"""A named structure: what is drawn into a scan."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from landmark_dir.geometry import Points, index_to_physical, physical_to_index
from landmark_dir.structures.shares import fullest, shares_of

Colour: TypeAlias = tuple[int, int, int]  # red, green, blue, 0..255


@dataclass(frozen=True)
class Structure:
    """A structure and where it is. Structures of one set may overlap.

    Attributes
    ----------
    name : str
        As the file has it; `label 3` where it has only numbers.
    number : int
        Label value, segment or ROI number; differs within a set.
    colour : tuple of int or None
        None: the file does not say.
    mask : sitk.Image
        uint8, 0 / 1, on a grid of its own: mostly that of a scan, cut to what surrounds the
        structure. All 0 if nothing is left of it.
    """

    name: str
    number: int
    colour: Colour | None
    mask: sitk.Image

    @property
    def volume_ml(self) -> float:
        """Volume of the voxels."""
        voxels = int(np.count_nonzero(sitk.GetArrayViewFromImage(self.mask)))
        return voxels * float(np.prod(self.mask.GetSpacing())) / 1000


def cropped(mask: sitk.Image) -> sitk.Image:
    """Cut to the non-zero voxels and one more on each side; to one voxel if there are none.

    Returns
    -------
    sitk.Image
        uint8, 0 / 1.
    """
    filled = sitk.GetArrayViewFromImage(mask) != 0
    low, high = np.zeros(3, int), np.ones(3, int)
    if filled.any():
        for axis in range(3):
            others = tuple(other for other in range(3) if other != 2 - axis)
            along = np.flatnonzero(filled.any(axis=others))
            low[axis], high[axis] = along[0] - 1, along[-1] + 2
    low, high = np.maximum(low, 0), np.minimum(high, mask.GetSize())
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return as_mask(filled[z, y, x], part_of(mask, low, high))


def part_of(grid: sitk.Image, low: ArrayLike, high: ArrayLike) -> sitk.Image:
    """An empty uint8 image on the voxels `low` <= (x, y, z) < `high` of a grid, or beyond it."""
    first, after = np.asarray(low), np.asarray(high)
    part = sitk.Image((after - first).tolist(), sitk.sitkUInt8)
    part.SetSpacing(grid.GetSpacing())
    part.SetDirection(grid.GetDirection())
    part.SetOrigin(index_to_physical(grid, first[None])[0].tolist())
    return part


def box_around(
    points: Points, grid: sitk.Image, margin: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The voxels of a grid around points [N, 3], LPS mm, and `margin` more (x, y, z).

    Returns
    -------
    first, after : ndarray, shape (3,)
        At least one voxel of the grid, also where the points lie beside it.
    """
    index, size = physical_to_index(grid, points), np.array(grid.GetSize())
    first = np.clip(np.floor(index.min(axis=0) - margin), 0, size - 1)
    after = np.clip(np.ceil(index.max(axis=0) + margin) + 1, first + 1, size)
    return first.astype(int), after.astype(int)


def as_mask(values: NDArray[np.bool_], grid: sitk.Image) -> sitk.Image:
    """Booleans [z, y, x] as a uint8 image on a grid of that size."""
    mask = sitk.GetImageFromArray(values.astype(np.uint8))
    mask.CopyInformation(grid)
    return mask


def resampled(
    mask: sitk.Image, grid: sitk.Image, transform: sitk.Transform | None = None
) -> sitk.Image:
    """A mask on another grid, with the same volume (`shares`); exact where voxels coincide.

    Parameters
    ----------
    transform : sitk.Transform, optional
        From points of the grid to points of the mask; identity if none.
    """
    return as_mask(fullest(shares_of(mask, grid, transform)), grid)


def numbered(structures: Sequence[Structure], at_most: int) -> list[Structure]:
    """The same structures if each has a number of its own, 1 to `at_most`; else numbered from 1."""
    numbers = {one.number for one in structures}
    if len(numbers) == len(structures) and min(numbers) > 0 and max(numbers) <= at_most:
        return list(structures)
    return [replace(one, number=number) for number, one in enumerate(structures, 1)]
