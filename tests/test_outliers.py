"""Outliers among planted ones; a spread selection."""

import numpy as np
import pytest

from landmark_dir.outliers import OutlierOptions, reject_outliers, select_spread, settle
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
    with pytest.raises(ValueError, match="at least 5"):
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


def test_settling_brings_noisy_matches_nearer_to_the_truth() -> None:
    truth = _smooth_pairs(3000, np.random.default_rng(7), noise_mm=0.0)
    noisy = _smooth_pairs(3000, np.random.default_rng(7), noise_mm=2.0)
    assert np.array_equal(truth.fixed, noisy.fixed)
    before, after = (
        np.median(np.linalg.norm(pairs.moving - truth.moving, axis=1))
        for pairs in (noisy, settle(noisy))
    )
    assert after < 0.4 * before  # 25 matches share the noise of each axis
    assert np.array_equal(settle(noisy).fixed, noisy.fixed)


def test_settling_keeps_an_affine_motion_as_it_is() -> None:
    rng = np.random.default_rng(8)
    fixed = rng.uniform(-100, 100, (500, 3))
    pairs = PointPairs(fixed, fixed * [1.1, 0.9, 1.0] + 3, np.ones(500))
    assert np.abs(settle(pairs).moving - pairs.moving).max() < 0.05  # mm; the fit has a small ridge


def test_too_few_to_settle_stay() -> None:
    pairs = _smooth_pairs(24, np.random.default_rng(9))
    assert settle(pairs) is pairs
