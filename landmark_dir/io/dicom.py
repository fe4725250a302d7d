"""Choose one DICOM series in a file, a folder or below it, and read it as a volume."""

import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import SimpleITK as sitk

from landmark_dir.errors import BadVolume
from landmark_dir.io.dicom_files import is_dicom
from landmark_dir.io.dicom_planes import Plane, read_planes
from landmark_dir.io.dicom_resample import resampled
from landmark_dir.io.dicom_series import (
    Series,
    below,
    files_in,
    find_series,
    is_directory,
    look,
    series_of,
)
from landmark_dir.io.dicom_stack import Group, Stack, split, stack
from landmark_dir.io.dicom_voxels import read_voxels
from landmark_dir.io.reading import Reading
from landmark_dir.io.text_files import hashed

__all__ = [
    "Series",
    "choose_series",
    "days_between",
    "describe_series",
    "find_series",
    "groups_of",
    "is_dicom",
    "last_line",
    "load_series",
    "read_series",
    "series_in",
    "stack_of",
]


def read_series(path: Path, wanted: str | None) -> Reading:
    """Read the only series in a folder or below it, in a DICOM file, or what a DICOMDIR lists.

    Parameters
    ----------
    path : path
        A folder or a file.
    wanted : str, optional
        Which series, if there are several: its id, or a beginning or end of it that is unique;
        with `#2` behind it the second acquisition in it.

    Raises
    ------
    BadVolume
        If there is none, several and none is named, or it cannot be read as one even stack.
    """
    series, group = _choose(path, wanted)
    return _load(series, str(path), group)


def choose_series(path: Path, wanted: str | None) -> Series:
    """Return the series that `read_series` would read; raises `BadVolume` like it."""
    return _choose(path, wanted)[0]


def load_series(series: Series, name: str) -> sitk.Image:
    """Read the voxels of a series; `name` is for the message.

    Raises
    ------
    BadVolume
        If it cannot be read as one even stack.
    """
    return _load(series, name, None).image


def describe_series(series: Series) -> dict[str, str | int | None]:
    """What may be kept of a series: nothing of it names a person, its ids are hashed."""
    return {
        "series": hashed(series.id),
        "study": hashed(series.study_id),
        "description": series.description,
        "modality": series.modality,
        "slices": series.slices,
        "acquisition": series.acquisition,
    }


def days_between(fixed: Series, moving: Series) -> int | None:
    """Days from the study of `fixed` to that of `moving`; None if one does not say its date."""
    try:
        dates = [date.fromisoformat(one.study_date) for one in (fixed, moving)]
    except ValueError:
        return None
    return (dates[1] - dates[0]).days


def _choose(path: Path, wanted: str | None) -> tuple[Series, int | None]:
    """Return the series, and which acquisition of it is wanted, from 1."""
    wanted_id, group = _wanted(wanted)
    return _fitting(series_in(path), wanted_id, path), group


def series_in(path: Path) -> list[Series]:
    """Return all series in a folder or below it, in a DICOM file, or what a DICOMDIR lists.

    Raises
    ------
    BadVolume
        If there is none.
    """
    if path.is_dir() or is_directory(path):
        root = path if path.is_dir() else path.parent
        folders = [look(files_in(place)) for place in below(root)]
        where = "in this folder or below"
    else:
        folders = [look([path])]
        where = "in this file"
    found = series_of(folders)
    if not found:
        damaged = [text for folder in folders for text in folder.damaged]
        raise BadVolume(damaged[0] if damaged else f"{path}: no DICOM series {where}")
    return found


def _wanted(wanted: str | None) -> tuple[str | None, int | None]:
    if wanted is None:
        return None, None
    series_id, mark, group = wanted.partition("#")
    if not mark:
        return wanted, None
    if not (group.isascii() and group.isdigit() and int(group)):
        raise BadVolume(
            f"series {wanted!r}: expected a number from 1 after #, such as {series_id}#2"
        )
    return series_id or None, int(group)


def _fitting(found: list[Series], wanted: str | None, path: Path) -> Series:
    if wanted is None:
        fits = found
    else:  # one id may be the beginning of another, so the whole id comes first
        fits = [one for one in found if one.id == wanted] or [
            one for one in found if one.id.startswith(wanted) or one.id.endswith(wanted)
        ]
    if len(fits) == 1:
        return fits[0]
    why = "" if wanted is None else f", {len(fits)} of them fit {wanted!r}"
    listing = "".join(
        f"\n  {one.id}  {one.description or '(no description)'}, {one.slices} slices"
        for one in found
    )
    raise BadVolume(
        f"{path}: {len(found)} DICOM series{why}; choose one by its ID with --fixed-series or "
        f"--moving-series:{listing}"
    )


def stack_of(series: Series, name: str, acquisition: int | None) -> Stack:
    """Return the planes of a series, or of one acquisition of it from 1 on, without pixels.

    Raises
    ------
    BadVolume
        If they form no stack, or there are several acquisitions and none is named.
    """
    if series.damaged:
        raise BadVolume(series.damaged[0])
    return stack(_chosen(groups_of(series), series.id, name, acquisition), name)


def _load(series: Series, name: str, group: int | None) -> Reading:
    made = stack_of(series, name, group)
    remarks = dict.fromkeys(remark for plane in made.planes for remark in plane.remarks)
    warnings = (*remarks, *made.warnings, *_left_out(series))
    return Reading(_image(made, name), warnings, series=series._replace(acquisition=group))


def groups_of(series: Series) -> list[Group]:
    """Return the acquisitions and views in a series, in the order in which `#` numbers them.

    Raises
    ------
    BadVolume
        If a header is damaged, or does not say where a slice lies.
    """
    return split([plane for file in _each_once(series.files) for plane in read_planes(Path(file))])


def _each_once(files: list[str]) -> list[str]:
    """Leave out links to a file that is there already."""
    return list({os.path.realpath(file): file for file in files}.values())


def _left_out(series: Series) -> Iterator[str]:
    if series.others:
        names = ", ".join(series.others[:3]) + (", ..." if len(series.others) > 3 else "")
        yield f"beside the DICOM slices lie files that are not DICOM, left out: {names}"


def _chosen(groups: list[Group], series_id: str, name: str, wanted: int | None) -> list[Plane]:
    if len(groups) == 1 and wanted in (None, 1):
        return groups[0].planes
    if wanted is not None and wanted <= len(groups):
        return groups[wanted - 1].planes
    why = "" if wanted is None else f", none of them #{wanted}"
    listing = "".join(
        f"\n  {series_id}#{k}  {len(group.planes)} slices{', ' if group.about else ''}{group.about}"
        for k, group in enumerate(groups, 1)
    )
    raise BadVolume(
        f"{name}: {len(groups)} acquisitions or views in one DICOM series{why}; choose one with"
        f" --fixed-series or --moving-series:{listing}"
    )


def _image(made: Stack, name: str) -> sitk.Image:
    values = read_voxels(made.planes)
    image = sitk.GetImageFromArray(values if made.even else resampled(values, made, name))
    image.SetOrigin(made.origin.tolist())
    image.SetSpacing(made.spacing_mm)
    image.SetDirection(made.direction.ravel().tolist())
    return image


def last_line(error: Exception) -> str:
    """Return what ITK has to say, without where it says it from."""
    return str(error).strip().splitlines()[-1].strip()
