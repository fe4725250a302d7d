"""The measures on cases done by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from training.evaluation.measures import agreement, covered_share, errors

Array = NDArray[np.float64]


def shift(xy: Array) -> Array:
    """Image 2 -> image 1 of a made case."""
    return xy + (10.3, 0.0)


def test_errors_by_hand() -> None:
    xy_1 = np.array([[20.0, 5.0], [20.4, 5.4], [13.3, 9.0]])
    xy_2 = np.array([[9.7, 5.0], [10.4, 5.4], [0.0, 9.0]])
    error, rounded = errors(xy_1, xy_2, shift)
    assert_allclose(error, [0.0, 0.3, 3.0], atol=1e-9)
    # (20, 5) - round(10 + 10.3, 5); (20, 5) - round(10 + 10.3, 5); (13, 9) - round(10.3, 9)
    assert_allclose(rounded, [0, 0, 3])


def test_rounded_errors_are_distances_of_whole_pixels() -> None:
    xy_1 = np.random.default_rng(0).uniform(0, 50, (200, 2))
    _, rounded = errors(xy_1, xy_1 - (10.3, 0.0) + 0.9, shift)
    assert set((rounded**2).round(9)) <= {0.0, 1.0, 2.0, 4.0, 5.0, 8.0}


def test_no_matches_have_no_errors() -> None:
    none = np.zeros((0, 2))
    assert [len(part) for part in errors(none, none, shift)] == [0, 0]
    assert covered_share(np.ones((5, 5), dtype=bool), none) == 0


def test_the_body_is_covered_around_matches() -> None:
    body = np.zeros((40, 60), dtype=bool)
    body[10, 0:60] = True  # a line: the points at x = 20 reach from 10 to 30
    assert covered_share(body, np.array([[20.0, 10.0]])) == pytest.approx(21 / 60)
    assert covered_share(body, np.array([[20.0, 30.0]])) == 0


@pytest.mark.parametrize("wrong_share", [0.0, 0.1, 0.4])
def test_agreement_tells_planted_outliers(wrong_share: float) -> None:
    rng = np.random.default_rng(0)
    xy_1 = rng.uniform(0, 300, (400, 2))
    bend = 4 * np.sin(xy_1[:, ::-1] / 60)
    xy_2 = xy_1 @ [[0.9, 0.2], [-0.2, 1.1]] + (40, -15) + bend  # far from aligned
    wrong = rng.random(400) < wrong_share
    xy_2[wrong] = rng.uniform(0, 300, (wrong.sum(), 2))
    assert (agreement(xy_1, xy_2) == ~wrong).mean() > 0.97
    assert not agreement(xy_1[:12], xy_2[:12]).any()  # too few to judge


def test_matches_by_chance_do_not_agree() -> None:
    one, two = np.random.default_rng(0).uniform(0, 300, (2, 400, 2))
    assert agreement(one, two).mean() < 0.03


def test_a_match_that_is_found_twice_does_not_agree_with_itself() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.uniform(0, 300, (60, 2)), rng.uniform(0, 300, (60, 2))
    alone = agreement(one, two)
    twice = agreement(np.repeat(one, 9, axis=0), np.repeat(two, 9, axis=0))
    assert (twice.reshape(60, 9) == alone[:, None]).all()


def test_matches_on_a_grid_agree_though_many_lie_in_a_row() -> None:
    x, y = np.meshgrid(np.arange(1.5, 100, 4), np.arange(1.5, 80, 4))
    one = np.column_stack([x.ravel(), y.ravel()])
    assert agreement(one, one @ [[1.1, 0.1], [-0.1, 0.9]] + [7.0, -3.0]).all()
