"""Places of the planes of a stack: even, to be resampled to an even box, or refused."""

import math

import numpy as np
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume
from landmark_dir.io.dicom_files import EXPORT_AGAIN
from landmark_dir.io.dicom_planes import Plane, Vector

ROUNDED_MM = 0.05  # tags are rounded; a voxel that is nearer to its place is in its place
TOLERATED_MM = 0.2  # up to here with a warning
SAME_PLACE_MM = 1e-3  # nearer slices are at the same place
SHORTEST_RUN = 3  # planes or gaps; a shuffled order has shorter runs
MISSING = 1.5  # times the next slice distance; half of a slice is missing
ALIKE = 1.25  # times the smallest slice distance
LARGEST_GAP_MM = 10.0  # the thickest slices that CT is read in; beyond, anatomy cannot be guessed
LARGEST_RATIO = 5.0  # of slice distances, 1 mm and 5 mm; beyond, most of the volume is made up
LARGEST_TILT = 30.0  # degrees, the limit of gantries
FEWEST = 4  # planes; of fewer one cannot tell a tilt or an uneven step from a wrong tag
EVEN_OUT = "open it in 3D Slicer with 'Acquisition geometry regularization', save it as NRRD"


def slice_distance(places: Vector, planes: list[Plane], name: str) -> tuple[float, str]:
    """Return the distance of even slices, and what is uneven in the planes; "" if nothing is.

    Uneven planes are to be resampled. The slices then begin at the first plane and end at the
    last one, and are about as far apart as the planes where these are closest (`_finest`).

    Parameters
    ----------
    places : ndarray, shape (N,)
        Along the normal, mm, rising.
    planes : list of Plane
        In the same order.

    Raises
    ------
    BadVolume
        If planes lie at one place, some seem to be missing or of another acquisition, or a gap is
        too large to interpolate: beyond `LARGEST_GAP_MM`, or `LARGEST_RATIO` times the smallest.
    """
    gaps = np.diff(places)
    if (same := np.flatnonzero(gaps < SAME_PLACE_MM)).size:
        one, other = (_called(planes[k]) for k in (same[0], same[0] + 1))
        raise BadVolume(
            f"{name}: {same.size} of {len(planes)} slices lie where another one lies, such as {one}"
            f" and {other}: copies, or several acquisitions; leave one of each in the folder"
        )
    length, usual = float(places[-1] - places[0]), float(np.median(gaps))
    alike = usual / MISSING < gaps.min() and gaps.max() < MISSING * usual
    if alike and _off_even(places) <= TOLERATED_MM:
        return length / len(gaps), ""
    _check_one_acquisition(places, name)
    _check_gaps(gaps, name)
    count = math.ceil(length / _finest(gaps) - 0.1)
    return length / count, f"slices {gaps.min():.4g} to {gaps.max():.4g} mm apart"


def _called(plane: Plane) -> str:
    return f"{plane.file.name} frame {plane.frame + 1}" if plane.number is None else plane.file.name


def _off_even(places: Vector) -> float:
    """How far a plane lies beside its place in an even stack, mm, at most."""
    return float(np.abs(places - np.linspace(places[0], places[-1], len(places))).max())


def _check_one_acquisition(places: Vector, name: str) -> None:
    """Refuse two or three even stacks that lie between each other."""
    for count in (2, 3):
        stacks = [places[first::count] for first in range(count)]
        if len(stacks[-1]) >= SHORTEST_RUN and max(map(_off_even, stacks)) <= TOLERATED_MM:
            raise BadVolume(
                f"{name}: the slices form {count} even stacks that lie between each other: several"
                " acquisitions are mixed; export each as a series of its own"
            )


def _check_gaps(gaps: Vector, name: str) -> None:
    usual = float(np.median(gaps))
    found = f"slices {gaps.min():.4g} to {gaps.max():.4g} mm apart, usually {usual:.4g}"
    if _has_odd_gaps(gaps):
        raise BadVolume(
            f"{name}: {found}: slices are missing, or several acquisitions are mixed"
            f"; {EXPORT_AGAIN}, or each acquisition as a series of its own"
        )
    limit_mm = min(LARGEST_GAP_MM, LARGEST_RATIO * _finest(gaps))
    if gaps.max() > limit_mm + ROUNDED_MM:
        raise BadVolume(
            f"{name}: {found}, expected at most {limit_mm:.4g}: too far to interpolate"
            "; export parts of different slice distance as series of their own"
        )


def _has_odd_gaps(gaps: Vector) -> bool:
    """Tell whether slices seem to be missing or too many.

    Gaps are split into parts where one is `MISSING` times the next. A part of less than
    `SHORTEST_RUN` gaps is odd, but for the passage from a smaller to a larger slice distance.
    """
    steps = np.abs(np.diff(np.log(gaps)))
    parts = np.split(gaps, np.flatnonzero(steps >= math.log(MISSING)) + 1)
    for k, part in enumerate(parts):
        around = [parts[k - 1][-1], parts[k + 1][0]] if 0 < k < len(parts) - 1 else [0.0, 0.0]
        passage = min(around) < part.min() and part.max() < max(around)
        if len(part) < SHORTEST_RUN and not passage:
            return True
    return False


def _finest(gaps: Vector) -> float:
    """Return the median of the gaps that are about as small as the smallest, mm.

    So most slices stay as they are where one lies beside its place, and no plane is passed over:
    each counts by more than a third in one of the slices that are made.
    """
    return float(np.median(gaps[gaps <= ALIKE * gaps.min()]))


def tilt(positions: NDArray[np.float64], direction: NDArray[np.float64], name: str) -> str:
    """Tell by how many degrees the planes are tilted; "" if they lie behind each other.

    Parameters
    ----------
    positions : ndarray, shape (N, 3)
        Of the planes, in the order of their places, LPS mm.
    direction : ndarray, shape (3, 3)
        The axes x, y, and the normal as columns.

    Raises
    ------
    BadVolume
        If they jump sideways, each slice counts and not the ends alone, or the tilt is beyond
        `LARGEST_TILT`.
    """
    from_first = positions - positions[0]
    along = from_first @ direction[:, 2]
    sideways = from_first - along[:, None] * direction[:, 2]  # [N, 3]
    if np.linalg.norm(sideways, axis=1).max() <= TOLERATED_MM:
        return ""
    slope = along @ sideways / (along @ along)  # mm sideways per mm along the stack
    beside = np.linalg.norm(sideways - along[:, None] * slope, axis=1)
    if beside.max() > TOLERATED_MM:
        apart = float(np.linalg.norm(sideways - np.median(sideways, axis=0), axis=1).max())
        raise BadVolume(
            f"{name}: the slices do not lie behind each other, up to {apart:.3g} mm sideways"
            f" (stations that were centred anew?); {EXPORT_AGAIN} with one centre"
        )
    degrees = math.degrees(math.atan(float(np.linalg.norm(slope))))
    if degrees > LARGEST_TILT:
        raise BadVolume(
            f"{name}: gantry tilt of {degrees:.3g} degrees, expected at most {LARGEST_TILT:g}"
            f"; resample it to a box first ({EVEN_OUT})"
        )
    return f"gantry tilt of {degrees:.3g} degrees"


def offsets_mm(planes: list[Plane], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where each plane begins, from the first one, along the axes of `direction`, [N, 3].

    A step sideways that may be rounding of tags is 0, so that it does not blur a slice.
    """
    offsets = np.array([plane.position - planes[0].position for plane in planes]) @ direction
    sideways = offsets[:, :2]
    sideways[np.abs(sideways) <= ROUNDED_MM] = 0.0
    return np.asarray(offsets)
