"""Which exams of one patient are prior and follow-up, and which of their series stand for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

from landmark_dir.study.finding.exams import Exam, Scan, Volume
from landmark_dir.study.finding.same_region import (
    MIN_ALIKE,
    MIN_IN_COMMON,
    alike_in_length,
    in_world,
    other_parts,
    share_in_common,
)

WHICH = {
    "consecutive": "each exam with the latest earlier one of the same region",
    "first": "each exam with the first one of the same region",
    "all": "each exam with every earlier one of the same region",
}


class Match(NamedTuple):
    """A scan of a prior and one of a follow-up exam that show the same region.

    Attributes
    ----------
    prior, follow_up : int
        Numbers of the exams, from 1 in the order of time.
    align : str
        `world`, or `centers` where the scanners' coordinates do not lay one over the other.
    in_common : float
        Share of the shorter scan along the body that lies beside the other, once aligned so.
    """

    prior: int
    follow_up: int
    scans: tuple[Scan, Scan]
    volumes: tuple[Volume, Volume]
    align: str
    in_common: float


@dataclass
class Choice:
    """The pairs of one patient.

    Attributes
    ----------
    exams : dict
        The exams by their number, from 1 in the order of time.
    undated : list of Exam
        Those without a place in time.
    matches : list of Match
    why_not : list of (int, str)
        Numbers of exams that are in no pair, and why; 0: one without a place in time.
    """

    exams: dict[int, Exam]
    undated: list[Exam] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)
    why_not: list[tuple[int, str]] = field(default_factory=list)


def choose_pairs(exams: Sequence[Exam], which: str) -> Choice:
    """Choose the pairs of one patient; `which` is one of `WHICH`.

    Of all pairs of series, soft kernels come first, then thin slices, then the same description,
    then many slices. The first that shows the same region in the scanners' coordinates is taken;
    if there is none, the first whose lengths allow to lay centre on centre.
    """
    dated = sorted((exam for exam in exams if exam.when), key=_when)
    choice = Choice(dict(enumerate(dated, 1)), [exam for exam in exams if not exam.when])
    if why := _why_none(exams):
        numbers = [*choice.exams, *[0] * len(choice.undated)]
        choice.why_not = [(number, why) for number in numbers]
        return choice
    why = "no date, so nobody knows whether it is prior or follow-up"
    choice.why_not = [(0, why)] * len(choice.undated)
    usable = [number for number, exam in choice.exams.items() if _can_be_read(exam)]
    refused = _match_all(choice, usable, which)
    for number in choice.exams:
        if number not in usable:
            choice.why_not.append((number, "no series that can be registered"))
        elif all(number not in (match.prior, match.follow_up) for match in choice.matches):
            alone = "no other exam of the patient that can be registered"
            choice.why_not.append((number, refused.get(number, alone)))
    return choice


def _why_none(exams: Sequence[Exam]) -> str:
    """Why nothing of a patient can be paired; "" if something may be."""
    if len({exam.born for exam in exams} - {""}) > 1:
        return "one PatientID with several birth dates: perhaps several patients"
    if len({type(exam.when[0]) for exam in exams if exam.when}) > 1:
        return "some exams of the patient are named by a date, others by a number"
    return "the patient's only exam" if len(exams) == 1 else ""


def _when(exam: Exam) -> Any:
    """Sort dates before numbers, which are never paired."""
    return type(exam.when[0]).__name__ if exam.when else "", exam.when


def _can_be_read(exam: Exam) -> bool:
    exam.scans.sort(key=lambda scan: (scan.sharpness, round(scan.slice_mm, 1), -scan.slices))
    return any(scan.volumes for scan in exam.scans)


def _match_all(choice: Choice, usable: list[int], which: str) -> dict[int, str]:
    """Match each exam with earlier ones; why the first that was tried did not fit, by exam."""
    refused: dict[int, str] = {}
    for k, number in enumerate(usable):
        earlier = usable[:k]
        for other in reversed(earlier) if which == "consecutive" else earlier:
            found = _match(choice.exams, other, number)
            if isinstance(found, str):
                refused.setdefault(number, f"with exam {other}: {found}")
                refused.setdefault(other, f"with exam {number}: {found}")
                continue
            choice.matches.append(found)
            if which != "all":
                break
    return refused


def _match(exams: dict[int, Exam], earlier: int, later: int) -> Match | str:
    """Choose a scan of each of two exams, or say in a few words why none fit."""
    prior, follow_up = exams[earlier], exams[later]
    if prior.when == follow_up.when:
        return "the same date and time, so neither is the follow-up"
    scans = [pair for pair in product(prior.scans, follow_up.scans) if not _other_parts(*pair)]
    if not scans:
        parts = (
            "/".join(sorted({scan.body_part for scan in exam.scans})) for exam in (prior, follow_up)
        )
        return f"other parts of the body ({' and '.join(parts)})"
    scans.sort(key=_preference)
    for one, other, volumes in _volumes(scans):
        if in_world(*volumes):
            share = share_in_common(*volumes)
            return Match(earlier, later, (one, other), volumes, "world", share)
    for one, other, volumes in _volumes(scans):
        if alike_in_length(*volumes):
            return Match(earlier, later, (one, other), volumes, "centers", 1.0)
    shares = [share_in_common(*volumes) for *_, volumes in _volumes(scans)]
    if not shares:
        return "no series of the same part of the body can be read"
    return (
        f"another region of the body: {max(shares):.0%} of the shorter scan in common, expected "
        f"{MIN_IN_COMMON:.0%}, and one is less than {MIN_ALIKE:.0%} as long as the other"
    )


def _other_parts(one: Scan, other: Scan) -> bool:
    return other_parts(one.body_part, other.body_part)


def _preference(scans: tuple[Scan, Scan]) -> tuple[float, ...]:
    kernels = sorted(scan.sharpness for scan in scans)
    one, other = (scan.description.casefold() for scan in scans)
    return (
        *reversed(kernels),  # two unknown ones before a soft and a sharp one
        round(sum(scan.slice_mm for scan in scans), 1),
        float(one != other),
        -sum(scan.slices for scan in scans),
    )


def _volumes(
    scans: Sequence[tuple[Scan, Scan]],
) -> Iterator[tuple[Scan, Scan, tuple[Volume, Volume]]]:
    """Every pair of volumes of these scans, headers read only where it comes to them."""
    for one, other in scans:
        for volumes in product(one.volumes, other.volumes):
            yield one, other, volumes
