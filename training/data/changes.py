"""What changes in a slice between two examinations besides motion, for training, on its device.

The same changes as in the `followup` test set (`training.evaluation.appearance`), with constants of
their own.
"""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from landmark_dir.matching import patch_alignment
from landmark_dir.preprocessing.intensity import AIR_HU

SOFT_HU = (-20.0, 120.0)  # where agent arrives and gas can be
AGENT_HU = (-80.0, 160.0)  # more or less contrast agent than before, where most arrives
AGENT_CURVE = (20.0, 120.0, 250.0)  # HU where uptake starts, is full, and is bone
AGENT_SPACING_PX = 48.0  # organs take it up differently
GAS_POCKETS = 4  # at most
GAS_RADIUS_PX = (3.0, 15.0)
GAS_HU, FLUID_HU = -900.0, 15.0
SOFTER_SIGMA_PX = (0.4, 1.2)
SHARPER_GAIN = (0.3, 1.5)
GRAIN_SIGMA_PX = 0.7  # of noise that is not white

blur = partial(patch_alignment.blur, sigmas=3.0)  # here nobody waits for it


def _uniform(low: float, high: float, rng: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def change(hu: Tensor, body: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Let each change happen to a slice with a probability.

    Parameters
    ----------
    hu : Tensor, shape (H, W), HU at 1 mm
    body : Tensor of bool, shape (H, W)
    share : float
        Probability of each change.
    rng : torch.Generator on the CPU
    """
    happens = torch.rand(4, generator=rng) < share
    if happens[0]:
        hu = change_agent(hu, body, rng)
    if happens[1]:
        hu = add_gas(hu, body, rng)
    if happens[2]:
        hu = torch.where(body, hu, AIR_HU)  # no table, no clothes, arms elsewhere
    if happens[3]:
        hu = change_kernel(hu, rng)
    return hu


def change_agent(hu: Tensor, body: Tensor, rng: torch.Generator) -> Tensor:
    """More or less contrast agent in vessels and organs; the brighter ones take up more."""
    start, full, bone = AGENT_CURVE
    smooth = blur(hu, 1.5)
    share = ((smooth - start) / (full - start)).clamp(0, 1) * body
    share = share * (1 - 3 * blur((smooth > bone).float(), 3.0)).clamp(0, 1)
    size = [math.ceil(side / AGENT_SPACING_PX) + 1 for side in hu.shape]
    coarse = torch.rand(size, generator=rng)[None, None].to(hu.device)
    uptake = functional.interpolate(coarse, hu.shape[-2:], mode="bilinear", align_corners=True)
    return hu + _uniform(*AGENT_HU, rng) * share * uptake[0, 0]


def add_gas(hu: Tensor, body: Tensor, rng: torch.Generator) -> Tensor:
    """Pockets of bowel gas somewhere in soft tissue, some with a fluid level."""
    smooth = blur(hu, 3.0)
    places = (body & (smooth > SOFT_HU[0]) & (smooth < SOFT_HU[1])).nonzero().cpu()
    if not len(places):
        return hu
    y, x = (torch.arange(side, device=hu.device).float() for side in hu.shape)
    for _ in range(int(torch.randint(1, GAS_POCKETS + 1, (), generator=rng))):
        middle = places[int(torch.randint(len(places), (), generator=rng))].tolist()
        radius, angle = _uniform(*GAS_RADIUS_PX, rng), _uniform(0, math.pi, rng)
        down, across = (y - middle[0])[:, None], x - middle[1]
        along = across * math.cos(angle) + down * math.sin(angle)
        beside = down * math.cos(angle) - across * math.sin(angle)
        far = (along.square() + (beside / _uniform(0.5, 1.0, rng)).square()).sqrt()
        inside = (0.5 + 0.5 * (radius - far)).clamp(0, 1)
        gas = (0.5 + 0.5 * (_uniform(0.1, 1.5, rng) * radius - down)).clamp(0, 1)
        hu = hu + inside * (gas * GAS_HU + (1 - gas) * FLUID_HU - hu)
    return hu


def change_kernel(hu: Tensor, rng: torch.Generator) -> Tensor:
    """Another reconstruction kernel: softer, or sharper by an unsharp mask."""
    soft = blur(hu, _uniform(*SOFTER_SIGMA_PX, rng))
    if float(torch.rand((), generator=rng)) < 0.5:
        return soft
    return hu + _uniform(*SHARPER_GAIN, rng) * (hu - soft)


def noise(shape: tuple[int, int], grainy: bool, rng: torch.Generator) -> Tensor:
    """Noise [H, W] of standard deviation 1, white or of the grain of a soft kernel."""
    white = torch.randn(shape, generator=rng, device=rng.device)
    if not grainy:
        return white
    grain = blur(white, GRAIN_SIGMA_PX)
    return grain / grain.std()
