"""Images through a transform chain, voxel by voxel."""

import numpy as np
import SimpleITK as sitk

from landmark_dir.transforms.chain import Chain


def warp_image(
    image: sitk.Image, chain: Chain, grid: sitk.Image, *, labels: bool = False
) -> sitk.Image:
    """Resample an image of the moving side onto a grid of the fixed side.

    Cubic b-spline interpolation, as transformix has it, kept within the range of the image, whose
    smallest value stands where it has no data. The pixel type is kept.

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
    view = sitk.GetArrayViewFromImage(image)
    lowest, highest = view.min(), view.max()
    warped = sitk.Resample(
        image, grid, chain.itk(), sitk.sitkBSpline, float(lowest), sitk.sitkFloat32
    )
    values = sitk.GetArrayFromImage(warped)
    np.clip(values, lowest, highest, out=values)  # cubic splines overshoot beside edges
    if np.issubdtype(view.dtype, np.integer):
        np.rint(values, out=values)
    result = sitk.GetImageFromArray(values.astype(view.dtype, copy=False))
    result.CopyInformation(warped)
    return result
