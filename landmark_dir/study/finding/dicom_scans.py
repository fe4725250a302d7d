"""A DICOM series as a scan that may be registered: copies, geometry, acquisitions."""

import math
import os
from functools import partial
from pathlib import Path

import numpy as np

from landmark_dir.errors import BadVolume
from landmark_dir.io.dicom import groups_of
from landmark_dir.io.dicom_series import Header, Series
from landmark_dir.io.dicom_stack import Group, stack
from landmark_dir.study.finding.exams import MIN_SLICES, Scan, Volume, volume_of
from landmark_dir.study.finding.series_kinds import sharpness, why_no_scan

AXIAL = math.cos(math.radians(45))  # of the normal along z; a gantry tilts by 30 degrees


def each_slice_once(series: Series) -> tuple[Path, Series]:
    """Return the deepest folder, or the file, that holds each slice once; and these slices.

    Exports of one series into several folders are copies, of which one is taken.
    """
    said = zip(series.files, series.headers, strict=True)
    headers = {Path(file): header for file, header in said}
    ids = {file: header.SOPInstanceUID or str(file) for file, header in headers.items()}
    wanted = len(set(ids.values()))
    if len(ids) == 1:
        return Path(series.files[0]), series
    common = Path(os.path.commonpath([file.parent for file in ids]))
    if wanted == len(ids):
        return common, series
    places = {place for file in ids for place in file.parents if place.is_relative_to(common)}
    if wanted == 1:
        places = set(ids)
    for place in sorted(places, key=lambda place: (-len(place.parts), place)):
        files = [file for file in ids if file.is_relative_to(place)]
        if len(files) == wanted == len({ids[file] for file in files}):
            inside = tuple(headers[file] for file in files)
            here = f"{place}{os.sep}"
            return place, series._replace(
                files=[str(file) for file in files],
                headers=inside,
                slices=sum(header.frames for header in inside),
                damaged=tuple(text for text in series.damaged if text.startswith(here)),
            )
    raise BadVolume(
        f"{len(ids) - wanted} of its {len(ids)} files are copies of others, and no folder holds "
        "each slice once; leave one copy"
    )


def check(series: Series) -> None:
    """Refuse what is no scan of the body, or cannot be read for a reason known already."""
    if why := why_no_scan(series.headers[0]):
        raise BadVolume(why)
    if series.slices < MIN_SLICES:
        raise BadVolume(f"{series.slices} slices, expected at least {MIN_SLICES}")
    if series.damaged:
        name = Path(series.damaged[0].partition(": ")[0]).name
        why = series.damaged[0].partition(": ")[2]
        more = f" ({len(series.damaged) - 1} more such files)" if series.damaged[1:] else ""
        raise BadVolume(f"beside its slices lies {name}: {why}{more}")


def scan_of(series: Series, path: Path, alone: bool, root: Path) -> Scan:
    """Return a series as a scan.

    Parameters
    ----------
    path : path
        Where it is read from.
    alone : bool
        Whether no other series lies there.
    root : path
        What messages name files from.
    """
    first = series.headers[0]
    scan = Scan(
        path,
        partial(_volumes, series, "" if alone else series.id, root),
        series.slices,
        _slice_mm(series.headers),
        series.description,
        first.BodyPartExamined,
        sharpness(first),
    )
    if math.isinf(scan.slice_mm) and scan.volumes:  # frames: places are not among these tags
        scan.slice_mm = scan.volumes[0].slice_mm
    return scan


def _slice_mm(headers: tuple[Header, ...]) -> float:
    """Mean distance of the slices by their positions; infinite if these are not known."""
    try:
        places = {tuple(map(float, header.ImagePositionPatient.split("\\"))) for header in headers}
    except ValueError:
        return math.inf
    if len(places) < 2 or {len(place) for place in places} != {3}:
        return math.inf
    return float(np.linalg.norm(np.ptp(list(places), axis=0))) / (len(places) - 1)


def _volumes(series: Series, named: str, root: Path) -> list[Volume]:
    """Return where each acquisition of a series lies, judged as it is when it is read.

    Parameters
    ----------
    named : str
        The id of the series, or empty where none is needed.

    Raises
    ------
    BadVolume
        If none can be read as one stack of axial slices.
    """
    found, why = [], ""
    try:
        groups = groups_of(series)
    except BadVolume as error:
        raise BadVolume(str(error).replace(f"{root}{os.sep}", "")) from error
    for number, group in enumerate(groups, 1):
        suffix = f"#{number}" if len(groups) > 1 else ""
        try:
            found.append(_volume(group, named + suffix))
        except BadVolume as error:
            why = why or str(error)
    if not found:
        among = f"{len(groups)} acquisitions or views, the first: " if len(groups) > 1 else ""
        raise BadVolume(among + why)
    return found


def _volume(group: Group, named: str) -> Volume:
    name = "this series"  # what its sentences begin with
    try:
        made = stack(group.planes, name)
    except BadVolume as error:
        raise BadVolume(str(error).removeprefix(f"{name}: ")) from error
    if abs(made.direction[2, 2]) < AXIAL:
        raise BadVolume("coronal or sagittal slices, expected axial ones")
    return volume_of(made.size_xyz, made.spacing_mm, made.origin, made.direction, named)
