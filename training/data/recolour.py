"""Other grey values than those of CT: what another contrast, CBCT or MRI may make of a slice.

Nothing here imitates a modality. Curves, bias and texture are drawn anew for each pair, so that a
network learns to see shapes whatever their grey values, as in SynthMorph [Hoffmann 2022].
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from landmark_dir.matching import patch_alignment

KNOTS = 9  # of a curve, even in network units: one every 100 HU of soft tissue
MONOTONE = 0.4  # share of the curves that only rise or only fall
DARK_AIR = 0.8  # share of the curves that leave air black
SAME = 0.5  # share of the pairs with one curve for both images
PLAIN = 0.25  # share with CT in one of them
BIAS = 0.4  # largest natural logarithm of the sensitivity
BIAS_SPACING_PX = 64.0
TEXTURE = 0.12  # largest standard deviation, network units
TEXTURE_SIGMA_PX = (1.0, 4.0)
NOISE = 0.08  # largest standard deviation of white noise
AIR = -0.97  # network units: darker is air


@dataclass(frozen=True)
class Colouring:
    """A curve from network units to network units, and how strongly the rest varies.

    Attributes
    ----------
    curve : Tensor, shape (KNOTS,)
        Values at even places from -1 to 1.
    """

    curve: Tensor

    def apply(self, image: Tensor, rng: torch.Generator) -> Tensor:
        """An image [1, H, W] with these grey values, its own bias, texture and noise."""
        device, shape = image.device, image.shape[-2:]
        local = torch.Generator().manual_seed(int(torch.randint(2**31, (1,), generator=rng)))
        strength = torch.rand(3, generator=local)
        curve = self.curve.to(device)
        at = (image.clamp(-1, 1) + 1) * (KNOTS - 1) / 2
        low = at.floor().clamp(max=KNOTS - 2)
        value = torch.lerp(curve[low.long()], curve[low.long() + 1], at - low)
        size = [math.ceil(side / BIAS_SPACING_PX) + 2 for side in shape]
        coarse = 2 * torch.rand((1, 1, *size), generator=local) - 1
        bias = functional.interpolate(coarse, shape, mode="bicubic", align_corners=True)[0]
        sensitivity = (BIAS * strength[0] * bias).exp().to(device)
        low_px, high_px = TEXTURE_SIGMA_PX
        sigma = low_px + (high_px - low_px) * float(torch.rand((), generator=local))
        grain = patch_alignment.blur(torch.randn(shape, generator=local), sigma, sigmas=3.0)
        white = torch.randn(shape, generator=local)
        grain = TEXTURE * strength[1] * grain / grain.std()
        rough = (grain.to(device) * (image > AIR)) + (NOISE * strength[2] * white).to(device)
        return ((value + 1) * sensitivity - 1 + rough).clamp(-1, 1)


def draw_colourings(
    share: float, rng: torch.Generator
) -> tuple[Colouring | None, Colouring | None]:
    """What becomes of the two images of a pair; None: they stay CT. A share of 0 draws nothing."""
    if not share or float(torch.rand((), generator=rng)) >= share:
        return None, None
    one, kind = _draw(rng), float(torch.rand((), generator=rng))
    if kind < SAME:
        return one, one
    if kind >= 1 - PLAIN:
        return (None, one) if float(torch.rand((), generator=rng)) < 0.5 else (one, None)
    return one, _draw(rng)


def _draw(rng: torch.Generator) -> Colouring:
    curve = 2 * torch.rand(KNOTS, generator=rng) - 1
    monotone, falls, dark = torch.rand(3, generator=rng).tolist()
    if monotone < MONOTONE:
        curve = curve.sort(descending=falls < 0.5).values
    if dark < DARK_AIR:
        curve[0] = -1.0
    return Colouring(curve)
