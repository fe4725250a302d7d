"""Match the landmarks of the `paper` network, within slices and between stacks of them."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from landmark_dir.models.device import encode
from landmark_dir.models.paper import PaperNetwork, SliceLandmarks, describe, local_maxima
from landmark_dir.preprocessing.slices import SliceStack
from landmark_dir.progress import Progress

BATCH_PX = 1 << 20  # pixels encoded at once; bounds the memory


@torch.inference_mode()
def pick_landmarks(network: PaperNetwork, images: Tensor, threshold: float) -> list[SliceLandmarks]:
    """Encode slices [B, 1, H, W] in network units and take the landmarks of each."""
    maps = encode(network, images)
    found = []
    for b, (keypoints, probability) in enumerate(local_maxima(maps.logits, threshold)):
        one = type(maps)(*(part[b : b + 1] for part in maps))
        found.append(SliceLandmarks(keypoints, probability, describe(one, keypoints[None])[0]))
    return found


@torch.inference_mode()
def match_landmarks(
    network: PaperNetwork, landmarks_1: SliceLandmarks, landmarks_2: SliceLandmarks
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


def encode_stack(
    network: PaperNetwork,
    stack: SliceStack,
    inside: Callable[[Tensor, int], Tensor],
    threshold: float,
    progress: Progress,
) -> list[SliceLandmarks]:
    """SliceLandmarks inside the body of every slice of a stack, each slice encoded once.

    Parameters
    ----------
    inside : callable
        Which keypoints [N, 2] px of slice k count.
    """
    device = next(network.parameters()).device
    at_once = max(1, BATCH_PX // stack.images[0].size)
    found: list[SliceLandmarks] = []
    for start in range(0, len(stack.images), at_once):
        part = torch.from_numpy(stack.images[start : start + at_once])[:, None].to(device)
        found += pick_landmarks(network, part, threshold)
        progress("", (start + at_once) / len(stack.images))
    kept = [inside(one.keypoints, k) for k, one in enumerate(found)]
    return [
        SliceLandmarks(*(part[keep] for part in one)) for one, keep in zip(found, kept, strict=True)
    ]


def best_answers(
    network: PaperNetwork,
    fixed: list[SliceLandmarks],
    moving: list[SliceLandmarks],
    reach: int,
    min_score: float,
    progress: Progress,
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
        progress("", (k + 1) / len(fixed))
    table = np.concatenate([np.zeros((0, 10)), *found])
    table = table[np.argsort(-table[:, 7], kind="stable")]  # smallest descriptor distance first
    for landmark in ([2, 8], [5, 9]):  # slice and row: once per fixed, then once per moving
        _, first = np.unique(table[:, landmark], axis=0, return_index=True)
        table = table[np.sort(first)]
    return np.asarray(table[:, :7])
