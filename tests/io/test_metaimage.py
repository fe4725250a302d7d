"""MetaImage: right, refused, or read with a warning that names both."""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import index_to_mm, same_grid
from landmark_dir.io.reading import Reading
from landmark_dir.io.volumes import read_with_warnings

VALUES = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype("i2")  # [z, y, x]
TURNED = "0.8 0.6 0 -0.6 0.8 0 0 0 1"  # one axis after the other
FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": TURNED,
    "Offset": "-120 35.5 -410",
    "CenterOfRotation": "0 0 0",
    "ElementSpacing": "1.5 2 4",
    "DimSize": "7 6 5",
    "ElementType": "MET_SHORT",
}


def made(
    path: Path,
    change: dict[str, str | None] | None = None,
    data: bytes = VALUES.tobytes(),
    last: str = "LOCAL",
    newline: str = "\n",
) -> Path:
    """Write a file with some fields changed, added, or (None) left out."""
    fields = FIELDS | (change or {}) | {"ElementDataFile": last}
    lines = [f"{key} = {value}{newline}" for key, value in fields.items() if value is not None]
    path.write_bytes("".join(lines).encode() + (data if last == "LOCAL" else b""))
    if last != "LOCAL":
        (path.parent / last).write_bytes(data)
    return path


def packed(data: bytes = VALUES.tobytes()) -> tuple[dict[str, str], bytes]:
    done = zlib.compress(data)
    return {"CompressedData": "True", "CompressedDataSize": str(len(done))}, done


