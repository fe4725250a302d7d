"""Prior / follow-up pairs in a folder, and what is left out and why; nobody is named."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from landmark_dir.errors import BadArgument, LandmarkDirError
from landmark_dir.progress import Progress, part, silent
from landmark_dir.study.finding.anonymous import case_names, labels, plain, tells_who, without
from landmark_dir.study.finding.choose_pairs import WHICH, Choice, Match, choose_pairs
from landmark_dir.study.finding.dicom_exams import find_dicom_exams
from landmark_dir.study.finding.exams import Exam, Scan, Unused, Volume
from landmark_dir.study.finding.named_files import EXAMPLE, find_named_exams

LOOKING = 0.6  # share of the time that reading all headers takes


class Side(NamedTuple):
    """One scan of a pair: how it is read, and what a table says of it."""

    path: Path
    series: str
    description: str
    slices: int
    slice_mm: float


@dataclass(frozen=True)
class FoundPair:
    """A prior (`fixed`) and a follow-up (`moving`) of one patient.

    Attributes
    ----------
    case : str
        The patient and the numbers of both exams; safe as the name of a folder.
    patient : str
        A hash of the PatientID, or it.
    align : str
        What `--align` has to be.
    days : int or None
        From the prior to the follow-up; None: unknown.
    in_common : float
        Share of the shorter scan along the body that lies beside the other, once aligned so.
    """

    case: str
    patient: str
    fixed: Side
    moving: Side
    align: str
    days: int | None
    in_common: float


class LeftOut(NamedTuple):
    """What is in no pair: a patient, the number of an exam, what of it, and why."""

    patient: str
    exam: str
    what: str
    why: str


@dataclass(frozen=True)
class FoundPairs:
    """The pairs in a folder, what was left out, and what a person should know of them."""

    pairs: list[FoundPair]
    left_out: list[LeftOut]
    notes: list[str]

    def summary(self) -> str:
        """How many, in a few words."""
        patients = len({pair.patient for pair in self.pairs})
        return f"pairs: {len(self.pairs)}, of patients: {patients}, left out: {len(self.left_out)}"


def find_pairs(
    folder: str | Path,
    pattern: str | None = None,
    *,
    which: str = "consecutive",
    keep_ids: bool = False,
    progress: Progress = silent,
) -> FoundPairs:
    """Find the prior / follow-up pairs of each patient in a folder; only headers are read.

    Parameters
    ----------
    folder : path
        DICOM exports, nested at any depth; or image files, if there is a pattern.
    pattern : str, optional
        How a path below the folder is made, such as `{patient}/{exam}_ct.nii.gz`: `{exam}` is a
        date or a number that sorts in time, `*` any text without a `/`.
    which : str
        `consecutive`: each exam with the latest earlier one that shows the same region of the
        body; `first`: with the first such; `all`: with every such.
    keep_ids : bool
        Name patients by their PatientID, or their part of the file name, instead of its hash.
    progress : callable, optional
        Told what is being done, and the share done.

    Raises
    ------
    BadArgument
        If `pattern` or `which` cannot be right.
    LandmarkDirError
        If there is no such folder, or it holds neither DICOM nor files that fit the pattern.
    """
    folder = Path(folder)
    if which not in WHICH:
        raise BadArgument(f"which: expected one of {', '.join(WHICH)}, found {which!r}")
    if not folder.is_dir():
        raise LandmarkDirError(f"{folder}: expected a folder, found no such one")
    exams, loose = _exams(folder, pattern, part(progress, 0.0, LOOKING))
    patients = _patients(exams, keep_ids)
    pairs: list[FoundPair] = []
    of_exams: list[LeftOut] = []
    of_series: list[LeftOut] = []
    for n, patient in enumerate(patients):
        told = f"comparing exams: patient {n + 1} of {len(patients)}"
        progress(told, LOOKING + (1 - LOOKING) * n / len(patients))
        choice = choose_pairs(patient.exams, which)
        pairs += [patient.pair(choice, match) for match in choice.matches]
        of_exams += [patient.row(number, "", why) for number, why in choice.why_not]
        of_series += _series_left_out(patient, choice)
    lost = [LeftOut("", "", *map(plain, one)) for one in loose]
    return FoundPairs(pairs, of_exams + lost + of_series, _notes(patients, pairs, lost))


def _exams(
    folder: Path, pattern: str | None, progress: Progress
) -> tuple[list[Exam], list[Unused]]:
    if pattern is not None:
        exams, loose = find_named_exams(folder, pattern, progress)
        nothing = f"no file in this folder or below fits the pattern {pattern!r}"
    else:
        exams, loose = find_dicom_exams(folder, progress)
        nothing = (
            "no DICOM images in this folder or below; for other files say with --pattern how "
            f"their paths are made, such as {EXAMPLE!r}"
        )
    if not exams and not loose:
        raise LandmarkDirError(f"{folder}: {nothing}")
    return exams, loose


class _Patient(NamedTuple):
    """The exams of a patient, and what may be written of them."""

    label: str
    case: str
    exams: list[Exam]
    private: set[str]

    def pair(self, choice: Choice, match: Match) -> FoundPair:
        fixed, moving = map(self._side, match.scans, match.volumes)
        days = [choice.exams[number].day for number in (match.prior, match.follow_up)]
        return FoundPair(
            f"{self.case}-{match.prior}-{match.follow_up}",
            self.label,
            fixed,
            moving,
            match.align,
            None if days[0] is None or days[1] is None else (days[1] - days[0]).days,
            match.in_common,
        )

    def _side(self, scan: Scan, volume: Volume) -> Side:
        said = without(scan.description, self.private)
        return Side(scan.path, volume.series, said, volume.slices, volume.slice_mm)

    def row(self, number: int, what: str, why: str) -> LeftOut:
        return LeftOut(self.label, str(number or ""), without(what, self.private), why)


def _patients(exams: Sequence[Exam], keep_ids: bool) -> list[_Patient]:
    by_id: dict[str, list[Exam]] = {}
    for exam in exams:
        by_id.setdefault(exam.patient, []).append(exam)
    called = labels(by_id, keep_ids)
    cases = case_names(called)
    patients = []
    for patient, theirs in by_id.items():
        private = set().union(*(exam.private for exam in theirs)) - (
            {patient} if keep_ids else set()
        )
        patients.append(_Patient(called[patient], cases[patient], theirs, private))
    return sorted(patients, key=lambda patient: patient.label)


def _series_left_out(patient: _Patient, choice: Choice) -> Iterator[LeftOut]:
    """Series that cannot be used, and of exams in a pair those to which another was preferred."""
    for number, exam in [*choice.exams.items(), *((0, exam) for exam in choice.undated)]:
        taken = [scan for match in choice.matches for scan in match.scans if scan in exam.scans]
        unused = [*exam.unused]
        for scan in exam.scans:
            if scan.why_not:
                unused.append(Unused(_called(scan), scan.why_not))
            elif taken and scan not in taken:
                unused.append(Unused(_called(scan), f"{_called(taken[0])} is taken instead"))
        for one in unused:
            yield patient.row(number, one.what, without(one.why, patient.private))


def _called(scan: Scan) -> str:
    return scan.description or scan.path.name


def _notes(
    patients: Sequence[_Patient], pairs: Sequence[FoundPair], lost: Sequence[LeftOut]
) -> list[str]:
    """Say it if paths tell who somebody is."""
    paths = {patient.label: [row.what for row in lost] for patient in patients}
    for pair in pairs:
        paths[pair.patient] += [str(side.path) for side in (pair.fixed, pair.moving)]
    named = [
        one for one in patients if any(tells_who(path, one.private) for path in paths[one.label])
    ]
    if not named:
        return []
    return [
        f"folders or files are called after {len(named)} of {len(patients)} patients, and their "
        "paths are written: keep these lists as you keep the images"
    ]
