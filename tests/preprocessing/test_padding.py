"""Padding is told from air, noise and streaks, and continued so that splines do not ring."""

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from landmark_dir.preprocessing.padding import fill_padding, padding_mask, padding_values

CORNERS = np.hypot(*np.mgrid[-1:1:40j, -1:1:50j])[None] > np.full((12, 1, 1), 1.0)  # [z, y, x]


def measured(noise_hu: float = 60.0) -> NDArray[np.float32]:
    """Air with noise that reaches below -1024, and a block of tissue."""
    hu = np.random.default_rng(0).normal(-1000, noise_hu, CORNERS.shape)
    hu[:, 10:30, 12:38] += 1040
    return hu.astype(np.float32)


def image_of(values: NDArray[np.generic], pixel: type = np.int16) -> sitk.Image:
    return sitk.GetImageFromArray(np.rint(values).astype(pixel))


@pytest.mark.parametrize("pixel", [np.int16, np.float32])
@pytest.mark.parametrize("value", [-2000.0, -3024.0, -32768.0])
def test_padding_is_one_value_of_many_voxels(value: float, pixel: type) -> None:
    image = image_of(np.where(CORNERS, value, measured()), pixel)
    mask = padding_mask(image)
    assert padding_values(image) == [value]
    assert mask is not None
    assert_array_equal(sitk.GetArrayFromImage(mask) > 0, CORNERS)


def test_there_may_be_two_of_them() -> None:
    values = np.where(CORNERS, -2000, measured())
    values[:, :3] = -3024
    image = image_of(values)
    assert padding_values(image) == [-3024, -2000]


@pytest.mark.parametrize("step", [1, 8, 16])
def test_noise_and_streaks_are_no_padding(step: int) -> None:
    values = measured(200.0)
    values[:, 20, 15:20] = -1500  # fewer voxels than a thousandth, exactly so
    values[2:, 20, 15:20] = np.linspace(-3000, -1030, 5)
    image = image_of(np.rint(values / step) * step)
    assert sitk.GetArrayViewFromImage(image).min() < -1400
    assert padding_mask(image) is None


def test_ordinary_images_and_constants_have_none() -> None:
    for values in (measured(5.0), np.where(CORNERS, -1024, measured(5.0))):
        assert padding_mask(image_of(values)) is None
    assert padding_mask(image_of(np.where(CORNERS, -2000, -3024))) is None


def test_tissue_is_continued_and_measured_voxels_are_kept() -> None:
    values = np.full(CORNERS.shape, 40.0)
    values[0, 9, 25] = -1010  # the smallest that was measured
    padded = CORNERS.copy()
    padded[:, :, :20] = True
    image = image_of(np.where(padded, -2000, values))
    mask = padding_mask(image)
    assert mask is not None
    filled = sitk.GetArrayFromImage(fill_padding(image, mask))
    assert_array_equal(filled[~padded], np.rint(values)[~padded])
    assert (filled[:, 15:25, 17:20] == 40).all()  # half of the width of the rim
    assert (filled[:, :, :16] == -1010).all()
