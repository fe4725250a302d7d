"""What else differs in a simulated follow-up: contrast agent, bowel gas and another scanner.

The scanner has its own grid, slices, kernel and noise, and renders the moved patient.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch.nn import functional

from landmark_dir.geometry import Points, index_to_physical, physical_to_index, voxel_centres
from landmark_dir.phantom.scanner import rotation
from landmark_dir.preprocessing.intensity import AIR_HU
from training.evaluation import appearance as look
from training.evaluation.appearance import Floats, Hu
from training.followups.motion import Motion, Soft, any_way

MARGIN_MM = 20.0  # of air around the body, in both images
SLICE_MM = (1.0, 1.25, 2.0, 2.5, 3.0, 3.75, 5.0, 8.0)
PIXEL_MM = (0.7, 1.0)
TILT_DEG = 3.0  # of the moving grid against the fixed one, at most
CUT_SHARE = 0.15  # of the body's length that is out of view at either end, at most
WEDGE = 0.02  # share of the body beyond each end, where a turned patient is not seen whole anyway
SUB_SLICES = 3  # at most, that a thick slice is the mean of


def change_patient(
    hu: Hu,
    fixed: sitk.Image,
    body: sitk.Image,
    soft: Soft,
    down: Floats,
    rng: np.random.Generator,
) -> tuple[Hu, dict[str, Any]]:
    """Add contrast agent and bowel gas to HU [z, y, x] of the fixed image.

    Parameters
    ----------
    soft : Soft
        Where gas can be.
    down : ndarray, shape (3,)
        Where fluids gather: down in the second examination, as a direction in the fixed world.

    Returns
    -------
    hu : ndarray [z, y, x]
    description : dict
        What was drawn.
    """
    agent_hu = rng.uniform(*look.AGENT_HU)
    hu = hu + np.float32(agent_hu) * _agent_share(hu, fixed, body, rng)
    count = int(rng.integers(look.GAS_POCKETS[0], look.GAS_POCKETS[1] + 1))
    pockets = []
    for place, room in zip(*soft.places(count, rng), strict=True):
        most = max(float(room), look.GAS_RADIUS_MM[0])
        radius = min(rng.uniform(*look.GAS_RADIUS_MM), most)
        add_pocket(hu, fixed, place, radius, down, rng)
        pockets.append({"place": place.tolist(), "radius_mm": radius})
    return hu, {"agent_hu": agent_hu, "gas": pockets}


def _agent_share(hu: Hu, fixed: sitk.Image, body: sitk.Image, rng: np.random.Generator) -> Hu:
    """Share [z, y, x] of contrast agent that a voxel takes up: `training.evaluation.appearance`."""
    spacing = np.array(fixed.GetSpacing())[::-1]
    smooth = ndimage.gaussian_filter(hu, 1.5 / spacing)
    share = np.interp(smooth, *look.AGENT_CURVE).astype(np.float32)
    share *= sitk.GetArrayViewFromImage(body)
    near_bone = ndimage.gaussian_filter((smooth > look.BONE_HU).astype(np.float32), 3 / spacing)
    share *= 1 - (3 * near_bone).clip(0, 1)
    size = np.ceil(np.array(hu.shape) * spacing / look.AGENT_SPACING_MM).astype(int) + 1
    coarse = torch.from_numpy(rng.uniform(look.AGENT_LEAST, 1, size).astype(np.float32))
    uptake = functional.interpolate(
        coarse[None, None], hu.shape, mode="trilinear", align_corners=True
    )
    return np.asarray(share * uptake[0, 0].numpy())


def add_pocket(
    hu: Hu,
    fixed: sitk.Image,
    place: Floats,
    radius: float,
    down: Floats,
    rng: np.random.Generator,
) -> None:
    """Put one ellipsoid of gas into HU [z, y, x], in place; fluid fills it from below.

    `place` is its middle in the fixed world, `radius` its longer semi-axis in mm, `down` as in
    `change_patient`.
    """
    axes = rotation(rng.uniform(0, 180, 3))
    flat = np.array([1, *rng.uniform(*look.GAS_FLATNESS, 2)])
    level = rng.uniform(*look.FLUID_LEVEL) * radius
    reach = (radius + look.GAS_EDGE_MM) / np.array(fixed.GetSpacing())
    at = physical_to_index(fixed, [place])[0]
    first = np.maximum(np.floor(at - reach), 0).astype(int)
    last = np.minimum(np.ceil(at + reach), np.array(fixed.GetSize()) - 1).astype(int)
    box = tuple(slice(a, b + 1) for a, b in zip(first[::-1], last[::-1], strict=True))
    x, y, z = (np.arange(a, b + 1) for a, b in zip(first, last, strict=True))
    index = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1).reshape(-1, 3)
    away = index_to_physical(fixed, index) - place
    within = _step(radius - np.linalg.norm(away @ axes / flat, axis=1))
    gas = _step(level - away @ down)
    content = gas * look.GAS_HU + (1 - gas) * look.FLUID_HU
    old = hu[box].ravel()
    hu[box] = (old + within * (content - old)).reshape(hu[box].shape)


def _step(mm: Floats) -> Floats:
    """0 to 1 over `GAS_EDGE_MM` either side of 0 mm."""
    return np.asarray((0.5 + 0.5 * mm / look.GAS_EDGE_MM).clip(0, 1))


@dataclass(frozen=True)
class Scanner:
    """The second scanner.

    Attributes
    ----------
    spacing_mm, tilt_deg : tuple of float
        Of its grid, against the axes of the fixed image.
    cut : (float, float)
        Share of the body that is out of view at the first and the last slice.
    kernel_sigma_mm, sharpening : float
        Its in-plane kernel: gain and width of an unsharp mask; -1 is a soft kernel.
    noise_hu : float
        Standard deviation.
    """

    spacing_mm: tuple[float, float, float]
    tilt_deg: tuple[float, float, float]
    cut: tuple[float, float]
    kernel_sigma_mm: float
    sharpening: float
    noise_hu: float


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """Draw a scanner."""
    pixel, cut = rng.uniform(*PIXEL_MM), rng.uniform(0, CUT_SHARE, 2)
    soft = rng.random() < 0.5
    return Scanner(
        spacing_mm=(pixel, pixel, float(rng.choice(SLICE_MM))),
        tilt_deg=tuple(any_way(TILT_DEG, rng).tolist()),
        cut=(float(cut[0]), float(cut[1])),
        kernel_sigma_mm=rng.uniform(*look.KERNEL_SIGMA_MM),
        sharpening=-1.0 if soft else rng.uniform(*look.SHARPENING),
        noise_hu=rng.uniform(*look.NOISE_HU),
    )


def moving_grid(
    skin: sitk.Image, motion: Motion, fixed: sitk.Image, scanner: Scanner
) -> sitk.Image:
    """An empty image on the scanner's grid around the body, where the motion brings it.

    The skin has the depth of the nodes, as from `training.followups.motion.skin_and_soft`.
    """
    in_body = voxel_centres(skin)[sitk.GetArrayViewFromImage(skin).ravel() > 0]
    stride = math.ceil(len(in_body) / 20_000)
    direction = rotation(scanner.tilt_deg) @ np.reshape(fixed.GetDirection(), (3, 3))
    along = motion.to_moving(in_body[::stride]) @ direction  # mm along the axes of the grid
    low, high = along.min(axis=0) - MARGIN_MM, along.max(axis=0) + MARGIN_MM
    low[2], high[2] = np.quantile(along[:, 2], (WEDGE, 1 - WEDGE))
    length = high[2] - low[2]
    low[2], high[2] = low[2] + scanner.cut[0] * length, high[2] - scanner.cut[1] * length
    size = np.maximum(np.ceil((high - low) / scanner.spacing_mm), 4).astype(int)
    grid = sitk.Image(size.tolist(), sitk.sitkUInt8)
    grid.SetSpacing(scanner.spacing_mm)
    grid.SetDirection(direction.ravel().tolist())
    grid.SetOrigin((direction @ (low + 0.5 * np.array(scanner.spacing_mm))).tolist())
    return grid


def scan(hu: Hu, fixed: sitk.Image, motion: Motion, grid: sitk.Image) -> sitk.Image:
    """Render fixed HU [z, y, x] on the moving grid; thick slices are means of thinner ones."""
    coefficients = ndimage.spline_filter(hu, output=np.float32)
    nx, ny, nz = grid.GetSize()
    y, x = np.mgrid[:ny, :nx].reshape(2, -1)
    thick = round(grid.GetSpacing()[2] / fixed.GetSpacing()[2])
    count = min(max(1, thick), SUB_SLICES)
    seen = np.zeros((nz, ny, nx), dtype=np.float32)
    for k in range(nz):
        for step in (np.arange(count) + 0.5) / count - 0.5:
            plane = np.column_stack([x, y, np.full(x.size, k + step)])
            points = motion.to_fixed(index_to_physical(grid, plane))
            seen[k] += _spline(coefficients, physical_to_index(fixed, points)).reshape(ny, nx)
    image = sitk.GetImageFromArray(seen / np.float32(count))
    image.CopyInformation(grid)
    return image


def _spline(coefficients: Hu, index_xyz: Points) -> Hu:
    """Cubic values [N]; air outside."""
    x, y, z = index_xyz.T
    values = ndimage.map_coordinates(
        coefficients, [z, y, x], np.float32, order=3, cval=AIR_HU, prefilter=False
    )
    return np.asarray(values)


def with_kernel_and_noise(
    image: sitk.Image, scanner: Scanner, rng: np.random.Generator
) -> sitk.Image:
    """Do to HU what another scanner does, slice by slice: its kernel and its noise."""
    pixel = scanner.spacing_mm[0]
    hu = sitk.GetArrayFromImage(image)
    grain = look.NOISE_SIGMA_MM / pixel
    for k, part in enumerate(hu):
        soft = ndimage.gaussian_filter(part, scanner.kernel_sigma_mm / pixel)
        noise = ndimage.gaussian_filter(rng.standard_normal(part.shape, np.float32), grain)
        noise *= scanner.noise_hu / noise.std()
        hu[k] = part + np.float32(scanner.sharpening) * (part - soft) + noise
    changed = sitk.GetImageFromArray(hu)
    changed.CopyInformation(image)
    return changed
