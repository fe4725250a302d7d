"""How the body moves between the images of a test pair: random `Warp`s, image 2 -> image 1."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from landmark_dir.preprocessing.intensity import AIR_HU
from training.data.augment import Warp, sample_slice
from training.evaluation.appearance import Floats, Hu, Mask, deep_places, soft_depth

MIN_SEEN = 0.7  # least share of the body that image 2 shows; slices are cut close to the body
TRIES = 100  # affine maps drawn before giving up on MIN_SEEN

BUMP_SPACING_MM = 40.0  # of the Gaussian centres, before jitter
BUMP_SIGMA = (0.8, 1.2)  # of the spacing
BUMP_HEIGHT_SD = 0.6  # of the mean height
TURN_RAD_PER_MM = (0.015, 0.025)  # how fast the direction of the bumps turns across the slice
TURN_SD_RAD = 1.0
MAX_STEEPNESS = 0.7  # largest norm of du/dx: < 1 cannot fold, and `from_source` converges
ELASTIC_MM = (12.0, 1.5)  # median displacement of a pair, mean and SD over pairs
FOLLOWUP_ELASTIC_MM = (6.0, 1.5)

FILLINGS = 2  # at most; bowel loops or a bladder that are fuller than before
FILLING_MM = (3.0, 7.0)  # outward motion of the wall
FILLING_SIGMA_MM = (18.0, 30.0)
FILLING_RING = 8  # bumps that push outward together
RING_PEAK = 1.67  # largest displacement of such a ring, of one bump's height


class AffineLimits(NamedTuple):
    """How far a random affine map goes; all parts are drawn together, uniformly, either way."""

    rotation_deg: float
    scale: float  # factor, along x and y apart
    shear: float
    shift_mm: float  # length, in any direction

    def share(self, strength: float) -> "AffineLimits":
        """These limits for a weaker map; 0 would be the identity."""
        rotation, scale, shear, shift = self
        return AffineLimits(
            rotation * strength, scale**strength, shear * strength, shift * strength
        )


# The paper names no limits; these give its displacements on the validation slices.
AFFINE = AffineLimits(rotation_deg=45.0, scale=1.3, shear=0.2, shift_mm=90.0)
STRENGTH_POWER = 0.7  # a pair's share of the limits is uniform to this power: the IQR is wide
FOLLOWUP_AFFINE = AffineLimits(rotation_deg=8.0, scale=1.06, shear=0.0, shift_mm=15.0)


class Bumps(NamedTuple):
    """2D Gaussian displacements, px from the middle of the made image."""

    centre: Floats  # [M, 2]
    height: Floats  # [M, 2]
    sigma: Floats  # [M]


def body_points(body: Mask, stride: int) -> Floats:
    """Every `stride`-th body pixel along both axes, (x, y) px [N, 2]."""
    y, x = np.nonzero(body[::stride, ::stride])
    return np.column_stack([x, y]).astype(np.float64) * stride


def to_source(warp: Warp, xy: NDArray[np.floating]) -> Floats:
    """Made image -> source slice, px [N, 2]."""
    points = torch.from_numpy(np.asarray(xy, dtype=np.float64).reshape(1, -1, 2))
    return np.asarray(warp.to_source(points)[0].numpy())


def draw_warp(kind: str, hu: Hu, body: Mask, rng: np.random.Generator) -> Warp:
    """The random geometry of a set, image 2 -> image 1."""
    warp = _still(body.shape)
    if kind in ("elastic", "followup"):
        mean, sd = ELASTIC_MM if kind == "elastic" else FOLLOWUP_ELASTIC_MM
        median = mean + sd * np.clip(rng.standard_normal(), -2, 2)
        warp = _scaled_to(median, _with(warp, random_bumps(body.shape, rng)), body)
    if kind == "followup":
        warp = _tamed(_with(warp, random_fillings(hu, body, rng)), body.shape)
        warp = _shown(warp, body, FOLLOWUP_AFFINE, rng)
    if kind == "affine":
        warp = _shown(warp, body, AFFINE.share(rng.uniform() ** STRENGTH_POWER), rng)
    return warp


def _still(shape: tuple[int, int]) -> Warp:
    """The identity, with one flat bump."""
    middle = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    flat = torch.zeros(1, 1, 2, dtype=torch.float64)
    return Warp(
        centre=torch.tensor([middle], dtype=torch.float64),
        matrix=torch.eye(2, dtype=torch.float64)[None],
        bump_centre=flat,
        bump_height=flat,
        bump_sigma=torch.ones(1, 1, dtype=torch.float64),
        middle=middle,
    )


def _with(warp: Warp, bumps: Bumps) -> Warp:
    """The warp with more bumps."""
    old = (warp.bump_centre, warp.bump_height, warp.bump_sigma)
    new = [torch.cat([a, torch.from_numpy(b)[None]], 1) for a, b in zip(old, bumps, strict=True)]
    return replace(warp, bump_centre=new[0], bump_height=new[1], bump_sigma=new[2])


def random_bumps(shape: tuple[int, int], rng: np.random.Generator) -> Bumps:
    """Gaussian bumps all over a slice, of about one height in mm, in directions that turn.

    Directions that are independent of their neighbours would add up to a wide spread of
    displacements; half of the paper's lie between 9 and 15 mm. A field that turns once or twice
    across the body keeps them together without being a shift.
    """
    rows, columns = (math.ceil(side / BUMP_SPACING_MM) + 2 for side in shape)
    y, x = np.mgrid[:rows, :columns]
    grid = np.column_stack([x.ravel() - (columns - 1) / 2, y.ravel() - (rows - 1) / 2])
    centre = (grid + rng.uniform(-0.3, 0.3, grid.shape)) * BUMP_SPACING_MM
    count = len(grid)
    turn = rng.uniform(*TURN_RAD_PER_MM) * _unit(rng.uniform(0, 2 * np.pi))
    angle = rng.uniform(0, 2 * np.pi) + centre @ turn + TURN_SD_RAD * rng.standard_normal(count)
    length = 1 + BUMP_HEIGHT_SD * rng.standard_normal(count)
    sigma = BUMP_SPACING_MM * rng.uniform(*BUMP_SIGMA, count)
    return Bumps(centre, length[:, None] * _unit(angle), sigma)


def _unit(angle: float | NDArray[np.floating]) -> Floats:
    """Unit vectors [..., 2] in the given directions."""
    return np.stack([np.cos(angle), np.sin(angle)], -1).astype(np.float64)


def random_fillings(hu: Hu, body: Mask, rng: np.random.Generator) -> Bumps:
    """Rings of bumps that blow up soft tissue in image 2: fuller bowel or bladder."""
    places = deep_places(soft_depth(hu, body), int(rng.integers(FILLINGS + 1)), rng)
    outward = _unit(np.arange(FILLING_RING) * (2 * np.pi / FILLING_RING))
    middle = (np.array(body.shape[::-1]) - 1) / 2
    parts = [Bumps(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))]
    for xy in places:
        sigma = rng.uniform(*FILLING_SIGMA_MM)
        height = rng.uniform(*FILLING_MM) / RING_PEAK
        # image 2 -> image 1 looks inward where the tissue went outward
        ring = Bumps(xy - middle + sigma * outward, -height * outward, np.full(FILLING_RING, sigma))
        parts.append(ring)
    return Bumps(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _scaled_to(median_mm: float, warp: Warp, body: Mask) -> Warp:
    """The warp, its bumps scaled so that half of the body moves farther than `median_mm`."""
    xy = body_points(body, 4)
    now = float(np.median(np.linalg.norm(to_source(warp, xy) - xy, axis=1)))
    return _tamed(replace(warp, bump_height=warp.bump_height * (median_mm / now)), body.shape)


def _tamed(warp: Warp, shape: tuple[int, int]) -> Warp:
    """The warp, its bumps lowered where needed so that it is not steeper than `MAX_STEEPNESS`."""
    return replace(
        warp, bump_height=warp.bump_height * min(1.0, MAX_STEEPNESS / _steepness(warp, shape))
    )


def _steepness(warp: Warp, shape: tuple[int, int], stride: int = 4) -> float:
    """Largest spectral norm of du/dx on a grid that is dense beside the width of the bumps."""
    y, x = np.mgrid[: shape[0] : stride, : shape[1] : stride]
    xy = np.column_stack([x.ravel(), y.ravel()])
    moved = (to_source(warp, xy) - xy).reshape(*x.shape, 2)
    slopes = np.stack(np.gradient(moved, stride, axis=(0, 1)), -1)  # [h, w, 2, 2]
    return max(float(np.linalg.norm(slopes, 2, axis=(-2, -1)).max()), 1e-9)


def _shown(warp: Warp, body: Mask, limits: AffineLimits, rng: np.random.Generator) -> Warp:
    """The warp with an affine map that keeps `MIN_SEEN` of the body in the picture, or the best."""
    drawn: list[tuple[float, Warp]] = []
    while len(drawn) < TRIES:
        moved = _with_affine(warp, body, limits, rng)
        drawn.append((_share_seen(moved, body), moved))
        if drawn[-1][0] >= MIN_SEEN:
            return moved
    return max(drawn, key=lambda one: one[0])[1]


def _with_affine(warp: Warp, body: Mask, limits: AffineLimits, rng: np.random.Generator) -> Warp:
    """The warp with a random affine map about the middle of the body."""
    matrix = random_matrix(limits, rng)
    pivot = np.mean(body_points(body, 4), axis=0)
    shift = rng.uniform(0, limits.shift_mm) * _unit(rng.uniform(0, 2 * np.pi))
    centre = pivot + matrix @ (warp.middle - pivot) + shift
    return replace(
        warp, matrix=torch.from_numpy(matrix)[None], centre=torch.from_numpy(centre)[None]
    )


def random_matrix(limits: AffineLimits, rng: np.random.Generator) -> Floats:
    """Rotation, shear and scaling together [2, 2]."""
    angle = math.radians(rng.uniform(-limits.rotation_deg, limits.rotation_deg))
    rotation = np.column_stack([_unit(angle), _unit(angle + np.pi / 2)])
    shear = np.array([[1.0, rng.uniform(-limits.shear, limits.shear)], [0.0, 1.0]])
    log_scale = rng.uniform(-math.log(limits.scale), math.log(limits.scale), 2)
    return np.asarray(rotation @ shear @ np.diag(np.exp(log_scale)))


def _share_seen(warp: Warp, body: Mask) -> float:
    """Share of the body of image 1 that lies within image 2."""
    xy = warp.from_source(torch.from_numpy(body_points(body, 8))[None])[0].numpy()
    last = np.array(body.shape[::-1]) - 1
    return float(np.mean(np.all((xy >= 0) & (xy <= last), axis=1)))


def resample(hu: Hu, warp: Warp) -> Hu:
    """Image 2 of a slice: bilinear, of the slice's own shape, air beyond it."""
    framed = torch.from_numpy(np.pad(hu, 1, constant_values=AIR_HU))  # `sample_slice` repeats it
    at = warp.grid_to_source(hu.shape)[0] + 1
    return np.asarray(sample_slice(framed, at.float()).view(hu.shape).numpy())
