"""Two axial slices -> corresponding points, with either network."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landmark_dir.matching.paper import match_landmarks, pick_landmarks
from landmark_dir.matching.seek_slice import Evidence, seek
from landmark_dir.models.default import SeekNetwork, scores
from landmark_dir.models.device import choose_device, encode
from landmark_dir.models.weights import Network, load_weights
from landmark_dir.preprocessing.slices import to_network


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
