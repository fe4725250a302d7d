"""Training pairs, made on the fly from the slices of a pack ([paper] sec. 2.3, 2.4)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from landmark_dir.preprocessing.intensity import CT
from training.data.augment import (
    AugmentOptions,
    Warp,
    jitter,
    moved,
    random_warp,
    sample_slice,
    stack_warps,
)
from training.data.changes import change, noise
from training.data.pack import Slice
from training.data.recolour import Colouring, draw_colourings

REACH = 6  # places in the pack that a neighbour may be away


def data_folder() -> Path:
    """The folder with CT data: `$LANDMARK_DIR_DATA`, else `shared/data` beside the checkout."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    return Path(os.environ.get("LANDMARK_DIR_DATA", beside))


def to_network(hu: Tensor) -> Tensor:
    """`InputScale.to_network` of CT for tensors on any device."""
    result = torch.full_like(hu, CT.network_knots[0])
    for i in range(len(CT.knots) - 1):
        low, high = CT.knots[i : i + 2]
        slope = (CT.network_knots[i + 1] - CT.network_knots[i]) / (high - low)
        result = result + slope * (hu.clamp(low, high) - low)
    return result


@dataclass(frozen=True)
class PairBatch:
    """A batch of image pairs with their exact correspondence.

    Attributes
    ----------
    images_1, images_2 : Tensor, shape (B, 1, H, W)
        Network units.
    warp_1, warp_2 : Warp
        From each image's pixels to those of the common source slice.
    sources : list of Slice
        Of image 1; image 2 may come from a neighbour in the same series.
    seeds : list of int
    """

    images_1: Tensor
    images_2: Tensor
    warp_1: Warp
    warp_2: Warp
    sources: list[Slice]
    seeds: list[int]

    def to(self, device: torch.device) -> "PairBatch":
        """The same pairs on a device; their sources stay where they are."""
        return replace(
            self,
            images_1=self.images_1.to(device, non_blocking=True),
            images_2=self.images_2.to(device, non_blocking=True),
            warp_1=moved(self.warp_1, device),
            warp_2=moved(self.warp_2, device),
        )

    def project_2_to_1(self, keypoints: Tensor) -> Tensor:
        """Image 2 -> image 1, px [B, N, 2]."""
        return self.warp_1.from_source(self.warp_2.to_source(keypoints))

    def in_body(self, keypoints: Tensor, warp: Warp) -> Tensor:
        """Tell which keypoints [B, N, 2] of an image lie in the valid mask."""
        at = warp.to_source(keypoints)
        inside = [sample_slice(s.body, at[i], "nearest") > 0.5 for i, s in enumerate(self.sources)]
        return torch.stack(inside)

    def in_view(self, keypoints: Tensor, warp: Warp, border_px: int) -> Tensor:
        """Tell which keypoints [B, N, 2] lie on the source slice and off the image's border."""
        at = warp.to_source(keypoints)
        size = [s.hu.shape[::-1] for s in self.sources]
        last = torch.tensor(size, device=at.device)[:, None] - 1
        on_slice = ((at >= 0) & (at <= last)).all(-1)
        height, width = self.images_1.shape[-2:]
        limit = keypoints.new_tensor([width - 1 - border_px, height - 1 - border_px])
        off_border = ((keypoints >= border_px) & (keypoints <= limit)).all(-1)
        return on_slice & off_border


def choose(count: int, seeds: Sequence[int]) -> list[int]:
    """Which of `count` slices image 1 of each pair shows."""
    return [_chosen(count, torch.Generator().manual_seed(seed)) for seed in seeds]


def _chosen(count: int, rng: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=rng))


