"""NIfTI against nibabel: right, refused, or read with a warning that names both."""

import gzip
import re
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import index_to_mm
from landmark_dir.io.reading import Reading
from landmark_dir.io.volumes import read_labels, read_with_warnings, write_volume

SIZE = (7, 6, 5)
FLOAT32_MM = 1e-4  # what a header of float32 leaves of places of some 100 mm
# where fields lie in a NIfTI-1 header
DIM, PIXDIM, VOX_OFFSET, SLOPE, UNITS, QFORM, SFORM, QUATERN, SROW_X = (
    40, 76, 108, 112, 123, 252, 254, 256, 280,
)  # fmt: skip
Patches = dict[int, tuple[str, tuple[float, ...]]]


def oblique_affine() -> np.ndarray:
    """RAS mm: rotated, anisotropic, off-origin."""
    turn = np.deg2rad(20)
    rotation = np.array(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * [-1.5, -2.0, 4.0]
    affine[:3, 3] = (120, 35, -410)
    return affine


def made(path: Path, dtype: str = "i2", sform: int = 1, qform: int = 1, two: bool = False) -> Path:
    values = np.random.default_rng(0).integers(0, 100, SIZE).astype(dtype)
    kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    if path.suffix == ".img":
        kind = nibabel.Nifti1Pair
    image = kind(values, oblique_affine(), dtype=np.dtype(dtype))
    image.set_sform(oblique_affine(), sform)
    image.set_qform(oblique_affine(), qform)
    nibabel.save(image, path)
    return path


def patched(path: Path, patches: Patches) -> Path:
    content = bytearray(path.read_bytes())
    for offset, (layout, values) in patches.items():
        struct.pack_into(f"<{layout}", content, offset, *values)
    path.write_bytes(content)
    return path


def assert_as_nibabel(path: Path, named: Path | None = None) -> Reading:
    """Compare geometry and HU with nibabel's; `named`: the same content under a usual name."""
    reading = read_with_warnings(path)
    other = nibabel.load(named or path)
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine = to_lps @ other.affine
    assert_allclose(index_to_mm(reading.image), affine[:3, :3], atol=1e-6)
    assert_allclose(reading.image.GetOrigin(), affine[:3, 3], atol=FLOAT32_MM)
    values = np.asarray(other.dataobj, np.float64)
    values = values.reshape(values.shape[:3])
    assert_array_equal(sitk.GetArrayFromImage(reading.image).T, values.astype(np.float32))
    return reading


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.img"])
@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("dtype", "u1 i1 i2 u2 i4 u4 i8 u8 f4 f8 >i2 >f4".split())
def test_every_type_and_both_versions(name: str, two: bool, dtype: str, tmp_path: Path) -> None:
    if two and name == "ct.img":
        return  # made by `test_pair_of_version_two`
    assert not assert_as_nibabel(made(tmp_path / name, dtype, two=two)).warnings


@pytest.mark.parametrize("codes", [(1, 0), (2, 0), (4, 1), (0, 1), (0, 2)])
def test_either_form(codes: tuple[int, int], tmp_path: Path) -> None:
    assert not assert_as_nibabel(made(tmp_path / "ct.nii", "i2", *codes)).warnings


def test_big_endian_header(tmp_path: Path) -> None:
    image = nibabel.load(made(tmp_path / "ct.nii"))
    header = image.header.as_byteswapped(">")
    swapped = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, header)
    nibabel.save(swapped, tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    assert not assert_as_nibabel(tmp_path / "big.nii").warnings


def test_pair_of_version_two(tmp_path: Path) -> None:
    image = nibabel.load(made(tmp_path / "ct.nii", two=True))
    nibabel.save(nibabel.Nifti2Pair(np.asarray(image.dataobj), image.affine), tmp_path / "ct.img")
    assert_as_nibabel(tmp_path / "ct.img")


@pytest.mark.parametrize(
    "name", ["CT.NII.GZ", "ct", "ct.nii", "ct.mha", "ct.nrrd", "ct.dcm", "ct.img"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_content_decides_not_the_suffix(name: str, packed: bool, tmp_path: Path) -> None:
    known = made(tmp_path / ("known.nii.gz" if packed else "known.nii"), "f4")
    odd = tmp_path / "odd" / name
    odd.parent.mkdir()
    odd.write_bytes(known.read_bytes())
    assert not assert_as_nibabel(odd, known).warnings


@pytest.mark.parametrize("named", [".hdr", ".img"])
@pytest.mark.parametrize("packed", ["", ".hdr", ".img", ".hdr .img"])
def test_pair_by_either_name_and_gzipped(named: str, packed: str, tmp_path: Path) -> None:
    made(tmp_path / "known.img", "f4")
    for suffix in (".hdr", ".img"):
        content = (tmp_path / f"known{suffix}").read_bytes()
        packs = suffix in packed.split()
        target = tmp_path / f"Pair{suffix.upper()}{'.gz' if packs else ''}"
        target.write_bytes(gzip.compress(content) if packs else content)
        if suffix == named:
            given = target
    assert not assert_as_nibabel(given, tmp_path / "known.img").warnings


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "ct.img")
    (tmp_path / "ct.hdr").rename(tmp_path / "other.hdr")
    with pytest.raises(BadVolume, match="other.hdr: the header of a NIfTI pair.*copy both files"):
        read_with_warnings(tmp_path / "other.hdr")
    with pytest.raises(BadVolume, match="ct.img: not a whole NIfTI, MHA, NRRD or DICOM"):
        read_with_warnings(tmp_path / "ct.img")


def test_image_file_of_a_pair_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "ct.img")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadVolume, match="ct.img: cut short or damaged, 419 of 420 bytes"):
        read_with_warnings(tmp_path / "ct.hdr")


