"""Reading, refusing, writing; the body mask on a made patient."""

import gzip
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from landmark_dir.errors import BadVolume, LandmarkDirError
from landmark_dir.geometry import same_grid
from landmark_dir.io.volumes import (
    SUFFIXES,
    check_mask,
    check_volume,
    overlap_fraction,
    read_image,
    read_volume,
    write_volume,
)
from landmark_dir.preprocessing.body_mask import body_mask
from landmark_dir.preprocessing.intensity import looks_like_ct

HEADER_MM = 1e-3  # NIfTI keeps the geometry as float32


def voxels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def patched(path: Path, offset: int, layout: str, *values: float) -> Path:
    """Overwrite a few bytes of a file, say a field of a NIfTI header."""
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_write_and_read_round_trip(suffix: str, oblique_ct: sitk.Image, tmp_path: Path) -> None:
    path = tmp_path / f"ct{suffix}"
    write_volume(oblique_ct, path)
    read = read_volume(path)
    assert_array_equal(voxels(read), voxels(oblique_ct))
    assert read.GetPixelID() == sitk.sitkInt16
    assert same_grid(read, oblique_ct, HEADER_MM)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_field_with_unknown_vectors_is_written(suffix: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 6, 7, 3))
    values[1, 2, 3, 0] = np.nan
    write_volume(sitk.GetImageFromArray(values, isVector=True), tmp_path / f"field{suffix}")
    with pytest.raises(BadVolume, match="vector.*expected one number a voxel"):
        read_volume(tmp_path / f"field{suffix}")


def test_other_formats_are_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    for suffix in (".vtk", ".hdf5", ".tif"):
        sitk.WriteImage(oblique_ct, str(tmp_path / f"ct{suffix}"))
        with pytest.raises(BadVolume, match="not a whole NIfTI, MHA, NRRD or DICOM image"):
            read_volume(tmp_path / f"ct{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("left", [0.02, 0.5, 0.98])
def test_truncated_file_is_refused(
    suffix: str, left: float, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    path = tmp_path / f"ct{suffix}"
    write_volume(oblique_ct, path)
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with pytest.raises(BadVolume, match=f"ct{suffix}: (cut short|not a whole)"):
        read_volume(path)


def test_gzip_with_a_wrong_checksum_is_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    write_volume(oblique_ct, tmp_path / "ct.nii.gz")
    patched(tmp_path / "ct.nii.gz", (tmp_path / "ct.nii.gz").stat().st_size - 6, "B", 0x55)
    with pytest.raises(BadVolume, match="ct.nii.gz: (cut short|not a whole)"):
        read_volume(tmp_path / "ct.nii.gz")


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadVolume, match="none.nii: no such file"):
        read_volume(tmp_path / "none.nii")
    for name, content in {"empty.nii": b"", "text.nii.gz": b"hello", "text.mha": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadVolume, match=f"{name}: not a whole NIfTI, MHA, NRRD or DICOM"):
            read_volume(tmp_path / name)


@pytest.mark.parametrize(
    ("slope", "intercept", "pixel"),
    [(1.0, -1024.0, sitk.sitkInt16), (0.25, -10.0, sitk.sitkFloat32)],
)
def test_nifti_slope_is_applied(
    slope: float, intercept: float, pixel: int, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    write_volume(oblique_ct, tmp_path / "ct.nii")
    read = read_volume(patched(tmp_path / "ct.nii", 112, "<ff", slope, intercept))
    assert_array_equal(voxels(read), voxels(oblique_ct) * slope + intercept)
    assert read.GetPixelID() == pixel


@pytest.mark.parametrize(
    ("dtype", "top", "pixel"),
    [
        (np.uint8, 255, sitk.sitkInt16),
        (np.uint16, 3000, sitk.sitkInt16),
        (np.uint16, 40000, sitk.sitkFloat32),
        (np.int32, 32767, sitk.sitkInt16),
        (np.int32, 32768, sitk.sitkFloat32),
        (np.int64, -5, sitk.sitkInt16),
        (np.float64, 100, sitk.sitkInt16),
        (np.float64, 0.5, sitk.sitkFloat32),
        (np.float32, -0.5, sitk.sitkFloat32),
    ],
)
def test_pixel_type_is_int16_where_that_loses_nothing(dtype: type, top: float, pixel: int) -> None:
    values = np.zeros((4, 5, 6), dtype)
    values[1, 2, 3] = top
    checked = check_volume(sitk.GetImageFromArray(values), "ct")
    assert checked.GetPixelID() == pixel
    assert_array_equal(voxels(checked), values)


@pytest.mark.parametrize("suffix", [".nii", ".mha", ".nrrd"])
def test_fourth_axis_of_one_is_dropped(suffix: str, oblique_ct: sitk.Image, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.JoinSeries([oblique_ct]), str(tmp_path / f"ct{suffix}"))
    read = read_volume(tmp_path / f"ct{suffix}")
    assert_array_equal(voxels(read), voxels(oblique_ct))
    assert same_grid(read, oblique_ct, HEADER_MM)


def with_voxel(value: float) -> Callable[[sitk.Image], sitk.Image]:
    def change(image: sitk.Image) -> sitk.Image:
        image = sitk.Cast(image, sitk.sitkFloat32)
        image[3, 4, 5] = value
        return image

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda image: image[:, :, 3], "24 x 20 voxels, expected one 3D volume"),
        (lambda image: sitk.JoinSeries([image, image]), "24 x 20 x 12 x 2 voxels"),
        (lambda image: sitk.Compose(image, image, image), "vector.*expected one number"),
        (lambda image: sitk.Cast(image, sitk.sitkComplexFloat32), "complex"),
        (with_voxel(np.nan), "1 of 5760 voxels are NaN or infinite; set them to that of air"),
        (with_voxel(-np.inf), "1 of 5760 voxels are NaN or infinite"),
        (lambda image: image * 0 - 1000, "every voxel is -1000"),
        (lambda image: image[:, :, :3], "24 x 20 x 3 voxels, expected at least 4"),
        (lambda image: image[:1], "1 x 20 x 12 voxels, expected at least 4"),
    ],
)
def test_what_cannot_be_registered_is_refused(
    change: Callable[[sitk.Image], sitk.Image], said: str, oblique_ct: sitk.Image
) -> None:
    with pytest.raises(BadVolume, match=f"my scan: .*{said}"):
        check_volume(change(oblique_ct), "my scan")


