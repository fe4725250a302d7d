"""Pixels to polygons and back."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from landmark_dir.structures.contours import fill
from landmark_dir.structures.outlines import outlines


def area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@pytest.mark.parametrize("seed", range(20))
def test_polygons_give_back_the_pixels(seed: int) -> None:
    """Islands, holes, islands in holes, pixels that touch by a corner, and the borders."""
    rng = np.random.default_rng(seed)
    plane = gaussian_filter(rng.normal(size=(40, 50)), rng.uniform(0.1, 3)) > 0
    polygons = list(outlines(plane))
    assert np.array_equal(fill(polygons, plane.shape), plane)
    assert all((polygon != np.roll(polygon, 1, axis=0)).any(axis=1).all() for polygon in polygons)


def test_an_area_is_half_a_pixel_less() -> None:
    y, x = np.mgrid[:40, :40]
    disk = np.hypot(x - 20, y - 18) < 12.3
    (polygon,) = outlines(disk)
    assert area(polygon) == pytest.approx(disk.sum() - 0.5)
    assert np.abs(np.linalg.norm(polygon - (20, 18), axis=1) - 12.3).max() < 0.75  # pixels


def test_two_holes_and_an_island_in_one_of_them() -> None:
    y, x = np.mgrid[:60, :60]
    plane = np.hypot(x - 30, y - 30) < 28
    plane &= np.hypot(x - 40, y - 30) > 9.2
    plane &= np.hypot(x - 18, y - 30.3) > 6.1
    plane |= np.hypot(x - 40, y - 30) < 4
    polygons = list(outlines(plane))
    assert len(polygons) == label(plane)[1] == 2
    assert np.array_equal(fill(polygons, plane.shape), plane)
    for polygon in polygons:  # also where only whole polygons are filled, one by one
        own = fill([polygon], plane.shape)
        assert not (own & ~plane).any()


def test_straight_lines_have_two_points() -> None:
    plane = np.zeros((20, 30), bool)
    plane[4:15, 3:28] = True
    (polygon,) = outlines(plane)
    assert len(polygon) == 8  # the corners are cut


def test_nothing_has_no_outline() -> None:
    assert not list(outlines(np.zeros((5, 6), bool)))
