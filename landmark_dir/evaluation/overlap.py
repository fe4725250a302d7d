"""How well two label maps on one grid agree: Dice, distance of the surfaces, volumes."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import index_to_physical, same_grid

Box: TypeAlias = tuple[slice, slice, slice]  # z, y, x

MAX_LABEL = 65535
MAX_LABELS = 500  # an image given as label map has more values


class Overlap(NamedTuple):
    """One label in the fixed and in a warped label map.

    `hd95_mm` is the larger of the two directed 95th percentiles of the distance from the centre of
    a surface voxel to the nearest one of the other surface; NaN where the label is in one map only.
    """

    dice: float
    hd95_mm: float
    fixed_ml: float
    warped_ml: float


def check_label_map(labels: sitk.Image, image: sitk.Image, name: str) -> sitk.Image:
    """Return a label map with exactly the grid of its image, or refuse it.

    Raises
    ------
    BadVolume
        If its voxels lie more than a tenth of a voxel beside the image's, or it is no label map:
        values below 0 or above 65535, more than 500 of them, or 0 everywhere.
    """
    if not same_grid(labels, image, tolerance_mm=0.1 * min(image.GetSpacing())):
        raise BadVolume(
            f"{name}: its voxels are not those of its image; resample it onto the image with "
            "nearest neighbour"
        )
    values = np.unique(sitk.GetArrayViewFromImage(labels))
    if values[0] < 0 or values[-1] > MAX_LABEL or len(values) > MAX_LABELS:
        raise BadVolume(
            f"{name}: expected labels, found {len(values)} values from {values[0]} to {values[-1]}"
            "; is this an image?"
        )
    if not values.any():
        raise BadVolume(f"{name}: is 0 everywhere; expected labels above 0")
    exact = sitk.Cast(labels, sitk.sitkUInt16)
    exact.CopyInformation(image)  # headers of label maps are often rounded
    return exact


def present(labels: sitk.Image) -> set[int]:
    """The labels of a map, without 0."""
    return {int(value) for value in np.unique(sitk.GetArrayViewFromImage(labels))} - {0}


def dice(one: sitk.Image, other: sitk.Image, label: int) -> float:
    """Dice overlap of one label in two label maps on one grid; NaN where both lack it."""
    return _dice(*(sitk.GetArrayViewFromImage(i) == label for i in (one, other)))


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2.0 * int((one & other).sum()) / total if total else float("nan")


def overlaps(fixed: sitk.Image, warped: sitk.Image, labels: list[int]) -> dict[int, Overlap]:
    """Compare label maps of integers >= 0 on one grid, label by label."""
    maps = [sitk.GetArrayViewFromImage(image) for image in (fixed, warped)]
    boxes = [ndimage.find_objects(values, max_label=max(labels, default=1)) for values in maps]
    found = {}
    for label in labels:
        box = _around([b[label - 1] for b in boxes if b[label - 1] is not None])
        found[label] = _overlap(fixed, *(values[box] == label for values in maps))
    return found


def _around(boxes: list[Box]) -> Box:
    """The smallest box that holds all boxes; of none, an empty one."""
    if not boxes:
        return (slice(0, 0),) * 3
    z, y, x = (
        slice(min(side.start for side in axis), max(side.stop for side in axis))
        for axis in zip(*boxes, strict=True)
    )
    return z, y, x


def _overlap(grid: sitk.Image, fixed: NDArray[np.bool_], warped: NDArray[np.bool_]) -> Overlap:
    voxel_ml = float(np.prod(grid.GetSpacing())) / 1000
    sizes = [float(mask.sum()) * voxel_ml for mask in (fixed, warped)]
    return Overlap(_dice(fixed, warped), _hd95_mm(grid, fixed, warped), *sizes)


def _hd95_mm(grid: sitk.Image, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    surfaces = [_surface(grid, mask) for mask in (one, other)]
    if not all(map(len, surfaces)):
        return float("nan")
    there, back = (
        np.percentile(cKDTree(to).query(of)[0], 95) for of, to in (surfaces, surfaces[::-1])
    )
    return float(max(there, back))


def _surface(grid: sitk.Image, mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Centres [N, 3], mm, of the voxels with a face to the outside; a cut by the border is one.

    They are relative to the corner of the mask: only distances are taken.
    """
    shell = mask & ~ndimage.binary_erosion(mask)
    return index_to_physical(grid, np.argwhere(shell)[:, ::-1])
