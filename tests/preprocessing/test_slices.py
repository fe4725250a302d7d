"""Slices at 1 mm and the way back to the world."""

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose

from landmark_dir.geometry import index_to_physical, physical_to_index
from landmark_dir.preprocessing.slices import resample_in_plane, stack_slices


def _ramp(image: sitk.Image) -> sitk.Image:
    """The same grid; each voxel holds its own world x + 2 y."""
    nx, ny, nz = image.GetSize()
    z, y, x = np.mgrid[0:nz, 0:ny, 0:nx]
    world = index_to_physical(image, np.stack([x, y, z], -1).reshape(-1, 3))
    values = (world[:, 0] + 2 * world[:, 1]).reshape(nz, ny, nx)
    made = sitk.GetImageFromArray(values.astype(np.float32))
    made.CopyInformation(image)
    return made


@pytest.mark.parametrize("spacing", [(0.4, 0.4, 5.0), (0.7, 0.9, 2.0), (2.7, 2.7, 5.0)])
def test_resampled_voxels_stay_where_they_are(
    oblique_ct: sitk.Image, spacing: tuple[float, ...]
) -> None:
    oblique_ct.SetSpacing(spacing)
    ramp = _ramp(oblique_ct)
    fine = resample_in_plane(ramp)
    assert_allclose(fine.GetSpacing(), (1.0, 1.0, spacing[2]))
    want = sitk.GetArrayFromImage(_ramp(fine))[:, 2:-2, 2:-2]
    got = sitk.GetArrayViewFromImage(fine)[:, 2:-2, 2:-2]
    assert_allclose(got, want, atol=0.05)  # ramp units, about mm; borders are cut off


def test_a_keypoint_lifts_to_its_own_voxel(oblique_ct: sitk.Image) -> None:
    stack = stack_slices(oblique_ct, 16)
    assert stack.images.shape[1] % 16 == stack.images.shape[2] % 16 == 0
    world = stack.to_physical(np.array([[7.0, 11.0], [0.0, 0.0]]), np.array([3.0, 4.5]))
    assert_allclose(physical_to_index(stack.grid, world), [[7, 11, 3], [0, 0, 4.5]], atol=1e-9)


def test_a_volume_at_one_millimetre_is_not_touched(oblique_ct: sitk.Image) -> None:
    oblique_ct.SetSpacing((1.0, 1.0, 3.0))
    assert resample_in_plane(oblique_ct) is oblique_ct


@pytest.mark.parametrize("order", ["LPS", "RAS", "ASL", "SPR"])
def test_however_it_is_stored_the_network_sees_axial_slices(
    oblique_ct: sitk.Image, order: str
) -> None:
    oblique_ct.SetSpacing((1.0, 1.0, 1.0))
    want, got = (stack_slices(sitk.DICOMOrient(oblique_ct, name), 16) for name in ("LPS", order))
    assert np.array_equal(want.images, got.images)
    world = [s.to_physical(np.array([[5.0, 6.0]]), np.array([7.0])) for s in (want, got)]
    assert_allclose(*world, atol=1e-9)