def test_analyze_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.AnalyzeImage(np.ones(SIZE, "i2"), np.eye(4)), tmp_path / "ct.img")
    for name in ("ct.img", "ct.hdr"):
        with pytest.raises(BadVolume, match="Analyze 7.5, which does not say which side is left"):
            read_with_warnings(tmp_path / name)


def test_gzip_of_several_members_and_of_padding(tmp_path: Path) -> None:
    content = made(tmp_path / "ct.nii").read_bytes()
    parts = gzip.compress(content[:400]) + gzip.compress(content[400:])
    (tmp_path / "parts.nii.gz").write_bytes(parts + bytes(512))
    assert_as_nibabel(tmp_path / "parts.nii.gz", tmp_path / "ct.nii")


WARNED: dict[str, tuple[tuple[int, int], Patches, str]] = {
    "qform elsewhere": ((1, 1), {QUATERN + 12: ("f", (160,))}, "qform and sform are up to 40 mm"),
    "sform elsewhere": ((2, 1), {SROW_X + 12: ("f", (90,))}, "up to 30 mm apart: the sform"),
    "qform turned": ((1, 1), {QUATERN + 8: ("f", (0.5,))}, "qform and sform are up to"),
    "qform is none": ((1, 1), {QUATERN: ("f", (1.5,))}, "sform is taken; its qform is no rotation"),
    "pixdim, sform only": ((1, 0), {PIXDIM + 12: ("f", (5,))}, "4 mm, which are.*ITK.*5 mm"),
    "pixdim, both": ((1, 1), {PIXDIM + 12: ("f", (5,))}, "qform and sform are up to 4 mm"),
    "negative pixdim": ((0, 1), {PIXDIM + 4: ("f", (-1.5,))}, "negative spacing, -1.5 x 2 x 4"),
    "negative pixdim, both": (
        (1, 1), {PIXDIM + 4: ("f", (-1.5,))}, "negative spacing.*beside the sform; ITK turns",
    ),
    "no code": ((0, 0), {}, "does not say where the patient lies.*nibabel.*ITK"),
    "slope 0, intercept": ((1, 1), {SLOPE: ("2f", (0, -5))}, "slope of 0 and.*-5.*ITK adds"),
    "slope nan, intercept": ((1, 1), {SLOPE: ("2f", (np.nan, -5))}, "not applied"),
}  # fmt: skip


@pytest.mark.parametrize("case", WARNED)
def test_where_readers_disagree_nibabel_is_followed_and_both_are_named(
    case: str, tmp_path: Path
) -> None:
    codes, patches, said = WARNED[case]
    path = patched(made(tmp_path / "ct.nii", "i2", *codes), patches)
    (warning,) = assert_as_nibabel(path).warnings
    assert re.search(said, warning), warning


SILENT: dict[str, Patches] = {
    "slope": {SLOPE: ("2f", (2, -1024))},
    "fractional slope": {SLOPE: ("2f", (0.25, -3.5))},
    "no slope": {SLOPE: ("2f", (0, 0))},
    "slope nan": {SLOPE: ("2f", (np.nan, np.nan))},
    "qfac 0": {PIXDIM: ("f", (0,))},
    "one time": {DIM: ("5h", (4, *SIZE, 1))},
    "one vector": {DIM: ("6h", (5, *SIZE, 1, 1))},
    "seven axes": {DIM: ("8h", (7, *SIZE, 1, 1, 1, 1))},
    "sizes beyond the axes": {DIM: ("8h", (3, *SIZE, 0, 9, 9, 9))},
    "mm": {UNITS: ("B", (2,))},
    "mm and s": {UNITS: ("B", (10,))},
}


