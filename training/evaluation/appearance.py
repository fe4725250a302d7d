"""How the second examination of a test pair looks: another contrast, bowel gas, another scanner."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

Floats = NDArray[np.float64]
Hu = NDArray[np.float32]
Mask = NDArray[np.bool_]

# The paper's "20 % of the maximum intensity", as HU. A fifth of the 4,096 HU of a CT would push
# soft tissue out of every window and measure the matchers' clipping; a fifth of a soft tissue
# window is what all of them see.
JITTER = 0.2  # either way
JITTER_WINDOW_HU = 400.0
JITTER_CENTRE_HU = 40.0  # stays where it is under a change of contrast

SOFT_HU = (-20.0, 120.0)  # where bowel, bladder and gas can be
WALL_MM = 25.0  # skin, fat and muscle around them
GAS_POCKETS = (1, 4)
GAS_HU = -900.0
GAS_RADIUS_MM = (4.0, 14.0)  # the longer semi-axis, as far as there is room
GAS_EDGE_MM = 1.0  # either side of the edge, as the scanner blurs it
GAS_FLATNESS = (0.5, 1.0)  # shorter semi-axis, of the longer one
FLUID_LEVEL = (0.1, 1.5)  # below the middle, of the longer semi-axis; beyond 1 there is no fluid
FLUID_HU = 15.0  # bowel contents below the gas

AGENT_HU = (30.0, 120.0)  # largest increase by contrast agent
AGENT_CURVE = ((20.0, 120.0, 200.0, 250.0), (0.0, 1.0, 1.0, 0.0))  # HU -> share of it
AGENT_SPACING_MM = 60.0  # organs take it up differently
AGENT_LEAST = 0.2  # share of it where least arrives
BONE_HU = 250.0

KERNEL_SIGMA_MM = (0.4, 0.9)  # of the softer kernel, or of the mask of the sharper one
SHARPENING = (0.3, 1.0)  # gain of the unsharp mask
NOISE_HU = (10.0, 30.0)  # standard deviation
NOISE_SIGMA_MM = 0.6  # its grain


def jitter_intensity(hu: Hu, rng: np.random.Generator) -> Hu:
    """Another contrast and brightness; see `JITTER`."""
    contrast = 1 + rng.uniform(-JITTER, JITTER)
    brightness = rng.uniform(-JITTER, JITTER) * JITTER_WINDOW_HU
    return JITTER_CENTRE_HU + contrast * (hu - JITTER_CENTRE_HU) + np.float32(brightness)


def add_contrast_agent(hu: Hu, body: Mask, rng: np.random.Generator) -> Hu:
    """Brighter vessels and organs; the brighter ones take up more, bone and fat nothing."""
    smooth = ndimage.gaussian_filter(hu, 1.5)  # the curve must not amplify noise
    share = np.interp(smooth, *AGENT_CURVE) * body
    near_bone = ndimage.gaussian_filter((smooth > BONE_HU).astype(np.float32), 3)
    share *= 1 - (3 * near_bone).clip(0, 1)  # marrow and edges have the HU of vessels
    size = [math.ceil(side / AGENT_SPACING_MM) + 1 for side in hu.shape]
    coarse = torch.from_numpy(rng.uniform(AGENT_LEAST, 1, size))[None, None]
    uptake = functional.interpolate(coarse, hu.shape, mode="bicubic", align_corners=True)
    share *= uptake[0, 0].numpy().clip(0, 1)
    return np.asarray(hu + rng.uniform(*AGENT_HU) * share, dtype=np.float32)


def soft_depth(hu: Hu, body: Mask) -> Floats:
    """Distance from all that is not soft tissue, mm; 0 there and in the body wall."""
    smooth = ndimage.gaussian_filter(hu, 1.5)
    from_skin = ndimage.distance_transform_edt(body)
    inner = from_skin > min(WALL_MM, from_skin.max() / 2)  # thin limbs have no inside
    soft = inner & (smooth > SOFT_HU[0]) & (smooth < SOFT_HU[1])
    return np.asarray(ndimage.distance_transform_edt(soft))


def deep_places(depth: Floats, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Random pixels (x, y) [count, 2] among the deeper half of the soft tissue, if any."""
    if not depth.any():
        return np.zeros((0, 2), dtype=np.int64)
    pixels = rng.choice(np.flatnonzero(depth >= np.median(depth[depth > 0])), count)
    return np.column_stack([pixels % depth.shape[1], pixels // depth.shape[1]])


def add_gas(hu: Hu, depth: Floats, rng: np.random.Generator) -> Hu:
    """A few pockets of bowel gas in soft tissue, with or without a fluid level."""
    count = int(rng.integers(GAS_POCKETS[0], GAS_POCKETS[1] + 1))
    for place in deep_places(depth, count, rng):
        room = max(float(depth[place[1], place[0]]), GAS_RADIUS_MM[0])
        hu = _with_pocket(hu, place, min(rng.uniform(*GAS_RADIUS_MM), room), rng)
    return hu


def _with_pocket(hu: Hu, place: NDArray[np.int64], radius: float, rng: np.random.Generator) -> Hu:
    """One ellipse of gas; the patient lies on the back, so fluid fills it from below."""
    y, x = (np.arange(side) - at for side, at in zip(hu.shape, place[::-1], strict=True))
    angle = rng.uniform(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    along, across = x * cos + y[:, None] * sin, y[:, None] * cos - x * sin
    far = np.hypot(along, across / rng.uniform(*GAS_FLATNESS))  # mm along the longer axis
    inside = _soft_step(radius - far)
    gas = _soft_step(rng.uniform(*FLUID_LEVEL) * radius - y)[:, None]
    content = gas * GAS_HU + (1 - gas) * FLUID_HU
    return (hu + inside * (content - hu)).astype(np.float32)


def _soft_step(mm: Floats) -> Floats:
    """0 to 1 over `GAS_EDGE_MM` either side of 0 mm."""
    return np.asarray((0.5 + 0.5 * mm / GAS_EDGE_MM).clip(0, 1))


def change_kernel(hu: Hu, rng: np.random.Generator) -> Hu:
    """Another reconstruction kernel: softer, or sharper by an unsharp mask."""
    soft: Hu = ndimage.gaussian_filter(hu, rng.uniform(*KERNEL_SIGMA_MM))
    return soft if rng.random() < 0.5 else hu + rng.uniform(*SHARPENING) * (hu - soft)


def add_noise(hu: Hu, rng: np.random.Generator) -> Hu:
    """White noise, smoothed a little."""
    white = rng.standard_normal(hu.shape, np.float32)
    noise: Hu = ndimage.gaussian_filter(white, NOISE_SIGMA_MM)
    return hu + noise * np.float32(rng.uniform(*NOISE_HU) / noise.std())
