"""A rigid motion among pairs many of which are wrong."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from landmark_dir.geometry import distances_mm
from landmark_dir.matching.rigid_fit import Rigid, find_rigid, fit_rigid, turned_by

TURNS = {  # degrees about x, y, z
    "none": (0, 0, 0),
    "rolled": (0, 0, 155),
    "feet first": (4, 180, 0),
    "feet first, prone, tilted": (174, 6, -9),
}


def planted(turn: tuple[float, ...], wrong: int, right: int = 60) -> tuple[np.ndarray, ...]:
    """Pairs far from the origin, `wrong` ones after the right ones; and the truth."""
    rng = np.random.default_rng(3)
    matrix = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    fixed = rng.uniform((-150, -100, -900), (150, 100, -600), (right + wrong, 3))
    moving = fixed @ matrix.T + (30.0, -400.0, 950.0)
    moving[:right] += rng.normal(0, 2, (right, 3))  # mm: tissue deforms
    moving[right:] = moving[right:][rng.permutation(wrong)]
    return fixed, moving, matrix


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_it_is_found_among_four_times_as_many_wrong_pairs(turn: tuple[float, ...]) -> None:
    fixed, moving, matrix = planted(turn, 240)
    found = find_rigid(fixed, moving, np.random.default_rng(0))
    assert found is not None
    rigid, agree = found
    assert agree[:60].all()
    assert agree[60:].mean() < 0.05
    assert turned_by(rigid.turn @ matrix.T) < 1.0  # degrees
    off = distances_mm(rigid.map_points(fixed[:60]), moving[:60])
    assert off.mean() < 4.5  # mm; noise alone makes 3.2


def test_nothing_is_mirrored() -> None:
    fixed, _, _ = planted(TURNS["none"], 0)
    moving = fixed * (-1.0, 1.0, 1.0)
    found = find_rigid(fixed, moving, np.random.default_rng(0))
    assert found is not None
    rigid, agree = found
    assert_allclose(np.linalg.det(rigid.turn), 1.0, atol=1e-9)
    assert agree.sum() < 40  # of 60, though all keep their distances


def test_a_turn_far_from_the_expected_one_is_not_taken() -> None:
    fixed, moving, matrix = planted(TURNS["rolled"], 0)
    near = find_rigid(fixed, moving, np.random.default_rng(0), matrix, 10.0)
    assert near is not None
    assert near[1].all()
    assert find_rigid(fixed, moving, np.random.default_rng(0), np.eye(3), 10.0) is None


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_pairs_say_nothing(count: int) -> None:
    points = np.arange(3.0 * count).reshape(count, 3) * 50
    assert find_rigid(points, points, np.random.default_rng(0)) is None


def test_there_and_back() -> None:
    fixed, moving, _ = planted(TURNS["feet first"], 0)
    rigid: Rigid = fit_rigid(fixed, moving)
    assert_allclose(rigid.inverse().map_points(rigid.map_points(fixed)), fixed, atol=1e-9)
    assert rigid.degrees() == pytest.approx(180, abs=1)
