"""Match fixed pairs of held-out patients as inference does, to choose the best weights."""

import numpy as np
import torch

from landmark_dir.matching.slices import match_images
from landmark_dir.models.weights import Network
from landmark_dir.options import MatchingOptions
from training.data.augment import AugmentOptions
from training.data.dataset import make_pairs
from training.data.pack import Slice

PAIRS = 24
SIDE_PX = 320
FIRST_SEED = 10_000  # the pairs are the same in every training


@torch.no_grad()
def validate(
    network: Network,
    slices: list[Slice],
    augment: AugmentOptions,
    threshold: float,
    device: torch.device,
    pairs: int = PAIRS,
    side_px: int = SIDE_PX,
) -> dict[str, float]:
    """Match validation pairs made as in training.

    Returns
    -------
    dict
        `matches`: median over pairs; `median_px`, `within_2px`, `beyond_16px`: over all matches;
        `correct`: matches within 2 px, mean over pairs; `in_body`: share of the matches whose
        landmark lies in the valid mask; `value`: what the best weights are chosen by, correct
        matches times the share of correct ones. Correct matches count, wrong ones cost: a
        registration leans on both.
    """
    network.eval()
    errors, inside = [], []
    for i in range(pairs):
        batch = make_pairs(slices, [FIRST_SEED + i], (side_px, side_px), augment, device)
        options = MatchingOptions(landmark_threshold=threshold)
        xy_1, xy_2, _ = match_images(network, batch.images_1, batch.images_2, options)
        error = (xy_1 - batch.project_2_to_1(xy_2[None])[0]).norm(dim=1)
        errors.append(error.cpu().numpy())
        inside.append(batch.in_body(xy_1[None], batch.warp_1)[0].cpu().numpy())
    network.train()
    error = np.concatenate([*errors, [np.inf]])  # never empty
    correct = float(np.mean([(e < 2).sum() for e in errors]))
    within = float((error < 2).mean())
    return {
        "matches": float(np.median([len(e) for e in errors])),
        "median_px": float(np.median(error)),
        "within_2px": within,
        "beyond_16px": float((error > 16).mean()),
        "correct": correct,
        "in_body": float(np.concatenate([*inside, [True]]).mean()),
        "value": correct * within,
    }
