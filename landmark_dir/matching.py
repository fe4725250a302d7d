"""Slices and volumes -> corresponding points."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from landmark_dir.devices import choose_device, encode
from landmark_dir.geometry import Points, physical_to_index
from landmark_dir.matching_paper import (
    best_answers,
    encode_stack,
    match_landmarks,
    pick_landmarks,
)
from landmark_dir.matching_seek import Evidence, seek
from landmark_dir.matching_volume import Slices, seek_volumes
from landmark_dir.network_seek import SeekNetwork, scores
from landmark_dir.points import PointPairs
from landmark_dir.slices import SliceStack, stack_slices, to_network
from landmark_dir.weights import Network, load_weights

FINEST_MM = 2.0  # least slice distance that a volume is matched with
StepCallback = Callable[[str, float], None]  # what is done, and its share done, 0..1


@dataclass(frozen=True)
class MatchingOptions:
    """How landmarks are taken and matched.

    Attributes
    ----------
    landmark_threshold : float, optional
        Least landmark probability ([paper] sec. 2.6) or matchability, 0..1; None: the network's
        own.
    min_score : float
        Least score of a pair, 0..1: the probability that it is within 2 mm; of `paper`, its
        matching probability.
    search_mm : float
        Through-plane reach, mm: around where the far search leads; of `paper`, around the fixed
        slice.
    """

    landmark_threshold: float | None = None
    min_score: float = 0.5
    search_mm: float = 10.0

    def threshold(self, network: Network) -> float:
        """Least landmark probability for a network."""
        if self.landmark_threshold is None:
            return network.landmark_threshold
        return self.landmark_threshold

    def __post_init__(self) -> None:
        for name in ("landmark_threshold", "min_score"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name}: expected a probability 0..1, found {value:g}")
        if not 0 <= self.search_mm < math.inf:
            raise ValueError(f"search_mm: expected 0 or more mm, found {self.search_mm:g}")


class Matches(NamedTuple):
    """Landmarks of slice 1 and where they were found in slice 2."""

    xy_1: Tensor  # [N, 2] px
    xy_2: Tensor
    score: Tensor  # [N] 0..1


def match_slices(
    hu_1: NDArray[np.floating] | NDArray[np.integer],
    hu_2: NDArray[np.floating] | NDArray[np.integer],
    weights: str | Path = "default",
    options: MatchingOptions = MatchingOptions(),
    device: str = "auto",
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Match two axial CT slices, the setting of the seed paper.

    Parameters
    ----------
    hu_1, hu_2 : ndarray, shape (H, W)
        HU at 1 mm in-plane; the shapes may differ.
    weights : str or Path
        A shipped name or a weights file.

    Returns
    -------
    xy_1, xy_2 : ndarray, shape (N, 2)
        Corresponding points, px, x then y; 0 is the centre of the first pixel.
    score : ndarray, shape (N,)
        Matching probability, 0..1.

    Raises
    ------
    ValueError
        If an array is not 2D or not finite.
    BadWeights
        If the weights cannot be used.

    References
    ----------
    [paper] sec. 2.5
    """
    for name, hu in (("hu_1", hu_1), ("hu_2", hu_2)):
        if np.ndim(hu) != 2 or not np.isfinite(hu).all():
            raise ValueError(
                f"{name}: expected a finite 2D array of HU, found shape {np.shape(hu)}"
            )
    network = load_weights(weights, choose_device(device)).network
    return match_with(network, hu_1, hu_2, options)


