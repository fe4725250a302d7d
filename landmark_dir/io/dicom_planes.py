"""DICOM headers as planes: one entry for each slice, in a file of its own or a frame of many.

Everything that decides where a voxel lies and what its number means is taken from the tags here,
by pydicom, and refused here if a tag is missing or cannot be right.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
)

from landmark_dir.errors import BadVolume
from landmark_dir.io.dicom_files import (
    EXPORT_AGAIN,
    as_text,
    check_pixels,
    check_pixels_follow,
    quiet,
    read_header,
    transfer_syntax,
)

CHANGES_NOTHING = 1e-3  # how far row and column may be from unit length and a right angle

# the functional group of a multi-frame file that holds a tag
GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
}

# what tells one acquisition, phase or reconstruction from another
ACQUISITION = (
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "ContrastBolusAgent",
    "ContrastBolusStartTime",
    "NominalPercentageOfCardiacPhase",
    "NominalPercentageOfRespiratoryPhase",
    "TriggerTime",
    "KVP",
    "FilterType",
    "ConvolutionKernel",
    "ReconstructionAlgorithm",
    "ReconstructionDiameter",
    "SliceThickness",
    "ImageType",
    "FrameType",
    "StackID",
    "ScanOptions",
    "AcquisitionType",
    "ProtocolName",
    "SeriesNumber",
    "SeriesDescription",
    "PatientPosition",
    "ImageComments",
    "FrameComments",
    "IrradiationEventUID",
    "AcquisitionUID",
    "StudyInstanceUID",
)
NOT_IN_HU = ("MR", "NM", "PT")  # modalities whose numbers nobody takes for HU
CT = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
TIMES = ("FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime")

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

Vector = NDArray[np.float64]


class Plane(NamedTuple):
    """One slice: where it lies and what its numbers mean.

    Attributes
    ----------
    frame : int
        Its place in the file, from 0.
    position : ndarray, shape (3,)
        Centre of the first voxel, LPS mm.
    orientation : ndarray, shape (6,)
        The directions of a row and of a column, LPS, as the file has them.
    spacing_mm : ndarray, shape (2,)
        Along a row (x), along a column (y).
    slope, intercept : float
        HU = slope * stored + intercept.
    rescaled : bool
        False if the file says nothing of slope and intercept.
    acquisition : dict
        Which of `ACQUISITION` the file states.
    time, content_time : str
        When it was acquired and when it was written, as in the file; may be empty.
    number : int, optional
        InstanceNumber; None for a frame of many.
    patient : tuple of str
        Tells who it is: nothing that is written may hold it.
    remarks : tuple of str
        What a person should know of how it is read.
    """

    file: Path
    frame: int
    position: Vector
    orientation: Vector
    spacing_mm: Vector
    rows: int
    columns: int
    slope: float
    intercept: float
    rescaled: bool
    acquisition: dict[str, str]
    time: str
    content_time: str
    number: int | None
    patient: tuple[str, ...]
    frame_of_reference: str
    concatenation: tuple[str, int]  # its UID, and of how many files it consists
    remarks: tuple[str, ...]


def read_planes(file: Path) -> list[Plane]:
    """Return all slices of a DICOM file, in the order of the file.

    Raises
    ------
    BadVolume
        If the header is damaged, or does not say where a slice lies or what its numbers mean.
    """
    header = read_header(file)
    try:
        with quiet():
            check_pixels_follow(file)
            check_pixels(header, file)
            count = int(header.get("NumberOfFrames") or 1)
            _check_frames(header, count, file)
            return [_plane(header, frame, count, file) for frame in range(count)]
    except BadVolume:
        raise
    except Exception as error:  # pydicom raises nearly anything on damaged data
        raise BadVolume(f"{file}: its DICOM header is damaged ({error}); {EXPORT_AGAIN}") from error


def _check_frames(header: Dataset, count: int, file: Path) -> None:
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if count < 1 or (groups is not None and len(groups) != count):
        described = "" if groups is None else f", {len(groups)} of them described"
        raise BadVolume(f"{file}: NumberOfFrames is {count}{described}; {EXPORT_AGAIN}")


def _plane(header: Dataset, frame: int, count: int, file: Path) -> Plane:
    groups = _functional_groups(header, frame)
    name = str(file) if count == 1 else f"{file} frame {frame + 1}"
    orientation = _orientation(_tag(header, groups, "ImageOrientationPatient"), name)
    slope, intercept, rescaled = _rescale(header, groups, name)
    spacing_mm = _numbers(_tag(header, groups, "PixelSpacing"), 2, "PixelSpacing", name)
    if spacing_mm.min() <= 0:
        raise BadVolume(f"{name}: PixelSpacing is {spacing_mm.tolist()} mm; {EXPORT_AGAIN}")
    everywhere = [item for group in groups for item in _items(group)] + [header]
    number = header.get("InstanceNumber")
    return Plane(
        file=file,
        frame=frame,
        position=_position(header, groups, frame, count, orientation, name),
        orientation=orientation,
        spacing_mm=spacing_mm[::-1],  # the tag has the distance of rows first
        rows=int(header.Rows),
        columns=int(header.Columns),
        slope=slope,
        intercept=intercept,
        rescaled=rescaled,
        acquisition=_acquisition(everywhere),
        time=_time(everywhere),
        content_time=as_text(header.get("ContentTime")) if count == 1 else "",
        number=int(number) if count == 1 and number is not None else None,
        patient=_patient(header),
        frame_of_reference=as_text(header.get("FrameOfReferenceUID")),
        concatenation=(
            as_text(header.get("ConcatenationUID")),
            int(header.get("InConcatenationTotalNumber") or 0),
        ),
        remarks=_remarks(header, groups, rescaled),
    )


def _functional_groups(header: Dataset, frame: int) -> list[Dataset]:
    """What a multi-frame file says of one frame, and of all frames; none for a plain file."""
    own = header.get("PerFrameFunctionalGroupsSequence")
    shared = header.get("SharedFunctionalGroupsSequence")
    return ([own[frame]] if own else []) + ([shared[0]] if shared else [])


def _items(group: Dataset) -> list[Dataset]:
    return [item for element in group if element.VR == "SQ" for item in element.value[:1]]


def _anywhere(places: list[Dataset], keyword: str) -> Any:
    found = (place.get(keyword) for place in places if keyword in place)
    return next((value for value in found if value not in (None, "")), None)


def _tag(header: Dataset, groups: list[Dataset], keyword: str) -> Any:
    """Value of a tag: of the frame, else of all frames, else of the file; None if missing."""
    for group in groups:
        for item in group.get(GROUPS[keyword]) or []:
            if item.get(keyword) is not None:
                return item.get(keyword)
    return header.get(keyword)


def _numbers(value: Any, count: int, keyword: str, name: str) -> Vector:
    if value is None or value == "":
        raise BadVolume(
            f"{name}: no {keyword}, expected {count} numbers; {EXPORT_AGAIN} with its geometry"
        )
    words = as_text(value).split("\\")
    plain = all(NUMBER.fullmatch(word) for word in words)  # float() takes 1_000 and nan, too
    numbers = np.array([float(word) for word in words if plain])
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise BadVolume(
            f"{name}: {keyword} is {' '.join(words)!r}, expected {count} numbers; {EXPORT_AGAIN}"
        )
    return numbers


def _orientation(value: Any, name: str) -> Vector:
    numbers = _numbers(value, 6, "ImageOrientationPatient", name)
    row, column = numbers[:3], numbers[3:]
    off = [row @ row - 1, column @ column - 1, row @ column]
    if max(map(abs, off)) > CHANGES_NOTHING:
        raise BadVolume(
            f"{name}: ImageOrientationPatient is {numbers.tolist()}, expected two directions of"
            f" length 1 at a right angle; {EXPORT_AGAIN}"
        )
    return numbers


def _position(
    header: Dataset, groups: list[Dataset], frame: int, count: int, orientation: Vector, name: str
) -> Vector:
    """Where the first voxel of a frame is, LPS mm."""
    keyword = "ImagePositionPatient"
    own = _tag(Dataset(), groups, keyword)
    if own is not None or count == 1:
        return _numbers(_tag(header, groups, keyword), 3, keyword, name)
    normal = np.cross(orientation[:3], orientation[3:])
    offsets = header.get("GridFrameOffsetVector")
    if offsets is None or len(offsets) != count:
        raise BadVolume(
            f"{name}: the file holds {count} frames and does not say where each lies"
            " (no ImagePositionPatient of a frame); export the series as enhanced CT or as one"
            " file a slice"
        )
    offsets_mm = _numbers(offsets, count, "GridFrameOffsetVector", name)
    if offsets_mm[0] != 0 or normal[2] < 1 - CHANGES_NOTHING:
        raise BadVolume(
            f"{name}: GridFrameOffsetVector starts at {offsets_mm[0]:g} mm, the normal is"
            f" {np.round(normal, 3).tolist()}, expected 0 and slices along z; export the series"
            " as one file a slice"
        )
    first = _numbers(header.get(keyword), 3, keyword, name)
    return np.asarray(first + offsets_mm[frame] * normal)


def _rescale(header: Dataset, groups: list[Dataset], name: str) -> tuple[float, float, bool]:
    slope, intercept = (
        _tag(header, groups, keyword) for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    if slope is None and intercept is None:
        if header.get("SOPClassUID") in CT:
            raise BadVolume(
                f"{name}: no RescaleSlope and RescaleIntercept, which a CT has to state, so no HU"
                f" can be known; {EXPORT_AGAIN}"
            )
        return 1.0, 0.0, False
    found = [
        float(_numbers(value, 1, keyword, name)[0])
        for value, keyword in ((slope, "RescaleSlope"), (intercept, "RescaleIntercept"))
    ]
    if found[0] == 0:
        raise BadVolume(f"{name}: RescaleSlope is 0, so no HU can be known; {EXPORT_AGAIN}")
    return found[0], found[1], True


def _acquisition(places: list[Dataset]) -> dict[str, str]:
    said = {key: text for key in ACQUISITION if (text := as_text(_anywhere(places, key)))}
    indices = _anywhere(places, "DimensionIndexValues")
    words = as_text(indices).split("\\") if indices is not None else []
    return said | {f"dimension {n}": word for n, word in enumerate(words, 1)}


def _time(places: list[Dataset]) -> str:
    """When a plane was acquired: digits that sort; empty if the file does not say."""
    keyword = next((key for key in TIMES if _anywhere(places, key)), None)
    if keyword is None:
        return ""
    time = as_text(_anywhere(places, keyword))
    date = as_text(_anywhere(places, "AcquisitionDate")) if keyword == "AcquisitionTime" else ""
    return date + time


def _patient(header: Dataset) -> tuple[str, ...]:
    """Return id, birth date and name, as far as two spellings of one name allow."""
    name = as_text(header.get("PatientName")).replace("^", " ").casefold()
    return (
        as_text(header.get("PatientID")),
        as_text(header.get("PatientBirthDate")),
        " ".join(name.split()),
    )


def _remarks(header: Dataset, groups: list[Dataset], rescaled: bool) -> tuple[str, ...]:
    said = []
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        said.append(
            "DICOM says MONOCHROME1 (bright is low): HU are taken by slope and intercept, not"
            " inverted; look at the picture"
        )
    kind = as_text(_tag(header, groups, "RescaleType"))
    in_hu = as_text(header.get("Modality")) not in NOT_IN_HU
    if in_hu and not rescaled:
        said.append(
            "DICOM does not state RescaleSlope and RescaleIntercept: stored numbers are taken as HU"
        )
    elif in_hu and kind not in ("", "HU", "US"):  # US: unspecified
        said.append(f"DICOM states the unit {kind!r} (RescaleType), not HU: taken as HU")
    if header.get("LossyImageCompression") == "01" or transfer_syntax(header) in LOSSY:
        said.append("the DICOM images were compressed with loss: HU may be off")
    return tuple(said)
