"""Volumes as small pictures: the preview of a run folder."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from small_pairs import make_case

from landmark_dir.report.volumes import side_by_side, write_preview

BRIGHT = 1000.0  # HU


def read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("L"))


def body_of_slices(image: sitk.Image, slices: slice) -> sitk.Image:
    """A mask of all voxels in some slices."""
    values = np.zeros(image.GetSize()[::-1], np.uint8)
    values[slices] = 1
    mask = sitk.GetImageFromArray(values)
    mask.CopyInformation(image)
    return mask


def test_a_preview_is_the_slice_in_the_middle_of_the_body(tmp_path: Path) -> None:
    values = np.full((9, 20, 10), -1000.0, np.float32)
    values[3, :10] = BRIGHT  # the half in front
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((4.0, 1.0, 3.0))  # 40 x 20 mm
    path = tmp_path / "preview.webp"
    write_preview(path, [image, image, image], body_of_slices(image, slice(2, 5)))
    found = read(path)
    assert found.shape == (160, 3 * 320)
    assert found[:70].mean() > 180
    assert found[90:].mean() < 10
    write_preview(path, [image, image, image], body_of_slices(image, slice(0, 0)))
    assert read(path).mean() < 10  # no body: the middle of the volume, which is slice 4


def test_a_preview_is_at_most_200_pixels_high_and_a_few_kilobytes(tmp_path: Path) -> None:
    phantom = make_case(size_xyz=(200, 160, 5), spacing_mm=(1.5, 1.5, 6.0)).phantom
    before = sitk.Resample(phantom.moving, phantom.fixed, sitk.Transform(), sitk.sitkLinear, -1000)
    path = tmp_path / "preview.webp"
    write_preview(path, [phantom.fixed, before, before], body_of_slices(before, slice(0, 5)))
    assert read(path).shape == (200, 3 * 250)
    assert path.stat().st_size < 20_000


@pytest.mark.parametrize("shape", [(1, 1, 300), (1, 300, 1), (1, 1, 1)])
def test_a_preview_of_an_odd_image_is_a_picture(shape: tuple[int, ...], tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros(shape, np.int16))
    write_preview(tmp_path / "preview.webp", [image], body_of_slices(image, slice(0, 1)))
    height, width = read(tmp_path / "preview.webp").shape
    assert height <= 200
    assert width <= 320
    assert side_by_side([image, image]).startswith("data:image/png;base64,")
