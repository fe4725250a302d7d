"""Find the body in a CT volume."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from landmark_dir.preprocessing.intensity import CT, InputScale

Mask: TypeAlias = NDArray[np.bool_]  # [z, y, x]

MIN_VOXELS = 4  # along each axis of the coarse grid
BODY_GRID_MM = 2.5  # coarse grid of the morphology: the mask is good to about one such voxel
THIN_MM = 5.0  # radius; what is thinner than 10 mm in an axial slice is sheet, tube or table
FLAT_MM = 12.0  # radius; a part thinner than 24 mm all along is table, wrists are thicker
BIG_PART = 0.02  # of the largest part's volume: an arm stays, a piece of table goes
IN_SLICE = np.zeros((3, 3, 3), dtype=bool)  # neighbours [z, y, x] within an axial slice
IN_SLICE[1] = ndimage.generate_binary_structure(2, 1)


def body_mask(image: sitk.Image, scale: InputScale = CT) -> sitk.Image:
    """Find the patient's body in an image, by default a CT in HU.

    Lungs and bowel gas are part of it, the table is not.

    Returns
    -------
    sitk.Image
        uint8 0 / 1 on the grid of `image`; empty if nothing is above
        `scale.body_above`.
    """
    shrink = [
        max(1, min(int(BODY_GRID_MM / mm), n // MIN_VOXELS))
        for mm, n in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    coarse = sitk.DICOMOrient(sitk.BinShrink(image, shrink), "LPS")  # z, y, x: axial slices
    hu = sitk.GetArrayViewFromImage(coarse)
    tissue = hu > scale.body_above
    body = _big_parts(tissue, coarse.GetSpacing())
    body = _front_to_back(body | _cavities(body, tissue, hu > scale.lung_above))
    # a chest wall may be too thin to be solid, but it lies beside the lung
    beside_air = _morphology(sitk.BinaryDilate, body & ~tissue, 2 * THIN_MM, coarse.GetSpacing())
    body = _front_to_back(body | (beside_air & tissue))
    mask = sitk.GetImageFromArray(body.astype(np.uint8))
    mask.CopyInformation(coarse)
    return _onto_grid(mask, image)


def _big_parts(tissue: Mask, spacing_mm: tuple[float, ...]) -> Mask:
    """Drop what is thin (sheet, tube) or flat (table) or small; keep the trunk and the limbs."""
    solid = _morphology(sitk.BinaryMorphologicalOpening, tissue, THIN_MM, spacing_mm)
    core = _morphology(sitk.BinaryErode, tissue, FLAT_MM, spacing_mm, False)
    parts, count = ndimage.label(solid)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[np.bincount(parts[core], minlength=count + 1) == 0] = 0
    sizes[0] = 0
    keep = (sizes > 0) & (sizes >= BIG_PART * sizes.max())
    # ears, fingers and corners come back, as far as the opening may have taken them
    return _morphology(sitk.BinaryDilate, keep[parts], THIN_MM, spacing_mm) & tissue


def _morphology(
    operation: Callable[..., sitk.Image],
    mask: Mask,
    radius_mm: float,
    spacing_mm: tuple[float, ...],
    border: bool = True,
) -> Mask:
    """Open, erode or dilate a mask [z, y, x] by a disc in its axial slices."""
    radius = [max(1, round(radius_mm / mm)) for mm in spacing_mm[:2]]
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    outside = {} if border else {"boundaryToForeground": False}
    done = operation(image, [*radius, 0], sitk.sitkBall, **outside)
    return np.asarray(sitk.GetArrayFromImage(done) > 0)


def _cavities(body: Mask, tissue: Mask, lung: Mask) -> Mask:
    """Find the air [z, y, x] that `tissue` encloses in axial slices, and that is the body's.

    It is if most of its wall is: the foam of a table has the table around it. Vessels are thin,
    so not yet part of `body`, and lungs may have more foreign wall.
    """
    air, count = ndimage.label(~tissue, IN_SLICE)
    wall = ndimage.maximum_filter(air, (1, 3, 3)) * tissue
    of_body = _share(wall, body, count + 1)
    of_lung = _share(air, lung, count + 1)
    chosen = (of_body > 0.7) | ((of_lung > 0.5) & (of_body > 0.4))
    chosen[air[:, [0, -1]]] = chosen[air[:, :, [0, -1]]] = False  # open at the border
    chosen[0] = False  # tissue
    return np.asarray(chosen[air])


def _front_to_back(body: Mask) -> Mask:
    """Fill [z, y, x] from the first to the last body voxel along y: lungs cut by the border."""
    behind_front = np.maximum.accumulate(body, axis=1)
    before_back = np.maximum.accumulate(body[:, ::-1], axis=1)[:, ::-1]
    return behind_front & before_back


def _share(labels: NDArray[Any], chosen: Mask, count: int) -> NDArray[np.float64]:
    """Share of chosen voxels under each label below `count`."""
    hits = np.bincount(labels[chosen], minlength=count)
    return hits / np.maximum(1, np.bincount(labels.ravel(), minlength=count))


def _onto_grid(mask: sitk.Image, image: sitk.Image) -> sitk.Image:
    """Resample a coarse 0 / 1 mask onto the grid of `image`, with smooth outlines."""
    fine = sitk.Resample(
        mask * 200, image, sitk.Transform(), sitk.sitkLinear, 0, sitk.sitkUInt8, True
    )  # True: the nearest voxel beyond the coarse grid's edge
    return sitk.BinaryThreshold(fine, 100, 255)
