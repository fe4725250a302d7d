"""Distances, folding, similarity."""

import numpy as np
import pytest
import SimpleITK as sitk

from landmark_dir.evaluation.metrics import (
    correlation,
    folding,
    summarise,
)
from landmark_dir.geometry import Points


def test_summary_of_none_is_nan_and_of_some_is_right() -> None:
    assert np.isnan(summarise(np.zeros(0)).mean)
    found = summarise(np.array([0.0, 2.0, 7.0]))
    assert found == (3, 3.0, 2.0, 6.5, 7.0, 7.0)  # points, mean, median, p95, worst 30 %, max


def test_a_scaling_has_its_jacobian_on_an_oblique_grid(oblique_ct: sitk.Image) -> None:
    def scale(points: Points) -> Points:
        return points * [1.1, 1.0, 1.0]

    found = folding(scale, oblique_ct)
    assert found.folded_share == 0
    assert found.sd_log_jacobian == pytest.approx(0, abs=1e-9)


def test_a_reflection_is_folded_everywhere(oblique_ct: sitk.Image) -> None:
    assert folding(lambda points: points * [-1.0, 1.0, 1.0], oblique_ct).folded_share == 1


def test_folding_counts_inside_the_mask_only(oblique_ct: sitk.Image) -> None:
    mask = sitk.Image(oblique_ct.GetSize(), sitk.sitkUInt8)
    mask.CopyInformation(oblique_ct)
    assert np.isnan(folding(lambda points: points, oblique_ct, mask).folded_share)


def test_correlation(oblique_ct: sitk.Image) -> None:
    assert correlation(oblique_ct, oblique_ct) == pytest.approx(1)
    assert correlation(oblique_ct, -oblique_ct) == pytest.approx(-1)
