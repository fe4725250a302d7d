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
from landmark_dir.matching.seek_volume import (
    FINEST_MM,
    WIDE,
    Encoded,
    Look,
    Slices,
    encoded,
    seek_volumes,
)
from landmark_dir.matching.slices import threshold
from landmark_dir.models.default import SeekNetwork, scores
from landmark_dir.models.device import encode, large_pieces
from landmark_dir.models.paper import PaperNetwork, SliceLandmarks
from landmark_dir.models.weights import Network
from landmark_dir.options import DEFAULTS, MatchingOptions
from landmark_dir.points import PointPairs
from landmark_dir.preprocessing.slice_profile import slice_distances_mm
from landmark_dir.preprocessing.slices import SliceStack, stack_slices
from landmark_dir.progress import Progress, part, silent

FAR_APART_MM = 4.0  # slices farther apart say too little of what lies between them


def grid_to_match(network: Network, fixed: sitk.Image, moving: sitk.Image) -> sitk.Image:
    """The grid, in the frame of `fixed`, that `moving` is best resampled onto to be matched.

    That of `fixed`; but its slices may hide what `moving` has seen between them. The `default`
    network finds the level itself, so it gets as many slices as `moving` has, or one every
    `FINEST_MM`; where those are far apart, one more between each two.
    """
    fixed = sitk.DICOMOrient(fixed, "LPS")
    if not isinstance(network, SeekNetwork):
        return fixed
    x_mm, y_mm, z_mm = fixed.GetSpacing()
    _, slices_mm = slice_distances_mm(fixed, moving)
    level_mm = min(z_mm, max(slices_mm, FINEST_MM))
    if level_mm > FAR_APART_MM:
        level_mm /= 2
    size = [*fixed.GetSize()[:2], int((fixed.GetSize()[2] - 1) * z_mm / level_mm + 1e-6) + 1]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing((x_mm, y_mm, level_mm))
    grid.SetOrigin(fixed.GetOrigin())
    grid.SetDirection(fixed.GetDirection())
    return grid


class FixedVolume:
    """A fixed volume as it is matched: what the network says of it is kept for further passes.

    Parameters
    ----------
    body : sitk.Image
        Mask of where landmarks may lie, on any grid.
    """

    def __init__(
        self,
        network: Network,
        image: sitk.Image,
        body: sitk.Image,
        options: MatchingOptions = DEFAULTS.matching,
    ) -> None:
        self._network = network
        self._body = body
        self._options = options
        self._stack = stack_slices(image, network.stride, network.scale)
        self._encoded: Encoded | None = None
        self._landmarks: list[SliceLandmarks] | None = None

    def match(
        self,
        prealigned: sitk.Image,
        body: sitk.Image,
        look: Look = WIDE,
        progress: Progress = silent,
    ) -> PointPairs:
        """Match with a moving volume that is resampled into the frame of this one.

        The `default` network's landmarks are sought in three dimensions. With `paper`, slice k is
        matched with slice k of `prealigned` and with its neighbours within `options.search_mm`;
        each landmark keeps its best answer, on either side.

        Parameters
        ----------
        prealigned : sitk.Image
            On the grid that `grid_to_match` says.
        body : sitk.Image
            Mask of where landmarks may lie in it, on any grid.
        look : Look
            Where the `default` network looks for them.

        Returns
        -------
        PointPairs
            LPS mm; the moving points lie in the space of `prealigned`.
        """
        network = self._network
        if not isinstance(network, SeekNetwork):
            return self._match_slices(network, prealigned, body, progress)
        pairs, evidence = self.seek(prealigned, look, progress)
        score = scores(network.get_buffer("calibration")[1], evidence.features())
        pairs = replace(pairs, score=score.double().cpu().numpy())
        good = pairs.select(pairs.score >= self._options.least_score(calibrated_3d=True))
        return good.select(_lie_in(body, good.moving))

    def seek(
        self, prealigned: sitk.Image, look: Look = WIDE, progress: Progress = silent
    ) -> tuple[PointPairs, MatchFeatures]:
        """Correspondences that `default` finds, not scored, and what speaks for them."""
        assert isinstance(self._network, SeekNetwork)
        with large_pieces(self._network.log_scale.device):
            return self._seek(self._network, prealigned, look, progress)

    def _seek(
        self, network: SeekNetwork, prealigned: sitk.Image, look: Look, progress: Progress
    ) -> tuple[PointPairs, MatchFeatures]:
        stack = self._stack
        moving_stack = stack_slices(prealigned, network.stride, network.scale)
        normal = np.array(stack.grid.GetDirection())[2::3]
        first_mm = [float(normal @ one.grid.GetOrigin()) for one in (stack, moving_stack)]
        device, say = network.log_scale.device, partial(encode, network)
        if self._encoded is None:
            slices = Slices(stack.images, stack.grid.GetSpacing()[2])
            told = part(progress, 0.0, 0.3, "encode fixed")
            self._encoded = encoded(slices, say, device, told)
        slices = Slices(
            moving_stack.images, moving_stack.grid.GetSpacing()[2], first_mm[1] - first_mm[0]
        )
        moving = encoded(slices, say, device, part(progress, 0.3, 0.6, "encode moving"))
        found = seek_volumes(
            self._encoded,
            moving,
            inside=lambda xy, k: _in_mask(self._body, stack, xy, k),
            look=look,
            through_mm=self._options.search_mm,
            threshold=threshold(self._options, network),
            progress=part(progress, 0.6, 1.0, between=""),
        )
        score = np.zeros(len(found.fixed))
        return _lift(found.fixed, found.moving, score, (stack, moving_stack)), found.evidence

    def _match_slices(
        self, network: PaperNetwork, prealigned: sitk.Image, body: sitk.Image, progress: Progress
    ) -> PointPairs:
        least, stack = threshold(self._options, network), self._stack
        moving_stack = stack_slices(prealigned, network.stride, network.scale)
        if self._landmarks is None:
            told = part(progress, 0.0, 0.3, "encode fixed")
            inside = partial(_in_mask, self._body, stack)
            self._landmarks = encode_stack(network, stack, inside, least, told)
        told = part(progress, 0.3, 0.6, "encode moving")
        inside = partial(_in_mask, body, moving_stack)
        landmarks = encode_stack(network, moving_stack, inside, least, told)
        reach = int(self._options.search_mm / stack.grid.GetSpacing()[2] + 1e-6)  # slices
        told, least = part(progress, 0.6, 1.0, "match"), self._options.least_score()
        best = best_answers(network, self._landmarks, landmarks, reach, least, told)
        return _lift(best[:, :3], best[:, 3:6], best[:, 6], (stack, moving_stack))


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
