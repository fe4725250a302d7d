"""Images through a transform chain, voxel by voxel."""

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.geometry import shape_zyx
from landmark_dir.preprocessing.padding import fill_padding, padding_mask, padding_values
from landmark_dir.transforms.chain import Chain
from landmark_dir.transforms.fields import DenseField, slabs


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
    padding = padding_mask(image)
    outside = float(sitk.GetArrayViewFromImage(image).min())
    if padding is None:
        return _smoothly(image, grid, chain, outside)
    warped = _smoothly(fill_padding(image, padding), grid, chain, outside)
    nearest = sitk.Resample(image, grid, chain.itk(), sitk.sitkNearestNeighbor, outside)
    values = sitk.GetArrayFromImage(warped)
    padded = sitk.GetArrayViewFromImage(nearest)
    np.copyto(values, padded, where=np.isin(padded, [outside, *padding_values(image)]))
    return _on_grid_of(values, warped)


def _smoothly(image: sitk.Image, grid: sitk.Image, chain: Chain, outside: float) -> sitk.Image:
    """Cubic resampling, within the range of the image where it has data; the pixel type is kept."""
    view = sitk.GetArrayViewFromImage(image)
    spline = sitk.BSplineDecomposition(sitk.Cast(image, sitk.sitkFloat32), 3)
    field, warped = DenseField(chain, grid), np.empty(shape_zyx(grid), view.dtype)
    for start, end in slabs(grid):
        values = sitk.GetArrayFromImage(_warped(spline, field.slab(start, end), outside))
        np.clip(values, view.min(), view.max(), out=values)  # cubic splines overshoot beside edges
        if np.issubdtype(view.dtype, np.integer):
            np.rint(values, out=values)
        warped[start:end] = values
    return _on_grid_of(warped, grid)


def _warped(spline: sitk.Image, field: sitk.Image, outside: float) -> sitk.Image:
    """An image, given by the coefficients of its cubic spline, through a displacement field."""
    grid = field.GetSize(), field.GetOrigin(), field.GetSpacing(), field.GetDirection()
    return sitk.Warp(spline, field, sitk.sitkBSplineResamplerOrder3, *grid, outside)


def _on_grid_of(values: NDArray[Any], image: sitk.Image) -> sitk.Image:
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result
