"""Which DICOM series lie in files and folders, and what of them is damaged or missing."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import UID

from landmark_dir.errors import BadVolume
from landmark_dir.io.dicom_files import as_text, is_dicom, quiet, read_header

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
NO_ID = "(no ID)"
DIRECTORY = "1.2.840.10008.1.3.10"  # the class of a DICOMDIR
STANDARD = "1.2.840.10008."  # ids that the standard gives; others are private


class Header(NamedTuple):
    """What a file says of itself, by DICOM keyword; empty where it says nothing.

    PatientID, PatientName and PatientBirthDate tell who it is: nothing that is written may hold
    them.
    """

    SOPClassUID: str
    SOPInstanceUID: str
    Modality: str
    ImageType: str
    NumberOfFrames: str
    SeriesInstanceUID: str
    SeriesDescription: str
    BodyPartExamined: str
    ConvolutionKernel: str
    StudyInstanceUID: str
    StudyDate: str
    StudyTime: str
    AcquisitionDate: str
    SeriesDate: str
    PatientID: str
    PatientName: str
    PatientBirthDate: str
    ImagePositionPatient: str

    @property
    def frames(self) -> int:
        """Slices in the file: more than one where it holds many frames."""
        return int(self.NumberOfFrames) if self.NumberOfFrames.isdigit() else 1


TAGS = (*Header._fields, "Rows", "DirectoryRecordSequence")


class Series(NamedTuple):
    """A DICOM series as found on disk.

    Attributes
    ----------
    patient_id : str
        Tells who it is: nothing that is written may hold it.
    slices : int
        Files, or frames where a file holds many.
    damaged : tuple of str
        Why files beside those of the series, which may belong to it, cannot be read.
    others : tuple of str
        Names of files beside those of the series that look like them and are not DICOM.
    headers : tuple of Header
        One for each of `files`.
    acquisition : int, optional
        Which of several acquisitions in it was read, from 1.
    """

    id: str
    description: str
    modality: str
    patient_id: str
    files: list[str]
    study_id: str = ""
    study_date: str = ""
    slices: int = 0
    damaged: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    headers: tuple[Header, ...] = ()
    acquisition: int | None = None


class Folder(NamedTuple):
    """What lies in one folder.

    Attributes
    ----------
    images : dict
        Headers of images.
    damaged : tuple of str
        Why other DICOM files cannot be read.
    others : tuple of Path
        Files that are not DICOM.
    missing : dict
        Series ID -> a file of it that a DICOMDIR here lists and that is not there.
    """

    images: dict[Path, Header]
    damaged: tuple[str, ...]
    others: tuple[Path, ...]
    missing: dict[str, str]


def find_series(folders: Iterable[Path]) -> list[Series]:
    """All DICOM series in these folders, not in those below; one may lie in several folders."""
    return series_of([look(files_in(folder)) for folder in folders])


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder that are not hidden, sorted."""
    return sorted(
        file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")
    )


def look(files: Iterable[Path]) -> Folder:
    """Return what these files are."""
    images: dict[Path, Header] = {}
    damaged: list[str] = []
    others: list[Path] = []
    missing: dict[str, str] = {}
    for file in files:
        if not is_dicom(file):
            others.append(file)
            continue
        try:
            header = read_header(file, TAGS)
            with quiet():
                _check_complete(header, file)
                missing |= _missing(header, file)
        except BadVolume as error:
            damaged.append(str(error))
            continue
        except Exception as error:  # pydicom raises nearly anything on damaged data
            damaged.append(f"{file}: its DICOM header is damaged ({error}); copy it again")
            continue
        if header.get("Rows"):  # else a plan, a report, a DICOMDIR
            images[file] = Header(*(sys.intern(_said(header, name)) for name in Header._fields))
    damaged += [
        f"{file}: not a DICOM file, {file.stat().st_size} bytes; copy it again or remove it"
        for file in others
        if _was_dicom(file, images)
    ]
    return Folder(images, tuple(damaged), tuple(others), missing)


