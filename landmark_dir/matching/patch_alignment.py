"""Least-squares matching: the place of a landmark below the pixel, measured in the images.

Each landmark's patch of image 1 is compared with image 2 through the local affine motion and moved
to where the squared differences, up to brightness and contrast, are least. All landmarks move at
once, by the inverse compositional Gauss-Newton step, in two dimensions or in three.

References
----------
Gruen, Adaptive least squares correlation, S. Afr. J. of Photogrammetry 14 (1985); Baker and
Matthews, Lucas-Kanade 20 years on, IJCV 56 (2004).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from landmark_dir.models.device import share

GAIN = (1 / 3, 3.0)  # contrast of a patch of image 2, of that of image 1
STEP_MM = 1.5  # longest step of an iteration
AT_ONCE = 1024  # landmarks
DAMPING = 1e-5  # squared grey units a mm: flat patches stay where they are


class Level(NamedTuple):
    """One pass over the landmarks: coarse ones see far, fine ones see exactly."""

    blur_px: float  # of both images first, in-plane
    step_mm: float  # between the samples of a patch, in-plane
    radius: float  # of a patch, steps
    iterations: int


LEVELS = (Level(1.5, 3.0, 3.5, 4), Level(0.6, 1.5, 4.5, 3))  # of slices
LEVELS_3D = (Level(1.5, 3.0, 3.5, 3), Level(0.6, 2.0, 3.5, 2))  # three slices to a patch
SIGMA = 0.56  # of the patch's Gaussian weight, of its radius


class Patch(NamedTuple):
    """Where a patch is sampled, from its middle: offsets [P, D] in pixels, weights [P]."""

    offsets: Tensor
    weights: Tensor


def align(
    images_1: Tensor,
    images_2: Tensor,
    points_1: Tensor,
    points_2: Tensor,
    motion: Tensor,
    spacing: Tensor,
    levels: tuple[Level, ...] = LEVELS,
) -> tuple[Tensor, Tensor]:
    """Move the points of image 2 to where the patches around them fit best.

    Parameters
    ----------
    images_1, images_2 : Tensor, shape (H, W) or (Z, H, W)
        Grey values of one scale.
    points_1, points_2 : Tensor, shape (N, D), px
        x, y (, z); `points_2` within about 2 px of the truth.
    motion : Tensor, shape (N, D, D)
        Local affine part of the motion, px of image 2 per px of image 1.
    spacing : Tensor, shape (D,), mm

    Returns
    -------
    points_2 : Tensor, shape (N, D), px
    correlation : Tensor, shape (N,)
        Of the two patches, -1..1.
    """
    correlation = points_2.new_ones(len(points_2))
    for level in levels:
        blurred_1, blurred_2 = (blur(image, level.blur_px) for image in (images_1, images_2))
        patch = _patch(level, spacing)
        points_2, correlation = _pass(
            blurred_1, blurred_2, points_1, points_2, motion, spacing, patch, level.iterations
        )
    return points_2, correlation


def blur(image: Tensor, sigma_px: float, sigmas: float = 2.5) -> Tensor:
    """Gaussian filter of an image [..., H, W], in-plane, cut off at `sigmas`; edges go on."""
    reach = max(1, round(sigmas * sigma_px))
    x = torch.arange(-reach, reach + 1)
    bell = torch.exp(-0.5 * (x / sigma_px).square())
    for axis in (-1, -2):
        size = image.shape[axis]
        total = torch.zeros_like(image)
        for offset, weight in zip(x.tolist(), (bell / bell.sum()).tolist(), strict=True):
            middle = image.narrow(axis, max(offset, 0), size - abs(offset))
            total.narrow(axis, max(-offset, 0), size - abs(offset)).add_(middle, alpha=weight)
            edge = image.narrow(axis, 0 if offset < 0 else size - 1, 1)
            ends = total.narrow(axis, 0 if offset < 0 else size - offset, abs(offset))
            ends.add_(edge, alpha=weight)
        image = total
    return image


def _patch(level: Level, spacing: Tensor) -> Patch:
    """A disc, in 3D on three neighbouring slices."""
    reach = int(level.radius)
    steps = torch.arange(-reach, reach + 1, device=spacing.device).float()
    axes = [steps, steps] + [torch.tensor([-1.0, 0.0, 1.0], device=spacing.device)] * (
        len(spacing) - 2
    )
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, len(spacing))
    far = grid[:, :2].norm(dim=1)
    grid, far = grid[far <= level.radius], far[far <= level.radius]
    offsets = grid.clone()
    offsets[:, :2] *= level.step_mm / spacing[:2]
    weights = torch.exp(-0.5 * (far / (SIGMA * level.radius)).square())
    if len(spacing) == 3:
        weights = weights * torch.where(grid[:, 2] == 0, 1.0, 0.5)
    return Patch(offsets, weights / weights.sum())


def sample(images: Tensor, points: Tensor) -> Tensor:
    """Linear values [C, N, P] of images [C, (Z,) H, W] at points [N, P, D] px; edges go on."""
    if images.ndim == 3:
        return _sample_slices(images, points)
    channels, depth, height, width = images.shape
    last = points.new_tensor([width - 1, height - 1, depth - 1])
    x, y, z = points.clamp(torch.zeros_like(last), last).unbind(-1)
    low = z.floor()
    share = z - low
    pile = images.view(channels, -1, width)  # slices below each other: 2D sampling is quicker
    y = torch.addcmul(y, low, points.new_tensor(float(height)))
    first = _sample_slices(pile, torch.stack([x, y], -1))
    if not share.any():  # all points lie in slices
        return first
    y = torch.where(share > 0, y + height, y)
    return first.lerp_(_sample_slices(pile, torch.stack([x, y], -1)), share)


def _sample_slices(images: Tensor, points: Tensor) -> Tensor:
    extent = points.new_tensor(images.shape[:0:-1])
    grid = torch.addcmul(1 / extent - 1, points, 2 / extent)[None]
    values = functional.grid_sample(images[None], grid, padding_mode="border", align_corners=False)
    return values[0]


def _with_slopes(image: Tensor) -> Tensor:
    """An image and its slopes along x, y (, z), grey units a px: [1 + D, ...]; edges go on."""
    slopes = []
    for axis in range(-1, -1 - image.ndim, -1):
        size = image.shape[axis]
        first, last = image.narrow(axis, 0, 1), image.narrow(axis, size - 1, 1)
        slope = torch.cat([image.narrow(axis, 1, size - 1), last], axis)
        slope -= torch.cat([first, image.narrow(axis, 0, size - 1)], axis)
        slopes.append(slope.mul_(0.5))
    return torch.stack([image, *slopes])


def _pass(
    image_1: Tensor,
    image_2: Tensor,
    points_1: Tensor,
    points_2: Tensor,
    motion: Tensor,
    spacing: Tensor,
    patch: Patch,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    """All landmarks, some at a time: what is at work then stays in the processor's cache."""
    seen_1, seen_2 = _with_slopes(image_1), image_2[None]

    def pulled(start: int) -> tuple[Tensor, Tensor]:
        at_1, at_2, bend = (part[start : start + AT_ONCE] for part in (points_1, points_2, motion))
        return _pulled(seen_1, seen_2, at_1, at_2, bend, spacing, patch, iterations)

    starts = range(0, max(1, len(points_2)), AT_ONCE)
    found, correlation = zip(*share(pulled, starts, points_2.device), strict=True)
    return torch.cat(found), torch.cat(correlation)


