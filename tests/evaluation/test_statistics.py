"""Paired figures: difference, interval, p, and the worst share."""

import numpy as np
import pytest
from scipy import stats

from landmark_dir.evaluation.statistics import Difference, paired_difference, worst_share_mean

WITHOUT = np.array([2.0, 1.5, 3.0, 2.2, 4.1, 1.9, 2.6, 3.3])
WITH = np.array([1.2, 1.4, 1.1, 2.3, 2.0, 1.5, 2.1, 1.7])


def test_the_difference_is_with_minus_without() -> None:
    found = paired_difference(WITH, WITHOUT)
    assert (found.pairs, found.lower, found.higher) == (8, 7, 1)
    assert found.mean == pytest.approx(np.mean(WITH) - np.mean(WITHOUT))
    swapped = paired_difference(WITHOUT, WITH)
    assert (swapped.mean, swapped.low) == pytest.approx((-found.mean, -found.high))
    assert swapped.p == found.p


def test_interval_and_p_are_those_of_scipy() -> None:
    found = paired_difference(WITH, WITHOUT)
    want = stats.ttest_rel(WITH, WITHOUT).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((want.low, want.high))
    assert found.p == pytest.approx(stats.wilcoxon(WITH, WITHOUT).pvalue)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [paired_difference(rng.normal(0.3, 1, 7), np.zeros(7)) for _ in range(1000)]
    share = np.mean([d.low <= 0.3 <= d.high for d in found])
    assert share == pytest.approx(0.95, abs=0.02)  # 3 standard errors of 1000 trials


def test_five_pairs_say_too_little_for_a_p() -> None:
    assert np.isnan(paired_difference(np.zeros(5), np.arange(1.0, 6.0)).p)
    assert paired_difference(np.zeros(6), np.arange(1.0, 7.0)).p == pytest.approx(2 / 2**6)
    equal = np.concatenate([np.zeros(5), np.full(20, 3.0)])  # pairs without a difference
    assert np.isnan(paired_difference(equal, np.concatenate([np.arange(1.0, 6.0), equal[5:]])).p)


def test_no_pairs_one_pair_and_equal_pairs() -> None:
    assert np.isnan(paired_difference([], []).mean)
    one = paired_difference([1.0], [3.0])
    assert (one.pairs, one.mean, one.lower) == (1, -2.0, 1)
    assert np.isnan(one.low)
    equal = paired_difference(WITH, WITH)
    assert equal[:4] == (8, 0.0, 0.0, 0.0)
    assert isinstance(equal, Difference)


@pytest.mark.parametrize(
    ("with_", "without", "said"),
    [
        ([1.0], [1.0, 2.0], "one length"),
        ([[1.0]], [[1.0]], "one length"),
        ([1.0, np.nan], [1.0, 2.0], "NaN"),
    ],
)
def test_what_is_not_paired_is_refused(with_: list, without: list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        paired_difference(with_, without)


def test_the_worst_share_rounds_up_and_takes_one_at_least() -> None:
    distances = np.array([5.0, 1.0, 9.0, 2.0, 7.0, 3.0, 4.0, 6.0, 8.0, 0.0])
    assert worst_share_mean(distances) == 8.0  # 7, 8, 9
    assert worst_share_mean(distances, 0.31) == 7.5  # 6, 7, 8, 9
    assert worst_share_mean(distances, 0.0) == 9.0
    assert np.isnan(worst_share_mean([]))