def make_pairs(
    slices: Sequence[Slice],
    seeds: Sequence[int],
    shape: tuple[int, int],
    options: AugmentOptions,
    device: torch.device,
) -> PairBatch:
    """Make one pair per seed: draw a slice, cut a crop around a body pixel, warp it twice.

    A pair depends on its own seed only, so several processes can share a batch.
    """
    rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
    chosen = [_chosen(len(slices), rng) for rng in rngs]
    sources = [on_device(slices[i], device) for i in chosen]
    centres = [_crop_centre(s, shape, rng).to(device) for s, rng in zip(sources, rngs, strict=True)]
    warps_1, warps_2, images_1, images_2 = [], [], [], []
    for place, source, centre, rng in zip(chosen, sources, centres, rngs, strict=True):
        one = random_warp(centre[None], shape, options, rng, identity=not options.both_images)
        two = random_warp(centre[None], shape, options, rng)
        colour_1, colour_2 = draw_colourings(options.recolour, rng)
        images_1.append(_render([source], one, shape, options, rng, colour_1))
        shown = [on_device(part, device) for part in _shown(slices, place, options, rng)]
        images_2.append(_render(shown, two, shape, options, rng, colour_2))
        warps_1.append(one)
        warps_2.append(two)
    return PairBatch(
        torch.stack(images_1),
        torch.stack(images_2),
        stack_warps(warps_1),
        stack_warps(warps_2),
        sources,
        list(seeds),
    )


def on_device(part: Slice, device: torch.device) -> Slice:
    """Move the arrays of a slice to a device; nothing is copied where they are there already."""
    return part._replace(hu=part.hu.to(device), body=part.body.to(device))


def _shown(
    slices: Sequence[Slice], place: int, options: AugmentOptions, rng: torch.Generator
) -> Sequence[Slice]:
    """What image 2 shows: the slice itself or, for a share of the pairs, one or more near it."""
    here = slices[place]
    if not options.neighbour_share or _chance(1 - options.neighbour_share, rng):
        return [here]
    thick = _chance(options.thicker_share, rng)
    most = options.thick_mm if thick else options.neighbour_mm
    near = [
        other
        for other in range(max(0, place - REACH), min(len(slices), place + REACH + 1))
        if slices[other].series == here.series and 0 < abs(slices[other].z_mm - here.z_mm) <= most
    ]
    if not near:
        return [here]
    other = near[int(torch.randint(len(near), (1,), generator=rng))]
    return slices[min(place, other) : max(place, other) + 1] if thick else [slices[other]]


def _chance(share: float, rng: torch.Generator) -> bool:
    return float(torch.rand((), generator=rng)) < share


def _crop_centre(part: Slice, shape: tuple[int, int], rng: torch.Generator) -> Tensor:
    """A random body pixel (x, y), moved so that the crop shows little outside the slice."""
    pixels = part.body.flatten().nonzero()[:, 0]
    flat = int(pixels[torch.randint(len(pixels), (1,), generator=rng)])
    y, x = divmod(flat, part.body.shape[1])
    place = [
        _toward_middle(v, side, crop)
        for v, side, crop in zip((x, y), part.body.shape[::-1], shape[::-1], strict=True)
    ]
    return torch.tensor(place, dtype=torch.float32)


def _toward_middle(place: float, side: int, crop: int) -> float:
    if side <= crop:
        return (side - 1) / 2
    return min(max(place, crop / 2), side - crop / 2)


def _render(
    parts: Sequence[Slice],
    warp: Warp,
    shape: tuple[int, int],
    options: AugmentOptions,
    rng: torch.Generator,
    colouring: Colouring | None,
) -> Tensor:
    """The warped, changed, noisy and jittered image [1, H, W] of a slice in network units.

    More than one slice is averaged: a thicker slice.
    """
    device = warp.centre.device
    grid = warp.grid_to_source(shape)[0]
    hu = torch.stack([sample_slice(part.hu, grid) for part in parts]).mean(0).view(shape)
    if options.changes:
        body = sample_slice(parts[0].body, grid, "nearest").view(shape) > 0.5
        hu = change(hu, body, options.changes, rng)
    level = options.noise_hu * float(torch.rand((), generator=rng))
    grainy = options.changes > 0 and _chance(options.changes, rng)
    seed = int(torch.randint(2**31, (1,), generator=rng))
    local = torch.Generator(device).manual_seed(seed)  # noise is made where it is used
    hu = hu + level * noise(shape, grainy, local)
    image = to_network(hu[None])
    if colouring is not None:
        image = colouring.apply(image, rng)
    return jitter(image, options, rng)
