"""The DICOM series that a finished run was made from, found again."""

from pathlib import Path
from typing import Any

from landmark_dir.errors import BadRunFolder, BadVolume
from landmark_dir.geometry import Points, grid_corners
from landmark_dir.io.dicom import series_in
from landmark_dir.io.dicom_headers import SourceSeries, read_source
from landmark_dir.io.dicom_series import Series
from landmark_dir.io.run_folder import read_run_json
from landmark_dir.io.text_files import hashed
from landmark_dir.registration.result import Result

SAME_PLACE_MM = 0.05  # corners of the grid of the run and of the series; NIfTI rounds


def dicom_input(result: Result, side: str, given: Path | None = None) -> SourceSeries:
    """Return the headers of the DICOM series that is one side of a run.

    It is the series that `run.json` names, by its hashed UID. A run that was made from converted
    images names none: then it is the only series in `given`, in the same place.

    Parameters
    ----------
    side : str
        fixed or moving.
    given : path, optional
        Where the series lies now, or that the images were converted from; where `run.json` says,
        if none.

    Raises
    ------
    BadRunFolder
        If the run was not made from DICOM, or its files are not where they were.
    BadVolume
        If `given` does not hold the series, or one that lies elsewhere in space.
    """
    named = read_run_json(result.folder)["inputs"][side]
    recorded: dict[str, Any] = named.get("dicom") or {}
    option = f"--{side}-dicom"
    if given is None:
        given = _recorded_place(result.folder, named, side, option)
    elif not given.exists():
        raise BadVolume(f"{option}: there is no {given}")
    name = f"{side} {given}"
    find = _recorded_series if recorded else _only_series
    series = find(given, recorded, option)
    source = read_source(series, name, recorded.get("acquisition"))
    if not _same_place(source.corners, _recorded_corners(result.folder, named)):
        raise BadVolume(
            f"{name}: the DICOM series lies elsewhere than the {side} image of {result.folder}; "
            f"name the series that the run was made from with {option}"
        )
    return source


def check_not_a_source(out: str | Path, *sources: SourceSeries) -> None:
    """Refuse to write over a file of a series."""
    place = Path(out).resolve()
    if any(place == file.resolve() for source in sources for file in source.files):
        raise BadRunFolder(f"{out}: is a slice of a series, and would be lost; name another file")


def _recorded_place(run: Path, named: dict[str, Any], side: str, option: str) -> Path:
    if not named.get("dicom"):
        raise BadRunFolder(
            f"{run}: its {side} image was not read from DICOM; if it was converted from a DICOM "
            f"series, name the folder of that with {option}, and that of the other side likewise "
            f"with --{'moving' if side == 'fixed' else 'fixed'}-dicom"
        )
    path = Path(named["path"])
    if not path.exists():
        raise BadRunFolder(
            f"{run}: its {side} image is no longer at {path}; name the folder where its DICOM "
            f"series is now with {option}"
        )
    return path


def _recorded_series(given: Path, recorded: dict[str, Any], option: str) -> Series:
    found = series_in(given)
    for series in found:
        if hashed(series.id) == recorded["series"]:
            return series
    raise BadVolume(
        f"{given}: holds {len(found)} DICOM series, none of them the one that the run was made "
        f"from ({recorded['description'] or 'no description'}, {recorded['slices']} slices); name "
        f"the folder of that with {option}"
    )


def _only_series(given: Path, _: dict[str, Any], option: str) -> Series:
    found = series_in(given)
    if len(found) > 1:
        raise BadVolume(
            f"{given}: holds {len(found)} DICOM series, and the run does not say which; put the "
            f"one that its image was converted from into a folder and name that with {option}"
        )
    return found[0]


def _recorded_corners(run: Path, named: dict[str, Any]) -> Points:
    keys = ("size_xyz", "spacing_mm", "origin_mm", "direction")
    try:
        return grid_corners(*(named[key] for key in keys))
    except (KeyError, TypeError, ValueError) as error:
        raise BadRunFolder(
            f"{run}: run.json does not say where its images lie; copy the run folder again"
        ) from error


def _same_place(some: Points, others: Points) -> bool:
    """Tell whether two boxes have the same corners: a converter may have turned the axes."""
    apart = abs(some[:, None] - others[None]).max(axis=-1)  # [8, 8] mm
    return bool((apart.min(axis=1) <= SAME_PLACE_MM).all())