@pytest.mark.parametrize("case", SILENT)
@pytest.mark.parametrize("codes", [(1, 1), (0, 1)])
def test_what_is_clear_is_read_without_a_word(
    case: str, codes: tuple[int, int], tmp_path: Path
) -> None:
    path = patched(made(tmp_path / "ct.nii", "i2", *codes), SILENT[case])
    assert not assert_as_nibabel(path).warnings


def test_left_handed_grid_by_qform(tmp_path: Path) -> None:
    image = nibabel.load(made(tmp_path / "ct.nii"))
    flipped = oblique_affine() @ np.diag([-1, 1, 1, 1])
    image.set_sform(None, 0)
    image.set_qform(flipped, 1)
    nibabel.save(image, tmp_path / "left.nii")
    assert not assert_as_nibabel(tmp_path / "left.nii").warnings


@pytest.mark.parametrize(("unit", "factor"), [(1, 1000.0), (3, 0.001)])
def test_other_units_are_converted_and_said(unit: int, factor: float, tmp_path: Path) -> None:
    path = made(tmp_path / "ct.nii")
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[:3] /= factor
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nibabel.save(image, tmp_path / "unit.nii")
    reading = read_with_warnings(patched(tmp_path / "unit.nii", {UNITS: ("B", (unit,))}))
    assert_allclose(reading.image.GetSpacing(), (1.5, 2, 4), rtol=1e-6)
    assert_allclose(reading.image.GetOrigin(), (-120, -35, -410), rtol=1e-6)
    (warning,) = reading.warnings
    assert "voxels of 1.5 x 2 x 4 mm; readers that ignore the unit, as nibabel" in warning
    with pytest.raises(BadVolume, match="voxels of .* mm, expected 0.001 to 100 mm"):
        read_with_warnings(patched(path, {UNITS: ("B", (unit,)), PIXDIM + 4: ("3f", (1e-7,) * 3),
                                          SFORM: ("h", (0,)), QFORM: ("h", (1,))}))  # fmt: skip


REFUSED: dict[str, tuple[Patches, str]] = {
    "two times": ({DIM: ("5h", (4, 7, 6, 1, 5))}, "7 x 6 x 1 x 5 voxels, expected one 3D"),
    "no axes": ({DIM: ("h", (0,))}, "dim is 0 7 6 5.*no size"),
    "size 0": ({DIM: ("5h", (4, *SIZE, 0))}, "no size"),
    "size below 0": ({DIM: ("4h", (3, 7, -6, 5))}, "no size"),
    "larger than the file": ({DIM: ("4h", (3, 7, 6, 6))}, "772 of 856 bytes"),
    "smaller than the file": ({DIM: ("4h", (3, 7, 6, 4))}, "more data than the 688 bytes"),
    "voxels early": ({VOX_OFFSET: ("f", (348,))}, r"byte 348 \(vox_offset\), expected 352"),
    "voxels at 0": ({VOX_OFFSET: ("f", (0,))}, "byte 0 .vox_offset."),
    "voxels below 0": ({VOX_OFFSET: ("f", (-352,))}, "byte -352 "),
    "voxels far away": ({VOX_OFFSET: ("f", (1e30,))}, "cut short"),
    "voxels nowhere": ({VOX_OFFSET: ("f", (np.nan,))}, "byte nan"),
    "voxels in infinity": ({VOX_OFFSET: ("f", (np.inf,))}, "byte inf"),
    "voxels at a fraction": ({VOX_OFFSET: ("f", (352.5,))}, "byte 352.5"),
    "voxels late": ({VOX_OFFSET: ("f", (368,))}, "772 of 788 bytes"),
    "bits": ({70: ("h", (1,))}, "type single bits"),
    "complex": ({70: ("h", (32,))}, "type complex"),
    "RGB": ({70: ("h", (128,))}, "type RGB"),
    "unknown type": ({70: ("h", (5,))}, "datatype 5"),
    "slope infinite": ({SLOPE: ("2f", (np.inf, 0))}, "slope inf"),
    "intercept nan": ({SLOPE: ("2f", (1, np.nan))}, "intercept nan"),
    "sform nan": ({SROW_X: ("f", (np.nan,))}, "origin or spacing is not a number"),
    "sform 0": ({SROW_X: ("12f", (0,) * 12)}, "two axes of its header are parallel or one is 0"),
    "sform code 99": ({SFORM: ("h", (99,))}, "sform_code 99, expected 0 to 5"),
    "qform code -1": ({QFORM: ("h", (-1,))}, "qform_code -1, expected 0 to 5"),
    "tiny": ({SROW_X: ("12f", (1e-30, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0))}, "1e-30 x 1 x 1 mm"),
    "17 degrees": (
        {SROW_X: ("12f", (1, 0.3, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)), QFORM: ("h", (0,))},
        "17 degrees from right angles.*resample it to a grid with right angles",
    ),
}  # fmt: skip
REFUSED_QFORM: dict[str, tuple[Patches, str]] = {
    "qfac": ({PIXDIM: ("f", (-2,))}, r"pixdim\[0\] is -2, expected 1 or -1"),
    "spacing 0": ({PIXDIM + 4: ("f", (0,))}, "spacing 0 x 2 x 4 in its header"),
    "spacing nan": ({PIXDIM + 4: ("f", (np.nan,))}, "spacing nan x 2 x 4"),
    "spacing tiny": ({PIXDIM + 4: ("f", (1e-30,))}, "voxels of 1e-30 x 2 x 4 mm"),
    "no rotation": ({QUATERN: ("f", (1.2,))}, "its qform is no rotation"),
    "rotation nan": ({QUATERN: ("f", (np.nan,))}, "its qform is no rotation"),
    "place nan": ({QUATERN + 12: ("f", (np.nan,))}, "origin or spacing is not a number"),
    "place far": ({QUATERN + 12: ("f", (1e20,))}, "from the origin, expected at most 1e.06 mm"),
}


