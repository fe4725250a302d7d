"""Matchers: what is said of bad ones, and that the network's is `match_slices`."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage

from landmark_dir import match_slices
from landmark_dir.errors import LandmarkDirError
from landmark_dir.models.weights import load_weights
from training.evaluation.matchers import answer, external_matcher, network_matcher


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (None, "expected (xy_1, xy_2)"),
        (([[1, 2]],), "expected (xy_1, xy_2)"),
        ((np.zeros((4, 3)), np.zeros((4, 3))), r"image 1 of shape (N, 2), found (4, 3)"),
        ((np.zeros((4, 2)), np.zeros((3, 2))), "equal counts, row by row, found 4, 3"),
        ((np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(3)), "found 2, 2, 3"),
        ((np.zeros((2, 2)), np.full((2, 2), np.nan)), "finite points of image 2, found 2"),
    ],
)
def test_a_bad_answer_is_named(said: Any, sentence: str) -> None:
    with pytest.raises(LandmarkDirError) as caught:
        answer("theirs:match", lambda hu_1, hu_2: said, None, None)
    assert str(caught.value).startswith("matcher theirs:match: ")
    assert sentence in str(caught.value)


def test_an_empty_answer_is_an_answer() -> None:
    assert answer("theirs:match", lambda hu_1, hu_2: ([], []), None, None).xy_1.shape == (0, 2)


@pytest.mark.parametrize(
    "name", ["no_such_module:match", "training.data.pack:no_such", "training.data.pack"]
)
def test_a_missing_matcher_is_named(name: str) -> None:
    with pytest.raises(LandmarkDirError, match=f"matcher {name}: expected module:function"):
        external_matcher(name)


def test_the_network_matcher_is_match_slices() -> None:
    noise = np.random.default_rng(0).standard_normal((150, 180))
    one = (1000 * ndimage.gaussian_filter(noise, 4)).astype(np.float32)
    two = np.roll(one, 3, axis=1)
    answers = network_matcher(load_weights("paper"))(one, two), match_slices(one, two, "paper")
    assert len(answers[0][0])
    for found, expected in zip(*answers, strict=True):
        assert_allclose(found, expected)
