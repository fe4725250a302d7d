"""Structures on one grid: as label maps, as few as their overlaps allow."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.geometry import corners, shape_zyx
from landmark_dir.structures.structure import Structure, box_around, part_of, resampled

LARGEST = 2**16 - 1  # number of a structure

Labels: TypeAlias = NDArray[np.uint16]  # [z, y, x]
Box: TypeAlias = tuple[slice, slice, slice]  # z, y, x


class Layers(NamedTuple):
    """Label maps in which no structure hides another.

    Attributes
    ----------
    labels : list of ndarray, shape (z, y, x)
        0, or the number of a structure.
    of : list of int
        The layer of each structure.
    overlap : tuple of str, optional
        The names of two structures that share voxels, if any do.
    """

    labels: list[Labels]
    of: list[int]
    overlap: tuple[str, str] | None


def on_grid(structure: Structure, grid: sitk.Image) -> tuple[Box, NDArray[np.bool_]]:
    """A box of a grid, and which of the voxels in it [z, y, x] lie in a structure."""
    first, after = box_around(corners(structure.mask), grid, 1.0)
    inside = sitk.GetArrayFromImage(resampled(structure.mask, part_of(grid, first, after))) != 0
    x, y, z = (slice(int(a), int(b)) for a, b in zip(first, after, strict=True))
    return (z, y, x), inside


def layered(structures: Sequence[Structure], grid: sitk.Image) -> Layers:
    """Put each structure into the first label map in which its voxels are free.

    Their numbers differ and are 1 to `LARGEST` (`structure.numbered`).
    """
    labels: list[Labels] = [np.zeros(shape_zyx(grid), np.uint16)]
    of: list[int] = []
    overlap = None
    names = {one.number: one.name for one in structures}
    for one in structures:
        box, inside = on_grid(one, grid)
        layer = next(
            (n for n, label in enumerate(labels) if not label[box][inside].any()), len(labels)
        )
        if layer and overlap is None:
            overlap = names[int(labels[0][box][inside].max())], one.name
        if layer == len(labels):
            labels.append(np.zeros(shape_zyx(grid), np.uint16))
        labels[layer][box][inside] = one.number
        of.append(layer)
    return Layers(labels, of, overlap)


def smallest(labels: Labels) -> NDArray[np.uint8] | Labels:
    """The same numbers in bytes, where they fit."""
    return labels.astype(np.uint8) if labels.max(initial=0) < 2**8 else labels
