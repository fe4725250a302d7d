"""The spline through landmarks: it follows smooth motion, and not an outlier."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from landmark_dir.geometry import Points
from landmark_dir.transforms import bspline_fit as module
from landmark_dir.transforms.bspline import BSpline
from landmark_dir.transforms.bspline_fit import LEVELS, fit_spline, refined

BOX = np.array([[-60.0, -40.0, 100.0], [140.0, 120.0, 220.0]])


def places(count: int, seed: int = 0) -> Points:
    return np.random.default_rng(seed).uniform(*BOX, (count, 3))


def motion(points: Points) -> Points:
    """Smooth, of some mm, with bends about 60 mm apart."""
    x, y, z = (points / 60).T
    return np.column_stack([4 * np.sin(x + z), 3 * np.cos(y), 2 * np.sin(x * y / 2) + 1])


def test_follows_smooth_motion_between_the_points() -> None:
    spline = fit_spline(places(3000), motion(places(3000)), BOX)
    new = places(500, seed=1)
    error = np.linalg.norm(spline.displacement(new) - motion(new), axis=1)
    assert np.median(error) < 0.1  # mm
    assert error.max() < 1.5  # mm, at the border


@pytest.mark.parametrize("grid_mm", [8.0, 16.0])
def test_finest_grid_is_the_one_asked_for(grid_mm: float) -> None:
    spline = fit_spline(places(300), motion(places(300)), BOX, grid_mm)
    assert_allclose(spline.spacing, grid_mm)
    assert len(spline.coefficients.shape) == 4


def test_an_affine_motion_goes_on_beyond_the_points() -> None:
    """Bending energy costs an affine motion nothing, so it is kept, also in a hole."""
    matrix = np.array([[0.02, 0.01, 0.0], [0.0, -0.03, 0.0], [0.01, 0.0, 0.02]])
    points = places(2000)
    points = points[np.linalg.norm(points - BOX.mean(axis=0), axis=1) > 35]
    spline = fit_spline(points, points @ matrix.T + 3.0, BOX)
    middle = BOX.mean(axis=0)[None]
    assert_allclose(spline.displacement(middle), middle @ matrix.T + 3.0, atol=0.2)  # mm


def test_outliers_count_little() -> None:
    points, rng = places(3000), np.random.default_rng(2)
    moved = motion(points)
    wrong = rng.choice(3000, 300, replace=False)
    spoilt = moved.copy()
    spoilt[wrong] += rng.normal(0, 20, (300, 3))
    new = places(500, seed=1)
    error = np.linalg.norm(fit_spline(points, spoilt, BOX).displacement(new) - motion(new), axis=1)
    assert np.median(error) < 0.4  # mm; the wrong ones are 20 mm off


def test_scatter_says_whom_to_trust() -> None:
    points = np.repeat(places(500), 2, axis=0)
    values = motion(points)
    values[1::2] += 1.0
    scatter = np.tile([0.1, 5.0], 500)
    error = fit_spline(points, values, BOX, scatter_mm=scatter).displacement(points)
    assert np.abs(error - motion(points)).mean() < 0.15  # mm; equal trust would give 0.5


def test_what_scatters_is_smoothed() -> None:
    points, rng = places(8000), np.random.default_rng(4)
    noisy = motion(points) + rng.normal(0, 1.0, points.shape)
    scatter = np.full(len(points), 1.5)
    new = places(500, seed=1)
    error = fit_spline(points, noisy, BOX, scatter_mm=scatter).displacement(new) - motion(new)
    assert np.median(np.linalg.norm(error, axis=1)) < 0.35  # mm; 1.5 of each point


def test_what_slides_stays_sharp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two halves slide along each other by 8 mm: a stiff spline would bend for centimetres."""
    points, new = places(8000), places(2000, seed=1)

    def slid(at: Points) -> Points:
        return np.column_stack([np.zeros((len(at), 2)), np.where(at[:, 0] > 40, 4.0, -4.0)])

    def off() -> float:
        error = fit_spline(points, slid(points), BOX).displacement(new) - slid(new)
        beside = np.abs(np.abs(new[:, 0] - 40) - 15) < 5  # 10 to 20 mm from where they slide
        return float(np.linalg.norm(error[beside], axis=1).mean())

    sharp = off()
    monkeypatch.setattr(module, "SHARP_PER_MM", 1e9)  # every bend costs the same
    assert sharp < 0.5 * off()
    assert sharp < 0.2  # mm


def test_refining_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    origin, spacing = np.array([1.0, 2.0, 3.0]), np.full(3, 20.0)
    coarse = BSpline(rng.normal(0, 1, (3, 7, 8, 9)), origin, spacing, np.eye(3))
    inner = coarse.origin + 20.0 * rng.uniform(2, [6, 5, 4], (200, 3))  # x, y, z
    assert_allclose(refined(coarse).displacement(inner), coarse.displacement(inner), atol=1e-12)
    assert LEVELS > 1
