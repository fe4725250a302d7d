"""Slices of two thicknesses are made to show the same."""

import numpy as np
import pytest
import SimpleITK as sitk

from landmark_dir.preprocessing.slice_profile import as_thick, slice_axis, slice_distances_mm

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def _volume(spacing_z: float, axes: tuple[int, int, int] = (0, 1, 2)) -> sitk.Image:
    """Noise, oblique and off-origin; `axes` says which index axis runs along which of `TURN`."""
    size = np.array([20, 16, 40])[list(axes)]
    values = np.random.default_rng(0).normal(0, 100, size[::-1]).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(np.array([0.9, 1.1, spacing_z])[list(axes)].tolist())
    image.SetDirection(TURN[:, list(axes)].ravel().tolist())
    image.SetOrigin((-30.0, 12.0, 7.0))
    return image


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_slices_follow_each_other_from_foot_to_head(axes: tuple[int, int, int]) -> None:
    image = _volume(3.0, axes)
    assert axes[slice_axis(image)] == 2
    assert slice_distances_mm(image, _volume(1.5)) == (3.0, 1.5)
    assert slice_distances_mm(_volume(1.5), image) == (1.5, 3.0)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_it_is_blurred_along_its_slices_by_what_it_lacks(axes: tuple[int, int, int]) -> None:
    """The blur of a point has the variance by which the boxes of both slices differ."""
    thin = _volume(1.0, axes) * 0
    middle = [side // 2 for side in thin.GetSize()]
    thin[middle] = 1000.0
    along = slice_axis(thin)
    seen = sitk.GetArrayFromImage(as_thick(thin, 1.0, 7.0)).transpose(2, 1, 0)
    profile = seen.sum(axis=tuple({0, 1, 2} - {along}))
    assert seen.sum(axis=along).max() == pytest.approx(seen.sum())  # in-plane it stays a point
    place = np.arange(len(profile)) - middle[along]
    variance = (profile * place**2).sum() / profile.sum()
    assert variance == pytest.approx((7.0**2 - 1.0) / 12, rel=0.1)  # recursive: nearly a Gaussian


def test_it_stays_as_it_is_where_slices_are_no_thicker() -> None:
    image = _volume(2.0)
    assert as_thick(image, 2.0, 2.5) is image
    assert as_thick(image, 2.0, 1.0) is image
