"""Seeking in slices: known places come out below the pixel, and only what returns is kept."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor
from torch.nn import functional

from landmark_dir.matching import seek_slice
from landmark_dir.matching.local_affine import local_motion, nearest
from landmark_dir.matching.seek_slice import (
    BEND_MM,
    MatchFeatures,
    Measured,
    below_place,
    best_columns,
    best_places,
    better_reading,
    find,
    measure,
    most_similar,
    places_xy,
    seek,
)
from landmark_dir.models.default import EVIDENCE, SeekMaps, SeekNetwork
from landmark_dir.models.device import torch_threads
from landmark_dir.models.weights import load_weights


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


def _unit(*shape: int, seed: int = 0) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(made, dim=-3)


def _maps(descriptors: Tensor, matchability: float = 4.0) -> SeekMaps:
    return SeekMaps(descriptors[None], torch.full((1, *descriptors.shape[1:]), matchability))


def _texture(at: Tensor) -> Tensor:
    """A smooth function of places [..., 2] px: waves of 8 to 60 px, -1..1."""
    rng = torch.Generator().manual_seed(2)
    angle = 6.3 * torch.rand(40, generator=rng)
    waves = torch.stack([angle.cos(), angle.sin()]) * 6.3 / (8 + 52 * torch.rand(40, generator=rng))
    return 0.1 * torch.sin(at @ waves + 6.3 * torch.rand(40, generator=rng)).sum(-1)


def _grid(height: int, width: int) -> Tensor:
    """x, y of each pixel."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return torch.stack([x, y], -1)


def _image(value: Callable[[Tensor], Tensor], shape: tuple[int, int] = (160, 192)) -> Tensor:
    return value(_grid(*shape))


@pytest.fixture(scope="module")
def network() -> SeekNetwork:
    loaded = load_weights("default").network
    assert isinstance(loaded, SeekNetwork)
    return loaded


def test_the_best_places_of_each_cell() -> None:
    logits = torch.full((4, 7), -9.0)  # the last column is in no whole cell
    logits[1, 0], logits[0, 1], logits[2, 5], logits[0, 6] = 2.0, 1.0, 3.0, 8.0
    flat, logit = best_places(logits, 0.5)
    assert flat.tolist() == [7, 19]
    assert logit.tolist() == [2.0, 3.0]
    flat, logit = best_places(logits, 0.5, count=2)
    assert flat.tolist() == [7, 1, 19]
    assert logit.tolist() == [2.0, 1.0, 3.0]


def test_places_are_pixel_centres() -> None:
    assert places_xy(torch.tensor([0, 7]), 6).tolist() == [[1.5, 1.5], [5.5, 5.5]]


def test_the_most_similar_place_in_parts_is_that_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = _unit(8, 5, 7).flatten(1).T.contiguous()
    similarity, flat = most_similar(places, places, 7)
    assert_array_equal(flat, np.arange(35))
    torch.testing.assert_close(similarity, torch.ones(35))
    monkeypatch.setattr(seek_slice, "AT_ONCE", 70)
    assert torch.equal(most_similar(places, places, 7)[1], flat)


@pytest.mark.parametrize("half", [torch.float32, torch.bfloat16])
def test_the_best_columns_are_those_of_argmax(half: torch.dtype) -> None:
    similarity = (2 * torch.rand(50, 301, generator=torch.Generator().manual_seed(0)) - 1).to(half)
    best = best_columns(similarity)
    assert torch.equal(similarity[torch.arange(50), best], similarity.amax(1))


def test_a_place_between_the_grid_points_is_found_below_them() -> None:
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    places = (1 - 0.01 * ((x - 4.3) ** 2 + (y - 2.8) ** 2)).flatten()[:, None]  # likeness to [1]
    flat = torch.tensor([3 * 9 + 4, 0 * 9 + 4, 5 * 9 + 8])
    found = below_place(torch.ones(3, 1), places, flat, 9)
    want = (torch.tensor([[4.3, 2.8], [4.3, 0.0], [8.0, 5.0]]) + 0.5) * 4 - 0.5  # edges: whole
    torch.testing.assert_close(found, want, atol=1e-2, rtol=0)  # px


