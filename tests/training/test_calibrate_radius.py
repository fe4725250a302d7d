"""Radii fitted to made errors hold the share that they state."""

import numpy as np

from landmark_dir.findings.certainty import FEATURES
from training.calibrate_radius import LEVELS, fit, held_out


def _made(seed: int, count: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors that grow with the first figure; those of lesions are half as large."""
    rng = np.random.default_rng(seed)
    known = rng.normal(0, 0.5, (count, len(FEATURES)))
    lesion = rng.random(count) < 0.3
    error = np.exp(known[:, 0]) * rng.chisquare(3, count) / 3 * np.where(lesion, 0.5, 1.0)
    return known, error, lesion


def test_the_stated_share_of_other_lesions_lies_within() -> None:
    calibration = fit(*_made(0))
    known, error, lesion = _made(1)
    share = (error[lesion, None] <= calibration.radii_mm(known[lesion])).mean(axis=0)
    assert np.abs(share - LEVELS).max() < 0.04
    assert calibration.weights[1] > 0.6
    assert np.abs(calibration.weights[2:]).max() < 0.1


def test_places_without_landmarks_take_no_part() -> None:
    known, error, lesion = _made(0)
    more = np.full((50, len(FEATURES)), np.nan)
    joined = fit(
        np.concatenate([known, more]),
        np.concatenate([error, np.full(50, 99.0)]),
        np.concatenate([lesion, np.ones(50, bool)]),
    )
    assert joined.factors == fit(known, error, lesion).factors


def test_each_volume_is_judged_by_the_others() -> None:
    parts = []
    for number in range(4):
        known, error, lesion = _made(number, 400)
        made = {"features": known, "error_mm": error, "lesion": lesion}
        parts.append({"volume": str(number), **made})
    told = held_out(parts)
    assert told.count("%") == 6
    shares = [float(word.split("%")[0]) for word in told.split(": ")[1].split(", ")]
    assert np.abs(np.array(shares) - 100 * np.array(LEVELS)).max() < 7
