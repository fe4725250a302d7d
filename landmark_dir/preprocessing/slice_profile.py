"""What thick slices show of a body: the mean over their thickness.

A place is found again only where both volumes show it alike. So the volume of thinner slices is
blurred along them as if its slices were as thick as those of the other.
"""

import numpy as np
import SimpleITK as sitk

THICKER = 1.3  # times as thick: less makes no difference


def slice_axis(image: sitk.Image) -> int:
    """The index axis along which axial slices follow each other: nearest to the head-foot axis."""
    return int(np.abs(np.reshape(image.GetDirection(), (3, 3))[2]).argmax())


def slice_distances_mm(fixed: sitk.Image, moving: sitk.Image) -> tuple[float, float]:
    """Distance of the slices of a fixed volume, and of the voxels of a moving one along them."""
    axis = slice_axis(fixed)
    along = np.reshape(fixed.GetDirection(), (3, 3))[:, axis]
    nearest = int(np.abs(along @ np.reshape(moving.GetDirection(), (3, 3))).argmax())
    return float(fixed.GetSpacing()[axis]), float(moving.GetSpacing()[nearest])


def as_thick(image: sitk.Image, slices_mm: float, wanted_mm: float) -> sitk.Image:
    """The volume as slices of another thickness show it.

    A slice is taken for the mean over the distance of slices: a box, whose variance is the twelfth
    of its squared width. The volume is blurred by a Gaussian with the variance that it lacks.

    Parameters
    ----------
    slices_mm : float
        How thick the slices are that it was scanned in; resampled, it may have thinner ones.
    wanted_mm : float

    Returns
    -------
    sitk.Image
        As it is, unless the wanted slices are clearly thicker.
    """
    if wanted_mm <= THICKER * slices_mm:
        return image
    sigma_mm = float(np.sqrt((wanted_mm**2 - slices_mm**2) / 12))
    real = sitk.Cast(image, sitk.sitkFloat32)
    return sitk.RecursiveGaussian(real, sigma_mm, False, 0, slice_axis(image))
