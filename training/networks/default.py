"""A training step of the `default` network: find densely, and know what can be found.

Random points of image 1 and their exact places in image 2 are sought both ways, as in use: the
descriptor of a point against every place of the other image (a softmax over all of them, whose
target is the point's four neighbours on the grid). Matchability learns the probability that seeking
succeeds.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from landmark_dir.models.default import MAP_PX, SeekMaps, SeekNetwork
from landmark_dir.models.device import encode
from landmark_dir.models.paper import CELL_PX, sample_maps
from training.data.dataset import PairBatch
from training.loop.processes import Team
from training.loop.timing import Stopwatch
from training.networks.paper import Step
from training.options import SeekOptions, TrainOptions


class Points(NamedTuple):
    """Corresponding points of a batch of pairs."""

    xy_1: Tensor  # [B, K, 2] px
    xy_2: Tensor
    weight: Tensor  # [B, K] 1 where both lie in the body and in view
    seen_1: Tensor  # [B, K] 1 where it lies in view of image 1
    seen_2: Tensor


@torch.no_grad()
def draw_points(pairs: PairBatch, options: SeekOptions) -> Points:
    """Draw one random point of most cells of image 1, those first that count."""
    height, width = pairs.images_1.shape[-2:]
    rows, columns = height // CELL_PX, width // CELL_PX
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    cells = torch.stack([x, y], -1).view(1, -1, 2)
    rngs = [torch.Generator().manual_seed(seed) for seed in pairs.seeds]
    jitter = torch.stack([torch.rand((rows * columns, 2), generator=rng) for rng in rngs])
    order = torch.stack([torch.rand(rows * columns, generator=rng) for rng in rngs])
    device = pairs.images_1.device
    xy_1 = ((cells + jitter) * CELL_PX - 0.5).to(device)
    xy_2 = pairs.warp_2.from_source(pairs.warp_1.to_source(xy_1))
    views = ((xy_1, pairs.warp_1), (xy_2, pairs.warp_2))
    seen_1, seen_2 = (pairs.in_view(xy, warp, options.border_px) for xy, warp in views)
    counts = seen_1 & seen_2
    for xy, warp in views:
        counts = counts & pairs.in_body(xy, warp)
    rows_kept = (counts + order.to(device)).topk(min(options.points, len(order[0])), dim=1).indices
    index = rows_kept[..., None].expand(-1, -1, 2)
    flags = (part.gather(1, rows_kept).float() for part in (counts, seen_1, seen_2))
    return Points(xy_1.gather(1, index), xy_2.gather(1, index), *flags)


def spread(xy: Tensor, stride: int, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The four places of a grid around points, and their bilinear shares.

    Parameters
    ----------
    xy : Tensor, shape (B, K, 2), px
    shape : (h, w) of the grid, whose places are `stride` px apart

    Returns
    -------
    flat : Tensor, shape (B, K, 4), rows of the flattened grid
    share : Tensor, shape (B, K, 4), summing to 1
    """
    at = (xy + 0.5) / stride - 0.5
    first = at.floor()
    part = at - first
    places, shares = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            x = (first[..., 0] + dx).clamp(0, shape[1] - 1)
            y = (first[..., 1] + dy).clamp(0, shape[0] - 1)
            places.append((y * shape[1] + x).long())
            shares.append(
                (part[..., 0] if dx else 1 - part[..., 0])
                * (part[..., 1] if dy else 1 - part[..., 1])
            )
    return torch.stack(places, -1), torch.stack(shares, -1)


def find_loss(
    descriptors: Tensor, other: Tensor, xy: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross entropy of seeking descriptors [B, K, C] in a map [B, C, h, w]; truth xy [B, K, 2] px.

    Returns
    -------
    loss : Tensor, shape (B, K)
    probability : Tensor, shape (B, K)
        Of the four places around the truth together.
    """
    logits = scale * descriptors @ other.flatten(2)  # [B, K, h * w]
    flat, share = spread(xy, MAP_PX, (other.shape[2], other.shape[3]))
    log_p = logits.gather(2, flat) - logits.logsumexp(2, keepdim=True)
    return -(share * log_p).sum(-1), log_p.exp().sum(-1).clamp(max=1)


def training_step(
    network: SeekNetwork, pairs: PairBatch, options: TrainOptions, watch: Stopwatch, team: Team
) -> Step:
    """The terms of the loss for a share of a batch; their means over the team are the batch's.

    Every point counts alike, so the team is asked how many there are.
    """
    recipe = options.recipe
    assert isinstance(recipe, SeekOptions)
    images = torch.cat([pairs.images_1, pairs.images_2])
    with watch.phase("encode"):
        maps = encode(network, images, mixed_precision=options.mixed_precision)
    one, two = (SeekMaps(*(part.chunk(2)[i] for part in maps)) for i in (0, 1))
    with watch.phase("ground truth"):
        there = draw_points(pairs, recipe)
        back = Points(there.xy_2, there.xy_1, there.weight, there.seen_2, there.seen_1)
    with watch.phase("loss"):
        scale = network.log_scale.exp().clamp(max=200)
        size = (images.shape[-2], images.shape[-1])
        count = team.average(there.weight.sum())  # a share, on average: 1 / size or more, or 0
        weight = there.weight / count.clamp(min=1 / team.size)
        ways = ((one, two, there), (two, one, back))
        losses, probabilities = [], []
        for a, b, points in ways:
            described = sample_maps(a.descriptors, points.xy_1, size)
            loss, probability = find_loss(described, b.descriptors, points.xy_2, scale)
            losses.append((loss * weight).sum())
            probabilities.append(probability.detach())
        both = probabilities[0] * probabilities[1] * there.weight  # nothing outside the body
        unsure = []
        for a, _, points in ways:
            logit = sample_maps(a.matchability[:, None], points.xy_1, size)[..., 0]
            entropy = functional.binary_cross_entropy_with_logits(logit, both, points.seen_1)
            unsure.append(entropy)
    terms = {
        "find": torch.stack(losses).mean(),
        "matchability": recipe.matchability * torch.stack(unsure).mean(),
    }
    figures = {"probability": (both.sqrt() * weight).sum(), "scale": scale.detach()}
    return Step(terms, figures)
