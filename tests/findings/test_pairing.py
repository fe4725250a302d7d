"""Findings of two scans, one to one."""

import numpy as np

from landmark_dir.findings.pairing import pair

NONE = np.zeros((0, 3))


def _at(*x: float) -> np.ndarray:
    return np.array([(value, 0.0, 0.0) for value in x])


def test_none_pair_with_none() -> None:
    assert pair(NONE, np.zeros(0), _at(1.0)) == []
    assert pair(_at(1.0), np.ones(1), NONE) == []


def test_the_nearest_within_reach_are_paired_and_the_rest_is_left() -> None:
    reach = np.array([2.0, 2.0, 2.0])
    assert pair(_at(0.0, 10.0, 50.0), reach, _at(11.0, 0.5, 90.0)) == [(0, 1), (1, 0)]


def test_as_many_as_can_be_are_paired() -> None:
    """The nearest pair of all, 0 with 0.3, would leave two findings alone."""
    assert pair(_at(0.0, 1.0), np.array([3.0, 0.8]), _at(0.3, 2.0)) == [(0, 1), (1, 0)]


def test_no_finding_is_taken_twice() -> None:
    assert len(pair(_at(0.0, 0.2), np.array([9.0, 9.0]), _at(0.1))) == 1