def assert_as_itk(path: Path) -> Reading:
    reading = read_with_warnings(path)
    other = sitk.ReadImage(str(path))
    if other.GetDimension() == 4:
        other = other[:, :, :, 0]
    assert_array_equal(sitk.GetArrayFromImage(reading.image), sitk.GetArrayFromImage(other))
    assert same_grid(reading.image, other, 1e-9)
    return reading


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", "u1 i1 i2 u2 i4 u4 i8 u8 f4 f8".split())
def test_every_type_that_itk_writes(
    suffix: str, compress: bool, dtype: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    image = sitk.GetImageFromArray((sitk.GetArrayFromImage(oblique_ct) // 10).astype(dtype))
    image.CopyInformation(oblique_ct)
    path = tmp_path / f"ct{suffix}"
    sitk.WriteImage(sitk.Clamp(image, image.GetPixelID(), 0, 100), str(path), compress)
    reading = read_with_warnings(path)
    assert_array_equal(
        sitk.GetArrayFromImage(reading.image),
        np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(path))),
    )
    assert same_grid(reading.image, oblique_ct, 1e-6)
    assert not reading.warnings


SILENT: dict[str, dict[str, str | None]] = {
    "as it is": {},
    "Origin": {"Offset": None, "Origin": "-120 35.5 -410"},
    "Position": {"Offset": None, "Position": "-120 35.5 -410"},
    "Rotation": {"TransformMatrix": None, "Rotation": TURNED},
    "Orientation": {"TransformMatrix": None, "Orientation": TURNED},
    "anatomical": {"AnatomicalOrientation": "RAI", "Modality": "MET_MOD_CT", "Comment": "a = b"},
    "no order": {"BinaryDataByteOrderMSB": None},
    "mm": {"DistanceUnits": "mm"},
    "one channel": {"ElementNumberOfChannels": "1"},
    "no scaling": {"ElementToIntensityFunctionSlope": "1", "ElementToIntensityFunctionOffset": "0"},
    "NIfTI's fields": {"vox_offset": "352", "scl_slope": "2", "bitpix": "16", "magic": "n+1"},
    "size of a voxel, too": {"ElementSize": "1 1 1"},
    "one time": {
        "NDims": "4", "DimSize": "7 6 5 1", "ElementSpacing": "1.5 2 4 1", "Offset": "1 2 3 0",
        "CenterOfRotation": None,
        "TransformMatrix": "0.8 0.6 0 0 -0.6 0.8 0 0 0 0 1 0 0 0 0 1",
    },
}  # fmt: skip


@pytest.mark.parametrize("case", SILENT)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_is_clear_is_read_without_a_word(case: str, newline: str, tmp_path: Path) -> None:
    path = made(tmp_path / "ct.mha", SILENT[case], newline=newline)
    assert not assert_as_itk(path).warnings


def test_big_endian_under_both_names(tmp_path: Path) -> None:
    for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"):
        change = {"BinaryDataByteOrderMSB": None} | {key: "True"}
        path = made(tmp_path / "ct.mha", change, VALUES.astype(">i2").tobytes())
        assert_array_equal(sitk.GetArrayFromImage(read_with_warnings(path).image), VALUES)


def test_numbers_as_text(tmp_path: Path) -> None:
    text = " ".join(str(value) for value in VALUES.ravel()).encode()
    read = read_with_warnings(made(tmp_path / "ct.mha", {"BinaryData": "False"}, text)).image
    assert_array_equal(sitk.GetArrayFromImage(read), VALUES)
    with pytest.raises(BadVolume, match="expected 210 finite numbers"):
        read_with_warnings(made(tmp_path / "ct.mha", {"BinaryData": "False"}, text[:-6]))
    text = text.replace(b" ", b" 0.5 ", 1).rsplit(b" ", 1)[0]
    with pytest.raises(BadVolume, match="numbers that are no int16"):
        read_with_warnings(made(tmp_path / "ct.mha", {"BinaryData": "False"}, text))


def test_data_in_a_file_of_their_own(tmp_path: Path) -> None:
    assert not assert_as_itk(made(tmp_path / "ct.mhd", last="ct.raw")).warnings
    change, data = packed()
    assert not assert_as_itk(made(tmp_path / "ct.mhd", change, data, "ct.zraw")).warnings
    before = b"x" * 100 + VALUES.tobytes()
    for size in ("100", "-1"):
        assert_as_itk(made(tmp_path / "ct.mhd", {"HeaderSize": size}, before, "ct.raw"))
    path = made(tmp_path / "ct.mhd", last="ct.raw")
    path.write_bytes(path.read_bytes().replace(b"\nNDims", b"\n\nNDims").rstrip(b"\n"))
    assert not assert_as_itk(path).warnings
    (tmp_path / "ct.raw").unlink()
    with pytest.raises(BadVolume, match="ct.mhd: its data file 'ct.raw' is not there; copy both"):
        read_with_warnings(tmp_path / "ct.mhd")


WARNED: dict[str, tuple[dict[str, str | None], str]] = {
    "negative spacing": ({"ElementSpacing": "1.5 2 -4"}, "negative spacing, 1.5 x 2 x -4.*ITK"),
    "rounded axes": (
        {"TransformMatrix": "0.8 0.6 0 -0.6 0.8 0 0 0 0.9991", "ElementSpacing": "1.5 2 8"},
        "lengths of 1 x 1 x 0.9991, not 1: .* 7.9928 mm, as ITK .* 8 mm, which moves .* 0.036 mm",
    ),
    "no Offset": ({"Offset": None}, "no Offset: first voxel placed at 0, 0, 0"),
    "no matrix": ({"TransformMatrix": None}, "no TransformMatrix"),
    "only ElementSize": ({"ElementSpacing": None, "ElementSize": "1 2 3"}, "ElementSize 1 x 2 x 3"),
    "turned about": ({"CenterOfRotation": "10 0 0"}, "CenterOfRotation 10 x 0 x 0 is left out"),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_is_left_open_is_taken_as_itk_does_and_said(case: str, tmp_path: Path) -> None:
    change, said = WARNED[case]
    (warning,) = assert_as_itk(made(tmp_path / "ct.mha", change)).warnings
    assert re.search(said, warning), warning


@pytest.mark.parametrize(("unit", "factor"), [("cm", 10.0), ("um", 0.001)])
def test_other_units_are_converted_and_said(unit: str, factor: float, tmp_path: Path) -> None:
    spacing = " ".join(f"{value / factor:g}" for value in (1.5, 2, 4))
    change = {"DistanceUnits": unit, "ElementSpacing": spacing, "Offset": "1 2 3"}
    image, (warning,), *_ = read_with_warnings(made(tmp_path / "ct.mha", change))
    assert_allclose(image.GetSpacing(), (1.5, 2, 4), rtol=1e-6)
    assert_allclose(image.GetOrigin(), np.array((1, 2, 3)) * factor, rtol=1e-6)
    assert "1.5 x 2 x 4 mm; readers that ignore the unit, as ITK does" in warning


REFUSED: dict[str, tuple[dict[str, str | None], str]] = {
    "no spacing": ({"ElementSpacing": None}, "no ElementSpacing; add the size of a voxel in mm"),
    "spacing 0": ({"ElementSpacing": "1 2 0"}, "parallel or one is 0"),
    "spacing nan": (
        {"ElementSpacing": "1 2 nan"},
        "ElementSpacing is '1 2 nan', expected 3 finite",
    ),
    "spacing tiny": ({"ElementSpacing": "1 2 1e-30"}, "1 x 2 x 1e-30 mm, expected 0.001 to 100 mm"),
    "spacing of two": ({"ElementSpacing": "1 2"}, "expected 3 finite numbers"),
    "underscore": ({"Offset": "1_0 2 3"}, "Offset is '1_0 2 3'"),
    "scaled axes": ({"TransformMatrix": "2 0 0 0 2 0 0 0 2"}, "lengths of 2 x 2 x 2, expected 1"),
    "slope": ({"ElementToIntensityFunctionSlope": "2"}, "values x 2 . 0.*store plain HU"),
    "offset": ({"ElementToIntensityFunctionOffset": "-1024"}, "values x 1 . -1024"),
    "two places": ({"Origin": "1 2 3"}, "two values for Offset"),
    "two orders": ({"ElementByteOrderMSB": "True"}, "two values for BinaryDataByteOrderMSB"),
    "parallel": ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "parallel"),
    "sheared": (
        {"TransformMatrix": "1 0 0 0 1 0 0 0.2873478855663454 0.9578262852211514"},
        "17 degrees from right angles.*resample it",
    ),
    "channels": ({"ElementNumberOfChannels": "3"}, "type vector, expected one number a voxel"),
    "type": ({"ElementType": "MET_FLOAT_ARRAY"}, "type MET_FLOAT_ARRAY"),
    "shorter type": ({"ElementType": "MET_CHAR"}, "more data than the 210 bytes"),
    "longer type": ({"ElementType": "MET_FLOAT"}, "420 of 840 bytes"),
    "smaller": ({"DimSize": "7 6 4"}, "more data than the 336 bytes"),
    "larger": ({"DimSize": "7 6 6"}, "420 of 504 bytes"),
    "size below 0": ({"DimSize": "7 6 -5"}, "no size"),
    "two dimensions": ({"NDims": "2"}, "expected 2 finite numbers"),
    "dimensions": ({"NDims": "three"}, "NDims is 'three', expected a whole number"),
    "flag": ({"CompressedData": "maybe"}, "CompressedData is 'maybe', expected True or False"),
    "not compressed": ({"CompressedData": "True"}, "not compressed, though its header says"),
    "header length": ({"HeaderSize": "12"}, "HeaderSize 12 is not known here"),
    "unit": ({"DistanceUnits": "furlong"}, "unit 'furlong', expected mm"),
    "far away": ({"Offset": "1e20 0 0"}, "expected at most 1e.06 mm"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused(case: str, tmp_path: Path) -> None:
    change, said = REFUSED[case]
    with pytest.raises(BadVolume, match=f"ct.mha: .*{said}"):
        read_with_warnings(made(tmp_path / "ct.mha", change))


def test_packed_data_are_held_against_the_header(tmp_path: Path) -> None:
    change, data = packed()
    for wrong, said in (
        ((change | {"CompressedData": "False"}, data), "bytes"),
        ((change, data[:-1]), "cut short"),
        ((change, data + b"\0"), "cut short or damaged, its header says"),
        (
            (change | {"CompressedDataSize": None}, data[:-1]),
            "420 bytes can be read, but the check",
        ),
        ((change | {"CompressedDataSize": None}, data + b"x"), "but the checksum is wrong"),
        (packed(VALUES.tobytes() + b"xx"), "more data than the 420 bytes"),
        (packed(VALUES.tobytes()[:-2]), "418 of 420 bytes"),
    ):
        with pytest.raises(BadVolume, match=said):
            read_with_warnings(made(tmp_path / "ct.mha", *wrong))


@pytest.mark.parametrize("where", range(0, 100, 4))
def test_no_damage_to_packed_data_goes_unseen(where: int, tmp_path: Path) -> None:
    change, data = packed()
    damaged = bytearray(data)
    damaged[where * len(data) // 100] ^= 0x5A
    with pytest.raises(BadVolume, match=r"ct.mha: (cut short or damaged|damaged|not compr)"):
        read_with_warnings(made(tmp_path / "ct.mha", change, bytes(damaged)))


@pytest.mark.parametrize("last", ["LIST", "ct%03d.raw 1 5 1"])
def test_many_data_files_are_refused(last: str, tmp_path: Path) -> None:
    with pytest.raises(BadVolume, match="spread over many files.*convert it to one .mha"):
        read_with_warnings(made(tmp_path / "ct.mhd", last=last))


def test_the_order_of_the_fields_does_not_matter(tmp_path: Path) -> None:
    lines = "".join(f"{key}={value}\n" for key, value in reversed(FIELDS.items()))
    path = tmp_path / "ct.mha"
    path.write_bytes(lines.encode() + b"ElementDataFile=LOCAL\n" + VALUES.tobytes())
    assert_array_equal(sitk.GetArrayFromImage(read_with_warnings(path).image), VALUES)


def test_name_does_not_matter(tmp_path: Path) -> None:
    for name in ("CT.MHA", "ct", "ct.nii", "ct.nrrd"):
        read = read_with_warnings(made(tmp_path / name)).image
        want = np.reshape([float(one) for one in TURNED.split()], (3, 3)).T * [1.5, 2, 4]
        assert_allclose(index_to_mm(read), want, atol=1e-12)
        assert_array_equal(sitk.GetArrayFromImage(read), VALUES)
