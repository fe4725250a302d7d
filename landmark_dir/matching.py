"""Slices and volumes -> corresponding points."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from landmark_dir.errors import LandmarkDirError
from landmark_dir.geometry import physical_to_index
from landmark_dir.network import STRIDE, Landmarks, PaperNetwork, describe, local_maxima
from landmark_dir.points import PointPairs
from landmark_dir.slices import SliceStack, stack_slices, to_network
from landmark_dir.weights import load_weights

BATCH_PX = 1 << 20  # pixels encoded at once; bounds the memory
StepCallback = Callable[[str, float], None]  # what is done, and its share done, 0..1


@dataclass(frozen=True)
class MatchingOptions:
    """How landmarks are taken and matched.

    Attributes
    ----------
    landmark_threshold : float
        Least landmark probability ([paper] sec. 2.6), 0..1.
    min_score : float
        Least matching probability of a pair, 0..1.
    search_mm : float
        Through-plane reach around the fixed slice, mm.
    """

    landmark_threshold: float = 0.5
    min_score: float = 0.5
    search_mm: float = 10.0

    def __post_init__(self) -> None:
        for name in ("landmark_threshold", "min_score"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: expected a probability 0..1, found {value:g}")
        if not 0 <= self.search_mm < math.inf:
            raise ValueError(f"search_mm: expected 0 or more mm, found {self.search_mm:g}")


def choose_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` takes CUDA where there is one.

    Raises
    ------
    LandmarkDirError
        If CUDA is asked for and not there; it never falls back silently.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise LandmarkDirError("device cuda: this machine or this torch has none; use --device cpu")
    return device


def has_bfloat16(device: str) -> bool:
    """Tell whether the device computes in bfloat16 natively; emulated it would be slower."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    checks = (
        "_is_avx512_bf16_supported",
        "_is_amx_tile_supported",
    )  # as far as this torch has them
    return any(getattr(torch.cpu, check)() for check in checks if hasattr(torch.cpu, check))


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let torch use `threads` CPU threads, then put its setting back."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads or before)
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def pick_landmarks(network: PaperNetwork, images: Tensor, threshold: float) -> list[Landmarks]:
    """Encode slices [B, 1, H, W] in network units and take the landmarks of each."""
    images = images.contiguous(memory_format=torch.channels_last)
    half = has_bfloat16(images.device.type)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=half):
        maps = network.encode(images)
    found = []
    for b, (keypoints, probability) in enumerate(local_maxima(maps.logits, threshold)):
        one = type(maps)(*(part[b : b + 1] for part in maps))
        found.append(Landmarks(keypoints, probability, describe(one, keypoints[None])[0]))
    return found


@torch.inference_mode()
def match_landmarks(
    network: PaperNetwork, landmarks_1: Landmarks, landmarks_2: Landmarks
) -> tuple[Tensor, Tensor, Tensor]:
    """Inverse-consistent matches of two slices ([paper] sec. 2.5).

    A pair is kept where no other pair of either landmark has a higher matching probability or a
    smaller distance of the unit descriptors.

    Returns
    -------
    rows : Tensor, shape (K, 2)
        Row in `landmarks_1`, row in `landmarks_2`.
    probability : Tensor, shape (K,)
        Matching probability, 0..1.
    cosine : Tensor, shape (K,)
        Of the two descriptors; the higher, the smaller their distance.
    """
    raw_1, raw_2 = landmarks_1.descriptors, landmarks_2.descriptors
    if not len(raw_1) or not len(raw_2):
        return raw_1.new_zeros((0, 2)).long(), raw_1.new_zeros(0), raw_1.new_zeros(0)
    logits = network.match_logits(raw_1, raw_2)  # [K1, K2]
    cosine = functional.normalize(raw_1, dim=-1) @ functional.normalize(raw_2, dim=-1).T
    best = logits.argmax(1)
    rows_1 = torch.arange(len(best), device=best.device)
    keep = (best == cosine.argmax(1)) & (logits.argmax(0)[best] == rows_1)
    keep &= cosine.argmax(0)[best] == rows_1
    rows = torch.stack([rows_1[keep], best[keep]], dim=1)
    one, two = rows.unbind(1)
    return rows, logits[one, two].sigmoid(), cosine[one, two]


