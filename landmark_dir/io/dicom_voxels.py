"""Voxels of DICOM planes in HU, decoded one by one; short or damaged data is refused."""

from itertools import groupby
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import get_j2k_parameters

from landmark_dir.errors import BadVolume
from landmark_dir.io.dicom_files import quiet, read_whole, transfer_syntax
from landmark_dir.io.dicom_planes import Plane
from landmark_dir.io.outputs import locked_folder

END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
BY_PYDICOM = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.RLELossless,
)
BY_GDCM = (
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
)
JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000)
WHOLE = 2**24  # larger factors are no longer whole HU, and could overflow
OVERLAYS = range(0x6000, 0x6020, 2)  # groups that may hide in the unused bits

Whole = NDArray[np.int64]


def read_voxels(planes: list[Plane]) -> NDArray[np.int16] | NDArray[np.int32] | NDArray[np.float32]:
    """Return the voxels [z, y, x] of `planes` in HU: int16 where they fit, else int32 or float32.

    Raises
    ------
    BadVolume
        If a file holds less or more pixel data than its tags say, or cannot be decoded.
    """
    found: dict[int, NDArray[Any]] = {}
    order = sorted(range(len(planes)), key=lambda k: (str(planes[k].file), planes[k].frame))
    for file, members in groupby(order, key=lambda k: planes[k].file):
        dataset = read_whole(file)
        for k in members:
            found[k] = _smallest(rescaled(_stored(dataset, planes[k]), planes[k]))
    kinds = {values.dtype for values in found.values()}
    fractions = any(np.issubdtype(kind, np.floating) for kind in kinds)
    kind = np.float32 if fractions else np.result_type(*kinds)
    return np.stack([found.pop(k).astype(kind, copy=False) for k in range(len(planes))])


def rescaled(stored: Whole, plane: Plane) -> NDArray[np.int64] | NDArray[np.float64]:
    """HU of stored numbers; whole if slope and intercept are."""
    factors = plane.slope, plane.intercept
    if all(factor.is_integer() and abs(factor) <= WHOLE for factor in factors):
        return stored * int(plane.slope) + int(plane.intercept)
    return np.asarray(stored * plane.slope + plane.intercept, np.float64)


