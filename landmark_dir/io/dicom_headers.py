"""Headers of the DICOM series behind an image, and new DICOM objects that belong to its exam.

Parts of PS3.3 of the DICOM standard are named as C.7.1.1 and the like.
"""

from collections.abc import Iterable
from copy import deepcopy
from datetime import datetime, tzinfo
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import Points, grid_corners
from landmark_dir.io.dicom import Series, stack_of
from landmark_dir.io.dicom_files import as_text, quiet, read_header
from landmark_dir.io.dicom_planes import Plane
from landmark_dir.io.dicom_stack import Stack
from landmark_dir.io.outputs import output_place, replacing

MANUFACTURER = MODEL = "landmark_dir"
SERIES_NUMBER = 9000  # high, so that lists have what is derived last
NO_SERIAL_NUMBER = "none"  # C.7.5.2 asks for one, and software has none
# of the patient (C.7.1.1) and the study (C.7.2.1): those that every object has, if empty, ...
REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
# ... and those that it has if the source has them; of C.7.2.2 (the patient at the study) and
# C.7.3.1 (the part of the body), too
IF_THERE = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthTime",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "QualityControlSubject",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    "PhysiciansOfRecord",
    "ReferencedStudySequence",
    "ProcedureCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "BodyPartExamined",
    "Laterality",
)


class SourceSeries(NamedTuple):
    """The DICOM series that an image was read from, without its pixels.

    Attributes
    ----------
    series : Series
        As found on disk.
    headers : tuple of Dataset
        One for each file, in the order of the slices.
    stack : Stack
        Its planes in order, and the grid of the image.
    """

    series: Series
    headers: tuple[Dataset, ...]
    stack: Stack

    @property
    def frame_of_reference(self) -> str:
        """FrameOfReferenceUID."""
        return as_text(self.headers[0].FrameOfReferenceUID)

    @property
    def study(self) -> str:
        """StudyInstanceUID."""
        return as_text(self.headers[0].StudyInstanceUID)

    @property
    def corners(self) -> Points:
        """Physical centres of the eight corner voxels of the grid, shape (8, 3), LPS mm."""
        grid = self.stack
        return grid_corners(grid.size_xyz, grid.spacing_mm, grid.origin, grid.direction)

    def references(self, planes: Iterable[Plane] | None = None) -> list[Dataset]:
        """Items that refer to the images of some planes, of all if none are given: table 10-3.

        Where a file holds frames that are not among them, its item says which are.
        """
        headers = dict(zip(self.files, self.headers, strict=True))
        frames: dict[Path, list[int]] = {}
        for plane in self.stack.planes if planes is None else planes:
            frames.setdefault(plane.file, []).append(plane.frame + 1)
        items = []
        for file, numbers in frames.items():
            items.append(reference(headers[file]))
            if len(numbers) < int(headers[file].get("NumberOfFrames") or 1):
                items[-1].ReferencedFrameNumber = sorted(numbers)
        return items

    @property
    def files(self) -> list[Path]:
        """The files, in the order of the slices."""
        return list(dict.fromkeys(plane.file for plane in self.stack.planes))


def read_source(series: Series, name: str, acquisition: int | None = None) -> SourceSeries:
    """Read the headers of a series in the order of its slices.

    Parameters
    ----------
    series : Series
        As `landmark_dir.io.dicom.choose_series` finds it.
    name : str
        For messages.
    acquisition : int, optional
        Which acquisition in it, from 1; needed if there are several.

    Raises
    ------
    BadVolume
        If the series cannot be read as a volume, or lacks a UID that tells where it belongs.
    """
    made = stack_of(series, name, acquisition)
    files = dict.fromkeys(plane.file for plane in made.planes)
    headers = tuple(read_header(file) for file in files)
    for keyword in (
        "SOPClassUID",
        "SOPInstanceUID",
        "SeriesInstanceUID",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
    ):
        if not all(as_text(header.get(keyword)) for header in headers):
            raise BadVolume(
                f"{name}: no {keyword}, without which no DICOM object can refer to it; export the "
                "series again"
            )
    return SourceSeries(series, headers, made)


