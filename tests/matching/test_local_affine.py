"""Local affine fits: exact where the motion is affine, unmoved by outliers, never a crash."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from landmark_dir.matching import local_affine
from landmark_dir.matching.local_affine import local_motion, nearest

Array = NDArray[np.float64]
COUNT = 24


def _affine(size: int, count: int = 400) -> tuple[Array, Array, Array, Array]:
    """Points [N, D] mm, where an affine motion takes them, its gradient and its shift."""
    rng = np.random.default_rng(size)
    fixed = rng.uniform(-100, 100, (count, size))
    gradient, shift = rng.uniform(-0.2, 0.2, (size, size)), rng.uniform(-9, 9, size)
    return fixed, fixed + fixed @ gradient.T + shift, gradient, shift


@pytest.mark.parametrize("size", [2, 3])
def test_an_affine_motion_comes_out(size: int) -> None:
    fixed, moving, gradient, shift = _affine(size)
    places = np.random.default_rng(9).uniform(-80, 80, (50, size))  # no pair lies there
    rows = np.argsort(np.linalg.norm(fixed - places[:, None], axis=2), axis=1)[:, :COUNT]
    found = local_motion(places, fixed, moving, rows)
    assert_allclose(found.displacement, places @ gradient.T + shift, atol=5e-3)  # mm, the ridge
    assert_allclose(found.gradient, np.broadcast_to(gradient, (50, size, size)), atol=5e-4)
    assert_allclose(found.spread, 0, atol=5e-3)


def test_gradient_is_of_the_displacement_along_the_first_axis_by_the_second() -> None:
    fixed, _, _, _ = _affine(3)
    move = np.zeros_like(fixed)
    move[:, 0] = 0.3 * fixed[:, 2]  # x moves with z
    found = local_motion(fixed, fixed, fixed + move, nearest(fixed, COUNT))
    want = np.zeros((3, 3))
    want[0, 2] = 0.3
    assert_allclose(found.gradient, np.broadcast_to(want, (len(fixed), 3, 3)), atol=1e-3)


@pytest.mark.parametrize("size", [2, 3])
def test_a_third_of_outliers_does_not_bend_it(size: int) -> None:
    fixed, moving, gradient, _ = _affine(size, 2000)
    rng = np.random.default_rng(1)
    bad = rng.random(len(fixed)) < 0.3
    wrong = moving.copy()
    wrong[bad] += rng.uniform(-60, 60, (int(bad.sum()), size))
    found = local_motion(fixed, fixed, wrong, nearest(fixed, COUNT))
    off = np.linalg.norm(found.displacement - (moving - fixed), axis=1)
    assert np.median(off) < 0.2  # mm
    assert np.mean(off < 2) > 0.9
    bent = np.median(np.abs(found.gradient - gradient), axis=0)
    assert bent.max() < 0.01


def test_spread_is_the_scatter_of_the_neighbours() -> None:
    fixed, moving, _, _ = _affine(3, 3000)
    noise = np.random.default_rng(2).normal(0, 1.0, moving.shape)
    found = local_motion(fixed, fixed, moving + noise, nearest(fixed, COUNT))
    # median length of a 3D normal deviate is 1.54; the fit takes some of it
    assert 1.1 < np.median(found.spread) < 1.54


@pytest.mark.parametrize("flat", [1, 2])
def test_pairs_on_a_plane_or_a_line_give_their_motion(flat: int) -> None:
    fixed, _, _, _ = _affine(3)
    fixed[:, :flat] = 5.0
    moving = fixed + [1.0, -2.0, 3.0] + 0.1 * fixed
    found = local_motion(fixed, fixed, moving, nearest(fixed, COUNT))
    assert_allclose(found.displacement, moving - fixed, atol=5e-3)  # mm
    assert_allclose(found.gradient[:, 2, 2], 0.1, atol=1e-3)
    assert_allclose(found.gradient[:, :, :flat], 0, atol=1e-3)  # nothing is known across


def test_parts_of_a_large_set_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, moving, _, _ = _affine(2)
    moving = moving + np.random.default_rng(3).normal(0, 1, moving.shape)
    rows = nearest(fixed, COUNT)
    whole = local_motion(fixed, fixed, moving, rows)
    monkeypatch.setattr(local_affine, "CHUNK", 33)
    for one, two in zip(whole, local_motion(fixed, fixed, moving, rows), strict=True):
        assert_allclose(one, two, atol=1e-9)


def test_no_places_have_no_motion() -> None:
    fixed, moving, _, _ = _affine(3)
    none = local_motion(fixed[:0], fixed, moving, np.zeros((0, COUNT), dtype=np.intp))
    assert [part.shape for part in none] == [(0, 3), (0, 3, 3), (0,)]


def test_nearest_are_the_others_in_order_of_distance() -> None:
    fixed = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [7.0, 0.0]])
    assert_array_equal(nearest(fixed, 2), [[1, 2], [0, 2], [1, 0], [2, 1]])
