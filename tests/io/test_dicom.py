"""DICOM: geometry and HU as the tags say, or refused with the true reason."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import made_dicom as made
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import same_grid
from landmark_dir.io.dicom import (
    choose_series,
    days_between,
    describe_series,
    find_series,
    is_dicom,
    read_series,
)
from landmark_dir.io.dicom_planes import read_planes
from landmark_dir.io.dicom_voxels import read_voxels
from landmark_dir.io.volumes import read_volume, write_volume

OTHER = "1.2.826.0.1.3680043.2.1125.1.22"
TAGS_MM = 1e-4  # six decimals in the tags
ORDERS = {
    "as it lies": range(12),
    "reversed": range(11, -1, -1),
    "interleaved": [*range(0, 12, 2), *range(1, 12, 2)],
    "shuffled": [7, 2, 11, 0, 5, 9, 1, 10, 3, 8, 4, 6],
}


def voxels(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def normal(image: sitk.Image) -> np.ndarray:
    return np.reshape(image.GetDirection(), (3, 3))[:, 2]


def refused(path: Path, wanted: str | None = None) -> str:
    with pytest.raises(BadVolume) as error:
        read_series(path, wanted)
    assert "Doe" not in str(error.value)
    assert "D0E" not in str(error.value)
    return str(error.value)


# --- right ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["{:03d}.dcm", "{:03d}", "1.2.3.{}"])
def test_a_folder_is_read_in_order_and_in_hu(
    name: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    files = made.write_series(
        oblique_ct, tmp_path / "a" / "b" / "scan", name=name, slices=range(11, -1, -1)
    )
    for folder in (files[0].parent, tmp_path):  # itself, or any depth down
        read = read_series(folder, None)
        assert_array_equal(voxels(read.image), voxels(oblique_ct))
        assert same_grid(read.image, oblique_ct, TAGS_MM)
        assert not read.warnings
        made.assert_as_tagged(read.image, files)
    assert read_volume(tmp_path).GetPixelID() == sitk.sitkInt16


def encoded(syntax: str) -> made.Change:
    def change(_: int, dataset: Dataset) -> None:
        if syntax == uid.ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == uid.RLELossless:
            dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
            dataset.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)

    return change


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
        uid.RLELossless,
    ],
)
def test_every_way_to_store_tags_and_pixels(
    syntax: uid.UID, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    files = made.write_series(oblique_ct, tmp_path, encoded(syntax))
    read = read_series(tmp_path, None)
    assert_array_equal(voxels(read.image), voxels(oblique_ct))
    made.assert_as_tagged(read.image, files)


def by_itk(stored: np.ndarray, compressor: str, file: Path) -> Dataset:
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(file))
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.Execute(sitk.GetImageFromArray(stored))
    return pydicom.dcmread(file)


def compressed(compressor: str, scratch: Path) -> made.Change:
    def change(_: int, dataset: Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
        other = by_itk(stored, compressor, scratch)
        dataset.file_meta.TransferSyntaxUID = other.file_meta.TransferSyntaxUID
        dataset.PixelData = other.PixelData
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True

    return change


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_compressed_slices(
    compressor: str, photometric: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    compress = compressed(compressor, tmp_path / "scratch.dcm")

    def change(k: int, dataset: Dataset) -> None:
        compress(k, dataset)
        dataset.PhotometricInterpretation = photometric
        dataset.RescaleSlope = 2 if k == 3 else 1  # GDCM must not apply it a second time

    made.write_series(oblique_ct, tmp_path / "scan", change)
    expected = voxels(oblique_ct)
    expected[3] = (expected[3] - made.INTERCEPT) * 2 + made.INTERCEPT
    assert_array_equal(voxels(read_series(tmp_path / "scan", None).image), expected)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("enhanced", [False, True])
def test_compressed_signed_numbers_and_frames(
    compressor: str, enhanced: bool, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch.dcm"

    def compress(dataset: Dataset, stored: np.ndarray) -> None:
        parts = [by_itk(part, compressor, scratch) for part in stored]
        frames = [pydicom.encaps.get_frame(part.PixelData, 0, number_of_frames=1) for part in parts]
        made.set_stored(dataset, stored if enhanced else stored[0], "<i2")
        dataset.file_meta.TransferSyntaxUID = parts[0].file_meta.TransferSyntaxUID
        dataset.PixelData = encapsulate(frames)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True

    hu = voxels(oblique_ct)
    rescale = [made.item(RescaleSlope=1, RescaleIntercept=0)]

    def frames(dataset: Dataset) -> None:
        dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = rescale
        compress(dataset, hu[ORDERS["shuffled"]])

    def single(k: int, dataset: Dataset) -> None:
        dataset.RescaleIntercept = 0
        compress(dataset, hu[k : k + 1])

    if enhanced:
        made.write_enhanced(
            oblique_ct, tmp_path / "scan" / "a.dcm", ORDERS["shuffled"], change_file=frames
        )
    else:
        made.write_series(oblique_ct, tmp_path / "scan", single)
    read = read_series(tmp_path / "scan", None)
    assert_array_equal(voxels(read.image), hu)
    assert same_grid(read.image, oblique_ct, TAGS_MM)


@pytest.mark.parametrize(
    "name", ["MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm", "MR_small_RLE.dcm"]
)
def test_pixels_that_other_programs_compressed(name: str) -> None:
    def pixels(one: str) -> np.ndarray:
        file = get_testdata_file(one, download=False)
        assert isinstance(file, str)
        return read_voxels(read_planes(Path(file)))

    assert_array_equal(pixels(name), pixels("MR_small.dcm"))


def test_a_file_without_preamble(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    for syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian):
        for k in range(12):
            dataset = made.plane(oblique_ct, k)
            del dataset.file_meta
            implicit = syntax == uid.ImplicitVRLittleEndian
            pydicom.dcmwrite(
                tmp_path / f"{k}.dcm", dataset, implicit_vr=implicit, little_endian=True
            )
        assert is_dicom(tmp_path / "0.dcm")
        assert_array_equal(voxels(read_series(tmp_path, None).image), voxels(oblique_ct))


@pytest.mark.parametrize(
    "kind",
    [
        uid.XRayAngiographicImageStorage,
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uid.NuclearMedicineImageStorage,
        uid.ComputedRadiographyImageStorage,
        uid.DigitalXRayImageStorageForPresentation,
        uid.XRayRadiofluoroscopicImageStorage,
        uid.MRImageStorage,
        uid.PositronEmissionTomographyImageStorage,
        uid.UltrasoundImageStorage,
        uid.RTImageStorage,
    ],
)
@pytest.mark.parametrize("frames", [None, 1])
def test_position_tags_count_in_any_class(
    kind: str, frames: int | None, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = kind
        if frames is not None:
            dataset.NumberOfFrames = frames

    files = made.write_series(oblique_ct, tmp_path, change)
    read = read_series(tmp_path, None)
    assert same_grid(read.image, oblique_ct, TAGS_MM)
    made.assert_as_tagged(read.image, files)


@pytest.mark.parametrize(
    ("dtype", "bits", "top"),
    [
        ("<u2", 12, 3071),
        ("<i2", 16, 30000),
        ("<i2", 12, 1000),
        ("<u2", 16, 60000),
        ("<u4", 32, 100_000),
        ("<i4", 32, 100_000),
        ("|u1", 8, -900),
    ],
)
def test_every_pixel_type(
    dtype: str, bits: int, top: int, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def change(_: int, dataset: Dataset) -> None:
        signed = dtype[1] == "i"
        dataset.RescaleIntercept = 0 if signed else made.INTERCEPT
        hu = np.tile(np.linspace(-1000, top, 23).astype(np.int64), (21, 1))  # odd in both
        made.set_stored(dataset, hu - int(dataset.RescaleIntercept), dtype, bits)

    files = made.write_series(oblique_ct, tmp_path, change)
    read = read_series(tmp_path, None)
    assert voxels(read.image).max() == top
    made.assert_as_tagged(read.image, files)


def test_signed_numbers_with_zeros_in_the_unused_bits(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def change(k: int, dataset: Dataset) -> None:
        dataset.RescaleIntercept = 0
        made.set_stored(dataset, voxels(oblique_ct)[k].astype(np.int64), "<i2", 12)
        twelve = np.frombuffer(dataset.PixelData, "<u2") & 0xFFF
        dataset.PixelData = twelve.tobytes()

    made.write_series(oblique_ct, tmp_path, change)
    assert_array_equal(voxels(read_series(tmp_path, None).image), voxels(oblique_ct))


def test_an_overlay_in_the_unused_bits_is_left_out(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2")
        dataset.PixelData = (stored | 0x8000).tobytes()
        dataset.BitsStored, dataset.HighBit = 12, 11

    made.write_series(oblique_ct, tmp_path / "a", change)
    assert "voxels with more than the 12 bits" in refused(tmp_path / "a")

    def declared(k: int, dataset: Dataset) -> None:
        change(k, dataset)
        dataset.add_new((0x6000, 0x0100), "US", 16)
        dataset.add_new((0x6000, 0x0102), "US", 15)

    made.write_series(oblique_ct, tmp_path / "b", declared)
    assert_array_equal(voxels(read_series(tmp_path / "b", None).image), voxels(oblique_ct))


def test_first_slice_of_12_bits_and_later_ones_to_40000_hu(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def change(k: int, dataset: Dataset) -> None:
        if k == 0:
            dataset.BitsStored, dataset.HighBit = 12, 11
        else:
            made.set_stored(dataset, np.full((20, 24), 41024 - k))

    files = made.write_series(oblique_ct, tmp_path, change)
    read = read_series(tmp_path, None)
    assert voxels(read.image).max() == 39999
    made.assert_as_tagged(read.image, files)
    assert read_volume(tmp_path).GetPixelID() == sitk.sitkFloat32


@pytest.mark.parametrize("slopes", [(0.25, 0.25), (1.0, 0.5), (1.0, 2.0), (1e-3, 3.7), (-1.0, 1.0)])
def test_each_slice_has_its_own_rescale(
    slopes: tuple[float, float], oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def change(k: int, dataset: Dataset) -> None:
        dataset.RescaleSlope = slopes[k % 2]
        dataset.RescaleIntercept = -1024 + 0.5 * k

    files = made.write_series(oblique_ct, tmp_path, change)
    made.assert_as_tagged(read_series(tmp_path, None).image, files)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_enhanced_frames_lie_where_they_say(
    order: list[int], oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    file = made.write_enhanced(oblique_ct, tmp_path / "a.dcm", order)
    for path in (file, tmp_path):
        read = read_series(path, None)
        assert_array_equal(voxels(read.image), voxels(oblique_ct))
        assert same_grid(read.image, oblique_ct, TAGS_MM)
        made.assert_as_tagged(read.image, [file])
    assert same_grid(read_volume(file), oblique_ct, TAGS_MM)


def test_enhanced_rescale_of_each_frame(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    def change(n: int, frame: Dataset) -> None:
        frame.PixelValueTransformationSequence = [
            made.item(RescaleSlope=1 + n / 4, RescaleIntercept=-1024 + 100 * n)
        ]

    file = made.write_enhanced(oblique_ct, tmp_path / "a.dcm", ORDERS["shuffled"], change)
    made.assert_as_tagged(read_series(file, None).image, [file])


def test_parts_of_one_volume_in_two_files_are_joined(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def part(dataset: Dataset) -> None:
        dataset.ConcatenationUID = f"{made.SERIES}.7"
        dataset.InConcatenationTotalNumber = 2

    first = made.write_enhanced(oblique_ct, tmp_path / "1.dcm", range(6), change_file=part)
    second = made.write_enhanced(oblique_ct, tmp_path / "2.dcm", range(6, 12), change_file=part)
    read = read_series(tmp_path, None)
    assert same_grid(read.image, oblique_ct, TAGS_MM)
    made.assert_as_tagged(read.image, [first, second])
    assert "1 of the 2 files of one image" in refused(first)
    second.unlink()
    assert "1 of the 2 files of one image" in refused(tmp_path)


def offsets(image: sitk.Image, **tags: object) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        del dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
        dataset.ImagePositionPatient = made.position(image, 0)
        dataset.ImageOrientationPatient = made.orientation(image)
        dataset.PixelSpacing = made.pixel_spacing(image)
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, made.INTERCEPT
        dataset.SliceThickness = dataset.SpacingBetweenSlices = 4
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)

    return change


@pytest.fixture
def axial_ct(oblique_ct: sitk.Image) -> sitk.Image:
    oblique_ct.SetDirection(np.eye(3).ravel().tolist())
    return oblique_ct


def test_a_frame_offset_vector(axial_ct: sitk.Image, tmp_path: Path) -> None:
    steps = [4.0 * k for k in range(12)]
    file = tmp_path / "a.dcm"
    made.write_enhanced(axial_ct, file, change_file=offsets(axial_ct, GridFrameOffsetVector=steps))
    assert_array_equal(voxels(read_series(file, None).image), voxels(axial_ct))
    assert same_grid(read_series(file, None).image, axial_ct, TAGS_MM)
    down = [-step for step in steps]
    made.write_enhanced(axial_ct, file, change_file=offsets(axial_ct, GridFrameOffsetVector=down))
    read = read_series(file, None).image
    assert_array_equal(voxels(read), voxels(axial_ct)[::-1])
    assert_allclose(read.GetOrigin()[2], axial_ct.GetOrigin()[2] - 44, atol=TAGS_MM)


def test_frames_whose_places_are_not_told_are_refused(
    axial_ct: sitk.Image, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    file = tmp_path / "a.dcm"
    made.write_enhanced(axial_ct, file, change_file=offsets(axial_ct))
    assert "holds 12 frames and does not say where each lies" in refused(file)
    absolute = [-410.0 + 4 * k for k in range(12)]
    change = offsets(axial_ct, GridFrameOffsetVector=absolute)
    made.write_enhanced(axial_ct, file, change_file=change)
    assert "GridFrameOffsetVector starts at -410 mm" in refused(file)
    feet_first = sitk.Image(axial_ct)
    feet_first.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, -1))
    steps = [4.0 * k for k in range(12)]
    made.write_enhanced(
        feet_first, file, change_file=offsets(feet_first, GridFrameOffsetVector=steps)
    )
    assert "expected 0 and slices along z" in refused(file)


# --- one acquisition, one patient, one view ------------------------------------------------------

PHASES = {
    "AcquisitionNumber": (1, 2),
    "AcquisitionTime": ("100000", "100030"),
    "ContentTime": ("100000", "100030"),
    "ContrastBolusAgent": ("", "Iohexol"),
    "TemporalPositionIdentifier": (1, 2),
    "NominalPercentageOfCardiacPhase": (30.0, 70.0),
    "KVP": (80, 140),
    "ConvolutionKernel": ("B30f", "B70f"),
    "ImageType": (["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL"]),
    "InstanceNumber": (0, 100),
}


@pytest.mark.parametrize("apart_mm", [0.0, 2.0, 4.0 / 3])
@pytest.mark.parametrize("keyword", PHASES)
def test_two_phases_in_one_series_are_told_apart(
    keyword: str, apart_mm: float, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def phase(n: int) -> made.Change:
        def change(k: int, dataset: Dataset) -> None:
            dataset.InstanceNumber = k
            value = PHASES[keyword][n]
            setattr(dataset, keyword, value + k if keyword == "InstanceNumber" else value)

        return change

    later = sitk.Image(oblique_ct + 1)
    later.SetOrigin((np.array(oblique_ct.GetOrigin()) + apart_mm * normal(oblique_ct)).tolist())
    first = made.write_series(oblique_ct, tmp_path, phase(0), name="a{}.dcm")
    second = made.write_series(later, tmp_path, phase(1), name="b{}.dcm")
    said = refused(tmp_path)
    assert "2 acquisitions or views in one DICOM series" in said
    assert f"{made.SERIES}#1  12 slices" in said
    for wanted, files in ((f"{made.SERIES}#1", first), ("1.11#2", second), ("#2", second)):
        made.assert_as_tagged(read_series(tmp_path, wanted).image, files)
    assert "none of them #3" in refused(tmp_path, "#3")
    for odd in ("#0", "#", "#-1", "#x", "#²"):
        assert "expected a number from 1 after #" in refused(tmp_path, odd)


@pytest.mark.parametrize("direction", [1, -1])
def test_phases_with_a_time_for_each_slice(
    direction: int, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def change(k: int, dataset: Dataset) -> None:
        dataset.AcquisitionTime = f"10{20 + direction * k:02d}00.5"

    made.write_series(oblique_ct, tmp_path, change)
    assert same_grid(read_series(tmp_path, None).image, oblique_ct, TAGS_MM)
    later = sitk.Image(oblique_ct)
    later.SetOrigin((np.array(oblique_ct.GetOrigin()) + 2 * normal(oblique_ct)).tolist())

    def shuttle(k: int, dataset: Dataset) -> None:
        dataset.AcquisitionTime = f"1100{20 - k:02d}"

    made.write_series(later, tmp_path, shuttle, name="b{}.dcm")
    assert "2 acquisitions or views in one DICOM series" in refused(tmp_path)


def test_phases_with_an_acquisition_number_for_each_slice(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    both = sitk.Expand(oblique_ct, [1, 1, 2])

    def change(k: int, dataset: Dataset) -> None:
        dataset.AcquisitionNumber = 100 * (k % 2) + k

    made.write_series(both, tmp_path, change)
    assert "2 acquisitions or views in one DICOM series" in refused(tmp_path)
    assert read_series(tmp_path, "#2").image.GetSize() == (24, 20, 12)


def test_acquisitions_one_after_the_other_are_one_stack(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def change(k: int, dataset: Dataset) -> None:
        dataset.AcquisitionNumber = k // 4
        dataset.IrradiationEventUID = f"{made.SERIES}.{k // 2 + 1}"
        dataset.AcquisitionTime = f"10000{9 - k // 4}"

    made.write_series(oblique_ct, tmp_path, change)
    assert same_grid(read_series(tmp_path, None).image, oblique_ct, TAGS_MM)


def test_numbers_in_another_order_than_places_are_warned_of(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def change(k: int, dataset: Dataset) -> None:
        dataset.InstanceNumber = ORDERS["shuffled"][k]

    made.write_series(oblique_ct, tmp_path, change)
    read = read_series(tmp_path, None)
    assert same_grid(read.image, oblique_ct, TAGS_MM)
    assert "numbers the slices in another order" in read.warnings[0]


def test_two_phases_among_the_frames_of_one_file(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    both = sitk.Expand(oblique_ct, [1, 1, 2])
    both.SetOrigin(oblique_ct.GetOrigin())

    def change(n: int, frame: Dataset) -> None:
        frame.FrameContentSequence[0].FrameAcquisitionNumber = n % 2

    file = made.write_enhanced(both, tmp_path / "a.dcm", change=change)
    assert "2 acquisitions or views" in refused(file)
    assert_array_equal(voxels(read_series(file, "#2").image), voxels(both)[1::2])
    assert read_volume(file, "1.11#1").GetSize() == (24, 20, 12)


@pytest.mark.parametrize("keyword", ["TemporalPositionIndex", "StackID", "DimensionIndexValues"])
def test_phases_among_frames_by_any_index(
    keyword: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def change(n: int, frame: Dataset) -> None:
        values = {"StackID": str(n % 2), "DimensionIndexValues": [n % 2 + 1, n // 2 + 1]}
        setattr(frame.FrameContentSequence[0], keyword, values.get(keyword, n % 2 + 1))

    file = made.write_enhanced(oblique_ct, tmp_path / "a.dcm", change=change)
    assert "2 acquisitions or views" in refused(file)
    assert read_series(file, "#2").image.GetSize() == (24, 20, 6)


def test_frames_in_runs_that_no_tag_explains_are_warned_of(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    for name, order in ORDERS.items():
        read = read_series(made.write_enhanced(oblique_ct, tmp_path / "a.dcm", order), None)
        assert len(read.warnings) == (name == "interleaved"), name


def test_a_scout_is_told_from_the_slices(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    files = made.write_series(oblique_ct, tmp_path)

    def scout(_: int, dataset: Dataset) -> None:
        dataset.InstanceNumber = 0
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    made.write_series(oblique_ct, tmp_path, scout, name="scout.dcm", slices=[0])
    said = refused(tmp_path)
    assert "#1  1 slices, 24 x 20 voxels, orientation 1 0 0 0 0 -1" in said
    made.assert_as_tagged(read_series(tmp_path, "#2").image, files)

    def frame(n: int, groups: Dataset) -> None:
        if n == 5:
            groups.PlaneOrientationSequence = [
                made.item(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
            ]

    file = made.write_enhanced(oblique_ct, tmp_path / "enhanced" / "a.dcm", change=frame)
    assert "2 acquisitions or views in one DICOM series" in refused(file)


# --- refused, with the true reason ---------------------------------------------------------------


def sets(**tags: object) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        for keyword, value in tags.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return change


def shrunk(dataset: Dataset) -> None:
    dataset.PixelSpacing = [value * 0.8 for value in dataset.PixelSpacing]


def sideways(mm: float) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        column = np.array(dataset.ImageOrientationPatient[3:], float)
        made.moved(dataset, mm * column)

    return change


def not_rescaled(dataset: Dataset) -> None:
    dataset.file_meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
    sets(SOPClassUID=uid.SecondaryCaptureImageStorage, RescaleSlope=None, RescaleIntercept=None)(
        dataset
    )


ONE, HALF, ALL = range(5, 6), range(6, 12), range(12)


@pytest.mark.parametrize(
    ("change", "which", "said"),
    [
        (sets(PixelSpacing=None), ALL, "no PixelSpacing, expected 2 numbers"),
        (sets(PixelSpacing=None), range(1, 12), r"001.dcm: no PixelSpacing"),
        (sets(PixelSpacing=[0, 1]), ONE, r"PixelSpacing is \[0.0, 1.0\] mm"),
        (shrunk, HALF, "PixelSpacing changes within the series"),
        (shrunk, ONE, "PixelSpacing changes within the series"),
        (sideways(20), range(6, 10), "do not lie behind each other, up to 20 mm sideways"),
        (sideways(1.5), HALF, "do not lie behind each other.*stations"),
        (sideways(0.7), ONE, "do not lie behind each other"),
        (sets(PatientID="other"), HALF, "slices of different patients"),
        (sets(PatientName="Roe^Richard"), ONE, "slices of different patients"),
        (sets(FrameOfReferenceUID="1.2.3"), HALF, "different FrameOfReferenceUID"),
        (sets(PixelRepresentation=None), ALL, "no PixelRepresentation"),
        (sets(PixelRepresentation=None), ONE, "005.dcm: no PixelRepresentation"),
        (sets(PixelRepresentation=2), ALL, "PixelRepresentation is 2, expected 0 or 1"),
        (sets(BitsStored=12), ALL, "12 bits stored in 16 with bit 15 the highest"),
        (sets(BitsStored=None), ONE, "no BitsStored"),
        (sets(BitsStored=17, HighBit=16), ONE, "17 bits stored in 16"),
        (sets(RescaleSlope=0), ONE, "RescaleSlope is 0"),
        (sets(RescaleSlope=None), ONE, "no RescaleSlope"),
        (sets(RescaleIntercept=None), ALL, "no RescaleIntercept"),
        (sets(RescaleSlope=None, RescaleIntercept=None), ONE, "no RescaleSlope and RescaleInter"),
        (not_rescaled, ONE, "some slices state RescaleSlope"),
        (sets(ImagePositionPatient=None), ONE, "no ImagePositionPatient"),
        (sets(ImagePositionPatient=[1, 2]), ONE, "ImagePositionPatient is '1.0 2.0', expected 3"),
        (sets(ImageOrientationPatient=None), ALL, "no ImageOrientationPatient"),
        (sets(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), ALL, "expected two directions"),
        (sets(ImageOrientationPatient=[0] * 6), ONE, "expected two directions"),
        (sets(SamplesPerPixel=3, PhotometricInterpretation="RGB"), ALL, "expected one grey"),
        (sets(PhotometricInterpretation="PALETTE COLOR"), ONE, "expected one grey value"),
        (sets(ModalityLUTSequence=[]), ONE, "a table .Modality LUT. instead"),
        (sets(DoseGridScaling=1), ONE, "a dose grid"),
        (sets(PixelData=None), ONE, "005.dcm: cut short or damaged, it has no pixel data"),
        (sets(Rows=10), ALL, "960 bytes of pixel data, expected 480"),
        (sets(Columns=25), ALL, "960 bytes of pixel data, expected 1000"),
        (sets(NumberOfFrames=3), ONE, "holds 3 frames and does not say where"),
    ],
)
def test_what_cannot_be_right_is_refused(
    change: Callable[[Dataset], None],
    which: range,
    said: str,
    oblique_ct: sitk.Image,
    tmp_path: Path,
) -> None:
    def in_some(k: int, dataset: Dataset) -> None:
        if k in which:
            change(dataset)

    made.write_series(oblique_ct, tmp_path, in_some)
    with pytest.raises(BadVolume, match=said):
        read_series(tmp_path, None)


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("ImageOrientationPatient", r"nan\0\0\0\1\0"),
        ("ImagePositionPatient", r"1\2\inf"),
        ("ImagePositionPatient", r"1\2\3,5"),
        ("PixelSpacing", r"1\x"),
        ("PixelSpacing", r"nan\1"),
        ("RescaleSlope", "one"),
        ("RescaleSlope", "1_0"),
        ("RescaleIntercept", "nan"),
        ("RescaleIntercept", r"-1024\0"),
    ],
)
def test_what_is_no_number_is_refused(
    keyword: str, text: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    blank = "1234567890123.25"  # as many letters as a number may have

    def change(k: int, dataset: Dataset) -> None:
        if k == 4:
            setattr(dataset, keyword, blank)

    file = made.write_series(oblique_ct, tmp_path, change)[4]
    content = file.read_bytes()
    assert content.count(blank.encode()) == 1
    file.write_bytes(content.replace(blank.encode(), text.ljust(len(blank)).encode()))
    said = refused(tmp_path)
    assert "004.dcm" in said
    assert "expected" in said or "damaged" in said


def test_each_slice_twice_is_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    made.write_series(oblique_ct, tmp_path)
    made.write_series(oblique_ct, tmp_path, name="copy{:03d}.dcm")
    said = refused(tmp_path)
    assert "12 of 24 slices lie where another one lies" in said
    assert "copies" in said


def test_a_missing_slice_is_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    rest = [k for k in range(12) if k != 5]
    made.write_series(oblique_ct, tmp_path / "a", slices=rest)
    said = "4 to 8 mm apart, usually 4: slices are missing"
    assert said in refused(tmp_path / "a")
    assert said in refused(made.write_enhanced(oblique_ct, tmp_path / "b.dcm", rest))


def along(steps_mm: list[float], image: sitk.Image) -> made.Change:
    def change(k: int, dataset: Dataset) -> None:
        made.moved(dataset, steps_mm[k] * normal(image))

    return change


def test_slightly_uneven_slices_are_warned_of(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    files = made.write_series(
        oblique_ct, tmp_path, along([0.0] * 5 + [0.15] + [0.0] * 6, oblique_ct)
    )
    read = read_series(tmp_path, None)
    assert read.warnings == (
        "the DICOM tags form no perfectly even stack, voxels lie up to 0.15 mm off",
    )
    made.assert_as_tagged(read.image, files, mm=0.16)


def test_rounded_tags_are_read_without_a_word(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [f"{float(v):.2f}" for v in dataset.ImagePositionPatient]

    files = made.write_series(oblique_ct, tmp_path, change)
    read = read_series(tmp_path, None)
    assert not read.warnings
    made.assert_as_tagged(read.image, files, mm=0.02)


def test_slices_turned_against_each_other_are_refused(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    def change(k: int, dataset: Dataset) -> None:
        row, column = np.reshape([float(v) for v in dataset.ImageOrientationPatient], (2, 3))
        angle = np.radians(0.06 * k)
        turned = [
            np.cos(angle) * row + np.sin(angle) * column,
            np.cos(angle) * column - np.sin(angle) * row,
        ]
        dataset.ImageOrientationPatient = [f"{v:.9f}" for v in np.ravel(turned)]

    made.write_series(oblique_ct, tmp_path, change)
    assert "turned against each other by up to 0.66 degrees" in refused(tmp_path)


def test_frames_that_are_not_described_are_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        del dataset.PerFrameFunctionalGroupsSequence[-1]

    file = made.write_enhanced(oblique_ct, tmp_path / "a.dcm", change_file=change)
    assert "NumberOfFrames is 12, 11 of them described" in refused(file)


def test_one_slice_is_no_volume(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    files = made.write_series(oblique_ct, tmp_path)
    assert "one DICOM slice, expected a volume; give the folder" in refused(files[3])


@pytest.mark.parametrize("which", [0, 5, 11])
@pytest.mark.parametrize("name", ["{:03d}.dcm", "IM{:03d}"])
def test_a_file_cut_anywhere_is_refused_by_name(
    which: int, name: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    files = made.write_series(oblique_ct, tmp_path, name=name)
    whole = files[which].read_bytes()
    suffixless = not files[which].suffix
    for left in [0, *range(140 if suffixless else 1, len(whole), 37), len(whole) - 1]:
        files[which].write_bytes(whole[:left])
        assert files[which].name in refused(tmp_path), left


def test_pixels_of_an_unknown_kind_are_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    file = made.write_series(oblique_ct, tmp_path)[4]
    content = file.read_bytes()
    file.write_bytes(content.replace(b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00O4"))
    assert "004.dcm: pixel data cut short or damaged" in refused(tmp_path)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000", "RLE"])
def test_a_compressed_file_cut_anywhere_is_refused(
    compressor: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    if compressor == "RLE":
        change = encoded(uid.RLELossless)
    else:
        change = compressed(compressor, tmp_path / "scratch.dcm")
    files = made.write_series(oblique_ct, tmp_path / "scan", change)
    whole = files[11].read_bytes()
    for left in range(len(whole) - 500, len(whole) - 8, 61):
        files[11].write_bytes(whole[:left])
        assert "011.dcm" in refused(tmp_path / "scan"), left


def test_a_compressed_image_cut_inside_is_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    for compressor in ("JPEG", "JPEG2000"):
        compress = compressed(compressor, tmp_path / "scratch.dcm")

        def change(k: int, dataset: Dataset, compress: made.Change = compress) -> None:
            compress(k, dataset)
            if k == 2:
                stream = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
                dataset.PixelData = encapsulate([stream[: len(stream) // 2]])
                dataset["PixelData"].is_undefined_length = True

        made.write_series(oblique_ct, tmp_path / "scan", change)
        said = refused(tmp_path / "scan")
        assert "002.dcm" in said
        assert "ends early" in said


def test_jpeg_2000_of_other_bits_than_the_tags_say_is_refused(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    compress = compressed("JPEG2000", tmp_path / "scratch.dcm")

    def change(k: int, dataset: Dataset) -> None:
        compress(k, dataset)
        dataset.PixelRepresentation = 1

    made.write_series(oblique_ct, tmp_path / "scan", change)
    assert "16 bits, signed: False, but the tags say 16 bits, signed: True" in refused(
        tmp_path / "scan"
    )


def test_any_header_with_a_damage_is_right_or_refused(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    files = made.write_series(oblique_ct[:5, :4, :5], tmp_path)
    whole = files[2].read_bytes()
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(400, len(whole) - 52, rng.integers(1, 4)):  # the tags of the image
            damaged[at] = rng.integers(256)
        files[2].write_bytes(damaged)
        try:
            read = read_series(tmp_path, None)
        except BadVolume:
            continue
        with warnings.catch_warnings(action="ignore"):  # what pydicom says of odd values
            made.assert_as_tagged(read.image, files, mm=0.21)


def test_what_cannot_be_decompressed_is_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    def change(_: int, dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = uid.HTJ2KLossless
        dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True

    made.write_series(oblique_ct, tmp_path, change)
    assert "cannot be read here; decompress it" in refused(tmp_path)


# --- read with a warning -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (sets(PhotometricInterpretation="MONOCHROME1"), "MONOCHROME1"),
        (sets(RescaleType="HU_MOD"), "'HU_MOD'"),
        (sets(LossyImageCompression="01"), "compressed with loss"),
    ],
)
def test_what_people_disagree_on_is_warned_of(
    change: Callable[[Dataset], None], said: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    files = made.write_series(oblique_ct, tmp_path, lambda _, dataset: change(dataset))
    read = read_series(tmp_path, None)
    assert len(read.warnings) == 1
    assert said in read.warnings[0]
    made.assert_as_tagged(read.image, files)


def test_stored_numbers_without_a_rescale_are_warned_of(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    made.write_series(oblique_ct, tmp_path, lambda _, dataset: not_rescaled(dataset))
    read = read_series(tmp_path, None)
    assert "stored numbers are taken as HU" in read.warnings[0]
    assert_array_equal(voxels(read.image), voxels(oblique_ct) - made.INTERCEPT)


# --- find and choose -----------------------------------------------------------------------------


def test_one_of_several_series_is_asked_for(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    made.write_series(oblique_ct, tmp_path / "x")
    made.write_series(oblique_ct[:, :, :7], tmp_path / "y" / "z", series=OTHER)
    said = refused(tmp_path)
    assert "2 DICOM series; choose one by its ID with --fixed-series" in said
    assert f"{made.SERIES}  series 11, 12 slices" in said
    assert f"{OTHER}  series 22, 7 slices" in said
    assert read_series(tmp_path, OTHER).image.GetSize() == (24, 20, 7)
    assert read_volume(tmp_path, "1.11").GetSize() == (24, 20, 12)
    for vague in ("1.2.826", "9.9"):
        with pytest.raises(BadVolume, match=r"[02] of them fit '"):
            read_series(tmp_path, vague)


def test_a_series_in_two_folders_is_one(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    made.write_series(oblique_ct, tmp_path / "a", slices=range(5))
    made.write_series(oblique_ct, tmp_path / "b" / "c", slices=range(5, 12))
    assert same_grid(read_series(tmp_path, None).image, oblique_ct, TAGS_MM)


def test_links_and_circles_of_folders(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    files = made.write_series(oblique_ct, tmp_path / "a")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "a" / "link.dcm").symlink_to(files[0])
    (tmp_path / "outside").symlink_to(tmp_path / "a")
    assert same_grid(read_series(tmp_path, None).image, oblique_ct, TAGS_MM)


def test_a_dicomdir(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    made.write_series(oblique_ct, tmp_path / "disk" / "DICOM" / "A", name="IM{:02d}")
    made.write_series(oblique_ct, tmp_path / "disk" / "DICOM" / "B", name="IM{:02d}", series=OTHER)
    made.write_directory(tmp_path / "disk")
    for path in (tmp_path / "disk", tmp_path / "disk" / "DICOMDIR"):
        read = read_series(path, made.SERIES)
        assert_array_equal(voxels(read.image), voxels(oblique_ct))
        assert same_grid(read.image, oblique_ct, TAGS_MM)
    (tmp_path / "disk" / "DICOM" / "B" / "IM11").unlink()  # the others form an even stack
    assert "DICOMDIR: lists IM11, which is not there" in refused(tmp_path / "disk", OTHER)
    assert read_series(tmp_path / "disk", made.SERIES).image.GetSize() == (24, 20, 12)


def test_what_lies_beside_the_slices(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    made.write_series(oblique_ct, tmp_path, name="IM{}")
    (tmp_path / "._IM1").write_bytes(b"\0\5\x16\7")  # Macs leave such files
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    structures = made.base(oblique_ct, uid.RTStructureSetStorage, "1.2.3", made.SERIES)
    structures.save_as(tmp_path / "RS", enforce_file_format=True)
    assert not read_series(tmp_path, None).warnings
    (tmp_path / "README").write_text("hello")
    read = read_series(tmp_path, None)
    assert read.warnings == (
        "beside the DICOM slices lie files that are not DICOM, left out: README",
    )
    (tmp_path / "slice.dcm").write_text("hello")
    assert "slice.dcm: not a DICOM file, 5 bytes; copy it again or remove it" in refused(tmp_path)


def test_folders_and_files_without_a_series_are_refused(tmp_path: Path) -> None:
    assert "no DICOM series in this folder or below" in refused(tmp_path)
    (tmp_path / "a.txt").write_text("hello" * 100)
    assert not is_dicom(tmp_path / "a.txt")
    assert not is_dicom(tmp_path / "none")
    assert not is_dicom(tmp_path)


def test_the_name_stays_behind(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    made.write_series(oblique_ct, tmp_path)
    write_volume(read_volume(tmp_path), tmp_path / "ct.nrrd")
    assert b"Doe" not in (tmp_path / "ct.nrrd").read_bytes()
    assert not read_volume(tmp_path / "ct.nrrd").GetMetaDataKeys()


def test_what_is_kept_of_a_series_names_nobody(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    made.write_series(oblique_ct, tmp_path / "a")
    later = sets(StudyDate="20200301")
    made.write_series(oblique_ct, tmp_path / "b", lambda _, dataset: later(dataset), OTHER)
    fixed = choose_series(tmp_path, "11")
    moving = choose_series(tmp_path, "22")
    about = describe_series(fixed)
    assert about["description"] == "series 11"
    assert about["slices"] == 12
    assert about["series"] != describe_series(moving)["series"]
    for hidden in ("Doe", "D0E", made.SERIES, "20200228"):
        assert hidden not in str(about)
    assert days_between(fixed, moving) == 2  # a leap year
    assert days_between(fixed, moving._replace(study_date="")) is None


def test_find_series_does_not_go_down(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    made.write_series(oblique_ct, tmp_path / "a")
    assert find_series([tmp_path]) == []
    (found,) = find_series([tmp_path / "a"])
    assert (found.id, found.modality, found.patient_id) == (made.SERIES, "CT", "D0E")
    assert len(found.files) == found.slices == 12


def test_files_are_left_as_they_were(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    files = made.write_series(oblique_ct, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    read_series(tmp_path / "a", None)
    assert all(file.read_bytes() == (tmp_path / "b" / file.name).read_bytes() for file in files)