def test_a_shifted_map_is_found_shifted() -> None:
    descriptors = _unit(64, 16, 20)
    found = find(_maps(descriptors), _maps(descriptors.roll((-2, 3), (1, 2))), 0.5)
    inside = (found.xy_1[:, 0] < 64) & (found.xy_1[:, 1] > 12)
    assert inside.sum() > 50
    off = (found.xy_2 - found.xy_1)[inside] - torch.tensor([12.0, -8.0])
    assert off.abs().max() < 1.5  # px; a parabola through likenesses of chance
    assert found.similarity[inside].min() > 0.99


def test_slices_of_unequal_size_are_no_trouble() -> None:
    descriptors = _unit(64, 16, 20)
    found = find(_maps(descriptors), _maps(descriptors[:, 4:, 6:]), 0.5)
    inside = (found.xy_1 > torch.tensor([24.0, 16.0])).all(1)
    assert inside.sum() > 50
    off = (found.xy_2 - found.xy_1)[inside] + torch.tensor([24.0, 16.0])
    assert off.abs().max() < 1.5  # px


def test_what_does_not_return_is_dropped() -> None:
    descriptors = _unit(64, 16, 16)
    one, two = descriptors.clone(), descriptors.clone()
    twin = descriptors[:, 4, 4] + 0.05 * descriptors[:, 0, 0]
    one[:, 9, 9], two[:, 9, 9] = functional.normalize(twin, dim=0), -descriptors[:, 9, 9]
    places = _maps(one)
    places.matchability[0, 4, 4] = places.matchability[0, 9, 9] = 5.0  # both are sought
    starts = find(places, _maps(two), 0.5).xy_1.tolist()
    assert [17.5, 17.5] in starts
    assert [37.5, 37.5] not in starts
    assert len(starts) > 100


def test_what_is_not_matchable_is_not_sought() -> None:
    maps = _maps(_unit(64, 16, 16))
    maps.matchability[0, :, 8:] = -4.0
    found = find(maps, maps, 0.5)
    assert len(found.xy_1) == 2 * 8 * 4
    assert found.xy_1[:, 0].max() < 32
    assert len(find(maps, maps, 0.99).xy_1) == 0


@pytest.mark.parametrize("shift", [(12.0, -8.0), (11.4, -8.9)])
def test_images_moved_by_parts_of_a_pixel_are_measured(
    network: SeekNetwork, shift: tuple[float, float]
) -> None:
    by = torch.tensor(shift)
    one, two = _image(_texture), _image(lambda at: 1.2 * _texture(at - by) - 0.1)
    with torch.inference_mode():
        maps = tuple(network.encode(part[None, None]) for part in (one, two))
    xy_1, xy_2, evidence = seek((one, two), maps, 0.1)
    assert len(xy_1) > 200
    off = (xy_2 - xy_1 - by).norm(dim=1)
    assert off.median() < 0.1  # px, as good as a few steps and 25 neighbours make it
    assert off.quantile(0.9) < 0.3
    assert evidence.correlation.median() > 0.99
    assert evidence.features().shape == (len(xy_1), EVIDENCE)
    assert torch.isfinite(evidence.features()).all()


def test_slices_without_a_common_anatomy_give_little() -> None:
    images = (_image(_texture), _image(_texture))
    maps = (_maps(_unit(64, 40, 48)), _maps(_unit(64, 40, 48, seed=3)))
    alike, chance = find(maps[0], maps[0], 0.5), find(*maps, 0.5)
    assert len(alike.xy_1) == 2 * 20 * 24
    assert len(chance.xy_1) > 100  # that many return by chance
    xy_1, xy_2, evidence = seek(images, maps, 0.5)
    assert len(xy_1) == len(xy_2) < 0.1 * len(chance.xy_1)
    assert evidence.features().shape == (len(xy_1), EVIDENCE)


def test_nothing_matchable_gives_nothing() -> None:
    images = (torch.zeros(64, 64), torch.zeros(64, 64))
    maps = _maps(_unit(64, 16, 16), matchability=-4.0)
    xy_1, xy_2, evidence = seek(images, (maps, maps), 0.5)
    assert xy_1.shape == xy_2.shape == (0, 2)
    assert evidence.features().shape == (0, EVIDENCE)


