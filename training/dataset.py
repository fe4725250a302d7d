"""CT slices in memory, and training pairs made from them on the fly ([paper] sec. 2.3, 2.4)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from landmark_dir.body import body_mask
from landmark_dir.slices import HU_KNOTS, NETWORK_KNOTS, resample_in_plane
from landmark_dir.volume import read_volume
from training.augment import (
    AugmentOptions,
    Warp,
    jitter,
    random_warp,
    sample_slice,
)

MIN_BODY_PX = 2000  # slices with less body than this teach nothing


def data_folder() -> Path:
    """The folder with CT data: `$LANDMARK_DIR_DATA`, else `../shared/data`."""
    return Path(os.environ.get("LANDMARK_DIR_DATA", "../shared/data"))


class Slice(NamedTuple):
    """One axial slice at 1 mm."""

    hu: Tensor  # [H, W] int16
    body: Tensor  # [H, W] bool, the valid mask of [paper] sec. 2.4
    patient: str


def load_slices(folder: Path, limit: int | None = None) -> list[Slice]:
    """Read every volume of a folder and cut it into slices at 1 mm."""
    files = sorted(folder.glob("*.nii.gz"))
    if not files:
        raise FileNotFoundError(f"{folder}: expected CT volumes (*.nii.gz), found none")
    return [part for file in files[:limit] for part in _volume_slices(file)]


def _volume_slices(file: Path) -> Iterator[Slice]:
    image = resample_in_plane(read_volume(file))
    body = sitk.GetArrayFromImage(body_mask(image)).astype(bool)
    hu = np.round(sitk.GetArrayFromImage(image)).astype(np.int16)
    for k in np.flatnonzero(body.sum((1, 2)) > MIN_BODY_PX):
        patient = file.name.removesuffix(".nii.gz")
        yield Slice(torch.from_numpy(hu[k]), torch.from_numpy(body[k]), patient)


def single_slices(file: Path) -> list[Slice]:
    """Read an .npz of 2D HU arrays at 1 mm; the key up to `_` is the patient."""
    with np.load(file) as arrays:
        found = []
        for key in arrays.files:
            body = sitk.GetArrayFromImage(body_mask(sitk.GetImageFromArray(arrays[key][None])))[0]
            patient = key.rsplit("_", 1)[0]
            hu = torch.from_numpy(arrays[key].astype(np.int16))
            found.append(Slice(hu, torch.from_numpy(body.astype(bool)), patient))
        return found


def to_network(hu: Tensor) -> Tensor:
    """`landmark_dir.slices.to_network` for tensors on any device."""
    result = torch.full_like(hu, NETWORK_KNOTS[0])
    for i in range(len(HU_KNOTS) - 1):
        low, high = HU_KNOTS[i : i + 2]
        slope = (NETWORK_KNOTS[i + 1] - NETWORK_KNOTS[i]) / (high - low)
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
    """

    images_1: Tensor
    images_2: Tensor
    warp_1: Warp
    warp_2: Warp
    sources: list[Slice]

    def project_2_to_1(self, keypoints: Tensor) -> Tensor:
        """Image 2 -> image 1, px [B, N, 2]."""
        return self.warp_1.from_source(self.warp_2.to_source(keypoints))

    def valid(self, keypoints: Tensor, warp: Warp, border_px: int = 0) -> Tensor:
        """Tell which keypoints [B, N, 2] of an image lie in the body and off the border."""
        at = warp.to_source(keypoints)
        body = torch.stack(
            [sample_slice(s.body, at[i], "nearest") > 0.5 for i, s in enumerate(self.sources)]
        )
        size = [s.hu.shape[::-1] for s in self.sources]
        last = torch.tensor(size, device=at.device)[:, None] - 1
        on_slice = ((at >= 0) & (at <= last)).all(-1)
        height, width = self.images_1.shape[-2:]
        limit = keypoints.new_tensor([width - 1 - border_px, height - 1 - border_px])
        off_border = ((keypoints >= border_px) & (keypoints <= limit)).all(-1)
        return body & on_slice & off_border


def make_pairs(
    slices: list[Slice],
    batch: int,
    shape: tuple[int, int],
    options: AugmentOptions,
    rng: torch.Generator,
    device: torch.device,
) -> PairBatch:
    """Draw slices, cut a crop around a body pixel of each, and warp it twice."""
    chosen = torch.randint(len(slices), (batch,), generator=rng).tolist()
    sources = [_to(slices[i], device) for i in chosen]
    centre = torch.stack([_crop_centre(s, shape, rng) for s in sources]).to(device)
    warp_1 = random_warp(centre, shape, options, rng, identity=not options.both_images)
    warp_2 = random_warp(centre, shape, options, rng)
    images = [_render(sources, w, shape, options, rng) for w in (warp_1, warp_2)]
    return PairBatch(images[0], images[1], warp_1, warp_2, sources)


def _to(part: Slice, device: torch.device) -> Slice:
    return part._replace(hu=part.hu.to(device), body=part.body.to(device))


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
    sources: list[Slice],
    warp: Warp,
    shape: tuple[int, int],
    options: AugmentOptions,
    rng: torch.Generator,
) -> Tensor:
    """The warped, noisy and jittered images [B, 1, H, W] in network units."""
    device = warp.centre.device
    at = warp.grid_to_source(shape)
    hu = torch.stack([sample_slice(s.hu, at[i]) for i, s in enumerate(sources)])
    hu = hu.view(-1, *shape)
    level = options.noise_hu * torch.rand((len(hu), 1, 1), generator=rng).to(device)
    seed = int(torch.randint(2**31, (1,), generator=rng))
    local = torch.Generator(device).manual_seed(seed)  # noise is made where it is used
    hu = hu + level * torch.randn(hu.shape, generator=local, device=device)
    return jitter(to_network(hu), options, rng)[:, None]
