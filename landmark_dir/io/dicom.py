"""Read one series out of a folder of DICOM files."""

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume

log = logging.getLogger(__name__)

UNEVEN = 0.01  # share of the slice distance; more is worth a warning
MISSING = 1.5  # times the median slice distance; half of a slice is missing
TILT = 0.02  # mm sideways per mm along the stack; 1 degree of gantry tilt


class Series(NamedTuple):
    """A DICOM series as found on disk."""

    id: str
    description: str
    modality: str
    patient_id: str  # tells who it is: nothing that is written may hold it
    files: list[str]


def read_series(folder: Path, wanted: str | None) -> sitk.Image:
    """Read the only series of a folder, or the one that `wanted`, a part of its id, names.

    Raises
    ------
    BadVolume
        If there is none, several and none is named, a slice is missing, or it cannot be read.
    """
    places = [folder, *sorted(sub for sub in folder.iterdir() if sub.is_dir())]
    return load_series(_choose_series(find_series(places), wanted, folder), str(folder))


def load_series(series: Series, name: str) -> sitk.Image:
    """Read the voxels of a series; `name` is for the message.

    Raises
    ------
    BadVolume
        If a slice is missing, or the series cannot be read.
    """
    try:
        files = _sorted_slices(series.files, name)
        return sitk.ReadImage(files)
    except RuntimeError as error:
        raise BadVolume(
            f"{name}: series {series.id} cannot be read ({last_line(error)})"
        ) from error


def find_series(folders: Iterable[Path]) -> list[Series]:
    """All DICOM series in these folders, not in those below; one may lie in several folders."""
    files: dict[str, list[str]] = {}
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.GlobalWarningDisplayOff()  # we say ourselves that there is none
    for place in folders:
        for series_id in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(place)):
            names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place), series_id)
            files.setdefault(series_id, []).extend(names)
    sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    return [_series(key, names) for key, names in files.items()]


def _series(series_id: str, files: list[str]) -> Series:
    header = _header(files[0])
    description, modality, patient_id = (
        _tag(header, key) for key in ("0008|103e", "0008|0060", "0010|0020")
    )
    return Series(series_id, description, modality, patient_id, files)


def _choose_series(found: list[Series], wanted: str | None, folder: Path) -> Series:
    if not found:
        raise BadVolume(f"{folder}: no DICOM series in this folder or one level down")
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
        f"\n  {one.id}  {one.description or '(no description)'}, {len(one.files)} slices"
        for one in found
    )
    raise BadVolume(
        f"{folder}: {len(found)} DICOM series{why}; choose one by its ID with --fixed-series or "
        f"--moving-series:{listing}"
    )


def _header(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return reader


def _tag(header: sitk.ImageFileReader, key: str) -> str:
    return header.GetMetaData(key).strip() if header.HasMetaDataKey(key) else ""


def _numbers(header: sitk.ImageFileReader, key: str, count: int) -> list[float]:
    try:
        numbers = [float(word) for word in _tag(header, key).split("\\")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise BadVolume(f"{header.GetFileName()}: DICOM tag {key} does not hold {count} numbers")
    return numbers


def _sorted_slices(files: list[str], name: str) -> list[str]:
    """Sort the files of a series along the stack; refuse gaps and tilt, warn of uneven slices."""
    if len(files) == 1:  # multi-frame, or too thin, which `check_volume` says
        return files
    headers = [_header(file) for file in files]
    rows = np.array([_numbers(header, "0020|0037", 6) for header in headers])  # orientation
    if np.ptp(rows, axis=0).max() > TILT:
        raise BadVolume(f"{name}: slices of different orientation in one series (a scout?)")
    normal = np.cross(rows[0, :3], rows[0, 3:])
    positions = np.array([_numbers(header, "0020|0032", 3) for header in headers])
    order = np.argsort(positions @ normal)
    _check_stack(positions[order], normal, name)
    return [files[k] for k in order]


def _check_stack(positions: NDArray[np.float64], normal: NDArray[np.float64], name: str) -> None:
    """Check the slice positions [N, 3], sorted along `normal`."""
    steps = np.diff(positions, axis=0)
    gaps = steps @ normal
    usual = float(np.median(gaps))
    found = f"slices {gaps.min():.4g} to {gaps.max():.4g} mm apart, usually {usual:.4g}"
    if gaps.max() >= MISSING * usual or gaps.min() <= usual / MISSING:
        raise BadVolume(
            f"{name}: {found}: slices are missing, or several acquisitions are mixed"
            "; export the series again or resample it to even slices"
        )
    sideways = np.linalg.norm(steps.sum(axis=0) - gaps.sum() * normal) / gaps.sum()
    if sideways > TILT:
        degrees = math.degrees(math.atan(sideways))
        raise BadVolume(f"{name}: gantry tilt of {degrees:.1f} degrees; resample it to a box first")
    if np.ptp(gaps) > UNEVEN * usual:
        log.warning("%s: %s; read as if evenly spaced", name, found)


def last_line(error: Exception) -> str:
    """Return what ITK has to say, without where it says it from."""
    return str(error).strip().splitlines()[-1].strip()
