"""The warped image as a CT series: voxels and place, read back by two readers."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from landmark_dir.dicom_export.warped_series import stored, warped_slices
from landmark_dir.errors import BadVolume
from landmark_dir.geometry import index_to_physical, physical_to_index, voxel_centres
from landmark_dir.io.dicom_headers import save
from landmark_dir.io.volumes import read_volume


def write(pair, folder: Path, warped: sitk.Image | None = None, outside: float = -1000.0) -> Path:
    image = pair.warped if warped is None else warped
    folder.mkdir()
    slices = warped_slices(image, stored(image), pair.chain, outside, pair.fixed, pair.moving)
    for k, made in enumerate(slices):
        save(made, folder / f"{k:03d}.dcm")
    return folder


def by_gdcm(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def assert_same_voxels(found: sitk.Image, want: sitk.Image) -> None:
    """Same values at the same places, whichever way the slices are counted."""
    assert found.GetSize() == want.GetSize()
    places = voxel_centres(want)
    index = physical_to_index(found, places)
    nearest = np.rint(index).astype(int)
    assert_allclose(index, nearest, atol=1e-6)  # voxels
    values = sitk.GetArrayFromImage(found)[tuple(nearest[:, ::-1].T)]
    assert_array_equal(values, sitk.GetArrayFromImage(want).ravel())


@pytest.mark.parametrize("read", [read_volume, by_gdcm])
def test_the_series_is_the_warped_image(pair, read, tmp_path: Path) -> None:
    warped = pair.warped
    values = sitk.GetArrayFromImage(warped)
    assert (values > values.min()).mean() > 0.2  # it is not all outside
    assert_same_voxels(read(write(pair, tmp_path / "warped")), warped)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("read", [read_volume, by_gdcm])
def test_a_flipped_grid_keeps_its_place(pair, axis: int, read, tmp_path: Path) -> None:
    flips = [n == axis for n in range(3)]
    flipped = sitk.Flip(pair.warped, flips)
    if axis < 2:  # a mirrored grid, as NIfTI can have one
        assert np.linalg.det(np.reshape(flipped.GetDirection(), (3, 3))) < 0
    assert_same_voxels(read(write(pair, tmp_path / "warped", flipped)), flipped)


def test_it_lies_beside_the_fixed_series_and_says_where_it_comes_from(pair, tmp_path: Path) -> None:
    files = sorted(write(pair, tmp_path / "warped").iterdir())
    slices = [pydicom.dcmread(file) for file in files]
    assert len({one.SOPInstanceUID for one in slices}) == len(slices) == 12
    assert len({(one.SeriesInstanceUID, one.SeriesTime) for one in slices}) == 1
    for k, one in enumerate(slices):
        assert one.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert one.StudyInstanceUID == pair.fixed.study
        assert one.FrameOfReferenceUID == pair.fixed.frame_of_reference
        assert one.SeriesInstanceUID not in (pair.fixed.series.id, pair.moving.series.id)
        related = [item.SeriesInstanceUID for item in one.RelatedSeriesSequence]
        assert related == [pair.moving.series.id, pair.fixed.series.id]
        (beside,) = one.ReferencedImageSequence
        assert beside.ReferencedSOPInstanceUID == pair.fixed.headers[k].SOPInstanceUID
    assert slices[0].SeriesDescription == "warped 20240612 Thorax 5.0 B30f"
    assert slices[0].ConvolutionKernel == "B30f"


def test_a_slice_names_the_slices_that_it_is_made_from(pair, tmp_path: Path) -> None:
    """Those between which its points fall, and few others."""
    files = sorted(write(pair, tmp_path / "warped").iterdir())
    ids = [header.SOPInstanceUID for header in pair.moving.headers]
    for k, file in enumerate(files):
        named = pydicom.dcmread(file).SourceImageSequence
        found = [ids.index(item.ReferencedSOPInstanceUID) for item in named]
        index = np.array([(x, y, k) for x in range(24) for y in range(20)])
        moved = pair.chain.map_points(index_to_physical(pair.fixed_image, index))
        z = physical_to_index(pair.moving_image, moved)[:, 2]
        used = {n for n in range(20) if ((z > n - 2) & (z < n + 2)).any()}
        assert used <= set(found)
        assert len(found) <= len(used) + 4


def test_a_slice_outside_the_moving_image_names_none(pair, tmp_path: Path) -> None:
    away = sitk.Image(pair.warped)
    away.SetOrigin((-120.0, 35.0, 9000.0))
    first = pydicom.dcmread(write(pair, tmp_path / "warped", away) / "000.dcm")
    assert "SourceImageSequence" not in first


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(-1024, 3071, np.int16), (-32768, 32767, np.int32), (-3000, 62000, np.int32)],
)
def test_whole_numbers_stay_exactly_what_they_are(
    pair, low: int, high: int, dtype: type, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(low, high + 1, (12, 20, 24)).astype(dtype)
    values[0, 0, :2] = low, high
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(pair.fixed_image)
    assert stored(image).rounding_hu == 0
    folder = write(pair, tmp_path / "warped", image, low)
    assert_same_voxels(read_volume(folder), image)
    first = pydicom.dcmread(folder / "000.dcm")
    assert first.PixelPaddingValue + first.RescaleIntercept == low
    assert first.RescaleSlope == 1


def test_fractions_are_rounded_and_it_is_said_by_how_much(pair) -> None:
    values = np.random.default_rng(0).uniform(-1000, 1000, (12, 20, 24)).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    found = stored(image)
    assert 0.4 < found.rounding_hu <= 0.5
    assert np.abs(found.values + float(found.intercept) - values).max() == found.rounding_hu


def test_values_beyond_16_bits_are_refused() -> None:
    image = sitk.GetImageFromArray(np.array([[[0, 70_000]]], np.int32))
    with pytest.raises(BadVolume, match="do not fit the 16 bits"):
        stored(image)


def test_no_padding_is_stated_where_there_is_none(pair, tmp_path: Path) -> None:
    folder = write(pair, tmp_path / "warped", outside=-3024.0)
    assert "PixelPaddingValue" not in pydicom.dcmread(folder / "000.dcm")
