"""Findings of one scan carried to the other, each with a radius and a verdict of its place."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.findings.certainty import Calibration, features
from landmark_dir.findings.extent import determinants
from landmark_dir.geometry import Points, as_points, distances_mm, inside, physical_to_index
from landmark_dir.registration.result import Result
from landmark_dir.transforms.fields import invert_points

SIDES = ("fixed", "moving")
RING_MM = (20.0, 40.0)  # the surroundings of a place
BORDER_MM = 5.0  # from the first and last slice of a scan, within which landmarks are missing
FOUND_MM = 0.01  # residual of the inverse of a place that has one
DOUBTFUL_MM = 5.0  # radius of 95 % from where on a place is doubtful
CRUSHED, STRETCHED = 0.4, 2.5  # Jacobian determinants beyond which a place is doubtful


@dataclass(frozen=True)
class Places:
    """Places [N, 3], LPS mm, in both scans; row i of one is row i of the other.

    Attributes
    ----------
    fixed, moving : ndarray, shape (N, 3)
    radii_mm : ndarray, shape (N, L)
        Within so many mm of the carried place the true one lies, at each level of the calibration;
        NaN: not known, as for all that lies outside a scan.
    jacobian : ndarray, shape (N,)
        Determinant of dT/dx there.
    against_surroundings_mm : ndarray, shape (N,)
        How far from where its surroundings, 20 to 40 mm away, would take the place.
    inside : ndarray of bool, shape (N,)
        Whether the carried place lies in the other scan.
    doubts : list of list of str
        Why a place is doubtful; empty: it is good.
    """

    fixed: Points
    moving: Points
    radii_mm: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    against_surroundings_mm: NDArray[np.float64]
    inside: NDArray[np.bool_]
    doubts: list[list[str]]

    def on(self, side: str) -> Points:
        """The places in one scan."""
        return self.fixed if side == "fixed" else self.moving


def other(side: str) -> str:
    """The other of the two scans."""
    return SIDES[1 - SIDES.index(side)]


def carry_places(result: Result, places: Points, of: str, calibration: Calibration) -> Places:
    """Carry places [N, 3], LPS mm, of one scan to the other.

    Parameters
    ----------
    of : str
        The scan that the places lie in: fixed or moving.
    """
    places, chain = as_points(places), result.chain
    if of == "fixed":
        fixed, moving = places, chain.map_points(places)
        solved = np.ones(len(places), bool)
    else:
        fixed, moving = invert_points(chain, places), places
        solved = distances_mm(chain.map_points(fixed), moving) <= FOUND_MM
    slice_mm = max(image.GetSpacing()[2] for image in (result.grid, result.moving_grid))
    radii = calibration.radii_mm(features(chain, result.held_back, slice_mm, fixed))
    scans = {"fixed": (result.grid, fixed), "moving": (result.moving_grid, moving)}
    within = {side: inside(*scan) for side, scan in scans.items()}
    radii[~(within["fixed"] & within["moving"])] = np.nan
    border_mm = np.minimum(*(_from_ends_mm(*scan) for scan in scans.values()))
    jacobian = determinants(chain, fixed)
    doubts = [
        _doubts(
            of,
            lies_in=within[of][row],
            arrives_in=within[other(of)][row],
            solved=bool(solved[row]),
            radius_mm=float(radii[row, -1]),
            border_mm=float(border_mm[row]),
            jacobian=float(jacobian[row]),
            guided=len(result.landmarks) > 0,
            verdict=result.verdict.verdict,
        )
        for row in range(len(places))
    ]
    surroundings = _by_surroundings(result, fixed)
    return Places(
        fixed,
        moving,
        radii,
        jacobian,
        distances_mm(moving, surroundings),
        within[other(of)],
        doubts,
    )


def _doubts(
    of: str,
    *,
    lies_in: bool,
    arrives_in: bool,
    solved: bool,
    radius_mm: float,
    border_mm: float,
    jacobian: float,
    guided: bool,
    verdict: str,
) -> list[str]:
    seen = bool(lies_in and arrives_in)
    said = {
        f"outside the {of} scan, where the transform is a guess": not lies_in,
        f"outside the {other(of)} scan": not arrives_in,
        "no place there leads to it": not solved,
        f"within {BORDER_MM:g} mm of the end of a scan": seen and border_mm < BORDER_MM,
        "no landmarks were held back, so nothing says how sure it is": seen and np.isnan(radius_mm),
        "no landmarks guided it, and of such runs the radius is too small": not (
            guided or np.isnan(radius_mm)
        ),
        f"95 % radius {radius_mm:.2f} mm, more than {DOUBTFUL_MM:g}": radius_mm > DOUBTFUL_MM,
        f"tissue changes its volume {jacobian:.2f} times there": not (
            CRUSHED <= jacobian <= STRETCHED
        ),
        "the registration has failed": verdict == "failed",
    }
    return [text for text, holds in said.items() if holds]


def _from_ends_mm(grid: sitk.Image, places: Points) -> NDArray[np.float64]:
    """How far places [N, 3] lie from the outer face of the first or the last slice; 0 beyond."""
    k = physical_to_index(grid, places)[:, 2]
    slices = np.minimum(k + 0.5, grid.GetSize()[2] - 0.5 - k)
    return np.asarray(np.maximum(slices, 0) * grid.GetSpacing()[2])


def _by_surroundings(result: Result, fixed: Points) -> Points:
    """Where an affine fit to the transform around places [N, 3], but not at them, puts them."""
    rng = np.random.default_rng(0)
    rays = rng.normal(size=(60, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    offsets = rays * rng.uniform(*RING_MM, (60, 1))
    mapped = result.chain.map_points((fixed[:, None] + offsets).reshape(-1, 3))
    design = np.column_stack([np.ones(len(offsets)), offsets])
    around = mapped.reshape(len(fixed), len(offsets), 3).transpose(1, 0, 2)
    fitted = np.linalg.lstsq(design, around.reshape(len(offsets), -1), rcond=None)[0]
    return np.asarray(fitted[0].reshape(len(fixed), 3))
