"""Organs that are fuller than before push their surroundings outward."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from training.evaluation import motion


def test_fillings_push_outward(
    tissue: tuple[NDArray[np.float32], NDArray[np.bool_]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(motion, "FILLINGS", 1)
    hu, body = tissue
    for seed in range(8):
        bumps = motion.random_fillings(hu, body, np.random.default_rng(seed))
        if not len(bumps.sigma):
            continue
        warp = motion._with(motion._still(body.shape), bumps)
        middle = bumps.centre.mean(0) + warp.middle
        on_ring = middle + 1.3 * bumps.sigma[0] * np.array([[1, 0], [0, 1], [-0.6, 0.8]])
        now = warp.from_source(torch.from_numpy(on_ring)[None])[0].numpy()
        outward = np.linalg.norm(now - middle, axis=1) - np.linalg.norm(on_ring - middle, axis=1)
        assert np.all((outward > 1.5) & (outward < 7.1))  # mm, `FILLING_MM` at its peak
