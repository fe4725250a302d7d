"""Known random transformations of 2D slices ([paper] sec. 2.3, 3.2), exact at every point.

A `Warp` maps a pixel of the made image to a pixel of the source slice,
x -> centre + A (x + u(x)), x counted from the middle of the made image, with u a sum of 2D
Gaussian bumps. Both directions are known to rounding, so correspondences are exact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

GEOMETRIES = ("none", "rotation", "scaling", "shearing", "elastic")  # [paper] sec. 2.3
BUMP_SPACING_PX = 40.0  # distance of the Gaussian centres, before jitter


@dataclass(frozen=True)
class AugmentOptions:
    """How far the random transformations go.

    Attributes
    ----------
    rotation_deg, shear : float
        Largest rotation and shear, either way.
    scale : float
        Largest scaling, as a factor either way.
    elastic_px : float
        Standard deviation of a Gaussian bump's height along x and y.
    combine : bool
        All geometric kinds at once; else one kind for each image, as in the paper.
    both_images : bool
        Warp image 1 too; the paper's code warps image 2 only.
    brightness, contrast : float
        Largest jitter, share of the grey range.
    noise_hu : float
        Largest standard deviation of white noise; the training volumes' air has none.
    neighbour_share, neighbour_mm : float
        Share of the pairs whose image 2 shows another slice of the series, at most so far away.
    thicker_share, thick_mm : float
        Share of those whose image 2 shows the mean of the slices up to that one, which is then at
        most so far away: a thick slice.
    changes : float
        Probability of each change of `training.data.changes`, for each image.
    recolour : float
        Share of the pairs with other grey values than CT's, see `training.data.recolour`.
    """

    rotation_deg: float = 45.0
    shear: float = 0.2
    scale: float = 1.3
    elastic_px: float = 6.0
    combine: bool = False
    both_images: bool = True
    brightness: float = 0.2
    contrast: float = 0.2
    noise_hu: float = 25.0
    neighbour_share: float = 0.0
    neighbour_mm: float = 5.0
    thicker_share: float = 0.0
    thick_mm: float = 5.0
    changes: float = 0.0
    recolour: float = 0.0


@dataclass(frozen=True)
class Warp:
    """A batch of warps, made image -> source slice."""

    centre: Tensor  # [B, 2] px in the source slice
    matrix: Tensor  # [B, 2, 2]
    bump_centre: Tensor  # [B, M, 2] px from the middle of the made image
    bump_height: Tensor  # [B, M, 2] px
    bump_sigma: Tensor  # [B, M] px
    middle: tuple[float, float]  # middle of the made image, px

    def displacement(self, xy: Tensor) -> Tensor:
        """u at xy [B, N, 2], counted from the middle."""
        squared = torch.cdist(xy, self.bump_centre).square()  # [B, N, M]
        weight = torch.exp(-squared / (2 * self.bump_sigma[:, None].square()))
        return weight @ self.bump_height

    def to_source(self, keypoints: Tensor) -> Tensor:
        """Made image -> source slice, px [B, N, 2]."""
        xy = keypoints - keypoints.new_tensor(self.middle)
        moved = xy + self.displacement(xy)
        return moved @ self.matrix.transpose(1, 2) + self.centre[:, None]

    def grid_to_source(self, shape: tuple[int, int]) -> Tensor:
        """`to_source` of all pixels of a made image (H, W), row by row: [B, H * W, 2].

        A Gaussian is separable, so the whole field is one matrix product.
        """
        axes = [torch.arange(n, device=self.centre.device).float() for n in shape[::-1]]
        x, y = (axis - middle for axis, middle in zip(axes, self.middle, strict=True))
        bell_x, bell_y = (
            torch.exp(
                -(axis[None, :, None] - self.bump_centre[:, None, :, i]).square()
                / (2 * self.bump_sigma[:, None].square())
            )
            for i, axis in enumerate((x, y))
        )  # [B, W, M], [B, H, M]
        moved = [
            (bell_y * self.bump_height[:, None, :, i]) @ bell_x.transpose(1, 2) for i in (0, 1)
        ]  # [B, H, W] each
        xy = torch.stack([moved[0] + x, moved[1] + y[:, None]], -1).flatten(1, 2)
        return xy @ self.matrix.transpose(1, 2) + self.centre[:, None]

    def from_source(self, points: Tensor, steps: int = 30) -> Tensor:
        """Source slice -> made image, px [B, N, 2]; fixed-point iteration."""
        inverse = torch.linalg.inv(self.matrix).transpose(1, 2)
        target: Tensor = (points - self.centre[:, None]) @ inverse
        xy = target
        for _ in range(steps):
            xy = target - self.displacement(xy)
        return xy + points.new_tensor(self.middle)


def moved(warp: Warp, device: torch.device) -> Warp:
    """The same warps on a device."""
    fields = ("centre", "matrix", "bump_centre", "bump_height", "bump_sigma")
    there = {name: getattr(warp, name).to(device, non_blocking=True) for name in fields}
    return replace(warp, **there)


def stack_warps(warps: Sequence[Warp]) -> Warp:
    """Batches of warps of images of one size, as one batch."""
    fields = ("centre", "matrix", "bump_centre", "bump_height", "bump_sigma")
    stacked = {name: torch.cat([getattr(warp, name) for warp in warps]) for name in fields}
    return Warp(**stacked, middle=warps[0].middle)


def _uniform(shape: tuple[int, ...], limit: float, rng: torch.Generator) -> Tensor:
    return (2 * torch.rand(shape, generator=rng) - 1) * limit


def _matrices(kinds: Tensor, options: AugmentOptions, rng: torch.Generator) -> Tensor:
    """Rotation, scaling and shear [B, 2, 2]; identity where the kind does not ask for it."""
    count = len(kinds)

    def draw(kind: str, limit: float) -> Tensor:
        asked = (kinds == GEOMETRIES.index(kind)) | options.combine
        return _uniform((count,), limit, rng) * asked

    angle = draw("rotation", math.radians(options.rotation_deg))
    log_x, log_y = (draw("scaling", math.log(options.scale)) for _ in "xy")
    shear_x, shear_y = (draw("shearing", options.shear) for _ in "xy")
    one = torch.ones(count)
    rotate = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1)
    shear = torch.stack([one, shear_x, shear_y, one], -1)
    scale = torch.diag_embed(torch.stack([log_x.exp(), log_y.exp()], -1))
    return rotate.view(-1, 2, 2) @ shear.view(-1, 2, 2) @ scale


def random_warp(
    centre: Tensor,
    shape: tuple[int, int],
    options: AugmentOptions,
    rng: torch.Generator,
    *,
    identity: bool = False,
) -> Warp:
    """Draw one warp per crop.

    Parameters
    ----------
    centre : Tensor, shape (B, 2)
        Where the middle of the made image looks in the source slice, px.
    shape : (H, W) of the made images, px
    rng : torch.Generator on the CPU
    """
    count = len(centre)
    kinds = torch.randint(len(GEOMETRIES), (count,), generator=rng)
    if identity:
        kinds = torch.zeros_like(kinds)
    rows, columns = (round(side / BUMP_SPACING_PX) + 2 for side in shape)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    grid = torch.stack([x - (columns - 1) / 2, y - (rows - 1) / 2], -1).view(-1, 2)
    bumps = (count, len(grid))
    jitter = _uniform((*bumps, 2), 0.5, rng)
    elastic = (kinds == GEOMETRIES.index("elastic")) | options.combine
    height = torch.randn((*bumps, 2), generator=rng) * options.elastic_px
    height = height.clamp(-2.5 * options.elastic_px, 2.5 * options.elastic_px)
    sigma = BUMP_SPACING_PX * (0.5 + 0.5 * torch.rand(bumps, generator=rng))
    options = options if not identity else AugmentOptions(0, 0, 1, 0)
    device = centre.device
    return Warp(
        centre=centre,
        matrix=_matrices(kinds, options, rng).to(device),
        bump_centre=((grid + jitter) * BUMP_SPACING_PX).to(device),
        bump_height=(height * (elastic & (not identity))[:, None, None]).to(device),
        bump_sigma=sigma.to(device),
        middle=((shape[1] - 1) / 2, (shape[0] - 1) / 2),
    )


def sample_slice(image: Tensor, points: Tensor, mode: str = "bilinear") -> Tensor:
    """Values [N] of one slice [H, W] at px [N, 2]; the border is repeated outside."""
    extent = points.new_tensor([image.shape[1], image.shape[0]])
    grid = ((2 * points + 1) / extent - 1)[None, None]
    values = functional.grid_sample(
        image[None, None].float(), grid, mode=mode, padding_mode="border", align_corners=False
    )
    return values[0, 0, 0]


def jitter(images: Tensor, options: AugmentOptions, rng: torch.Generator) -> Tensor:
    """Brightness and contrast jitter of network inputs [B, H, W] in -1..1."""
    shape = (len(images), 1, 1)
    device = images.device
    gain = 1 + _uniform(shape, options.contrast, rng).to(device)
    # the grey range -1..1 is two units wide
    return images * gain + _uniform(shape, options.brightness, rng).to(device)
