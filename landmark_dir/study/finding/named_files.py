"""Exams in a folder of image files whose names say which patient and which exam they are of."""

import re
from datetime import date
from functools import partial
from pathlib import Path

import SimpleITK as sitk

from landmark_dir.errors import BadArgument
from landmark_dir.io.itk_warnings import heard_from_itk
from landmark_dir.io.volumes import read_with_warnings
from landmark_dir.progress import Progress, silent
from landmark_dir.study.finding.exams import Exam, Scan, Unused, Volume, files_below, volume_of

EXAMPLE = "{patient}/{exam}_ct.nii.gz"
PLACES = re.compile(r"(\{.*?\}|\*)")
EXAM = r"\d{4}-\d{2}-\d{2}|\d+"  # a date, or a number


def find_named_exams(
    folder: Path, pattern: str, progress: Progress = silent
) -> tuple[list[Exam], list[Unused]]:
    """Find the exams whose files have a path below `folder` that fits a pattern.

    Parameters
    ----------
    pattern : str
        Such as `EXAMPLE`; `*` stands for any text without a `/`.

    Returns
    -------
    list of Exam
        In no order.
    list of Unused
        Files of which `{exam}` is neither a date nor a number, and folders that cannot be read.

    Raises
    ------
    BadArgument
        If the pattern does not hold `{patient}` and `{exam}`, or other names in braces.
    """
    fits, nearly = _compiled(pattern, EXAM), _compiled(pattern, "[^/]+")
    files, unused = files_below(folder)
    exams: dict[tuple[str, str], Exam] = {}
    paths = [file for inside in files.values() for file in inside]
    for n, file in enumerate(paths):
        path = file.relative_to(folder).as_posix()
        if found := fits.fullmatch(path):
            progress(f"reading headers: {n} of {len(paths)} files", n / len(paths))
            patient, exam = found["patient"], found["exam"]
            exams.setdefault((patient, exam), _exam(patient, exam)).scans.append(_scan(file))
        elif found := nearly.fullmatch(path):
            why = f"{found['exam']!r} is neither a date (20240131, 2024-01-31) nor a number"
            unused.append(Unused(path, why))
    return list(exams.values()), unused


def _compiled(pattern: str, exam: str) -> re.Pattern[str]:
    names = {"{patient}": "[^/]+", "{exam}": exam}
    parts, seen = [], set()
    for part in PLACES.split(pattern.removeprefix("./")):
        if part in seen:
            parts.append(f"(?P={part[1:-1]})")
        elif part in names:
            parts.append(f"(?P<{part[1:-1]}>{names[part]})")
            seen.add(part)
        elif part.startswith("{"):
            raise BadArgument(f"pattern: expected {{patient}} and {{exam}}, found {part}")
        else:
            parts.append("[^/]*" if part == "*" else re.escape(part))
    if missing := sorted(names.keys() - seen):
        raise BadArgument(
            f"pattern: expected {{patient}} and {{exam}}, such as {EXAMPLE!r}, found no "
            f"{' and no '.join(missing)} in {pattern!r}"
        )
    return re.compile("".join(parts))


def _exam(patient: str, exam: str) -> Exam:
    """An exam whose place in time is a date, or a number where that is none."""
    try:
        day = date.fromisoformat(exam)
    except ValueError:
        when: tuple[object, ...] = (int(exam),) if exam.isdigit() else ()
        return Exam(patient, when or None, private={patient})
    return Exam(patient, (day,), day, private={patient})


def _scan(file: Path) -> Scan:
    scan = Scan(file, partial(_volumes, file), 0, 0.0)
    if scan.volumes:
        scan.slices, scan.slice_mm = scan.volumes[0].slices, scan.volumes[0].slice_mm
    return scan


def _volumes(file: Path) -> list[Volume]:
    """Read where an image lies: from its header, or as a whole where ITK takes no header alone."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        with heard_from_itk():
            reader.ReadImageInformation()
        if reader.GetDimension() == 3:
            places = reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
            return [volume_of(reader.GetSize(), *places)]
    except RuntimeError:
        pass  # a reason in the words of this package is better
    image = read_with_warnings(file).image
    grid = image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()
    return [volume_of(*grid)]
