"""Ground truth on the fly and the multi-task loss of the seed paper, eq. 1-3."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

MARGIN_POS = 0.1  # m_pos, [paper] sec. 2.6
MARGIN_NEG = 1.0  # m_neg, [paper] sec. 2.6
MATCH_PX = 2.0  # thresh_pixels, [paper] sec. 2.6


class Truth(NamedTuple):
    """Ground truth for the sampled landmarks of a batch of pairs."""

    match: Tensor  # [B, K1, K2] 1 where landmark i of image 1 is landmark j of image 2
    landmark_1: Tensor  # [B, K1] 1 where landmark i has a partner
    landmark_2: Tensor  # [B, K2]


def ground_truth(
    keypoints_1: Tensor,
    projected_2: Tensor,
    valid_1: Tensor,
    valid_2: Tensor,
    match_px: float = MATCH_PX,
) -> Truth:
    """Decide which sampled landmarks match ([paper] sec. 2.2.2, 2.4).

    A pair matches where it is closer than `match_px`, each is the other's nearest, and both lie
    in the valid mask.

    Parameters
    ----------
    keypoints_1 : Tensor, shape (B, K1, 2)
        Landmarks of image 1, px.
    projected_2 : Tensor, shape (B, K2, 2)
        Landmarks of image 2, projected onto image 1 by the known transformation, px.
    valid_1, valid_2 : Tensor of bool, shape (B, K1) and (B, K2)
    """
    distance = torch.cdist(
        keypoints_1, projected_2, compute_mode="donot_use_mm_for_euclid_dist"
    )  # [B, K1, K2]
    match = distance < match_px
    match &= distance <= distance.amin(2, keepdim=True)
    match &= distance <= distance.amin(1, keepdim=True)
    match &= valid_1[:, :, None] & valid_2[:, None, :]
    truth = match.float()
    return Truth(truth, truth.amax(2), truth.amax(1))


def landmark_loss(logit: Tensor, truth: Tensor) -> Tensor:
    """Eq. 2: mean over the K landmarks of (1 - p) + cross entropy; logits [B, K]."""
    return (1 - logit.sigmoid()).mean() + functional.binary_cross_entropy_with_logits(logit, truth)


def hinge_loss(
    descriptors_1: Tensor,
    descriptors_2: Tensor,
    match: Tensor,
    margin_pos: float = MARGIN_POS,
    margin_neg: float = MARGIN_NEG,
) -> Tensor:
    """First two terms of eq. 3 on unit-normalised descriptors [B, K, C], match [B, K1, K2]."""
    unit_1 = functional.normalize(descriptors_1, dim=-1)
    unit_2 = functional.normalize(descriptors_2, dim=-1)
    squared = 2 - 2 * unit_1 @ unit_2.transpose(1, 2)
    distance = squared.clamp(min=1e-8).sqrt()  # the square root has no gradient at 0
    positive = (match * (distance - margin_pos).clamp(min=0)).sum((1, 2))
    negative = ((1 - match) * (margin_neg - distance).clamp(min=0)).sum((1, 2))
    count_pos = match.sum((1, 2))
    count_neg = match[0].numel() - count_pos
    return (positive / count_pos.clamp(min=1) + negative / count_neg.clamp(min=1)).mean()


def matching_cross_entropy(logits: Tensor, match: Tensor) -> Tensor:
    """Last term of eq. 3, [B, K1, K2]: each class weighted by the frequency of the other.

    Taken as a weighted mean, as torch's own weighted cross entropy is: both classes count half.
    Divided by the plain number of pairs instead, the term would vanish beside the hinge, for
    matches are one pair in a thousand.
    """
    share_pos = match.mean((1, 2), keepdim=True)
    weight = match * (1 - share_pos) + (1 - match) * share_pos
    loss = functional.binary_cross_entropy_with_logits(logits, match, reduction="none")
    return ((weight * loss).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-6)).mean()