def match_with(
    network: Network,
    hu_1: NDArray[np.floating] | NDArray[np.integer],
    hu_2: NDArray[np.floating] | NDArray[np.integer],
    options: MatchingOptions = MatchingOptions(),
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """`match_slices` with a network that is loaded already, on the device it lies on."""
    found = match_images(network, padded(network, hu_1), padded(network, hu_2), options)
    xy_1, xy_2, score = (part[found.score >= options.min_score] for part in found)
    size_1, size_2 = (torch.tensor(hu.shape[::-1]).to(xy_1) for hu in (hu_1, hu_2))
    inside = (xy_1 <= size_1 - 1).all(1) & (xy_2 <= size_2 - 1).all(1)  # not in the padding
    return tuple(part[inside].double().cpu().numpy() for part in (xy_1, xy_2, score))  # type: ignore[return-value]


def padded(network: Network, hu: NDArray[np.floating] | NDArray[np.integer]) -> Tensor:
    """A slice [H, W] as a network takes it: [1, 1, H, W], its units, a multiple of its stride."""
    pad = [(0, -side % network.stride) for side in hu.shape]
    image = np.pad(to_network(hu), pad, constant_values=-1.0)
    return torch.from_numpy(image)[None, None].to(next(network.parameters()).device)


@torch.inference_mode()
def match_images(
    network: Network, image_1: Tensor, image_2: Tensor, options: MatchingOptions
) -> Matches:
    """Match two slices [1, 1, H, W] in network units; `options.min_score` is left to the caller."""
    threshold = options.threshold(network)
    if isinstance(network, SeekNetwork):
        xy_1, xy_2, evidence = seek_slices(network, image_1, image_2, threshold)
        return Matches(
            xy_1, xy_2, scores(network.get_buffer("calibration")[0], evidence.features())
        )
    one, two = (pick_landmarks(network, image, threshold)[0] for image in (image_1, image_2))
    rows, score, _ = match_landmarks(network, one, two)
    return Matches(one.keypoints[rows[:, 0]], two.keypoints[rows[:, 1]], score)


def seek_slices(
    network: SeekNetwork, image_1: Tensor, image_2: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Evidence]:
    """Correspondences [N, 2] px of two slices [1, 1, H, W], and what speaks for them."""
    maps = (encode(network, image_1), encode(network, image_2))
    return seek((image_1[0, 0], image_2[0, 0]), maps, threshold)


def grid_to_match(network: Network, fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """The grid, in the frame of `fixed`, that `moving` is best resampled onto to be matched.

    That of `fixed`; but its slices may hide what `moving` has seen between them. The `default`
    network finds the level itself, so it gets as many slices as `moving` has, or one every
    `FINEST_MM`.
    """
    fixed = sitk.DICOMOrient(fixed, "LPS")
    if not isinstance(network, SeekNetwork):
        return fixed
    along = np.array(fixed.GetDirection())[2::3] @ np.reshape(moving.GetDirection(), (3, 3))
    slices_mm = moving.GetSpacing()[int(np.abs(along).argmax())]
    x_mm, y_mm, z_mm = fixed.GetSpacing()
    level_mm = min(z_mm, max(slices_mm, FINEST_MM))
    size = [*fixed.GetSize()[:2], int((fixed.GetSize()[2] - 1) * z_mm / level_mm + 1e-6) + 1]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing((x_mm, y_mm, level_mm))
    grid.SetOrigin(fixed.GetOrigin())
    grid.SetDirection(fixed.GetDirection())
    return grid


def match_volumes(
    fixed: sitk.Image,
    prealigned: sitk.Image,
    fixed_body: sitk.Image,
    prealigned_body: sitk.Image,
    network: Network,
    options: MatchingOptions = MatchingOptions(),
    step: StepCallback = lambda what, share: None,
) -> PointPairs:
    """Match a fixed volume with a moving volume that is resampled into its frame.

    The `default` network's landmarks are sought in three dimensions. With `paper`, slice k of fixed
    is matched with slice k of `prealigned` and with its neighbours within `options.search_mm`; each
    landmark keeps its best answer, on either side.

    Parameters
    ----------
    prealigned : sitk.Image
        On the grid that `grid_to_match` says.
    fixed_body, prealigned_body : sitk.Image
        Masks of where landmarks may lie, on any grid.

    Returns
    -------
    PointPairs
        LPS mm; the moving points lie in the space of `prealigned`.
    """
    if isinstance(network, SeekNetwork):
        pairs, evidence = seek_prealigned(network, fixed, prealigned, fixed_body, options, step)
        score = scores(network.get_buffer("calibration")[1], evidence.features())
        pairs = replace(pairs, score=score.double().cpu().numpy())
        good = pairs.select(pairs.score >= options.min_score)
        return good.select(_lie_in(prealigned_body, good.moving))
    threshold = options.threshold(network)
    stacks = [stack_slices(image, network.stride) for image in (fixed, prealigned)]
    fixed_landmarks, moving_landmarks = (
        encode_stack(network, stack, partial(_in_mask, body, stack), threshold, told)
        for stack, body, told in (
            (stacks[0], fixed_body, partial(step, "encode fixed")),
            (stacks[1], prealigned_body, partial(step, "encode moving")),
        )
    )
    reach = int(options.search_mm / stacks[0].grid.GetSpacing()[2] + 1e-6)  # slices
    told = partial(step, "match")
    best = best_answers(network, fixed_landmarks, moving_landmarks, reach, options.min_score, told)
    return _lift(best[:, :3], best[:, 3:6], best[:, 6], stacks)


def seek_prealigned(
    network: SeekNetwork,
    fixed: sitk.Image,
    prealigned: sitk.Image,
    fixed_body: sitk.Image,
    options: MatchingOptions = MatchingOptions(),
    step: StepCallback = lambda what, share: None,
) -> tuple[PointPairs, Evidence]:
    """Correspondences of two volumes in one frame, not scored, and what speaks for them."""
    stacks = [stack_slices(image, network.stride) for image in (fixed, prealigned)]
    normal = np.array(stacks[0].grid.GetDirection())[2::3]
    first = [float(normal @ stack.grid.GetOrigin()) for stack in stacks]
    slices = [
        Slices(stack.images, stack.grid.GetSpacing()[2], z - first[0])
        for stack, z in zip(stacks, first, strict=True)
    ]
    found = seek_volumes(
        network.log_scale.device,
        partial(encode, network),
        slices[0],
        slices[1],
        inside=lambda xy, k: _in_mask(fixed_body, stacks[0], xy, k),
        through_mm=options.search_mm,
        threshold=options.threshold(network),
        say=step,
    )
    score = np.zeros(len(found.fixed))
    return _lift(found.fixed, found.moving, score, stacks), found.evidence


def _lift(
    fixed: NDArray[np.float64],
    moving: NDArray[np.float64],
    score: NDArray[np.float64],
    stacks: Sequence[SliceStack],
) -> PointPairs:
    """Places (x, y, k) [N, 3] of the slices of two stacks as points of the world."""
    ends = zip(stacks, (fixed, moving), strict=True)
    points = [stack.to_physical(places[:, :2], places[:, 2]) for stack, places in ends]
    return PointPairs(points[0], points[1], score)


def _in_mask(mask: sitk.Image, stack: SliceStack, keypoints: Tensor, k: int) -> Tensor:
    """Which keypoints [N, 2] px of slice k lie in a mask."""
    xy = keypoints.double().cpu().numpy()
    keep = _lie_in(mask, stack.to_physical(xy, np.full(len(xy), float(k))))
    return torch.from_numpy(keep).to(keypoints.device)


def _lie_in(mask: sitk.Image, points: Points) -> NDArray[np.bool_]:
    """Which points [N, 3] LPS mm lie in a mask; beyond its grid its edge goes on."""
    index = np.round(physical_to_index(mask, points)).astype(int)
    index = np.clip(index, 0, np.array(mask.GetSize()) - 1)
    values = sitk.GetArrayViewFromImage(mask)  # [z, y, x]
    return np.asarray(values[index[:, 2], index[:, 1], index[:, 0]] > 0)
