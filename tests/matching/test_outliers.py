"""Outliers among planted ones; a spread selection."""

import numpy as np
import pytest

from landmark_dir.matching.outliers import (
    agreeing,
    reject_outliers,
    select_spread,
    spread_rows,
)
from landmark_dir.options import OutlierOptions
from landmark_dir.points import PointPairs


def _smooth_pairs(count: int, rng: np.random.Generator, noise_mm: float = 0.5) -> PointPairs:
    fixed = rng.uniform(-100, 100, (count, 3))
    move = np.stack(
        [8 * np.sin(fixed[:, 1] / 60), 0.05 * fixed[:, 0], 6 * np.cos(fixed[:, 2] / 50)], axis=1
    )
    moving = fixed + move + rng.normal(0, noise_mm, (count, 3))
    return PointPairs(fixed, moving, rng.uniform(0.5, 1, count))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_planted_outliers_go_and_the_rest_stays(share: float) -> None:
    rng = np.random.default_rng(1)
    pairs = _smooth_pairs(2000, rng)
    bad = rng.random(2000) < share
    moving = pairs.moving.copy()
    moving[bad] += rng.uniform(20, 60, (bad.sum(), 1)) * rng.choice([-1, 1], (bad.sum(), 3))
    kept = reject_outliers(PointPairs(pairs.fixed, moving, pairs.score))
    good = {tuple(p) for p in pairs.fixed[~bad]}
    wrong = sum(tuple(p) not in good for p in kept.fixed)
    assert wrong <= 0.001 * 2000
    assert len(kept) - wrong >= 0.97 * (~bad).sum()


def test_outliers_below_the_floor_are_no_outliers() -> None:
    rng = np.random.default_rng(2)
    fixed = rng.uniform(-100, 100, (500, 3))
    moving = fixed * [1.1, 0.9, 1.0] + rng.uniform(-0.5, 0.5, (500, 3))
    assert len(reject_outliers(PointPairs(fixed, moving, np.ones(500)))) == 500


@pytest.mark.parametrize("count", [0, 1, 10])
def test_too_few_pairs_cannot_be_judged(count: int) -> None:
    assert len(reject_outliers(_smooth_pairs(count, np.random.default_rng(3)))) == 0


def test_too_few_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="neighbours: expected 5 to 1000, found 4"):
        OutlierOptions(neighbours=4)


def test_selection_is_spread_and_takes_the_best() -> None:
    rng = np.random.default_rng(4)
    pairs = _smooth_pairs(5000, rng)
    pairs.fixed[:4000] *= 0.1  # most in one lump
    chosen = select_spread(pairs, 300)
    assert 200 < len(chosen) <= 300
    lump = np.abs(chosen.fixed).max(1) <= 10
    assert lump.mean() < 0.2
    assert chosen.score.mean() > pairs.score.mean()


def test_small_sets_are_kept_whole() -> None:
    pairs = _smooth_pairs(10, np.random.default_rng(5))
    assert len(select_spread(pairs, 10)) == 10


def test_the_few_that_a_mess_leaves_are_not_trusted() -> None:
    rng = np.random.default_rng(6)
    fixed = rng.uniform(-100, 100, (200, 3))
    moving = rng.uniform(-100, 100, (200, 3))  # nothing corresponds
    assert len(reject_outliers(PointPairs(fixed, moving, np.ones(200)))) == 0


@pytest.mark.parametrize("size", [2, 3])
def test_agreeing_points_are_told_in_two_and_three_dimensions(size: int) -> None:
    rng = np.random.default_rng(10)
    fixed = rng.uniform(-100, 100, (1500, size))
    moving = fixed + 8 * np.sin(fixed[:, ::-1] / 60) + rng.normal(0, 0.5, fixed.shape)
    bad = rng.random(1500) < 0.2
    moving[bad] += rng.uniform(10, 60, (int(bad.sum()), 1)) * rng.choice([-1, 1], (bad.sum(), size))
    rows = agreeing(fixed, moving)
    assert np.array_equal(rows, np.unique(rows))
    assert bad[rows].sum() <= 2
    assert (~bad[rows]).sum() >= 0.97 * (~bad).sum()