@pytest.mark.parametrize("case", [*REFUSED, *REFUSED_QFORM])
def test_what_cannot_be_right_is_refused(case: str, tmp_path: Path) -> None:
    patches, said = REFUSED.get(case) or REFUSED_QFORM[case]
    path = made(tmp_path / "ct.nii", "i2", 1 if case in REFUSED else 0, 1)
    with pytest.raises(BadVolume, match=f"ct.nii: .*{said}"):
        read_with_warnings(patched(path, patches))


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_a_fractional_slope_is_as_exact_as_nibabel(dtype: str, tmp_path: Path) -> None:
    path = patched(made(tmp_path / "ct.nii", dtype), {SLOPE: ("2f", (0.1, -1000.3))})
    assert not assert_as_nibabel(path).warnings


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4"])
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.img"])
def test_nan_is_refused(value: float, dtype: str, name: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=SIZE)
    values[1, 2, 3] = value
    kind = nibabel.Nifti1Pair if name == "ct.img" else nibabel.Nifti1Image
    nibabel.save(kind(values.astype(dtype), oblique_affine()), tmp_path / name)
    with pytest.raises(BadVolume, match=f"{name}: 1 of 210 voxels are NaN or infinite"):
        read_with_warnings(tmp_path / name)


def test_header_extensions_are_passed_over(tmp_path: Path) -> None:
    image = nibabel.load(made(tmp_path / "ct.nii"))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"made" * 40))
    nibabel.save(image, tmp_path / "more.nii.gz")
    assert not assert_as_nibabel(tmp_path / "more.nii.gz").warnings


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("compress", [False, True])
def test_what_was_converted_from_nifti_carries_its_fields_and_is_read(
    suffix: str, compress: bool, tmp_path: Path
) -> None:
    image = sitk.ReadImage(str(patched(made(tmp_path / "ct.nii"), {SLOPE: ("2f", (2, -1024))})))
    assert image.HasMetaDataKey("vox_offset")
    sitk.WriteImage(image, str(tmp_path / f"ct{suffix}"), useCompression=compress)
    reading = read_with_warnings(tmp_path / f"ct{suffix}")
    assert not reading.warnings
    assert_array_equal(sitk.GetArrayFromImage(reading.image), sitk.GetArrayFromImage(image))


def test_labels_of_a_scaled_type_stay_integers(tmp_path: Path) -> None:
    labels = read_labels(made(tmp_path / "labels.nii.gz", "u1"))
    assert labels.GetPixelID() == sitk.sitkUInt8


@pytest.mark.parametrize("where", range(0, 100, 4))
def test_no_damage_to_a_gzipped_file_goes_unseen(where: int, tmp_path: Path) -> None:
    path = made(tmp_path / "ct.nii.gz")
    sound = sitk.GetArrayFromImage(read_with_warnings(path).image)
    content = bytearray(path.read_bytes())
    content[where * len(content) // 100] ^= 0x5A
    path.write_bytes(content)
    try:
        read = read_with_warnings(path).image
    except BadVolume:
        return
    assert_array_equal(sitk.GetArrayFromImage(read), sound)  # name or date in gzip's header


def test_what_itk_writes_of_floats_is_read_by_both(tmp_path: Path, oblique_ct: sitk.Image) -> None:
    write_volume(oblique_ct, tmp_path / "ct.nii.gz")
    assert not assert_as_nibabel(tmp_path / "ct.nii.gz").warnings
