"""The training step of the `default` network."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from landmark_dir.models.default import SeekNetwork
from landmark_dir.models.device import torch_threads
from training.data.dataset import PairBatch, make_pairs
from training.data.pack import Slice
from training.loop.processes import Team
from training.loop.timing import Stopwatch
from training.networks import default
from training.networks.default import Points, draw_points, find_loss, spread, training_step
from training.options import SeekOptions, TrainOptions

CONFIG = Path(__file__).parents[3] / "training" / "configs" / "default.toml"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads."""
    with torch_threads(1):
        yield


def _slices() -> list[Slice]:
    """Three neighbouring slices of smooth texture, body in the left two thirds."""
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="ij")
    rng = torch.Generator().manual_seed(0)
    wave = torch.rand(20, 3, generator=rng)
    body = torch.ones(160, 160, dtype=torch.bool)
    body[:, 110:] = False
    made = []
    for k in range(3):
        waves = [60 * torch.sin(0.5 * a * x + 0.5 * b * y + 6 * c + 0.2 * k) for a, b, c in wave]
        hu = torch.stack(waves).sum(0)
        made.append(Slice(hu.to(torch.int16), body, "p", "s", 2.0 * k))
    return made


@pytest.fixture(scope="module")
def options() -> TrainOptions:
    read = TrainOptions.read(CONFIG)
    assert isinstance(read.recipe, SeekOptions)
    recipe = dataclasses.replace(read.recipe, points=40)
    return dataclasses.replace(read, recipe=recipe, mixed_precision=False)


@pytest.fixture(scope="module")
def pairs(options: TrainOptions) -> PairBatch:
    return make_pairs(_slices(), [1, 2], (96, 96), options.augment, CPU)


def test_points_correspond_and_lie_in_the_body(pairs: PairBatch, options: TrainOptions) -> None:
    assert isinstance(options.recipe, SeekOptions)
    points = draw_points(pairs, options.recipe)
    assert points.xy_1.shape == (2, 40, 2)
    assert points.weight.mean() > 0.5
    kept = points.weight > 0
    off = (pairs.project_2_to_1(points.xy_2) - points.xy_1).norm(dim=-1)
    assert off[kept].max() < 0.01  # px, float32 fixed-point iteration
    for xy, warp in ((points.xy_1, pairs.warp_1), (points.xy_2, pairs.warp_2)):
        assert pairs.in_body(xy, warp)[kept].all()
        assert pairs.in_view(xy, warp, options.recipe.border_px)[kept].all()


def test_what_is_in_view_is_told_apart_from_what_counts(
    pairs: PairBatch, options: TrainOptions
) -> None:
    """Air in view is no landmark, and matchability must learn so; beyond the view nobody knows."""
    assert isinstance(options.recipe, SeekOptions)
    border = options.recipe.border_px
    points = draw_points(pairs, dataclasses.replace(options.recipe, points=400))
    assert points.xy_1.shape[1] == 12 * 12  # one of each cell, and no more
    assert torch.equal(points.seen_1 > 0, pairs.in_view(points.xy_1, pairs.warp_1, border))
    assert torch.equal(points.seen_2 > 0, pairs.in_view(points.xy_2, pairs.warp_2, border))
    both = (points.seen_1 > 0) & (points.seen_2 > 0)
    assert not (points.weight > 0)[~both].any()
    assert ((points.weight == 0) & both).any()
    assert (points.seen_2 == 0).any()


def test_points_depend_on_the_seed_of_their_pair_only(
    pairs: PairBatch, options: TrainOptions
) -> None:
    assert isinstance(options.recipe, SeekOptions)
    both = draw_points(pairs, options.recipe)
    alone = make_pairs(_slices(), [2], (96, 96), options.augment, CPU)
    assert torch.equal(draw_points(alone, options.recipe).xy_1[0], both.xy_1[1])
    assert not torch.equal(both.xy_1[0], both.xy_1[1])


