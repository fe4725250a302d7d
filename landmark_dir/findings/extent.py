"""How large a finding is: volume, longest diameter, and its volume in the other scan."""

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from landmark_dir.geometry import Points, index_to_physical, physical_to_index
from landmark_dir.transforms.chain import Chain
from landmark_dir.transforms.fields import invert_points

SAMPLES = 100_000  # about so many places tell a volume that is carried
SLOPE_MM = 0.5  # either side of a place, for the derivative there
CORNERS = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])  # of a pixel
BORDER_MM = 3.0  # around a carried finding, for what its few border places do not show


def volume_mm3(mask: sitk.Image) -> float:
    """Volume of a mask."""
    count = int(np.count_nonzero(sitk.GetArrayViewFromImage(mask)))
    return count * float(np.prod(mask.GetSpacing()))


def longest_mm(mask: sitk.Image) -> float:
    """Longest diameter in any slice of a mask, between outer corners of pixels, as RECIST 1.1."""
    spacing = np.array(mask.GetSpacing()[:2])
    found = 0.0
    for plane in sitk.GetArrayViewFromImage(mask):
        yx = np.argwhere(plane)
        if not len(yx):
            continue
        xy = (yx[:, None, ::-1] + CORNERS).reshape(-1, 2) * spacing
        found = max(found, float(pdist(_hull(xy)).max()))
    return found


def _hull(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        return np.asarray(xy[ConvexHull(xy).vertices])
    except QhullError:
        return xy


def determinants(chain: Chain, fixed: Points) -> NDArray[np.float64]:
    """Determinant of dT/dx at fixed places [N, 3], by central differences over 1 mm."""
    slopes = [
        (chain.map_points(fixed + SLOPE_MM * axis) - chain.map_points(fixed - SLOPE_MM * axis))
        / (2 * SLOPE_MM)
        for axis in np.eye(3)
    ]
    return np.asarray(np.linalg.det(np.stack(slopes, axis=-1)))


def in_moving_mm3(chain: Chain, mask: sitk.Image) -> float:
    """Volume in the moving scan of a mask on the fixed side: its Jacobian, summed."""
    index_zyx = np.argwhere(sitk.GetArrayViewFromImage(mask))
    stride = max(1, len(index_zyx) // SAMPLES)
    places = index_to_physical(mask, index_zyx[::stride, ::-1])
    return float(determinants(chain, places).mean()) * volume_mm3(mask)


def in_fixed_mm3(chain: Chain, mask: sitk.Image) -> float:
    """Volume in the fixed scan of a mask on the moving side: where T leads into it."""
    index_zyx = np.argwhere(sitk.GetArrayViewFromImage(mask))
    moving = index_to_physical(mask, index_zyx[:: max(1, len(index_zyx) // 2000), ::-1])
    fixed = invert_points(chain, moving)
    reach = BORDER_MM + float(np.max(mask.GetSpacing()))
    low, high = fixed.min(axis=0) - reach, fixed.max(axis=0) + reach
    step = float(np.cbrt(np.prod(high - low) / SAMPLES))
    axes = [np.arange(start + step / 2, end, step) for start, end in zip(low, high, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return float(_share(mask, chain.map_points(places)).sum()) * step**3


def _share(mask: sitk.Image, places: Points) -> NDArray[np.bool_]:
    """Which places lie in voxels of a mask."""
    index = np.rint(physical_to_index(mask, places)).astype(int)
    within = ((index >= 0) & (index < mask.GetSize())).all(axis=1)
    x, y, z = np.where(within[:, None], index, 0).T
    return np.asarray(within & (sitk.GetArrayViewFromImage(mask)[z, y, x] > 0))
