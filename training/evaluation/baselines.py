"""OpenCV SIFT with default values, the baselines of the seed paper ([paper] sec. 3.1).

It sees the slices in 8 bit, made with the network's own grey scale, so that both see the same. SIFT
wants more contrast than that: through a soft tissue window it finds about twice as many matches, so
who compares fairly shows both. Needs `opencv-python-headless` (the extra `train`).
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from landmark_dir.errors import LandmarkDirError
from landmark_dir.preprocessing.intensity import CT

Array: TypeAlias = NDArray[np.float64]
Slice: TypeAlias = NDArray[np.floating] | NDArray[np.integer]

Window: TypeAlias = tuple[float, float] | None

SOFT_TISSUE_HU = CT.windows[0]
LOWE_RATIO = 0.8  # Lowe, Int J Comput Vis 60, 2004, sec. 7.1; [paper] ref. 21
# OpenCV doubles the image without regard for pixel centres, so all its SIFT points lie a quarter of
# a pixel too far to the right and bottom (opencv/opencv#23123; measured in
# tests/training/evaluation/test_baselines.py)
SIFT_BIAS_PX = 0.25
LARGEST_DISTANCE = 512 * 2**0.5  # of two SIFT descriptors, which are non-negative and 512 long


def opencv() -> ModuleType:
    """OpenCV, an optional part.

    Raises
    ------
    LandmarkDirError
        If it is not installed.
    """
    try:
        import cv2  # optional: only who compares with SIFT needs it
    except ImportError as error:
        raise LandmarkDirError(
            "SIFT baselines: opencv is not installed; "
            "install opencv-python-headless or leave the baselines out"
        ) from error
    return cv2


def sift_inverse_consistency(
    hu_1: Slice, hu_2: Slice, window_hu: Window = None
) -> tuple[Array, Array, Array]:
    """Match two slices with SIFT, brute force, each the other's nearest ([paper] sec. 3.1 a).

    Parameters
    ----------
    hu_1, hu_2 : ndarray, shape (H, W)
        HU at 1 mm; the shapes may differ.
    window_hu : (lower, upper), optional
        What becomes 0..255; else the network's grey scale does (`InputScale`).

    Returns
    -------
    xy_1, xy_2 : ndarray, shape (N, 2)
        Corresponding points, px, x then y; 0 is the centre of the first pixel. N may be 0.
    score : ndarray, shape (N,)
        1 at equal descriptors, 0 at the largest possible distance.
    """
    cv2 = opencv()
    (keypoints_1, one), (keypoints_2, two) = (_detect(hu, window_hu) for hu in (hu_1, hu_2))
    if one is None or two is None:
        return _points(keypoints_1, []), _points(keypoints_2, []), np.zeros(0)
    matches = cv2.BFMatcher(crossCheck=True).match(one, two)
    score = np.array([1 - match.distance / LARGEST_DISTANCE for match in matches])
    return *_both(keypoints_1, keypoints_2, matches), score


def sift_ratio_test(
    hu_1: Slice, hu_2: Slice, window_hu: Window = None
) -> tuple[Array, Array, Array]:
    """Match two slices with SIFT, brute force, nearest well before second ([paper] sec. 3.1 b).

    Arguments and points as in `sift_inverse_consistency`; the score is 1 minus the ratio of both
    distances. Several points of slice 1 may share a point of slice 2, as in the original.
    """
    cv2 = opencv()
    (keypoints_1, one), (keypoints_2, two) = (_detect(hu, window_hu) for hu in (hu_1, hu_2))
    if one is None or two is None:
        return _points(keypoints_1, []), _points(keypoints_2, []), np.zeros(0)
    nearest = [pair for pair in cv2.BFMatcher().knnMatch(one, two, k=2) if len(pair) == 2]
    kept = [(a, b) for a, b in nearest if a.distance < LOWE_RATIO * b.distance]
    score = np.array([1 - first.distance / second.distance for first, second in kept])
    return *_both(keypoints_1, keypoints_2, [first for first, _ in kept]), score


def _detect(hu: Slice, window_hu: Window) -> tuple[Sequence[Any], NDArray[np.float32] | None]:
    """Keypoints of a slice and their descriptors; None where there are none."""
    share = np.interp(hu, window_hu, (0, 1)) if window_hu else (CT.to_network(hu) + 1) / 2
    grey = np.rint(share * 255).astype(np.uint8)
    keypoints, descriptors = opencv().SIFT_create().detectAndCompute(grey, None)
    return keypoints, descriptors if len(keypoints) else None


def _both(one: Sequence[Any], two: Sequence[Any], matches: Sequence[Any]) -> tuple[Array, Array]:
    """Points of both slices, row by row."""
    return (
        _points(one, [match.queryIdx for match in matches]),
        _points(two, [match.trainIdx for match in matches]),
    )


def _points(keypoints: Sequence[Any], rows: Sequence[int]) -> Array:
    return np.array([keypoints[row].pt for row in rows]).reshape(-1, 2) - SIFT_BIAS_PX