def _missing(directory: Dataset, file: Path) -> dict[str, str]:
    """Return what a DICOMDIR lists and is not there: series ID -> one of its files."""
    series_id = ""
    missing: dict[str, str] = {}
    for record in directory.get("DirectoryRecordSequence") or []:
        if _said(record, "DirectoryRecordType") == "SERIES":
            series_id = _said(record, "SeriesInstanceUID")
        elif parts := record.get("ReferencedFileID"):
            inside = Path(*([parts] if isinstance(parts, str) else parts))
            places = (inside, Path(str(inside).lower()))  # as some systems show a CD
            if not any((file.parent / place).is_file() for place in places):
                missing[series_id] = f"{file}: lists {inside.name}, which is not there"
    return missing


def _was_dicom(file: Path, images: Iterable[Path]) -> bool:
    """Tell whether a file that is no DICOM was one: by its name, or because it is empty."""
    if file.name.lower().endswith(DICOM_SUFFIXES):
        return True
    if not _like(file, images):
        return False
    with file.open("rb") as opened:
        return not any(opened.read(1024))


def _like(file: Path, images: Iterable[Path]) -> bool:
    """Tell whether a file has a suffix like those of the images, or like them none."""
    return file.suffix in {"" if one.suffix[1:].isdigit() else one.suffix for one in images}


def _check_complete(header: Dataset, file: Path) -> None:
    """Refuse the header of an image that ends before it says how large the image is."""
    if header.get("Rows") or _media_class(header) == DIRECTORY:
        return
    kind = UID(_said(header, "SOPClassUID"))
    known = not kind.startswith(STANDARD) or kind.name != kind
    if not kind or not known or "Image Storage" in kind.name or _media_class(header, kind) != kind:
        raise BadVolume(f"{file}: cut short or damaged, its header has no Rows; copy it again")


def _media_class(header: Dataset, default: str = "") -> str:
    meta = getattr(header, "file_meta", None)
    return str(meta.get("MediaStorageSOPClassUID") or default) if meta is not None else default


def series_of(folders: list[Folder]) -> list[Series]:
    """Return the series in these folders; one may lie in several."""
    found: dict[str, list[tuple[Folder, dict[Path, Header]]]] = {}
    for folder in folders:
        by_id: dict[str, dict[Path, Header]] = {}
        for file, header in folder.images.items():
            key = header.SeriesInstanceUID or NO_ID
            by_id.setdefault(key, {})[file] = header
        for key, headers in by_id.items():
            found.setdefault(key, []).append((folder, headers))
    missing = {key: said for folder in folders for key, said in folder.missing.items()}
    return [_series(key, parts, missing) for key, parts in found.items()]


def _series(
    series_id: str, parts: list[tuple[Folder, dict[Path, Header]]], missing: dict[str, str]
) -> Series:
    headers = {file: header for _, some in parts for file, header in some.items()}
    first = next(iter(headers.values()))
    return Series(
        id=series_id,
        description=first.SeriesDescription,
        modality=first.Modality,
        patient_id=first.PatientID,
        files=[str(file) for file in headers],
        study_id=first.StudyInstanceUID,
        study_date=first.StudyDate,
        slices=sum(header.frames for header in headers.values()),
        damaged=(
            *(text for folder, _ in parts for text in folder.damaged),
            *(
                f"{said}; copy it again or remove the DICOMDIR"
                for key, said in missing.items()
                if key == series_id
            ),
        ),
        others=tuple(
            file.name for folder, some in parts for file in folder.others if _like(file, some)
        ),
        headers=tuple(headers.values()),
    )


def _said(header: Dataset, keyword: str) -> str:
    try:
        with quiet():
            return as_text(header.get(keyword))
    except Exception:  # pydicom raises nearly anything on damaged data
        return ""


def below(folder: Path, unreadable: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Return a folder and those below it, each once, however links lead to it.

    `unreadable` is told why a folder cannot be read; else it is passed over.
    """
    seen = set()
    for place, inner, _ in os.walk(folder, onerror=unreadable, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield Path(place)


def is_directory(file: Path) -> bool:
    """Tell whether a file is a DICOMDIR."""
    return is_dicom(file) and _media_class(read_header(file, TAGS)) == DIRECTORY