def match_slices(
    hu_1: NDArray[np.floating] | NDArray[np.integer],
    hu_2: NDArray[np.floating] | NDArray[np.integer],
    weights: str | Path = "paper",
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
    network: PaperNetwork,
    hu_1: NDArray[np.floating] | NDArray[np.integer],
    hu_2: NDArray[np.floating] | NDArray[np.integer],
    options: MatchingOptions = MatchingOptions(),
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """`match_slices` with a network that is loaded already, on the device it lies on."""
    device = next(network.parameters()).device
    both = []
    for hu in (hu_1, hu_2):
        pad = [(0, -side % STRIDE) for side in hu.shape]
        image = np.pad(to_network(hu), pad, constant_values=-1.0)
        batch = torch.from_numpy(image)[None, None].to(device)
        both.append(pick_landmarks(network, batch, options.landmark_threshold)[0])
    rows, score, _ = match_landmarks(network, *both)
    rows, score = (part[score >= options.min_score] for part in (rows, score))
    xy_1, xy_2 = (part.keypoints[rows[:, i]].double().cpu().numpy() for i, part in enumerate(both))
    return xy_1, xy_2, score.double().cpu().numpy()


def encode_stack(
    network: PaperNetwork,
    stack: SliceStack,
    body: sitk.Image,
    options: MatchingOptions,
    step: Callable[[float], None],
) -> list[Landmarks]:
    """Landmarks inside the body of every slice of a stack, each slice encoded once.

    Parameters
    ----------
    body : sitk.Image
        Mask on any grid of the same slices.
    step : callable
        Told the share done, 0..1.
    """
    device = next(network.parameters()).device
    at_once = max(1, BATCH_PX // stack.images[0].size)
    found: list[Landmarks] = []
    for start in range(0, len(stack.images), at_once):
        part = torch.from_numpy(stack.images[start : start + at_once])[:, None].to(device)
        found += pick_landmarks(network, part, options.landmark_threshold)
        step(min(1.0, (start + at_once) / len(stack.images)))
    return [_inside(body, stack, k, one) for k, one in enumerate(found)]


def _inside(body: sitk.Image, stack: SliceStack, k: int, landmarks: Landmarks) -> Landmarks:
    """The landmarks of slice k that lie in the body."""
    xy = landmarks.keypoints.double().cpu().numpy()
    world = stack.to_physical(xy, np.full(len(xy), float(k)))
    index = np.round(physical_to_index(body, world)).astype(int)
    index = np.clip(index, 0, np.array(body.GetSize()) - 1)
    mask = sitk.GetArrayViewFromImage(body)  # [z, y, x]
    keep = torch.from_numpy(mask[index[:, 2], index[:, 1], index[:, 0]] > 0)
    keep = keep.to(landmarks.keypoints.device)
    return Landmarks(*(part[keep] for part in landmarks))


def match_volumes(
    fixed: sitk.Image,
    prealigned: sitk.Image,
    fixed_body: sitk.Image,
    prealigned_body: sitk.Image,
    network: PaperNetwork,
    options: MatchingOptions = MatchingOptions(),
    step: StepCallback = lambda what, share: None,
) -> PointPairs:
    """Match a fixed volume, slice by slice, with a moving volume resampled onto its grid.

    Slice k of fixed is matched with slice k of `prealigned` and with its neighbours within
    `options.search_mm`; each landmark keeps its best answer, on either side.

    Returns
    -------
    PointPairs
        LPS mm; the moving points lie in the space of `prealigned`.
    """
    fixed_stack, moving_stack = (stack_slices(image, STRIDE) for image in (fixed, prealigned))

    def encode(name: str, stack: SliceStack, body: sitk.Image) -> list[Landmarks]:
        return encode_stack(network, stack, body, options, partial(step, f"encode {name}"))

    best = _best_answers(
        network,
        encode("fixed", fixed_stack, fixed_body),
        encode("moving", moving_stack, prealigned_body),
        int(options.search_mm / fixed_stack.grid.GetSpacing()[2] + 1e-6),  # slices
        options.min_score,
        partial(step, "match"),
    )
    return PointPairs(
        fixed_stack.to_physical(best[:, :2], best[:, 2]),
        moving_stack.to_physical(best[:, 3:5], best[:, 5]),
        best[:, 6],
    )


def _best_answers(
    network: PaperNetwork,
    fixed: list[Landmarks],
    moving: list[Landmarks],
    reach: int,
    min_score: float,
    step: Callable[[float], None],
) -> NDArray[np.float64]:
    """Rows (x, y, k of fixed, x, y, k of moving, score), one at most per landmark of a side."""
    found: list[NDArray[np.float64]] = []
    for k, here in enumerate(fixed):
        for j in range(max(0, k - reach), min(len(moving), k + reach + 1)):
            rows, score, cosine = match_landmarks(network, here, moving[j])
            rows, score, cosine = (part[score >= min_score] for part in (rows, score, cosine))
            one, two = rows.unbind(1)
            slices = torch.tensor([[k, j]], device=rows.device).expand(len(rows), -1)
            columns = [
                here.keypoints[one],
                slices[:, :1],
                moving[j].keypoints[two],
                slices[:, 1:],
                score[:, None],
                cosine[:, None],
                one[:, None],
                two[:, None],
            ]
            found.append(torch.cat([part.double() for part in columns], 1).cpu().numpy())
        step((k + 1) / len(fixed))
    table = np.concatenate([np.zeros((0, 10)), *found])
    table = table[np.argsort(-table[:, 7], kind="stable")]  # smallest descriptor distance first
    for landmark in ([2, 8], [5, 9]):  # slice and row: once per fixed, then once per moving
        _, first = np.unique(table[:, landmark], axis=0, return_index=True)
        table = table[np.sort(first)]
    return np.asarray(table[:, :7])
