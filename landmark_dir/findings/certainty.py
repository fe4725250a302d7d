"""How sure a carried place is: a radius in mm, from the landmarks around it.

What speaks for a place are the residuals of held-back landmarks near it, how dense they lie, how
sharply the transform bends there, and how thick the slices are. How these make a radius was fitted
to places of simulated follow-ups of training patients, whose truth is known
(`training.calibrate_radius`); `radius.json` says on which.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from landmark_dir.geometry import Points, distances_mm
from landmark_dir.points import PointPairs
from landmark_dir.transforms.chain import Chain

NEAR, FAR = 8, 40  # held-back landmarks: those at a place, and those of its region
FLOOR_MM = 0.2  # below, residuals and errors are alike
BEND_MM = 12.0  # around a place, where the transform is held against an affine map
BEND_FLOOR_MM = 0.05
FEATURES = ("at the place", "in its region", "sparse", "bend", "slice")
FEWEST = FAR  # held-back landmarks; with fewer nothing is known


@dataclass(frozen=True)
class Calibration:
    """How figures of a place become radii.

    Attributes
    ----------
    weights : ndarray, shape (1 + len(FEATURES),)
        Intercept and slopes: natural logarithm of the error that is to be expected, mm.
    levels : tuple of float
        Shares of the places, 0..1.
    factors : tuple of float
        Of the expected error: within so many of them lies such a share of the places.
    """

    weights: NDArray[np.float64]
    levels: tuple[float, ...]
    factors: tuple[float, ...]

    def radii_mm(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Radius for each place and level [N, L]."""
        expected = np.exp(self.weights[0] + features @ self.weights[1:])
        return np.asarray(expected[:, None] * np.array(self.factors))

    def described(self) -> dict[str, Any]:
        """As in the file."""
        slopes = zip(FEATURES, self.weights[1:].tolist(), strict=True)
        factors = zip(map(str, self.levels), self.factors, strict=True)
        return {
            "intercept": float(self.weights[0]),
            "slopes": dict(slopes),
            "factors": dict(factors),
        }


def read_calibration(path: Path) -> Calibration:
    """Read what `training.calibrate_radius` wrote."""
    return _calibration(path.read_text("utf-8"))


@cache
def shipped() -> Calibration:
    """The calibration that ships with the package."""
    return _calibration(
        (resources.files("landmark_dir.findings") / "radius.json").read_text("utf-8")
    )


def _calibration(text: str) -> Calibration:
    content = json.loads(text)
    weights = [content["intercept"], *(content["slopes"][name] for name in FEATURES)]
    factors = content["factors"]
    return Calibration(np.array(weights), tuple(map(float, factors)), tuple(factors.values()))


def features(
    chain: Chain, held_back: PointPairs, slice_mm: float, fixed: Points
) -> NDArray[np.float64]:
    """What speaks for carried places [N, 3], fixed LPS mm; logarithms, [N, len(FEATURES)].

    NaN where fewer than `FEWEST` landmarks were held back.

    Parameters
    ----------
    slice_mm : float
        Thickness of the thicker slices of the two scans.
    """
    if len(held_back) < FEWEST:
        return np.full((len(fixed), len(FEATURES)), np.nan)
    residual = distances_mm(chain.map_points(held_back.fixed), held_back.moving)
    away, rows = cKDTree(held_back.fixed).query(fixed, k=FAR)
    figures = [
        np.median(residual[rows[:, :NEAR]], axis=1) + FLOOR_MM,
        np.quantile(residual[rows], 0.8, axis=1) + FLOOR_MM,
        away[:, NEAR - 1],
        _bend_mm(chain, fixed) + BEND_FLOOR_MM,
        np.full(len(fixed), slice_mm),
    ]
    return np.asarray(np.log(np.stack(figures, axis=1)))


def _bend_mm(chain: Chain, places: Points) -> NDArray[np.float64]:
    """How far the transform deviates from an affine map around places [N, 3], root mean square."""
    offsets = BEND_MM * _directions()
    around = (places[:, None] + offsets).reshape(-1, 3)
    mapped = chain.map_points(around).reshape(len(places), len(offsets), 3)
    design = np.column_stack([np.ones(len(offsets)), offsets])
    fitted = (
        design
        @ np.linalg.lstsq(design, mapped.transpose(1, 0, 2).reshape(len(offsets), -1), rcond=None)[
            0
        ]
    )
    left = mapped.transpose(1, 0, 2).reshape(len(offsets), -1) - fitted
    squared = np.square(left).reshape(len(offsets), len(places), 3).sum(axis=2)
    return np.asarray(np.sqrt(squared.mean(axis=0)))


def _directions() -> NDArray[np.float64]:
    """To the faces and corners of a cube, and half as far: unit vectors and halves of them."""
    cube = np.array([v for v in np.ndindex(3, 3, 3)]) - 1.0
    length = np.linalg.norm(cube, axis=1)
    kept = (length == 1) | (length > 1.5)
    unit = cube[kept] / length[kept, None]
    return np.concatenate([unit, unit / 2])
