"""Two axial slices -> corresponding points, with either network."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landmark_dir.errors import BadArgument
from landmark_dir.matching.paper import match_landmarks, pick_landmarks
from landmark_dir.matching.seek_slice import MatchFeatures, seek
from landmark_dir.models.default import SeekNetwork, scores
from landmark_dir.models.device import choose_device, encode, large_pieces, share
from landmark_dir.models.paper import SliceLandmarks
from landmark_dir.models.weights import Network, kept_weights
from landmark_dir.options import DEFAULTS, MatchingOptions


def threshold(options: MatchingOptions, network: Network) -> float:
    """Least landmark probability or matchability: the options', or the network's own."""
    if options.landmark_threshold is None:
        return network.landmark_threshold
    return options.landmark_threshold


class Matches(NamedTuple):
    """Landmarks of slice 1 and where they were found in slice 2."""

    xy_1: Tensor  # [N, 2] px
    xy_2: Tensor
    score: Tensor  # [N] 0..1


def match_slices(
    hu_1: NDArray[np.floating] | NDArray[np.integer],
    hu_2: NDArray[np.floating] | NDArray[np.integer],
    weights: str | Path = "default",
    options: MatchingOptions = DEFAULTS.matching,
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
    BadArgument
        If an array is not 2D, empty or not finite.
    BadWeights
        If the weights cannot be used.

    References
    ----------
    [paper] sec. 2.5
    """
    for name, hu in (("hu_1", hu_1), ("hu_2", hu_2)):
        _check_slice(hu, name)
    network = kept_weights(weights, choose_device(device)).network
    return match_with(network, hu_1, hu_2, options)


def _check_slice(hu: object, name: str) -> None:
    expected = f"{name}: expected a finite 2D array of numbers, HU at 1 mm"
    if not isinstance(hu, np.ndarray) or hu.dtype.kind not in "iuf":
        kind = f"an array of {hu.dtype}" if isinstance(hu, np.ndarray) else type(hu).__name__
        raise BadArgument(f"{expected}; found {kind}")
    if hu.ndim != 2 or not hu.size:
        raise BadArgument(f"{expected}; found shape {hu.shape}")
    if not np.isfinite(hu).all():
        raise BadArgument(f"{expected}; found NaN or infinite values, set them to that of air")


def match_with(
    network: Network,
    hu_1: NDArray[np.floating] | NDArray[np.integer],
    hu_2: NDArray[np.floating] | NDArray[np.integer],
    options: MatchingOptions = DEFAULTS.matching,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """`match_slices` with a network that is loaded already, on the device it lies on."""
    found = match_images(network, padded(network, hu_1), padded(network, hu_2), options)
    xy_1, xy_2, score = (part[found.score >= options.least_score()] for part in found)
    size_1, size_2 = (torch.tensor(hu.shape[::-1]).to(xy_1) for hu in (hu_1, hu_2))
    inside = (xy_1 <= size_1 - 1).all(1) & (xy_2 <= size_2 - 1).all(1)  # not in the padding
    return tuple(part[inside].double().cpu().numpy() for part in (xy_1, xy_2, score))  # type: ignore[return-value]


def padded(network: Network, hu: NDArray[np.floating] | NDArray[np.integer]) -> Tensor:
    """A slice [H, W] as a network takes it: [1, 1, H, W], its units, a multiple of its stride."""
    pad = [(0, -side % network.stride) for side in hu.shape]
    image = np.pad(network.scale.to_network(hu), pad, constant_values=-1.0)
    return torch.from_numpy(image)[None, None].to(next(network.parameters()).device)


@torch.inference_mode()
def match_images(
    network: Network, image_1: Tensor, image_2: Tensor, options: MatchingOptions
) -> Matches:
    """Match two slices [1, 1, H, W] in network units; `options.min_score` is left to the caller."""
    least, images = threshold(options, network), (image_1, image_2)
    if isinstance(network, SeekNetwork):
        with large_pieces(image_1.device):
            xy_1, xy_2, evidence = seek_slices(network, image_1, image_2, least)
        return Matches(
            xy_1, xy_2, scores(network.get_buffer("calibration")[0], evidence.features())
        )

    def pick(image: Tensor) -> SliceLandmarks:
        return pick_landmarks(network, image, least)[0]

    with large_pieces(image_1.device):
        one, two = share(pick, images, image_1.device)
    rows, score, _ = match_landmarks(network, one, two)
    return Matches(one.keypoints[rows[:, 0]], two.keypoints[rows[:, 1]], score)


def seek_slices(
    network: SeekNetwork, image_1: Tensor, image_2: Tensor, threshold: float
) -> tuple[Tensor, Tensor, MatchFeatures]:
    """Correspondences [N, 2] px of two slices [1, 1, H, W], and what speaks for them."""
    one, two = share(partial(encode, network), (image_1, image_2), image_1.device)
    return seek((image_1[0, 0], image_2[0, 0]), (one, two), threshold)
