"""DICOM files: told by their content, read by pydicom, and whether their pixels can be known."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from landmark_dir.errors import BadVolume

MAGIC = b"DICM"
MAGIC_AT = 128  # bytes; what is before is free to be anything
EXPORT_AGAIN = "export the series again"
BLANKS = " \0\t\r\n"  # what pads a text


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what pydicom says of values that break a rule of form; what counts is checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_dicom(path: Path) -> bool:
    """Tell by its content whether a file is DICOM, with or without the preamble."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(MAGIC_AT + len(MAGIC))
    except OSError:
        return False
    return head[MAGIC_AT:] == MAGIC or _starts_with_element(head)


def _starts_with_element(head: bytes) -> bool:
    """Tell whether a file begins with an element of group 2 or 8, of little endian order."""
    if len(head) < MAGIC_AT or head[1] or head[0] not in (2, 8) or head[3]:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or int.from_bytes(head[4:8], "little") <= MAGIC_AT


def read_header(file: Path, tags: Sequence[str] | None = None) -> Dataset:
    """Read all of a DICOM file but its pixels, or certain tags only.

    Raises
    ------
    BadVolume
        If it is damaged.
    """
    return _read(file, stop_before_pixels=True, specific_tags=None if tags is None else list(tags))


def read_whole(file: Path) -> Dataset:
    """Read a DICOM file with its pixels; raises `BadVolume` if it is damaged."""
    return _read(file)


def _read(file: Path, **options: Any) -> Dataset:
    try:
        with quiet(), file.open("rb") as opened:
            return pydicom.dcmread(opened, force=True, **options)
    except Exception as error:  # pydicom raises nearly anything on damaged data
        raise BadVolume(
            f"{file}: cut short or damaged, not a whole DICOM file ({error}); copy it again"
        ) from error


def as_text(value: Any) -> str:
    """Return the value of a tag as DICOM writes it, several with backslashes; "" if it has none."""
    if value is None:
        return ""
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    parts = value if several else [value]  # a name can be iterated over, too, by its letters
    return "\\".join(str(part).strip(BLANKS) for part in parts)


def check_pixels_follow(file: Path) -> None:
    """Refuse a file that ends with its header."""
    with file.open("rb") as opened:
        header = pydicom.dcmread(
            opened, force=True, stop_before_pixels=True, specific_tags=["Rows"]
        )
        deflated = transfer_syntax(header).is_deflated  # read whole, and whole or not at all
        if not deflated and not opened.read(1):
            raise BadVolume(f"{file}: cut short or damaged, it has no pixel data; copy it again")


def transfer_syntax(dataset: Dataset) -> UID:
    """How the pixels are stored; from the way of the tags where the file does not say."""
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and "TransferSyntaxUID" in meta:
        return UID(meta.TransferSyntaxUID)
    implicit, little = dataset.original_encoding
    if not little:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def check_pixels(header: Dataset, file: Path) -> None:
    """Refuse pixels that are not plain whole numbers, or of which the header says too little."""
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation"):
        if header.get(keyword) is None:
            raise BadVolume(
                f"{file}: no {keyword}, so its voxels cannot be known; cut short? {EXPORT_AGAIN}"
            )
    kind = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    samples = int(header.get("SamplesPerPixel") or 1)
    if samples != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadVolume(f"{file}: {kind}, {samples} numbers a voxel, expected one grey value")
    if "ModalityLUTSequence" in header:
        raise BadVolume(
            f"{file}: a table (Modality LUT) instead of slope and intercept, which is not read"
            "; export it with RescaleSlope and RescaleIntercept"
        )
    if "DoseGridScaling" in header:
        raise BadVolume(f"{file}: a dose grid, expected a CT")
    _check_bits(header, file)


def _check_bits(header: Dataset, file: Path) -> None:
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    high = int(header.get("HighBit", stored - 1))
    if allocated not in (8, 16, 32) or not 1 < stored <= allocated or high != stored - 1:
        raise BadVolume(
            f"{file}: {stored} bits stored in {allocated} with bit {high} the highest, expected 8"
            f", 16 or 32 bits and HighBit one less than BitsStored; {EXPORT_AGAIN}"
        )
    if header.PixelRepresentation not in (0, 1):
        raise BadVolume(
            f"{file}: PixelRepresentation is {header.PixelRepresentation}, expected 0 or 1"
            f"; {EXPORT_AGAIN}"
        )
