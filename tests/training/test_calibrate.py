"""Scores that mean something: the regression, and what is written into a weights file."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from landmark_dir.errors import LandmarkDirError
from landmark_dir.io.volumes import write_volume
from landmark_dir.models.default import EVIDENCE, scores
from landmark_dir.models.weights import load_weights, shipped_weights
from landmark_dir.phantom.scanner import PhantomOptions, make_phantom
from training import calibrate
from training.calibrate import Samples, fit, volume_samples
from training.evaluation.tables import reliability_table


def _samples(count: int, truth: np.ndarray, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    evidence = rng.normal(
        [3.0] + [0.0] * (EVIDENCE - 1), [10.0] + [0.1] * (EVIDENCE - 1), (count, EVIDENCE)
    )
    probability = 1 / (1 + np.exp(-(truth[0] + evidence @ truth[1:])))
    return Samples(evidence, rng.random(count) < probability)


TRUTH = np.array([-0.5, 0.2, 5.0, 0.0, -8.0, 0.0, 3.0])


def test_the_regression_finds_the_weights_that_made_the_samples() -> None:
    found = fit(_samples(200_000, TRUTH))
    np.testing.assert_allclose(found, TRUTH, atol=0.3)


def test_scores_are_shares_on_other_samples() -> None:
    calibration = torch.from_numpy(fit(_samples(50_000, TRUTH))).float()
    fresh = _samples(50_000, TRUTH, seed=1)
    score = scores(calibration, torch.from_numpy(fresh.evidence).float()).numpy()
    for low in np.arange(0.1, 0.9, 0.1):
        of = (score >= low) & (score < low + 0.1)
        assert abs(fresh.right[of].mean() - score[of].mean()) < 0.03


def test_evidence_that_never_varies_breaks_nothing() -> None:
    samples = _samples(1000, TRUTH)
    samples.evidence[:, 2] = 7.0
    assert np.isfinite(fit(samples)).all()


def test_both_regressions_are_written_and_the_rest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(shutil.copy(shipped_weights()["default"], tmp_path))
    monkeypatch.setattr(calibrate, "slice_samples", lambda *_: _samples(5000, TRUTH))
    monkeypatch.setattr(calibrate, "volume_samples", lambda *_: _samples(5000, -TRUTH))
    text = calibrate.calibrate(file, tmp_path, [Path("a.nii.gz")], 1)
    assert "slices:" in text
    assert "volumes, round 2:" in text
    before, after = (load_weights(w, fold=False) for w in ("default", file))
    assert after.metadata["step"] == before.metadata["step"]
    slices, volumes = after.network.get_buffer("calibration").numpy()
    np.testing.assert_allclose(slices, fit(_samples(5000, TRUTH)), rtol=2e-3, atol=2e-3)  # half
    np.testing.assert_allclose(volumes, fit(_samples(5000, -TRUTH)), rtol=2e-3, atol=2e-3)
    for name, tensor in before.network.state_dict().items():
        if name != "calibration":
            torch.testing.assert_close(after.network.state_dict()[name], tensor)


def test_the_paper_network_has_a_score_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(LandmarkDirError, match="expected weights of the `default` network"):
        calibrate.calibrate(shipped_weights()["paper"], tmp_path, [], 1)


def test_the_table_shows_each_tenth_that_has_pairs() -> None:
    text = reliability_table(
        np.array([0.05, 0.95, 0.99, 1.0]), np.array([False, True, True, False])
    )
    assert text.splitlines()[2:] == [
        "| 0.0 - 0.1 | 1 | 0.05 | 0.00 |",
        "| 0.9 - 1.0 | 3 | 0.98 | 0.67 |",
    ]


@pytest.mark.engine
def test_volumes_give_samples_that_are_mostly_right(tmp_path: Path) -> None:
    options = PhantomOptions(size_xyz=(96, 80, 12), spacing_mm=(3.0, 3.0, 6.0))
    write_volume(make_phantom(options).fixed, tmp_path / "a.nii.gz")
    evidence, right = volume_samples(shipped_weights()["default"], [tmp_path / "a.nii.gz"])
    assert evidence.shape == (len(right), EVIDENCE)
    assert len(right) > 200
    assert right.mean() > 0.5
