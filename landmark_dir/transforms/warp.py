"""Images through a transform chain, voxel by voxel."""

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.preprocessing.padding import fill_padding, padding_mask, padding_values
from landmark_dir.transforms.chain import Chain


def warp_image(
    image: sitk.Image, chain: Chain, grid: sitk.Image, *, labels: bool = False
) -> sitk.Image:
    """Resample an image of the moving side onto a grid of the fixed side.

    Cubic b-spline interpolation, as transformix has it, kept within the range of the image, whose
    smallest value stands where it has no data. The pixel type is kept.

    Padding (`preprocessing.padding`) takes no part in the interpolation: it stands where the
    nearest voxel is padding, and nowhere else.

    Parameters
    ----------
    grid : sitk.Image
        Any image on the grid that is wanted.
    labels : bool
        `image` is a label map: nearest neighbour, 0 where it has no data.
    """
    if labels:
        nearest = sitk.sitkNearestNeighbor
        warped: sitk.Image = sitk.Resample(image, grid, chain.itk(), nearest, 0)
        return warped
    transform, padding = chain.itk(), padding_mask(image)
    outside = float(sitk.GetArrayViewFromImage(image).min())
    if padding is None:
        return _smoothly(image, grid, transform, outside)
    warped = _smoothly(fill_padding(image, padding), grid, transform, outside)
    nearest = sitk.Resample(image, grid, transform, sitk.sitkNearestNeighbor, outside)
    values = sitk.GetArrayFromImage(warped)
    padded = sitk.GetArrayViewFromImage(nearest)
    np.copyto(values, padded, where=np.isin(padded, [outside, *padding_values(image)]))
    return _on_grid_of(values, warped)


def _smoothly(
    image: sitk.Image, grid: sitk.Image, transform: sitk.Transform, outside: float
) -> sitk.Image:
    """Cubic resampling, within the range of the image where it has data; the pixel type is kept."""
    view = sitk.GetArrayViewFromImage(image)
    warped = sitk.Resample(image, grid, transform, sitk.sitkBSpline, outside, sitk.sitkFloat32)
    values = sitk.GetArrayFromImage(warped)
    np.clip(values, view.min(), view.max(), out=values)  # cubic splines overshoot beside edges
    if np.issubdtype(view.dtype, np.integer):
        np.rint(values, out=values)
    return _on_grid_of(values.astype(view.dtype, copy=False), warped)


def _on_grid_of(values: NDArray[Any], image: sitk.Image) -> sitk.Image:
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result
