"""A volume as the network sees it: axial slices at 1 mm in-plane, padded, in network units."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.geometry import Points, as_points, index_to_physical
from landmark_dir.preprocessing.intensity import CT, InputScale

PIXEL_MM = 1.0  # [paper] sec. 2.1


@dataclass(frozen=True)
class SliceStack:
    """The slices of a volume and the map from them to the world.

    Attributes
    ----------
    images : ndarray, shape (Z, H, W), float32
        Network units; H and W are multiples of the stride that was asked for.
    grid : sitk.Image
        The volume in axial slices, resampled to `PIXEL_MM` in-plane, without the padding.
        Padding is added at the far end only: pixel (x, y) of slice k is the index (x, y, k).
    """

    images: NDArray[np.float32]
    grid: sitk.Image

    def to_physical(self, keypoints: NDArray[np.floating], k: NDArray[np.floating]) -> Points:
        """Lift keypoints [N, 2] px of slices k [N] (may be fractional) to world mm [N, 3]."""
        return index_to_physical(self.grid, as_points(np.column_stack([keypoints, k])))


def resample_in_plane(
    image: sitk.Image, pixel_mm: float = PIXEL_MM, outside: float = CT.air
) -> sitk.Image:
    """Resample to `pixel_mm` in-plane; slices, direction and field of view are kept."""
    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    if np.allclose(spacing[:2], pixel_mm, atol=1e-3):
        return image
    new_spacing = np.array([pixel_mm, pixel_mm, spacing[2]])
    extent = size * spacing
    new_size = np.maximum(np.floor(extent / new_spacing + 1e-6), 1).astype(int)  # none outside
    # the first voxel's outer edge stays where it is
    first = ((new_spacing / spacing) - 1) / 2
    origin = index_to_physical(image, [first])[0]
    source = sitk.Cast(image, sitk.sitkFloat32)
    for axis in (0, 1):
        if pixel_mm / spacing[axis] > 1.5:  # average before thinning out, else texture is noise
            source = sitk.RecursiveGaussian(source, 0.4 * pixel_mm, False, 0, axis)
    return sitk.Resample(
        source,
        new_size.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        origin.tolist(),
        new_spacing.tolist(),
        image.GetDirection(),
        outside,
        sitk.sitkFloat32,
    )


def stack_slices(image: sitk.Image, stride: int, scale: InputScale = CT) -> SliceStack:
    """Cut a volume, by default CT in HU, into axial slices for a network of the given stride.

    However the volume is stored, x runs to the left, y to the back and slices to the head: the
    network has seen nothing else.
    """
    grid = resample_in_plane(sitk.DICOMOrient(image, "LPS"), outside=scale.air)
    images = scale.to_network(sitk.GetArrayViewFromImage(grid))  # [z, y, x]
    pad = [(0, -side % stride) for side in images.shape[1:]]
    return SliceStack(np.pad(images, [(0, 0), *pad], constant_values=-1.0), grid)
