"""Exams in a folder of DICOM exports, at any depth: told by the tags, read once."""

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path

from landmark_dir.errors import BadVolume
from landmark_dir.io.dicom_series import (
    NO_ID,
    Folder,
    Header,
    Series,
    look,
    series_of,
)
from landmark_dir.progress import Progress, silent
from landmark_dir.study.finding.anonymous import private_words
from landmark_dir.study.finding.dicom_scans import check, each_slice_once, scan_of
from landmark_dir.study.finding.exams import Exam, Unused, files_below, unreadable

DATES = ("StudyDate", "AcquisitionDate", "SeriesDate")
TOLD_EVERY = 100  # files

Folders = dict[Path, Folder]


def find_dicom_exams(folder: Path, progress: Progress = silent) -> tuple[list[Exam], list[Unused]]:
    """Find the exams in a folder and below, and what belongs to none.

    Returns
    -------
    list of Exam
        In no order; a series that cannot be used is among what is unused of its exam.
    list of Unused
        Folders and files that cannot be read, series without PatientID.
    """
    folders, unused = _look_below(folder, progress)
    series = series_of(list(folders.values()))
    unused += _without_series(folders, series, folder)
    held = {
        place: {header.SeriesInstanceUID or NO_ID for header in of.images.values()}
        for place, of in folders.items()
    }
    exams: dict[tuple[str, str], Exam] = {}
    for one in series:
        first = one.headers[0]
        if not first.PatientID:
            place = os.path.relpath(os.path.commonpath(one.files), folder)
            unused.append(Unused(place, "no PatientID, so nobody knows whose it is"))
            continue
        study = first.StudyInstanceUID or first.StudyDate
        exam = exams.setdefault((first.PatientID, study), Exam(first.PatientID))
        exam.born = exam.born or first.PatientBirthDate
        exam.private |= private_words(first.PatientID, first.PatientName, first.PatientBirthDate)
        _add(exam, one, held, folder)
    return list(exams.values()), unused


def _look_below(folder: Path, progress: Progress) -> tuple[Folders, list[Unused]]:
    """Read all headers, folder by folder."""
    files, unused = files_below(folder)
    folders: Folders = {}
    told = _counter(progress, sum(map(len, files.values())))
    for place, inside in files.items():
        try:
            folders[place] = look(told(inside))
        except OSError as error:
            unused.append(unreadable(error, folder))
    return folders, unused


def _counter(progress: Progress, total: int) -> Callable[[Iterable[Path]], Iterator[Path]]:
    """Return what passes files on and tells how many have been."""
    passed = 0

    def told(files: Iterable[Path]) -> Iterator[Path]:
        nonlocal passed
        for file in files:
            if passed % TOLD_EVERY == 0:
                progress(f"reading headers: {passed} of {total} files", passed / total)
            passed += 1
            yield file

    return told


def _without_series(folders: Folders, series: list[Series], root: Path) -> Iterator[Unused]:
    """Damaged files in folders without a series, and series of which a DICOMDIR alone knows."""
    for of in folders.values():
        if not of.images:
            yield from (_sentence(text, root) for text in of.damaged)
    known = {one.id for one in series}
    for of in folders.values():
        for key, text in of.missing.items():
            if key not in known:
                yield _sentence(f"{text}, nor the rest of its series; copy it again", root)


def _sentence(text: str, root: Path) -> Unused:
    """A sentence that begins with a path, in two."""
    what, _, why = text.removeprefix(f"{root}{os.sep}").partition(": ")
    return Unused(what, why)


def _add(exam: Exam, series: Series, held: dict[Path, set[str]], root: Path) -> None:
    """Add a series to its exam: as a scan, or as what is unused."""
    for header in series.headers:
        day = _day(header)
        when = None if day is None else (day, header.StudyTime)
        if when is not None and (exam.when is None or when < exam.when):
            exam.when, exam.day = when, day
    called = series.description or "(no description)"
    try:
        path, once = each_slice_once(series)
        check(once)
    except BadVolume as error:
        exam.unused.append(Unused(called, str(error)))
        return
    if copies := len(series.files) - len(once.files):
        where = os.path.relpath(path, root)
        why = f"{copies} files are copies of others; those in {where} are taken"
        exam.unused.append(Unused(called, why))
    inside = set().union(*(ids for place, ids in held.items() if place.is_relative_to(path)))
    exam.scans.append(scan_of(once, path, inside <= {series.id}, root))


def _day(header: Header) -> date | None:
    for keyword in DATES:
        try:
            return date.fromisoformat(getattr(header, keyword).replace(".", ""))
        except ValueError:
            continue
    return None