def test_rgb_file_is_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    grey = sitk.Cast(oblique_ct > 0, sitk.sitkUInt8)
    sitk.WriteImage(sitk.Compose(grey, grey, grey), str(tmp_path / "rgb.nii"))
    with pytest.raises(BadVolume, match="rgb.nii: voxels of type vector"):
        read_volume(tmp_path / "rgb.nii")


def test_mask_becomes_0_and_1_on_the_image_grid(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    labels = sitk.Cast(oblique_ct > 0, sitk.sitkFloat32) * 7
    labels.SetOrigin([value + 0.01 for value in oblique_ct.GetOrigin()])  # a rounded header
    write_volume(labels, tmp_path / "mask.nii.gz")
    read = read_image(tmp_path / "mask.nii.gz").image
    mask = check_mask(read, oblique_ct, "fixed mask")
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert_array_equal(voxels(mask), voxels(oblique_ct) > 0)
    assert same_grid(mask, oblique_ct, 0.0)


def test_mask_that_does_not_fit_is_refused(oblique_ct: sitk.Image) -> None:
    mask = oblique_ct > 0
    with pytest.raises(BadVolume, match="fixed mask: the mask is empty"):
        check_mask(mask * 0, oblique_ct, "fixed mask")
    with pytest.raises(BadVolume, match="24 x 20 x 11 voxels, but its image has 24 x 20 x 12"):
        check_mask(mask[:, :, 1:], oblique_ct, "fixed mask")
    mask.SetOrigin([value + 3.0 for value in oblique_ct.GetOrigin()])
    with pytest.raises(BadVolume, match="up to 5.2 mm beside"):
        check_mask(mask, oblique_ct, "fixed mask")


def test_unknown_suffix_is_a_wrong_argument(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of .nii, .nii.gz"):
        write_volume(oblique_ct, tmp_path / "ct.jpg")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_full_disk_leaves_nothing_and_spares_the_old_file(
    suffix: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    path = tmp_path / f"ct{suffix}"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # bytes; the volume needs 11,520
    try:
        with pytest.raises(LandmarkDirError, match="cannot be written; check the free space"):
            write_volume(oblique_ct, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"


def test_missing_folder_is_made_and_a_file_in_the_way_is_said(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    write_volume(oblique_ct, tmp_path / "none" / "ct.mha")
    with pytest.raises(LandmarkDirError, match="cannot be created, .*ct.mha is a file"):
        write_volume(oblique_ct, tmp_path / "none" / "ct.mha" / "ct.mha")


def test_overlap_is_the_shared_share(oblique_ct: sitk.Image) -> None:
    assert overlap_fraction(oblique_ct, oblique_ct) == 1.0
    assert_allclose(overlap_fraction(oblique_ct, oblique_ct[:, :, :6]), 0.5, atol=1e-9)
    assert overlap_fraction(oblique_ct[:, :, :6], oblique_ct) == 1.0
    assert overlap_fraction(oblique_ct[:, :, :6], oblique_ct[:, :, 6:]) == 0.0


def ellipse(shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1


@pytest.fixture(scope="module")
def patient() -> tuple[sitk.Image, np.ndarray]:
    """A trunk with two lungs, bowel gas and an arm, on a table; 2 x 2 x 5 mm; and the truth."""
    shape = 120, 170
    trunk = ellipse(shape, (55, 75), (40, 60))
    lungs = ellipse(shape, (55, 42), (27, 22)) | ellipse(shape, (55, 108), (27, 22))  # walls 6 mm
    arm = ellipse(shape, (60, 155), (13, 10))
    body = trunk | arm
    hu = np.where(body, 40.0, -1000.0)
    hu[lungs] = -850
    hu[ellipse(shape, (80, 75), (6, 6))] = -1000  # bowel gas
    table = np.zeros(shape, bool)
    table[[97, 98, 108, 109], 5:165] = True  # two shells 2 mm below the back, foam between
    hu[table] = 0
    hu[99:108, 5:165] = -900
    volume = np.repeat(hu[None], 16, axis=0) + np.random.default_rng(0).normal(0, 15, (16, *shape))
    image = sitk.GetImageFromArray(volume.astype(np.int16))
    image.SetSpacing((2.0, 2.0, 5.0))
    image.SetOrigin((-100.0, 35.0, 500.0))
    return image, np.repeat(body[None], 16, axis=0)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.sum(one & other) / (one.sum() + other.sum())


def test_body_mask_is_the_body_without_the_table(patient: tuple[sitk.Image, np.ndarray]) -> None:
    image, body = patient
    mask = body_mask(image)
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert same_grid(mask, image, 0.0)
    assert dice(voxels(mask) > 0, body) > 0.99  # no voxel of the 32 mm thick table


def test_body_mask_fills_a_lung_that_the_border_cuts(
    patient: tuple[sitk.Image, np.ndarray],
) -> None:
    image, body = patient
    cut = 40  # through the first lung
    assert dice(voxels(body_mask(image[cut:])) > 0, body[:, :, cut:]) > 0.99


def test_body_mask_knows_axial_slices_in_any_storage_order(
    patient: tuple[sitk.Image, np.ndarray],
) -> None:
    image, body = patient
    sagittal = sitk.PermuteAxes(image, [1, 2, 0])
    assert dice(voxels(body_mask(sagittal)) > 0, body.transpose(2, 0, 1)) > 0.99


def test_body_mask_of_fine_voxels(patient: tuple[sitk.Image, np.ndarray]) -> None:
    image, body = patient
    fine = sitk.Expand(image, [2, 3, 1])  # 1 x 0.67 x 5 mm, odd remainders when shrunk
    truth = body.repeat(3, axis=1).repeat(2, axis=2)
    mask = body_mask(fine)
    assert same_grid(mask, fine, 0.0)
    assert dice(voxels(mask) > 0, truth) > 0.98  # the surface, within a voxel of the coarse grid


def test_body_mask_of_air_is_empty_and_one_slice_is_enough(
    patient: tuple[sitk.Image, np.ndarray],
) -> None:
    image, body = patient
    assert not voxels(body_mask(image * 0 - 1000)).any()
    assert dice(voxels(body_mask(image[:, :, 3:4])) > 0, body[3:4]) > 0.99


def test_looks_like_ct(patient: tuple[sitk.Image, np.ndarray]) -> None:
    image, _ = patient
    assert looks_like_ct(image) is None
    assert "looks like HU + 1024" in (looks_like_ct(image + 1024) or "")
    assert "of the voxels within 200 HU of water" in (looks_like_ct(image - 1024) or "")


@pytest.mark.data
def test_body_mask_of_real_ct(data_dir: Path) -> None:
    # shares of the volume, from outlines checked by eye
    for name, share in {"kits-00072": 0.71, "rider-0117": 0.73, "sts-014": 0.61}.items():
        mask = body_mask(read_volume(data_dir / "ct" / "training" / f"{name}.nii.gz"))
        assert_allclose(voxels(mask).mean(), share, atol=0.02)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_in_a_nifti_is_refused_though_itk_reads_zero(
    oblique_ct: sitk.Image, tmp_path: Path, suffix: str, value: float
) -> None:
    plain = tmp_path / "plain.nii"
    sitk.WriteImage(sitk.Cast(oblique_ct, sitk.sitkFloat32), str(plain))
    content = bytearray(plain.read_bytes())
    content[-4:] = np.float32(value).tobytes()  # the last voxel
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    with pytest.raises(BadVolume, match="1 of 5760 voxels are NaN or infinite"):
        read_volume(path)


def test_a_series_is_not_chosen_in_a_file(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    sitk.WriteImage(oblique_ct, str(tmp_path / "one.mha"))
    with pytest.raises(BadVolume, match="this is a file"):
        read_volume(tmp_path / "one.mha", series="1.2")


def test_a_voxel_that_nothing_measures_is_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    damaged = sitk.Cast(oblique_ct, sitk.sitkFloat64)
    damaged[3, 4, 5] = 1e39  # beyond single precision, too
    sitk.WriteImage(damaged, str(tmp_path / "ct.mha"))
    with pytest.raises(BadVolume, match="1 of .* voxels are beyond 1e"):
        read_volume(tmp_path / "ct.mha")
