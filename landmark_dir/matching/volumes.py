"""Two volumes -> corresponding points, with either network."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor

from landmark_dir.geometry import Points, physical_to_index
from landmark_dir.matching.paper import best_answers, encode_stack
from landmark_dir.matching.seek_slice import MatchFeatures
from landmark_dir.matching.seek_volume import Slices, seek_volumes
from landmark_dir.matching.slices import threshold
from landmark_dir.models.default import SeekNetwork, scores
from landmark_dir.models.device import encode
from landmark_dir.models.weights import Network
from landmark_dir.options import DEFAULTS, MatchingOptions
from landmark_dir.points import PointPairs
from landmark_dir.preprocessing.slices import SliceStack, stack_slices
from landmark_dir.progress import Progress, part, silent

FINEST_MM = 2.0  # least slice distance that a volume is matched with


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
    options: MatchingOptions = DEFAULTS.matching,
    progress: Progress = silent,
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
        pairs, evidence = seek_prealigned(network, fixed, prealigned, fixed_body, options, progress)
        score = scores(network.get_buffer("calibration")[1], evidence.features())
        pairs = replace(pairs, score=score.double().cpu().numpy())
        good = pairs.select(pairs.score >= options.min_score)
        return good.select(_lie_in(prealigned_body, good.moving))
    least = threshold(options, network)
    stacks = [stack_slices(image, network.stride, network.scale) for image in (fixed, prealigned)]
    fixed_landmarks, moving_landmarks = (
        encode_stack(network, stack, partial(_in_mask, body, stack), least, told)
        for stack, body, told in (
            (stacks[0], fixed_body, part(progress, 0.0, 0.3, "encode fixed")),
            (stacks[1], prealigned_body, part(progress, 0.3, 0.6, "encode moving")),
        )
    )
    reach = int(options.search_mm / stacks[0].grid.GetSpacing()[2] + 1e-6)  # slices
    told = part(progress, 0.6, 1.0, "match")
    best = best_answers(network, fixed_landmarks, moving_landmarks, reach, options.min_score, told)
    return _lift(best[:, :3], best[:, 3:6], best[:, 6], stacks)


def seek_prealigned(
    network: SeekNetwork,
    fixed: sitk.Image,
    prealigned: sitk.Image,
    fixed_body: sitk.Image,
    options: MatchingOptions = DEFAULTS.matching,
    progress: Progress = silent,
) -> tuple[PointPairs, MatchFeatures]:
    """Correspondences of two volumes in one frame, not scored, and what speaks for them."""
    stacks = [stack_slices(image, network.stride, network.scale) for image in (fixed, prealigned)]
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
        threshold=threshold(options, network),
        progress=progress,
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
