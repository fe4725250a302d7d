"""A training step of the seed paper: sampling layer, ground truth on the fly, multi-task loss."""

from typing import NamedTuple

import torch
from torch import Tensor

from landmark_dir.models.device import encode
from landmark_dir.models.paper import PaperNetwork, best_of_each_cell, describe
from training.data.augment import Warp
from training.data.dataset import PairBatch
from training.loop.processes import Team
from training.loop.timing import Stopwatch
from training.networks import losses
from training.options import PaperOptions, TrainOptions


class Step(NamedTuple):
    """What a step says of a batch."""

    terms: dict[str, Tensor]  # their sum is the loss
    figures: dict[str, Tensor]  # worth a curve


def sample_landmarks(logits: Tensor, count: int, *, cells: bool = True) -> tuple[Tensor, Tensor]:
    """The sampling layer in training ([paper] sec. 2.2.2, 2.4).

    Parameters
    ----------
    logits : Tensor, shape (B, H, W)
        Landmark map before the sigmoid.
    count : int
        K; fewer come out of an image with fewer cells.
    cells : bool
        The best pixels of `count` cells of 8 x 8 px; else the `count` best pixels.

    Returns
    -------
    keypoints : Tensor, shape (B, K, 2), px
    logit : Tensor, shape (B, K)
    """
    if not cells:
        best, flat = logits.flatten(1).topk(count, dim=1)
        rows = torch.div(flat, logits.shape[2], rounding_mode="floor")
        return torch.stack([flat % logits.shape[2], rows], dim=-1).float(), best
    keypoints, best = best_of_each_cell(logits)
    top, rows = best.topk(min(count, best.shape[1]), dim=1)
    return keypoints.gather(1, rows[..., None].expand(-1, -1, 2)), top


@torch.no_grad()
def make_truth(
    pairs: PairBatch, keypoints_1: Tensor, keypoints_2: Tensor, options: PaperOptions
) -> losses.Truth:
    """Ground truth for sampled landmarks [B, K, 2] of both images."""

    def valid(keypoints: Tensor, warp: Warp) -> Tensor:
        fits = pairs.in_view(keypoints, warp, options.border_px)
        return fits & pairs.in_body(keypoints, warp) if options.valid_mask else fits

    return losses.ground_truth(
        keypoints_1,
        pairs.project_2_to_1(keypoints_2),
        valid(keypoints_1, pairs.warp_1),
        valid(keypoints_2, pairs.warp_2),
        options.match_px,
    )


def training_step(
    network: PaperNetwork, pairs: PairBatch, options: TrainOptions, watch: Stopwatch, _: Team
) -> Step:
    """The terms of eq. 1 for a share of a batch; their means over the team are the batch's.

    Every pair counts alike, so the team need not be asked.
    """
    recipe = options.recipe
    assert isinstance(recipe, PaperOptions)
    images = torch.cat([pairs.images_1, pairs.images_2])
    with watch.phase("encode"):
        maps = encode(network, images, mixed_precision=options.mixed_precision)
    with watch.phase("sampling layer"):
        keypoints, logits = sample_landmarks(
            maps.logits.float(), recipe.keypoints, cells=recipe.cells
        )
        raw_1, raw_2 = describe(maps, keypoints).chunk(2)
    with watch.phase("ground truth"):
        keypoints_1, keypoints_2 = keypoints.chunk(2)
        truth = make_truth(pairs, keypoints_1, keypoints_2, recipe)
    with watch.phase("loss"):
        logits_1, logits_2 = logits.chunk(2)
        hinge = losses.hinge_loss(raw_1, raw_2, truth.match, recipe.margin_pos, recipe.margin_neg)
        entropy = losses.matching_cross_entropy(network.match_logits(raw_1, raw_2), truth.match)
        terms = {
            "landmark_1": losses.landmark_loss(logits_1, truth.landmark_1),
            "landmark_2": losses.landmark_loss(logits_2, truth.landmark_2),
            "hinge": recipe.hinge * hinge,
            "cross_entropy": recipe.cross_entropy * entropy,
        }
    return Step(terms, {"training_matches": truth.match.sum((1, 2)).mean()})
