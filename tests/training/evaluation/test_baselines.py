"""SIFT as a baseline: where its points lie, and what it makes of little."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from landmark_dir.errors import LandmarkDirError
from training.evaluation.baselines import sift_inverse_consistency, sift_ratio_test

pytest.importorskip("cv2", reason="opencv-python-headless is not installed")

MATCHERS = (sift_inverse_consistency, sift_ratio_test)
SHAPE = (150, 180)


def blobs(shift_xy: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
    """A slice of 150 soft blobs, shifted exactly; HU."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    hu = np.zeros(SHAPE)
    for cx, cy, height, sigma in rng.uniform((15, 15, -150, 2), (165, 135, 150, 6), (150, 4)):
        away = (x - cx - shift_xy[0]) ** 2 + (y - cy - shift_xy[1]) ** 2
        hu += height * np.exp(-away / (2 * sigma**2))
    return hu


@pytest.mark.parametrize("matcher", MATCHERS)
def test_sift_finds_a_known_shift(matcher) -> None:  # type: ignore[no-untyped-def]
    xy_1, xy_2, score = matcher(blobs(), blobs((2.4, -3.3)))
    assert len(xy_1) == len(xy_2) == len(score) > 30
    assert ((score >= 0) & (score <= 1)).all()
    assert_allclose(np.median(xy_2 - xy_1, axis=0), (2.4, -3.3), atol=0.1)  # px


def test_0_is_the_centre_of_the_first_pixel() -> None:
    y, x = np.mgrid[:128, :160].astype(float)
    offset = []
    for centre in np.random.default_rng(0).uniform((60, 50), (90, 75), (40, 2)):
        hu = -100 + 300 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 3.0**2))
        xy = sift_inverse_consistency(hu, hu)[0]
        offset.append((xy - centre)[np.linalg.norm(xy - centre, axis=1) < 2].mean(axis=0))
    assert_allclose(np.mean(offset, axis=0), 0, atol=0.02)  # px; 0.25 without the correction


@pytest.mark.parametrize("matcher", MATCHERS)
@pytest.mark.parametrize("blank", ["first", "second", "both"])
def test_blank_slices_have_no_matches(matcher, blank: str) -> None:  # type: ignore[no-untyped-def]
    air = np.full(SHAPE, -1000.0)
    pair = {"first": (air, blobs()), "second": (blobs(), air), "both": (air, air)}[blank]
    xy_1, xy_2, score = matcher(*pair)
    assert xy_1.shape == xy_2.shape == (0, 2)
    assert score.shape == (0,)


def test_a_missing_opencv_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(LandmarkDirError, match="install opencv-python-headless"):
        sift_ratio_test(blobs(), blobs())