def test_features_are_logs_of_the_distances() -> None:
    one = torch.tensor([1.0, 2.0])
    features = MatchFeatures(one, one, one, torch.tensor([0.0, 0.95]), one).features()
    torch.testing.assert_close(features[:, 3], torch.tensor([0.05, 1.0]).log())


def test_the_images_correct_what_the_maps_found() -> None:
    rng = np.random.default_rng(5)
    fixed = rng.uniform(30, 130, (300, 2))
    by = np.array([4.6, -3.2])
    images = (_image(_texture), _image(lambda at: _texture(at - torch.tensor(by).float())))
    found = fixed + by + rng.normal(0, 1.0, fixed.shape)  # px
    measured, correlation = measure(images, fixed, found)
    off = np.linalg.norm(measured.combined() - fixed - by, axis=1)
    assert np.median(off) < 0.1  # px
    assert np.median(measured.spread) < 0.15
    assert correlation.median() > 0.99


def test_images_that_show_other_things_make_nothing_worse() -> None:
    rng = np.random.default_rng(0)
    fixed = rng.uniform(30, 130, (300, 2))
    images = (_image(_texture), _image(lambda at: _texture(at + 500.0)))
    found = fixed + 0.3 * rng.normal(size=fixed.shape)
    measured, correlation = measure(images, fixed, found)
    assert correlation.median() < 0.9
    off = np.linalg.norm(measured.combined() - fixed, axis=1)
    assert np.quantile(off, 0.99) < 1.0  # px; those of `found` alone are 0.5
    assert np.median(measured.spread) > 0.2


def test_a_pair_that_the_images_carry_away_stays_with_its_neighbours() -> None:
    rng = np.random.default_rng(6)
    fixed = rng.uniform(30, 130, (300, 2))
    one = _image(_texture)
    two = one.clone()
    two[60:100, 60:100] = _texture(_grid(40, 40) + 900.0)  # gas, say
    measured, _ = measure((one, two), fixed, fixed + 0.3 * rng.normal(size=fixed.shape))
    off = np.linalg.norm(measured.combined() - fixed, axis=1)
    assert off.max() < 3.5  # px, `LOST_PX` and a bit
    other = ((fixed > 55) & (fixed < 105)).all(1)
    assert np.quantile(off[~other], 0.9) < 0.15


def test_the_reading_that_scatters_less_is_taken_around_each_place() -> None:
    rng = np.random.default_rng(7)
    fixed = rng.uniform(0, 200, (800, 2))
    truth = fixed + 0.05 * fixed[:, ::-1] + 3.0
    left = fixed[:, :1] < 100
    small, large = (rng.normal(0, sigma, fixed.shape) for sigma in (0.05, 2.0))
    found = truth + np.where(left, small, large)
    measured = truth + np.where(left, large, small)
    rows = np.concatenate([np.arange(800)[:, None], nearest(fixed, 24)], axis=1)
    around = local_motion(fixed, fixed, found, rows)
    best = better_reading(fixed, found, around, measured, rows)
    off = np.linalg.norm(best.combined() - truth, axis=1)
    sure = np.abs(fixed[:, 0] - 100) > 25  # neighbours all on one side
    assert off[sure].max() < 0.25
    assert best.spread[sure].max() < 0.15
    place = np.where(left, found, measured)
    assert_allclose(best.moving[sure], place[sure])
    assert_allclose(best.apart[sure], np.linalg.norm(place - truth, axis=1)[sure], atol=0.1)


def test_places_are_combined_with_their_neighbours_as_far_as_these_scatter() -> None:
    moving, fit = np.array([[1.0, 0.0]] * 3), np.zeros((3, 2))
    measured = Measured(moving, fit, np.array([0.0, BEND_MM, 10 * BEND_MM]))
    assert_allclose(measured.combined()[:, 0], [1.0, 0.5, 1 / 101])
    assert_allclose(measured.apart, 1.0)
