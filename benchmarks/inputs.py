"""Made and damaged image files against independent readers: `python -m benchmarks.inputs`.

A small oblique volume is written in each format and changed in one way after the other, then
damaged at random (`--fuzz`). What is read is held against nibabel (NIfTI), pynrrd (NRRD), SimpleITK
(MetaImage) and the DICOM tags as pydicom has them. Where such a reader gives another answer, or
none, only a refusal or a warning will do, unless the damage is none: what is read is what was
written (SimpleITK gives wrong voxels where CompressedDataSize is missing; the checksum is right).

right: every voxel and its place as the independent reader has them; warned: read, and something was
said; refused: one sentence that names the file; wrong: another answer without a word; traceback:
any other error.
"""

import argparse
import gzip
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import nibabel as nib
import nrrd
import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray

from benchmarks.common import markdown
from landmark_dir.errors import LandmarkDirError
from landmark_dir.geometry import index_to_mm
from landmark_dir.io.grid import SILENT_MM
from landmark_dir.io.volumes import read_with_warnings
from tests.made_dicom import moved, write_enhanced, write_series

WORDS = ("right", "refused", "warned", "wrong", "traceback")
SIZE = (9, 8, 7)  # x, y, z
HU = 0.51  # slopes may be rounded to whole HU
LPS = np.array([-1.0, -1.0, 1.0])  # of RAS


class Truth(NamedTuple):
    """What an independent reader has."""

    values: NDArray[Any]  # [z, y, x], HU
    steps: NDArray[np.float64]  # columns: one voxel along x, y, z; LPS mm
    origin: NDArray[np.float64]


Make: TypeAlias = Callable[[Path], Path]  # into a folder; what is to be read
Reader: TypeAlias = Callable[[Path], Truth]


def volume() -> sitk.Image:
    """Oblique, anisotropic, off-origin; int16."""
    values = np.random.default_rng(0).integers(-1000, 1500, SIZE[::-1])
    image = sitk.GetImageFromArray(values.astype(np.int16))
    turned = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3)
    image.SetDirection(turned.GetMatrix())
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-120.0, 35.5, -410.0))
    return image


def by_nibabel(path: Path) -> Truth:
    """NIfTI; the sform first, as nibabel has it, and told by its content, as here."""
    content = path.read_bytes()
    content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    kind = nib.Nifti2Image if content[:4] in (b"\x1c\2\0\0", b"\0\0\2\x1c") else nib.Nifti1Image
    image: Any = kind.from_bytes(content)
    values = np.squeeze(np.asanyarray(image.dataobj))
    affine = image.affine * np.append(LPS, 1.0)[:, None]
    return Truth(values.T, affine[:3, :3], affine[:3, 3])


def by_pynrrd(path: Path) -> Truth:
    """NRRD; of the spaces the three that people use."""
    values, header = nrrd.read(str(path))
    space = header.get("space", "left-posterior-superior").lower()
    names = {"left": 1, "l": 1, "right": -1, "r": -1}
    names |= {"posterior": 1, "p": 1, "anterior": -1, "a": -1}
    first, second = space.split("-")[:2] if "-" in space else space[:2]
    signs = np.array([names[first], names[second], 1.0])
    steps = np.asarray(header["space directions"], float).T * signs[:, None]
    return Truth(np.squeeze(values).T, steps, header["space origin"] * signs)


def by_itk(path: Path) -> Truth:
    """MetaImage."""
    image = sitk.ReadImage(str(path))
    return Truth(sitk.GetArrayFromImage(image), index_to_mm(image), np.array(image.GetOrigin()))


def by_tags(folder: Path) -> Truth:
    """DICOM slices, sorted along their normal."""
    slices = [pydicom.dcmread(file) for file in folder.iterdir()]
    row, column = np.reshape(np.array(slices[0].ImageOrientationPatient, float), (2, 3))
    places = np.array([[float(mm) for mm in one.ImagePositionPatient] for one in slices])
    order = np.argsort(places @ np.cross(row, column))
    values = [
        slices[k].pixel_array * float(slices[k].RescaleSlope) + float(slices[k].RescaleIntercept)
        for k in order
    ]
    down_mm, right_mm = (float(mm) for mm in slices[0].PixelSpacing)
    along = (places[order[-1]] - places[order[0]]) / (len(slices) - 1)
    steps = np.column_stack([row * right_mm, column * down_mm, along])
    return Truth(np.array(values), steps, places[order[0]])


# --- what is made: a name for each, and how ------------------------------------------------------


