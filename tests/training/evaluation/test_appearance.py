"""What the second examination looks like: gas, contrast agent and noise of the right size."""

import numpy as np
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from training.evaluation.appearance import add_contrast_agent, add_gas, add_noise, soft_depth


def test_gas_contrast_and_noise_are_of_the_right_size(
    tissue: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> None:
    rng = np.random.default_rng(0)
    hu, body = tissue
    depth = soft_depth(hu, body)
    for _ in range(10):
        gas = add_gas(hu, depth, rng)
        assert 20 < np.sum((gas < -500) & body) < 2500  # mm^2; 1-4 pockets of 4-14 mm
        assert_array_equal(gas[~body], hu[~body])
        added = add_contrast_agent(hu, body, rng) - hu
        assert added.min() >= 0
        assert 2 < added.max() <= 120
        assert not added[~body].any()
        noise = add_noise(hu, rng) - hu
        assert 9 < noise.std() < 31


def test_brighter_tissue_takes_up_more_contrast_agent_and_bone_none() -> None:
    hu = np.repeat(np.array([-100.0, 30.0, 110.0, 600.0], np.float32), 60)[None].repeat(200, 0)
    added = add_contrast_agent(hu, np.ones_like(hu, bool), np.random.default_rng(0)) - hu
    fat, muscle, vessel, bone = (added[:, k + 20 : k + 40].mean() for k in (0, 60, 120, 180))
    assert fat == bone == 0
    assert 0 < muscle < vessel / 2
