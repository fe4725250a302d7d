"""What is known of a place, and the radius made of it."""

from pathlib import Path

import numpy as np
from numpy.testing import assert_allclose

from landmark_dir.findings.certainty import (
    FEATURES,
    FEWEST,
    FLOOR_MM,
    Calibration,
    features,
    read_calibration,
    shipped,
)
from landmark_dir.io.run_folder import write_json
from landmark_dir.points import PointPairs
from landmark_dir.transforms.chain import Chain, Linear

STILL = Chain((Linear(np.eye(3), np.zeros(3), np.zeros(3)),))


class Wave:
    """Bends along x, with a wave of 40 mm."""

    def map_points(self, points: np.ndarray) -> np.ndarray:
        moved = np.array(points, dtype=float)
        moved[:, 1] += 3 * np.sin(points[:, 0] * 2 * np.pi / 40)
        return moved

    def itk(self) -> object:
        raise NotImplementedError


def _pairs(count: int = 300, off_mm: float = 0.0) -> PointPairs:
    """In a cube of 200 mm; where x > 0 the moving points are off."""
    rng = np.random.default_rng(0)
    fixed = rng.uniform(-100, 100, (count, 3))
    moving = fixed + np.array([0, 0, off_mm]) * (fixed[:, :1] > 0)
    return PointPairs(fixed, moving)


def test_residuals_near_a_place_count_more_than_those_far_away() -> None:
    places = np.array([[-60.0, 0, 0], [60.0, 0, 0]])
    known = np.exp(features(STILL, _pairs(off_mm=4.0), 2.0, places))
    assert_allclose(known[:, 0], [FLOOR_MM, 4.0 + FLOOR_MM])
    assert_allclose(known[:, 1], [FLOOR_MM, 4.0 + FLOOR_MM])
    assert_allclose(known[:, 4], 2.0)


def test_few_landmarks_around_a_place_show() -> None:
    known = np.exp(features(STILL, _pairs(), 2.0, np.array([[0.0, 0, 0], [180.0, 180, 180]])))
    assert known[1, 2] > 2.5 * known[0, 2]


def test_a_bend_shows_and_an_affine_map_does_not() -> None:
    turned = Linear(np.array([[1.1, 0.2, 0], [-0.2, 0.9, 0], [0, 0.1, 1]]), np.zeros(3), np.ones(3))
    place = np.array([[10.0, 0, 0]])  # at the crest
    straight, bent = (
        np.exp(features(chain, _pairs(), 2.0, place))[0, 3]
        for chain in (Chain((turned,)), Chain((Wave(), turned)))
    )
    assert straight < 0.051
    assert bent > 0.5


def test_with_few_held_back_landmarks_nothing_is_known() -> None:
    assert np.isnan(features(STILL, _pairs(FEWEST - 1), 2.0, np.zeros((2, 3)))).all()


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = Calibration(np.arange(1.0, 2 + len(FEATURES)), (0.5, 0.95), (0.9, 2.5))
    write_json(tmp_path / "r.json", made.described())
    read = read_calibration(tmp_path / "r.json")
    known = np.random.default_rng(0).normal(size=(5, len(FEATURES)))
    assert_allclose(read.radii_mm(known), made.radii_mm(known))
    assert_allclose(
        made.radii_mm(np.zeros((1, len(FEATURES)))), np.exp(1.0) * np.array([[0.9, 2.5]])
    )


def test_the_shipped_radii_grow_with_residuals_and_with_their_level() -> None:
    calibration, known = shipped(), np.zeros((2, len(FEATURES)))
    known[1, :2] = 1.0
    radii = calibration.radii_mm(known)
    assert calibration.levels == (0.5, 0.8, 0.95)
    assert (np.diff(radii, axis=1) > 0).all()
    assert (radii[1] > radii[0]).all()