def nifti(
    name: str = "ct.nii",
    dtype: str = "<i2",
    change: Callable[[Any], None] = lambda header: None,
    kind: Any = nib.Nifti1Image,
    more: bytes = b"",
    keep: float = 1.0,
) -> Make:
    """A NIfTI whose header is changed after it was made, and a part of whose bytes is kept."""

    def make(folder: Path) -> Path:
        source, path = volume(), folder / name
        affine = np.eye(4)
        affine[:3, :3] = index_to_mm(source) * LPS[:, None]
        affine[:3, 3] = np.array(source.GetOrigin()) * LPS
        values = sitk.GetArrayFromImage(source).T
        if dtype.strip("<>")[0] == "u":
            values = np.abs(values) % 200
        image = kind(values.astype(dtype), affine)
        image.header.set_data_dtype(dtype)
        header = image.header.as_byteswapped(">" if dtype.startswith(">") else "<")
        header["qform_code"] = header["sform_code"] = 1
        header["vox_offset"] = 352 if kind is nib.Nifti1Image else 544
        header["scl_slope"], header["scl_inter"] = 1, 0
        change(header)
        gap = bytes(int(352 if kind is nib.Nifti1Image else 544) - len(header.binaryblock))
        data = values.astype(header.get_data_dtype()).tobytes(order="F")
        content = header.binaryblock + gap + data + more
        content = content[: round(keep * len(content))]
        path.write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
        return path

    return make


def setting(**fields: Any) -> Callable[[Any], None]:
    """Set fields of a NIfTI header, arrays in part: `pixdim={1: -0.7}`."""

    def change(header: Any) -> None:
        for name, value in fields.items():
            if isinstance(value, dict):
                for at, part in value.items():
                    header[name][at] = part
            else:
                header[name] = value

    return change


def sheared(share: float) -> Callable[[Any], None]:
    """Lean the third axis of the sform by so much of its length; no qform."""

    def change(header: Any) -> None:
        header["qform_code"] = 0
        header["srow_x"][2] += share * 2.5

    return change


def packed(make: Make, damage: Callable[[bytes], bytes]) -> Make:
    """Damage the bytes of what was made."""

    def damaged(folder: Path) -> Path:
        path = make(folder)
        path.write_bytes(damage(path.read_bytes()))
        return path

    return damaged


def metaimage(
    name: str = "ct.mha", compressed: bool = False, of: str = ".mha", **fields: str | None
) -> Make:
    """A MetaImage with lines changed, added, or (None) left out."""

    def make(folder: Path) -> Path:
        path = folder / name
        sitk.WriteImage(volume(), str(path), compressed)
        head, mark, data = path.read_bytes().partition(b"ElementDataFile")
        for key, value in fields.items():
            line = b"" if value is None else f"{key} = {value}\n".encode()
            head, found = re.subn(rf"(?m)^{key} = .*\n".encode(), lambda _, text=line: text, head)  # type: ignore[misc]
            head += b"" if found else line
        path.write_bytes(head + mark + data)
        return path

    return make


def nearly_raw(name: str = "ct.nrrd", **fields: Any) -> Make:
    """An NRRD by pynrrd, with fields added or changed; `detached` for a data file of its own."""

    def make(folder: Path) -> Path:
        source, path = volume(), folder / name
        header = {
            "space": "left-posterior-superior", "kinds": ["domain"] * 3, "encoding": "raw",
            "space directions": index_to_mm(source).T, "space origin": source.GetOrigin(),
        } | {key.replace("_", " "): value for key, value in fields.items()}  # fmt: skip
        values = sitk.GetArrayFromImage(source).T
        nrrd.write(str(path), values, header, detached_header=name.endswith(".nhdr"))
        return path

    return make


def replaced(make: Make, old: bytes, new: bytes) -> Make:
    """Replace text in the header."""
    return packed(make, lambda content: re.sub(old, new, content, count=1))