@pytest.mark.parametrize("dense", [False, True])
def test_a_cluster_that_jumped_and_agrees_with_itself_goes(dense: bool) -> None:
    """A vertebra taken for the next one."""
    pairs = _smooth_pairs(2000, np.random.default_rng(11))
    fixed, moving = pairs.fixed.copy(), pairs.moving.copy()
    middle = np.array([20.0, 30.0, -10.0])
    jumped = np.argsort(np.linalg.norm(fixed - middle, axis=1))[:50]
    moving[jumped] += [0.0, 0.0, 15.0]
    if dense:  # its neighbours are its own: only the tear around it tells
        fixed[jumped], moving[jumped] = (
            middle + 0.3 * (fixed[jumped] - middle),
            moving[jumped].mean(0) + 0.3 * (moving[jumped] - moving[jumped].mean(0)),
        )
    rows = agreeing(fixed, moving)
    assert not np.isin(jumped, rows).any()
    assert len(rows) >= 0.97 * 1950
    if dense:
        believed = agreeing(fixed, moving, OutlierOptions(part_share=0.0))
        assert np.isin(jumped, believed).all()


def test_large_parts_that_slide_along_each_other_stay() -> None:
    """Lung against chest wall: both halves agree with themselves."""
    rng = np.random.default_rng(12)
    fixed = rng.uniform(-100, 100, (2000, 3))
    moving = fixed + rng.normal(0, 0.3, fixed.shape)
    moving[fixed[:, 0] > 0, 2] += 12.0
    kept = fixed[agreeing(fixed, moving)]
    for half in (kept[:, 0] > 25, kept[:, 0] < -25):
        assert half.sum() > 0.95 * 2000 * 75 / 200
    assert len(kept) > 0.75 * 2000  # at the interface neighbours do contradict


def test_what_is_kept_can_always_be_judged() -> None:
    kept = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        fixed = rng.uniform(0, 100, (31, 2))
        moving = fixed + 4 * rng.standard_t(1.5, fixed.shape)
        kept.append(len(agreeing(fixed, moving, OutlierOptions(coarse_mm=30.0, rounds=3))))
    assert any(kept)
    assert all(count == 0 or count > 24 for count in kept)


def test_spread_rows_are_the_best_of_each_cube() -> None:
    corners = 50.0 * np.array(list(np.ndindex(2, 2, 2)))
    points = np.repeat(corners, 10, axis=0) + np.random.default_rng(14).uniform(0, 1, (80, 3))
    score = np.random.default_rng(15).uniform(0, 1, 80)
    rows = spread_rows(points, score, 8)
    best = [10 * k + int(score[10 * k : 10 * k + 10].argmax()) for k in range(8)]
    assert rows.tolist() == best
    assert spread_rows(points, score, 80).tolist() == list(range(80))
    assert spread_rows(points[:0], score[:0], 5).tolist() == []


def test_points_in_one_place_are_one_point() -> None:
    assert spread_rows(np.ones((20, 3)), np.arange(20.0), 4).tolist() == [19]


def test_a_torn_off_cluster_inside_a_crowd_goes_whole() -> None:
    """80 landmarks within 15 mm that jumped by 14 mm, amid 4,000 that agree with each other."""
    pairs = _smooth_pairs(4000, np.random.default_rng(20))
    rng = np.random.default_rng(21)
    middle = np.array([10.0, -20.0, 5.0])
    inner = middle + 15 * rng.normal(size=(80, 3)) / 2.5
    crowd = np.linalg.norm(pairs.fixed - middle, axis=1) > 18
    shift = (pairs.moving - pairs.fixed)[np.argmin(np.linalg.norm(pairs.fixed - middle, axis=1))]
    fixed = np.concatenate([inner, pairs.fixed[crowd]])
    moving = np.concatenate(
        [inner + shift + [0.0, 0.0, 14.0] + rng.normal(0, 0.5, inner.shape), pairs.moving[crowd]]
    )
    rows = agreeing(fixed, moving)
    assert not (rows < 80).any()
    assert len(rows) >= 0.97 * crowd.sum()
    assert (agreeing(fixed, moving, OutlierOptions(part_share=0.0)) < 80).sum() > 60