def _smallest(hu: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[Any]:
    if np.issubdtype(hu.dtype, np.floating):
        return hu.astype(np.float32)
    for kind in (np.int16, np.int32):
        limits = np.iinfo(kind)
        if limits.min <= hu.min() and hu.max() <= limits.max:
            return hu.astype(kind)
    return hu.astype(np.float32)


def _stored(dataset: Dataset, plane: Plane) -> Whole:
    """Return the stored numbers of one plane, [y, x]."""
    try:
        with quiet():
            words = _decoded(dataset, plane)
            return _used_bits(words, dataset, str(plane.file))
    except BadVolume:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged data
        raise BadVolume(
            f"{plane.file}: pixel data cut short or damaged ({error}); copy it again"
        ) from error


def _decoded(dataset: Dataset, plane: Plane) -> NDArray[Any]:
    """Return the words in which the numbers are stored, [y, x]."""
    if not dataset.get("PixelData"):
        raise BadVolume(f"{plane.file}: no pixel data, cut short or damaged; copy it again")
    syntax = transfer_syntax(dataset)
    if syntax in BY_PYDICOM:
        words = _by_pydicom(dataset, plane, syntax)
    elif syntax in BY_GDCM:
        words = _by_gdcm(dataset, plane, syntax)
    else:
        raise BadVolume(
            f"{plane.file}: compressed as {syntax.name}, which cannot be read here; decompress"
            " it, say with 'gdcmconv --raw'"
        )
    if words.shape != (plane.rows, plane.columns):
        raise BadVolume(
            f"{plane.file}: {words.shape} voxels decoded, expected {(plane.rows, plane.columns)}"
            "; copy it again"
        )
    return words


def _by_pydicom(dataset: Dataset, plane: Plane, syntax: uid.UID) -> NDArray[Any]:
    if not syntax.is_encapsulated:
        _check_length(dataset, plane)
    options: dict[str, Any] = {"raw": True, "correct_unused_bits": False}
    if syntax.is_encapsulated:  # not by what else happens to be installed
        options["decoding_plugin"] = "pydicom"
    return get_decoder(syntax).as_array(dataset, index=plane.frame, **options)[0]


def _check_length(dataset: Dataset, plane: Plane) -> None:
    """Refuse less pixels than the tags say, and more: then the tags may be wrong."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    expected = frames * plane.rows * plane.columns * int(dataset.BitsAllocated) // 8
    found = len(dataset.PixelData)
    if found not in (expected, expected + expected % 2):
        raise BadVolume(
            f"{plane.file}: {found} bytes of pixel data, expected {expected}"
            " (Rows, Columns, BitsAllocated); copy or export it again"
        )


def _used_bits(words: NDArray[Any], dataset: Dataset, name: str) -> Whole:
    """Return the numbers in the bits that count; refuse others that are set without a reason."""
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    signed = dataset.PixelRepresentation == 1
    raw = words.astype(np.int64) & ((1 << allocated) - 1)
    value = raw & ((1 << stored) - 1)
    if signed:
        value -= (value >> (stored - 1)) << stored
    plain = (raw >> stored == 0) | (signed & (value & ((1 << allocated) - 1) == raw))
    if not plain.all() and not any((group, 0x0102) in dataset for group in OVERLAYS):
        raise BadVolume(
            f"{name}: voxels with more than the {stored} bits that BitsStored tells, so their"
            " numbers cannot be known; export the series again"
        )
    return np.asarray(value)


def _by_gdcm(dataset: Dataset, plane: Plane, syntax: uid.UID) -> NDArray[Any]:
    """Decode one frame by the GDCM in SimpleITK, given nothing but the pixels and their format."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    stream = get_frame(dataset.PixelData, plane.frame, number_of_frames=frames)
    if END_OF_IMAGE not in stream[-4:]:  # a byte or more may pad it
        raise BadVolume(f"{plane.file}: a compressed image that ends early; copy it again")
    if syntax in JPEG_2000:
        _check_j2k(stream, dataset, plane)
    with locked_folder(Path(gettempdir())) as folder:
        file = folder / "frame.dcm"
        _write_frame(dataset, plane, stream, syntax, file)
        image = sitk.ReadImage(str(file), imageIO="GDCMImageIO")
    values: NDArray[Any] = sitk.GetArrayFromImage(image)
    return values[0] if values.ndim == 3 and len(values) == 1 else values


def _check_j2k(stream: bytes, dataset: Dataset, plane: Plane) -> None:
    inside = get_j2k_parameters(stream)
    found = inside.get("precision"), inside.get("is_signed")
    expected = int(dataset.BitsStored), dataset.PixelRepresentation == 1
    if found != expected:
        raise BadVolume(
            f"{plane.file}: JPEG 2000 data of {found[0]} bits, signed: {found[1]}, but the tags say"
            f" {expected[0]} bits, signed: {expected[1]}; export the series again"
        )


def _write_frame(
    dataset: Dataset, plane: Plane, stream: bytes, syntax: uid.UID, file: Path
) -> None:
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = uid.CTImageStorage
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = uid.generate_uid()
    one.Modality = "CT"
    one.Rows, one.Columns = plane.rows, plane.columns
    one.SamplesPerPixel = 1
    one.PhotometricInterpretation = "MONOCHROME2"  # GDCM would turn over the other
    for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        if keyword in dataset:
            one[keyword] = dataset[keyword]
    one.HighBit = int(one.BitsStored) - 1
    one.RescaleSlope, one.RescaleIntercept = 1, 0
    one.PixelData = pydicom.encaps.encapsulate([stream])
    one["PixelData"].is_undefined_length = True
    one.save_as(file, enforce_file_format=True)