def test_the_four_places_average_to_the_point() -> None:
    xy = torch.rand(2, 30, 2) * 40 + 4
    flat, share = spread(xy, 4, (12, 14))
    places = (torch.stack([flat % 14, flat // 14], -1) + 0.5) * 4 - 0.5
    torch.testing.assert_close(share.sum(-1), torch.ones(2, 30))
    torch.testing.assert_close((places * share[..., None]).sum(2), xy, atol=1e-4, rtol=0)


def test_places_beyond_the_grid_are_those_of_its_edge() -> None:
    flat, share = spread(torch.tensor([[[0.0, 0.0], [55.0, 47.0]]]), 4, (12, 14))
    assert set(flat[0, 0].tolist()) == {0}
    assert set(flat[0, 1].tolist()) == {12 * 14 - 1}
    torch.testing.assert_close(share.sum(-1), torch.ones(1, 2))


def test_finding_costs_nothing_where_the_descriptor_is_unique() -> None:
    other = torch.eye(12).view(1, 12, 3, 4)  # every place its own direction
    xy = torch.tensor([[[5.5, 9.5]]])  # the centre of place (1, 2), row 9
    right, wrong = torch.eye(12)[None, [9]], torch.eye(12)[None, [2]]
    for descriptor, want in ((right, 0.0), (wrong, 30.0)):
        loss, probability = find_loss(descriptor, other, xy, torch.tensor(30.0))
        assert float(loss) == pytest.approx(want, abs=1e-3)
        # the other three of the four places have a share of zero
        assert float(probability) == pytest.approx(1.0 if want == 0 else 0.0, abs=1e-3)


def test_any_of_the_four_places_around_the_truth_is_a_find() -> None:
    other = torch.eye(12).view(1, 12, 3, 4)
    xy = torch.tensor([[[3.5, 3.5]]])  # between the places of rows 0, 1, 4 and 5
    for row, sure in ((0, 1.0), (5, 1.0), (6, 0.0)):
        _, probability = find_loss(torch.eye(12)[None, [row]], other, xy, torch.tensor(30.0))
        assert float(probability) == pytest.approx(sure, abs=1e-3)


def test_the_loss_falls_and_reaches_every_parameter(
    pairs: PairBatch, options: TrainOptions
) -> None:
    torch.manual_seed(0)
    network = SeekNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        step = training_step(network, pairs, options, Stopwatch(), Team())
        loss = torch.stack([*step.terms.values()]).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 1.0
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


class _OneOfTwo(Team):
    """One of two processes; the other says this."""

    def __init__(self, other: torch.Tensor) -> None:
        super().__init__(size=2)
        self._other = other

    def average(self, values: torch.Tensor) -> torch.Tensor:
        return (values + self._other) / 2


def test_shares_of_a_batch_average_to_its_losses_and_gradient(options: TrainOptions) -> None:
    """Also where one has more points than the other."""
    assert isinstance(options.recipe, SeekOptions)
    recipe = dataclasses.replace(options.recipe, points=144)
    options = dataclasses.replace(options, recipe=recipe)
    seeds = ([1, 2], [1], [2])
    batches = [make_pairs(_slices(), part, (96, 96), options.augment, CPU) for part in seeds]
    counts = [draw_points(pairs, recipe).weight.sum() for pairs in batches[1:]]
    assert abs(counts[0] - counts[1]) > 20
    torch.manual_seed(0)
    network = SeekNetwork().eval()  # each share has the batch normalisation of the whole
    found = []
    for pairs, team in zip(batches, (Team(), *map(_OneOfTwo, reversed(counts))), strict=True):
        step = training_step(network, pairs, options, Stopwatch(), team)
        network.zero_grad()
        torch.stack([*step.terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
        gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        values = torch.stack([*step.terms.values(), *step.figures.values()])
        found.append(torch.cat([values.detach(), gradient]))
    torch.testing.assert_close((found[1] + found[2]) / 2, found[0], atol=1e-5, rtol=1e-4)  # float32


def test_matchability_does_not_teach_the_descriptors(
    pairs: PairBatch, options: TrainOptions
) -> None:
    """Its target is what seeking achieves, not what would make it easy."""
    torch.manual_seed(0)
    network = SeekNetwork()
    step = training_step(network, pairs, options, Stopwatch(), Team())
    step.terms["matchability"].backward()  # type: ignore[no-untyped-call]
    assert network.descriptor.weight.grad is None
    assert network.log_scale.grad is None
    assert network.matchability.weight.grad is not None


@pytest.fixture(scope="module")
def still(pairs: PairBatch) -> PairBatch:
    """Both images the same."""
    return dataclasses.replace(pairs, images_2=pairs.images_1, warp_2=pairs.warp_1)


def test_a_still_pair_is_found_by_an_untrained_network(
    pairs: PairBatch, still: PairBatch, options: TrainOptions
) -> None:
    torch.manual_seed(0)
    network = SeekNetwork()
    with torch.no_grad():
        same, other = (
            training_step(network, part, options, Stopwatch(), Team()).terms["find"]
            for part in (still, pairs)
        )
    assert same < other - 0.2


def test_air_is_not_matchable_however_well_it_is_found(
    still: PairBatch, options: TrainOptions
) -> None:
    torch.manual_seed(0)
    network = SeekNetwork()
    network.log_scale.data.fill_(5.0)
    network.matchability.weight.data.zero_()
    assert network.matchability.bias is not None
    network.matchability.bias.data.fill_(-8.0)  # says that nothing is
    air = [part._replace(body=torch.zeros_like(part.body)) for part in still.sources]
    in_air = dataclasses.replace(still, sources=air)
    wrong, right = (
        training_step(network, part, options, Stopwatch(), Team()) for part in (still, in_air)
    )
    assert wrong.terms["matchability"] > 0.5
    assert right.terms["matchability"] < 0.01
    assert right.terms["find"] == 0
    assert right.figures["probability"] == 0


def test_seeking_is_learnt_both_ways(
    pairs: PairBatch, options: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same points from the other side cost the same."""
    assert isinstance(options.recipe, SeekOptions)
    there = draw_points(pairs, options.recipe)
    back = Points(there.xy_2, there.xy_1, there.weight, there.seen_2, there.seen_1)
    swapped = dataclasses.replace(
        pairs,
        images_1=pairs.images_2,
        images_2=pairs.images_1,
        warp_1=pairs.warp_2,
        warp_2=pairs.warp_1,
    )
    torch.manual_seed(0)
    network, terms = SeekNetwork(), []
    for part, points in ((pairs, there), (swapped, back)):
        monkeypatch.setattr(default, "draw_points", lambda *_, points=points: points)
        terms.append(training_step(network, part, options, Stopwatch(), Team()).terms)
    for name in terms[0]:
        torch.testing.assert_close(terms[0][name], terms[1][name], atol=1e-4, rtol=0)