def dicom(change: Callable[[int, Any], None] = lambda k, dataset: None, **options: Any) -> Make:
    """A folder of slices."""

    def make(folder: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, of what is wrong on purpose
            write_series(volume(), folder / "dicom", change, **options)
        return folder / "dicom"

    return make


def enhanced(order: Sequence[int], change: Any = lambda n, frame: None) -> Make:
    """A multi-frame file beside the slices that it has to agree with."""

    def make(folder: Path) -> Path:
        write_series(volume(), folder / "truth")
        return write_enhanced(volume(), folder / "dicom" / "e.dcm", order, change)

    return make


def tags(**values: Any) -> Callable[[int, Any], None]:
    """Set tags of every slice; a function gets its number."""

    def change(k: int, dataset: Any) -> None:
        for name, value in values.items():
            setattr(dataset, name, value(k) if callable(value) else value)

    return change


def frames_apart(n: int, frame: Any) -> None:
    """Move the upper frames by 1 mm along their row."""
    if n > 3:
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        frame.PlanePositionSequence[0].ImagePositionPatient = [float(place[0]) + 1, *place[1:]]


BITS = ("<u1", "<i2", "<u2", "<i4", "<f4", "<f8", ">i2", ">f4")
KINDS: dict[str, tuple[Reader, dict[str, Make]]] = {
    "NIfTI: data types and names": (
        by_nibabel,
        {
            **{dtype: nifti(dtype=dtype) for dtype in BITS},
            "gz": nifti("ct.nii.gz"), "upper case": nifti("CT.NII.GZ", "<f4"),
            "gz that is none": packed(nifti("ct.nii.gz"), gzip.decompress),
            "none that is gz": packed(nifti(), gzip.compress),
            "NIfTI-2": nifti(kind=nib.Nifti2Image),
        },
    ),
    "NIfTI: scaling": (
        by_nibabel,
        {
            f"slope {slope}, intercept {inter}": nifti(
                change=setting(scl_slope=slope, scl_inter=inter)
            )
            for slope, inter in ((0.5, 3.25), (2, -1024), (0, 5), (np.nan, 0), (-1, 0), (1, np.inf))
        },
    ),
    "NIfTI: place": (
        by_nibabel,
        {
            **{
                f"qform {q}, sform {s}": nifti(change=setting(qform_code=q, sform_code=s))
                for q in (0, 1, 2) for s in (0, 1, 4)
            },
            "forms 40 mm apart": nifti(change=setting(srow_x={3: 40.0}, sform_code=2)),
            "forms 0.4 mm apart": nifti(change=setting(qoffset_x=119.6)),
            "sform against pixdim": nifti(change=setting(pixdim={3: 5.0}, qform_code=0)),
            "qfac -1": nifti(change=setting(pixdim={0: -1.0}, sform_code=0)),
            "negative pixdim": nifti(change=setting(pixdim={1: -0.7}, sform_code=0)),
            "pixdim 0": nifti(change=setting(pixdim={3: 0.0}, sform_code=0)),
            **{f"units {u}": nifti(change=setting(xyzt_units=u)) for u in (0, 1, 3, 10, 77)},
            "0.1 degrees from square": nifti(change=sheared(0.0017)),
            "17 degrees from square": nifti(change=sheared(0.3)),
            "nan in the sform": nifti(change=setting(srow_y={1: np.nan})),
        },
    ),
    "NIfTI: lengths": (
        by_nibabel,
        {
            "cut short": nifti(keep=0.9), "surplus": nifti(more=b"more"),
            "header alone": nifti(keep=0.2), "gz cut short": nifti("ct.nii.gz", keep=0.7),
            "gz, last bytes lost": packed(nifti("ct.nii.gz"), lambda content: content[:-6]),
            "checksum": packed(nifti("ct.nii.gz"), lambda c: c[:-8] + b"0000" + c[-4:]),
            "offset absurd": nifti(change=setting(vox_offset=1e30)),
            "offset too small": nifti(change=setting(vox_offset=100)),
            "4D of one": nifti(change=setting(dim={0: 4})),
            "2D": nifti(change=setting(dim={0: 2})), "size 0": nifti(change=setting(dim={1: 0})),
        },
    ),
    "NRRD: encodings": (
        by_pynrrd,
        {
            **{e: nearly_raw(encoding=e) for e in ("raw", "gzip", "bzip2", "ascii")},
            "detached": nearly_raw("ct.nhdr"),
            "detached, gzip": nearly_raw("ct.nhdr", encoding="gzip"),
            "cut short": packed(nearly_raw(), lambda content: content[:-9]),
            "surplus": packed(nearly_raw(), lambda content: content + b"more"),
            "gzip, checksum": packed(
                nearly_raw(encoding="gzip"), lambda c: c[:-8] + b"0000" + c[-4:]
            ),
            "other byte order": replaced(nearly_raw(), b"endian: little", b"endian: big"),
        },
    ),
    "NRRD: place": (
        by_pynrrd,
        {
            **{
                space: nearly_raw(space=space)
                for space in (
                    "right-anterior-superior", "left-anterior-superior", "RAS", "scanner-xyz",
                )
            },
            "no space": replaced(nearly_raw(), b"space: [^\n]*\n", b""),
            "centre cell": nearly_raw(centerings=["cell"] * 3),
            "centre node": nearly_raw(centerings=["node"] * 3),
            **{u: nearly_raw(space_units=[u] * 3) for u in ("mm", "cm", "um", "parsec")},
            "sheared": nearly_raw(space_directions=np.diag([1, 1, 2]) + np.eye(3, k=1) * 0.3),
            "axis of length 0": nearly_raw(space_directions=np.diag([1.0, 1.0, 0.0])),
        },
    ),
    "MetaImage: storage": (
        by_itk,
        {
            "raw": metaimage(), "compressed": metaimage(compressed=True),
            "detached": metaimage("ct.mhd"), "compressed, detached": metaimage("ct.mhd", True),
            "called compressed": metaimage(CompressedData="True"),
            "called raw": metaimage(compressed=True, CompressedData="False"),
            "big-endian": metaimage(BinaryDataByteOrderMSB="True"),
            "cut short": packed(metaimage(), lambda content: content[:-9]),
            "surplus": packed(metaimage(), lambda content: content + b"more"),
            "compressed, damaged": packed(
                metaimage(compressed=True), lambda c: c[:-60] + bytes(9) + c[-51:]
            ),
            "HeaderSize -1": metaimage("ct.mhd", HeaderSize="-1"),
            "slope": metaimage(ElementToIntensityFunctionSlope="2"),
            "four channels": metaimage(ElementNumberOfChannels="4"),
        },
    ),
    "MetaImage: place": (
        by_itk,
        {
            "negative spacing": metaimage(ElementSpacing="-0.7 0.8 2.5"),
            "spacing 1e-30": metaimage(ElementSpacing="1e-30 0.8 2.5"),
            "no spacing": metaimage(ElementSpacing=None), "no origin": metaimage(Offset=None),
            "no matrix": metaimage(TransformMatrix=None),
            "scaled matrix": metaimage(TransformMatrix="2 0 0 0 2 0 0 0 2"),
            "sheared": metaimage(TransformMatrix="1 0 0 0 1 0 0.29 0 0.957"),
            "left-handed": metaimage(TransformMatrix="-1 0 0 0 1 0 0 0 1"),
            "units": metaimage(DistanceUnits="cm"), "origin nan": metaimage(Offset="nan 0 0"),
        },
    ),
    "DICOM: slices": (
        by_tags,
        {
            "as they are": dicom(), "shuffled": dicom(tags(InstanceNumber=lambda k: 7 * k % 8)),
            "own rescale": dicom(tags(RescaleSlope=lambda k: 1 + k / 8)),
            "fractional slope": dicom(tags(RescaleSlope=0.37)),
            "a slice missing": dicom(slices=(0, 1, 2, 4, 5, 6)),
            "uneven": dicom(lambda k, d: moved(d, (0, 0, 0.9 * k * k))),
            "one to the side": dicom(lambda k, d: moved(d, (20.0 * (k == 3), 0, 0))),
            "tilted": dicom(lambda k, d: moved(d, (0, 0.5 * k, 0))),
            "pixel spacing changes": dicom(tags(PixelSpacing=lambda k: [0.8, 0.7 + 0.1 * (k > 3)])),
            "no pixel spacing": dicom(tags(PixelSpacing=None)),
            "two patients": dicom(tags(PatientID=lambda k: str(k > 3))),
            "two phases": dicom(tags(AcquisitionNumber=lambda k: k % 2)),
            "nan": dicom(tags(ImageOrientationPatient=["nan", "0", "0", "0", "1", "0"])),
            "MONOCHROME1": dicom(tags(PhotometricInterpretation="MONOCHROME1")),
            "HighBit": dicom(tags(BitsStored=12, HighBit=15)),
            "another class": dicom(tags(SOPClassUID="1.2.840.10008.5.1.4.1.1.12.1")),
            "pixels cut": dicom(
                lambda k, d: setattr(d, "PixelData", d.PixelData[: -8 if k == 2 else None])
            ),
        },
    ),
    "DICOM: frames": (
        lambda path: by_tags(path.parents[1] / "truth"),
        {
            "as they are": enhanced(range(7)), "reversed": enhanced(range(7)[::-1]),
            "shuffled": enhanced((3, 0, 6, 1, 5, 2, 4)),
            "one missing": enhanced((0, 1, 2, 4, 5, 6)), "apart": enhanced(range(7), frames_apart),
        },
    ),
}  # fmt: skip
SOUND: dict[str, tuple[Reader, Make]] = {
    "fuzzed NIfTI": (by_nibabel, nifti()),
    "fuzzed NIfTI, gz": (by_nibabel, nifti("ct.nii.gz")),
    "fuzzed NRRD": (by_pynrrd, nearly_raw()),
    "fuzzed NRRD, gzip": (by_pynrrd, nearly_raw(encoding="gzip")),
    "fuzzed MetaImage": (by_itk, metaimage()),
    "fuzzed MetaImage, compressed": (by_itk, metaimage(compressed=True)),
}


def fuzzed(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip, delete, repeat or cut off bytes; the header, which is short, as often as the data."""
    at = int(rng.integers(len(content)) if rng.random() < 0.5 else rng.integers(352))
    some = int(rng.integers(1, 5))
    match rng.integers(4):
        case 0:
            return content[:at] + rng.bytes(some) + content[at + some :]
        case 1:
            return content[:at] + content[at + some :]
        case 2:
            return content[:at] + content[at : at + some] + content[at:]
        case _:
            return content[:at]


def judge(path: Path, reader: Reader) -> tuple[str, str]:
    """The word for how a file is read, and what was said."""
    try:
        reading = read_with_warnings(path)
    except LandmarkDirError as error:
        names_it = str(path) in str(error) or str(path.parent) in str(error)
        listed = "choose one" in str(error)  # the one message of several lines
        one = "\n" not in str(error) or listed
        return ("refused" if names_it and one else "traceback"), str(error)
    except Exception as error:
        return "traceback", repr(error)
    said = "; ".join(reading.warnings)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            truth = reader(path)
    except Exception as error:  # such readers raise anything
        return ("warned" if said else "wrong"), said or f"another reader: {error!r}"
    if said:
        return "warned", said
    return ("right", "") if agrees(reading.image, truth) else ("wrong", "another answer")


def agrees(image: sitk.Image, truth: Truth) -> bool:
    """Tell whether every voxel and its place are those of another reader."""
    values = sitk.GetArrayFromImage(image)
    if values.shape != truth.values.shape:
        return False
    far = np.array(image.GetSize()) - 1
    steps, origin = index_to_mm(image), np.array(image.GetOrigin())
    corners = np.array(list(np.ndindex(2, 2, 2))) * far
    apart = corners @ (steps - truth.steps).T + origin - truth.origin
    same = np.allclose(values, truth.values.astype(float), rtol=1e-6, atol=HU)
    return same and bool(np.abs(apart).max() < SILENT_MM)


def tried(fuzz: int, seed: int) -> Iterator[tuple[str, str, str, str]]:
    """Kind, what was made, the word, what was said."""
    for kind, (reader, makes) in KINDS.items():
        for name, make in makes.items():
            with tempfile.TemporaryDirectory() as folder:
                yield kind, name, *judge(make(Path(folder)), reader)
    rng = np.random.default_rng(seed)
    for kind, (reader, make) in SOUND.items():
        with tempfile.TemporaryDirectory() as folder:
            path = make(Path(folder))
            content, sound = path.read_bytes(), reader(path)
            for number in range(fuzz):
                path.write_bytes(fuzzed(content, rng))
                word, said = judge(path, reader)
                if word == "wrong" and agrees(read_with_warnings(path).image, sound):
                    word = "right"
                yield kind, str(number), word, said


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and each file that was read wrongly or ended in a traceback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fuzz", type=int, default=200, help="damaged files of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="say what became of each made file")
    args = parser.parse_args(arguments)
    counts: dict[str, Counter[str]] = {}
    bad = []
    for kind, name, word, said in tried(args.fuzz, args.seed):
        counts.setdefault(kind, Counter())[word] += 1
        if word in WORDS[3:] or (args.all and not kind.startswith("fuzzed")):
            bad.append(f"{kind}, {name}: {word}. {said}")
    rows = [
        [kind, str(sum(count.values())), *(str(count[word]) for word in WORDS)]
        for kind, count in counts.items()
    ]
    total = sum(counts.values(), Counter[str]())
    rows.append(["all", str(sum(total.values())), *(str(total[word]) for word in WORDS)])
    print(markdown(["kind", "tried", *WORDS], rows))
    print("\n".join(["", *bad]))


if __name__ == "__main__":
    main()
