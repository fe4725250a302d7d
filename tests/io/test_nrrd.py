"""NRRD against pynrrd and ITK: right, refused, or read with a warning that names both."""

import bz2
import gzip
import re
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import index_to_mm, same_grid
from landmark_dir.io.reading import Reading
from landmark_dir.io.volumes import read_with_warnings

VALUES = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype("i2")  # [z, y, x]
STEPS = np.array([[1.2, 0.9, 0.0], [-1.2, 1.6, 0.0], [0.0, 0.0, 4.0]])  # one axis a row
ORIGIN = np.array([-120, 35.5, -410])
FIELDS = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "7 6 5",
    "space directions": "(1.2,0.9,0) (-1.2,1.6,0) (0,0,4)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-120,35.5,-410)",
}
SPACINGS: dict[str, str | None] = {
    "space": None, "space directions": None, "space origin": None, "spacings": "1.5 2 4",
}  # fmt: skip


def made(
    path: Path, change: dict[str, str | None] | None = None, data: bytes = VALUES.tobytes()
) -> Path:
    """Write a file with some fields changed, added, or (None) left out."""
    fields = FIELDS | (change or {})
    lines = [f"{key}: {value}\n" for key, value in fields.items() if value is not None]
    lines.sort(key=lambda line: not line.startswith(("dimension", "space dimension")))
    header = "".join(["NRRD0005\n", "# made\n", *lines, "\n"]).encode()
    if "data file" in fields:
        path.write_bytes(header)
        (path.parent / str(fields["data file"])).write_bytes(data)
    else:
        path.write_bytes(header + data)
    return path


def assert_as_pynrrd(path: Path, signs: tuple[int, int, int] = (1, 1, 1)) -> Reading:
    """Compare with pynrrd; `signs` make its space LPS."""
    reading = read_with_warnings(path)
    values, header = nrrd.read(str(path))
    assert_array_equal(sitk.GetArrayFromImage(reading.image).T, values.reshape(7, 6, 5))
    vectors = np.asarray(header["space directions"], float)
    steps = vectors[np.isfinite(vectors).all(axis=1)][:3, :3].T
    assert_allclose(index_to_mm(reading.image), np.diag(signs) @ steps, atol=1e-9)
    assert_allclose(reading.image.GetOrigin(), header["space origin"][:3] * np.array(signs))
    return reading


def assert_as_itk(path: Path) -> Reading:
    reading = read_with_warnings(path)
    other = sitk.ReadImage(str(path))
    assert_array_equal(sitk.GetArrayFromImage(reading.image), sitk.GetArrayFromImage(other))
    assert same_grid(reading.image, other, 1e-9)
    return reading


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("dtype", "u1 i1 i2 u2 i4 u4 i8 u8 f4 f8 >i2 >f4".split())
def test_every_type_that_pynrrd_writes(
    suffix: str, encoding: str, dtype: str, tmp_path: Path
) -> None:
    header: dict[str, Any] = {
        "space": "left-posterior-superior", "space directions": STEPS, "space origin": ORIGIN,
        "encoding": encoding,
    }  # fmt: skip
    values = (VALUES.T % 100).astype(dtype)
    nrrd.write(str(tmp_path / f"ct{suffix}"), values, header)
    assert not assert_as_pynrrd(tmp_path / f"ct{suffix}").warnings


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)),
        ("LAS", (1, -1, 1)),
    ],
)
def test_every_space(space: str, signs: tuple[int, int, int], tmp_path: Path) -> None:
    path = made(tmp_path / "ct.nrrd", {"space": space})
    assert not assert_as_pynrrd(path, signs).warnings
    assert_as_itk(path)


