"""Voxels that no scanner measured: what reconstruction or export put outside the scanned circle."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from landmark_dir.preprocessing.intensity import SCANNER_HU

LEAST_SHARE = 0.001  # of the voxels that hold one value of padding
ALONE = 32.0  # either side of it fewer voxels lie: noise and streaks have no such peak
RIM = 7  # voxels; half of it is how far tissue is continued into padding


def padding_mask(image: sitk.Image) -> sitk.Image | None:
    """Where an image holds padding, as uint8 0 / 1 on its grid; None: nowhere."""
    found = padding_values(image)
    if not found:
        return None
    values = sitk.GetArrayViewFromImage(image)
    mask = sitk.GetImageFromArray(np.isin(values, found).astype(np.uint8))
    mask.CopyInformation(image)
    return mask


def padding_values(image: sitk.Image) -> list[float]:
    """The values that stand for no data; mostly none.

    Padding is a value below what a scanner stores as CT (-2000, -3024, -32768), which many voxels
    hold exactly, and few nearly. Padding at -1024 or above cannot be told from air, nor does it
    have to be. An image of nothing but padding has none: its values mean something else.
    """
    values = sitk.GetArrayViewFromImage(image)
    low = values[values < SCANNER_HU[0]]
    least = LEAST_SHARE * values.size
    if low.size < least or low.size == values.size:
        return []
    held, counts = np.unique(low, return_counts=True)
    up_to = np.concatenate([[0], np.cumsum(counts)])  # voxels below each value
    held = held.astype(np.float64)
    first = np.searchsorted(held, held - ALONE, "left")
    last = np.searchsorted(held, held + ALONE, "right")
    others = up_to[last] - up_to[first] - counts
    found: list[float] = held[(counts >= least) & (counts > others)].tolist()
    return found


def fill_padding(image: sitk.Image, padding: sitk.Image) -> sitk.Image:
    """The image with what lies beside padding continued into it, so that splines do not ring.

    Farther in than half of `RIM`, it is the smallest value that is no padding.

    Parameters
    ----------
    padding : sitk.Image
        0 / 1 on the grid of `image`.
    """
    values = sitk.GetArrayFromImage(image)
    known = sitk.GetArrayViewFromImage(padding) == 0
    filled = np.where(known, values, values[known].min())
    total = ndimage.uniform_filter(np.where(known, values, 0).astype(np.float32), RIM)
    share = ndimage.uniform_filter(known.astype(np.float32), RIM)
    rim = ~known & (share > 0.5 / RIM**3)  # of rounding, less is left
    filled[rim] = (total[rim] / share[rim]).astype(values.dtype)
    result = sitk.GetImageFromArray(filled)
    result.CopyInformation(image)
    return result