def new_object(source: Dataset, sop_class: str, modality: str, description: str) -> Dataset:
    """Begin a DICOM object of the patient and the study of `source`, in a series of its own.

    It has what C.7.1.1, C.7.2.1, C.7.3.1, C.7.5.1, C.7.5.2 and C.12.1 ask for, the date and time of
    now in the time zone of the source, new UIDs and nothing private.

    Parameters
    ----------
    source : Dataset
        Header of an image of the exam.
    sop_class : str
        UID of what is made.
    modality : str
        Such as CT, REG, SEG.
    description : str
        SeriesDescription, 64 characters at most.
    """
    made = Dataset()
    with quiet():  # of values of the source that break a rule of form: they are copied as they are
        for keyword in IF_THERE:
            if keyword in source:
                made[keyword] = deepcopy(source[keyword])
        for keyword in REQUIRED:
            if keyword in source:
                made[keyword] = deepcopy(source[keyword])
            else:
                setattr(made, keyword, "")
        made.remove_private_tags()  # in sequences, too
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = UID(sop_class)
    set_instance(made)
    made.Modality = modality
    made.SeriesInstanceUID = generate_uid(prefix=None)
    made.SeriesNumber = SERIES_NUMBER
    made.SeriesDescription = description
    if "BodyPartExamined" not in made and "Laterality" not in made:
        made.Laterality = ""  # unknown
    made.Manufacturer, made.ManufacturerModelName = MANUFACTURER, MODEL
    made.DeviceSerialNumber, made.SoftwareVersions = NO_SERIAL_NUMBER, version("landmark_dir")
    now = datetime.now(_zone(as_text(source.get("TimezoneOffsetFromUTC"))))
    for what in ("InstanceCreation", "Series", "Content"):
        setattr(made, f"{what}Date", now.strftime("%Y%m%d"))
        setattr(made, f"{what}Time", now.strftime("%H%M%S"))
    return made


def set_instance(made: Dataset) -> None:
    """Make an object, or a copy of one, an instance of its own."""
    made.SOPInstanceUID = generate_uid(prefix=None)  # from a UUID: PS3.5 B.2
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID


def _zone(offset: str) -> tzinfo | None:
    """The time zone of a TimezoneOffsetFromUTC such as -0530; None, that of this machine."""
    try:
        return datetime.strptime(offset, "%z").tzinfo
    except ValueError:
        return None


def set_frame_of_reference(made: Dataset, source: Dataset) -> None:
    """Put an object into the frame of reference of `source`: C.7.4.1."""
    made.FrameOfReferenceUID = source.FrameOfReferenceUID
    made.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")


def code(value: str, meaning: str) -> Dataset:
    """An item with a code of DICOM's own: table 8.8-1."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def decimals(values: Iterable[float]) -> list[str]:
    """Numbers as DICOM's decimal strings, of 16 characters at most: 13 digits or so."""
    return [format_number_as_ds(float(value)) for value in values]


def reference(header: Dataset) -> Dataset:
    """An item that refers to an object: table 10-11."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item


def refer_to(made: Dataset, sources: Iterable[SourceSeries]) -> None:
    """List the series that an object refers to: C.12.2, by study and series."""
    other_studies: dict[str, list[Dataset]] = {}
    for source in {one.series.id: one for one in sources}.values():
        item = Dataset()
        item.SeriesInstanceUID = source.headers[0].SeriesInstanceUID
        item.ReferencedInstanceSequence = [reference(header) for header in source.headers]
        other_studies.setdefault(source.headers[0].StudyInstanceUID, []).append(item)
    if own := other_studies.pop(made.StudyInstanceUID, None):
        made.ReferencedSeriesSequence = own
    others = []
    for study, items in other_studies.items():
        item = Dataset()
        item.StudyInstanceUID = study
        item.ReferencedSeriesSequence = items
        others.append(item)
    if others:
        made.StudiesContainingOtherReferencedInstancesSequence = others


def write_object(made: Dataset, out: Path) -> None:
    """Write a DICOM file whole, or not at all.

    Raises
    ------
    BadArgument, BadRunFolder
        If nothing can be written there.
    """
    with replacing(output_place(out)) as file:
        save(made, file)


def save(made: Dataset, file: Path) -> None:
    """Write a DICOM file, with what the source said copied as it was."""
    with quiet():
        made.save_as(file, enforce_file_format=True)