SILENT: dict[str, tuple[dict[str, str | None], bytes]] = {
    "cell": ({"centerings": "cell cell cell"}, VALUES.tobytes()),
    "node": ({"centerings": "node node node"}, VALUES.tobytes()),
    "none": ({"centers": "??? ??? ???"}, VALUES.tobytes()),
    "mm": ({"space units": '"mm" "mm" "mm"'}, VALUES.tobytes()),
    "gz": ({"encoding": "gz"}, gzip.compress(VALUES.tobytes())),
    "bz2": ({"encoding": "bz2"}, bz2.compress(VALUES.tobytes())),
    "text": ({"encoding": "txt"}, " ".join(map(str, VALUES.ravel())).encode()),
    "big": ({"endian": "big"}, VALUES.astype(">i2").tobytes()),
    "bytes before": ({"byte skip": "5"}, b"12345" + VALUES.tobytes()),
    "at the end": ({"byte skip": "-1"}, b"12345" + VALUES.tobytes()),
    "thickness": ({"thicknesses": "nan nan 3"}, VALUES.tobytes()),
    "type": ({"type": "signed short int"}, VALUES.tobytes()),
    "one component first": (
        {"dimension": "4", "sizes": "1 7 6 5", "kinds": "vector domain domain domain",
         "space directions": "none (1.2,0.9,0) (-1.2,1.6,0) (0,0,4)"},
        VALUES.tobytes(),
    ),
    "one time last": (
        {"dimension": "4", "sizes": "7 6 5 1", "kinds": "domain domain domain time",
         "space directions": "(1.2,0.9,0) (-1.2,1.6,0) (0,0,4) none"},
        VALUES.tobytes(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SILENT)
def test_what_is_clear_is_read_without_a_word(case: str, tmp_path: Path) -> None:
    assert not assert_as_pynrrd(made(tmp_path / "ct.nrrd", *SILENT[case])).warnings


def test_own_keys_are_passed_over(tmp_path: Path) -> None:
    path = made(tmp_path / "ct.nrrd")
    content = path.read_bytes().replace(b"\n\n", b"\nvox_offset:=352\nold min:=1\n\n", 1)
    path.write_bytes(content)
    assert not assert_as_pynrrd(path).warnings


def test_data_in_a_file_of_their_own(tmp_path: Path) -> None:
    path = made(tmp_path / "ct.nhdr", {"data file": "ct.raw"})
    assert not assert_as_pynrrd(path).warnings
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert_array_equal(sitk.GetArrayFromImage(read_with_warnings(path).image), VALUES)
    (tmp_path / "ct.raw").unlink()
    with pytest.raises(BadVolume, match="ct.nhdr: its data file 'ct.raw' is not there"):
        read_with_warnings(path)


WARNED: dict[str, tuple[dict[str, str | None], str]] = {
    "scanner": ({"space": "scanner-xyz"}, "the space 'scanner-xyz'.*taken as LPS, as ITK does"),
    "right-handed": ({"space": "3D-right-handed"}, "taken as LPS"),
    "only a dimension": ({"space": None, "space dimension": "3"}, "no space, which would say"),
    "no origin": ({"space origin": None}, "no space origin: first voxel placed at 0, 0, 0"),
    "spacings": (SPACINGS, "no space origin.*no space, which"),
    "negative": (SPACINGS | {"spacings": "1.5 2 -4"}, "negative spacing, 1.5 x 2 x -4.*turned"),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_is_left_open_is_taken_as_itk_does_and_said(case: str, tmp_path: Path) -> None:
    change, said = WARNED[case]
    reading = assert_as_itk(made(tmp_path / "ct.nrrd", change))
    assert re.search(said, " ".join(reading.warnings)), reading.warnings


@pytest.mark.parametrize(("unit", "factor"), [("cm", 10.0), ("um", 1e-3), ("m", 1e3)])
@pytest.mark.parametrize("field", ["space units", "units"])
def test_other_units_are_converted_and_said(
    field: str, unit: str, factor: float, tmp_path: Path
) -> None:
    vectors = " ".join(f"({','.join(f'{x / factor:.9g}' for x in row)})" for row in STEPS)
    change = {field: f'"{unit}" ' * 3, "space directions": vectors, "space origin": "(1,2,3)"}
    image, (warning,), *_ = read_with_warnings(made(tmp_path / "ct.nrrd", change))
    assert_allclose(index_to_mm(image), STEPS.T, atol=1e-6)
    assert_allclose(image.GetOrigin(), np.array((1, 2, 3)) * factor)
    assert f"counts in {unit}: read as voxels of 1.5 x 2 x 4 mm; readers that ignore" in warning


REFUSED: dict[str, tuple[dict[str, str | None], str]] = {
    "no spacing": ({"space directions": None}, "neither space directions nor spacings; add"),
    "both": ({"spacings": "4 4 4"}, "both spacings and space directions"),
    "mins": (SPACINGS | {"axis mins": "1 2 3"}, "axis mins or axis maxs, which readers take diff"),
    "maxs": (SPACINGS | {"axismaxs": "1 2 3", "spacings": None}, "axis mins or axis maxs"),
    "squeezed": ({"old min": "-1024"}, "values were squeezed"),
    "nan": ({"space directions": "(nan,0,0) (0,1,0) (0,0,1)"}, "expected 3 finite numbers"),
    "tiny": ({"space directions": "(1,0,0) (0,1,0) (0,0,1e-30)"}, "1 x 1 x 1e-30 mm, expected"),
    "parallel": ({"space directions": "(1,0,0) (1,0,0) (0,0,1)"}, "parallel"),
    "two vectors": ({"space directions": "(1,0,0) (0,1,0)"}, "expected 3 vectors"),
    "2D vectors": ({"space directions": "(1,0) (0,1) (1,1)"}, "no axes in 3D"),
    "sheared": ({"space directions": "(3,0,0) (0,3,0) (0,1.5,5)"}, "17 degrees from right ang"),
    "place nan": ({"space origin": "(nan,0,0)"}, "space origin is .* expected 3 finite"),
    "units": ({"space units": '"mm" "mm" "cm"'}, "different space units along its axes"),
    "unit": ({"space units": '"px" "px" "px"'}, "unit 'px', expected mm"),
    "larger": ({"sizes": "7 6 6"}, "420 of 504 bytes"),
    "smaller": ({"sizes": "7 6 4"}, "more data than the 336 bytes"),
    "size 0": ({"sizes": "7 6 0"}, "no size"),
    "vector": (
        {"dimension": "4", "sizes": "3 7 5 2", "space directions": "none (1,0,0) (0,1,0) (0,0,1)"},
        "first axis a vector; expected one number a voxel",
    ),
    "series": ({"dimension": "4", "sizes": "7 3 5 2", "space directions":
                "(1,0,0) (0,1,0) (0,0,1) none"}, "expected one 3D volume"),
    "plane": ({"dimension": "2", "sizes": "42 5", "space directions": "(1,0,0) (0,1,0)"},
              "42 x 5 voxels, expected one 3D volume"),
    "planes in time": ({"kinds": "domain domain time"}, "7 x 6 x 5 voxels, expected one 3D volume"),
    "colours": ({"kinds": "vector domain domain"}, "first axis a vector"),
    "block": ({"type": "block"}, "type block"),
    "no order": ({"endian": None}, "no 'endian'; add it"),
    "order": ({"endian": "middle"}, "endian is 'middle'"),
    "encoding": ({"encoding": "hex"}, "unknown encoding 'hex'"),
    "not gzip": ({"encoding": "gzip"}, "not gzip data, though its header says"),
    "line skip": ({"line skip": "1"}, "line skip 1 and byte skip 0"),
    "list": ({"data file": "LIST"}, "spread over many files"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused(case: str, tmp_path: Path) -> None:
    change, said = REFUSED[case]
    with pytest.raises(BadVolume, match=f"ct.nrrd: .*{said}"):
        read_with_warnings(made(tmp_path / "ct.nrrd", change))


def test_a_field_twice_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "ct.nrrd")
    path.write_bytes(path.read_bytes().replace(b"\n\n", b"\nsizes: 7 5 6\n\n", 1))
    with pytest.raises(BadVolume, match="'sizes: 7 5 6', which is no field or the second one"):
        read_with_warnings(path)


def test_gzip_flag_on_raw_data_and_the_reverse(tmp_path: Path) -> None:
    packed = gzip.compress(VALUES.tobytes())
    with pytest.raises(BadVolume, match="of 420 bytes|more data than"):
        read_with_warnings(made(tmp_path / "ct.nrrd", {}, packed))


@pytest.mark.parametrize("encoding", ["gzip", "bzip2"])
@pytest.mark.parametrize("where", range(0, 100, 4))
def test_no_damage_to_packed_data_goes_unseen(encoding: str, where: int, tmp_path: Path) -> None:
    pack = gzip.compress if encoding == "gzip" else bz2.compress
    damaged = bytearray(pack(VALUES.tobytes()))
    damaged[where * len(damaged) // 100] ^= 0x5A
    path = made(tmp_path / "ct.nrrd", {"encoding": encoding}, bytes(damaged))
    try:
        read = read_with_warnings(path).image
    except BadVolume:
        return
    assert_array_equal(sitk.GetArrayFromImage(read), VALUES)  # the date in gzip's header


@pytest.mark.parametrize("encoding", ["gzip", "bzip2"])
def test_packed_data_of_another_length_are_refused(encoding: str, tmp_path: Path) -> None:
    pack = gzip.compress if encoding == "gzip" else bz2.compress
    whole = VALUES.tobytes()
    for data in (pack(whole)[:-1], pack(whole) + b"x", pack(whole[:-1]), pack(whole + b"x")):
        with pytest.raises(BadVolume, match="ct.nrrd: (cut short or damaged|damaged)"):
            read_with_warnings(made(tmp_path / "ct.nrrd", {"encoding": encoding}, data))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("space directions", "n (1,0,0) (0,1,0) (0,0,1)"),
        ("space directions", "(1,0,0) x (0,1,0) (0,0,1)"),
        ("space origin", "1,2,3"),
        ("space origin", "((1,2,3))"),
        ("space origin", "(1,2,3,4)"),
        ("space origin", "(1,2)"),
    ],
)
def test_what_stands_beside_vectors_is_refused(field: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(
        BadVolume, match=rf"{field} (is .*expected (3|a) (vector|finite)|has [24] numbers)"
    ):
        read_with_warnings(made(tmp_path / "ct.nrrd", {field: text}))