def _pulled(
    seen_1: Tensor,
    seen_2: Tensor,
    points_1: Tensor,
    points_2: Tensor,
    motion: Tensor,
    spacing: Tensor,
    patch: Patch,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    weights = patch.weights
    around_1 = _centred(sample(seen_1, points_1[:, None] + patch.offsets), weights)  # [1 + D, N, P]
    template = around_1[0]
    slope_mm = (around_1[1:] / spacing[:, None, None]).permute(1, 0, 2)  # [N, D, P] units a mm
    normal = (slope_mm * weights) @ slope_mm.transpose(1, 2)
    normal = normal + DAMPING * torch.eye(len(spacing), device=normal.device)
    inverse = torch.linalg.inv(normal)
    around_2 = patch.offsets @ motion.transpose(1, 2)
    for _ in range(iterations):
        seen = _centred(sample(seen_2, points_2[:, None] + around_2)[0], weights)
        gain = _product(seen, template, weights) / _product(seen, seen, weights).clamp(min=1e-9)
        off = (gain.clamp(*GAIN)[:, None] * seen - template) * weights
        step = -(inverse @ (slope_mm @ off[..., None]))[..., 0]  # mm of image 1
        step = step * (STEP_MM / step.norm(dim=1, keepdim=True).clamp(min=STEP_MM))
        points_2 = points_2 + (motion @ (step / spacing)[..., None])[..., 0]
    seen = _centred(sample(seen_2, points_2[:, None] + around_2)[0], weights)
    power = _product(seen, seen, weights) * _product(template, template, weights)
    return points_2, _product(seen, template, weights) / power.clamp(min=1e-12).sqrt()


def _centred(values: Tensor, weights: Tensor) -> Tensor:
    return values - (values @ weights)[..., None]


def _product(one: Tensor, two: Tensor, weights: Tensor) -> Tensor:
    return (one * two) @ weights
