"""Seeking through a stack of maps: planted places come out, at every edge, and nothing else."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor
from torch.nn import functional

from landmark_dir.matching.map_stack import (
    TILE,
    Hits,
    MapStack,
    Window,
    below_places,
    best_in_windows,
    mm_places,
    places_mm,
    pooled,
    seek_stack,
    tile_corners,
    tile_of,
)
from landmark_dir.progress import silent

SHAPE = (6, 20, 28)  # rows and columns are no multiples of a tile
PLACE_MM, LEVEL_MM = 4.0, 3.0


def _stack(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> MapStack:
    """Unit descriptors without any likeness."""
    made = torch.randn(*shape, 64, generator=torch.Generator().manual_seed(seed))
    matchability = torch.full(shape, 4.0)
    return MapStack(functional.normalize(made, dim=-1), matchability, PLACE_MM, LEVEL_MM)


def _with(stack: MapStack, descriptors: Tensor) -> MapStack:
    return MapStack(descriptors, stack.matchability, stack.place_mm, stack.level_mm, stack.first_mm)


def _all(stack: MapStack) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Every place of every level is a landmark."""
    count = stack.shape[1] * stack.shape[2]
    return lambda k: (torch.arange(count), torch.arange(count) / count)


def _in_place(stack: MapStack) -> Callable[[int, Tensor], Tensor]:
    width = stack.shape[2]
    return lambda k, tiles: functional.pad(tile_corners(tiles, width), (1, 0), value=k)


def _seek(fixed: MapStack, moving: MapStack, window: Window) -> Hits:
    return seek_stack(fixed, moving, _all(fixed), _in_place(fixed), window, silent)


def test_every_place_lies_in_its_tile() -> None:
    _, height, width = SHAPE
    rows, columns = torch.cartesian_prod(torch.arange(height), torch.arange(width)).unbind(1)
    tiles = tile_of(rows, columns, width)
    inside = torch.stack([rows, columns], 1) - tile_corners(tiles, width)
    assert ((inside >= 0) & (inside < TILE)).all()
    assert tiles.unique().tolist() == list(range(3 * 4))


def test_a_shifted_stack_is_found_shifted() -> None:
    fixed = _stack()
    shift = (1, -2, 3)
    moving = _with(fixed, fixed.descriptors.roll(shift, (0, 1, 2)))
    hits = _seek(fixed, moving, Window(2, 4))
    wanted = hits.start + torch.tensor(shift)
    inside = ((wanted >= 0) & (wanted < torch.tensor(SHAPE))).all(1)
    assert inside.sum() == 5 * 18 * 25  # all whose partner is there, also at the edges
    off = (hits.found - wanted)[inside].abs()
    assert off.max() < 0.35  # places; a parabola through likenesses of chance
    assert hits.similarity[inside].min() > 0.99
    assert hits.similarity[~inside].max() < 0.8  # the rest came back by chance
    assert_allclose(hits.matchability, (hits.start[:, 1] * 28 + hits.start[:, 2]) / 560, atol=1e-6)


def test_half_precision_finds_the_same() -> None:
    fixed = _stack()
    half = _with(fixed, fixed.descriptors.bfloat16())
    moving = _with(half, half.descriptors.roll((1, 1), (0, 2)))
    hits = _seek(half, moving, Window(1, 2))
    wanted = hits.start + torch.tensor([1, 0, 1])
    inside = ((wanted >= 0) & (wanted < torch.tensor(SHAPE))).all(1)
    assert inside.sum() == 5 * 20 * 27
    assert (hits.found - wanted)[inside].abs().max() < 0.35
    assert hits.similarity.dtype == torch.float32


def test_nothing_beyond_the_window_is_found() -> None:
    fixed = _stack()
    for shift, axis in ((2, 0), (10, 2)):  # a window of 1 level, and of 8 + 1 places
        moving = _with(fixed, fixed.descriptors.roll(shift, axis))
        hits = _seek(fixed, moving, Window(1, 1))
        assert hits.similarity.max() < 0.8  # by chance


def test_windows_at_the_edges_of_the_stack_hold_what_is_inside() -> None:
    stack = _stack()
    last = torch.tensor(SHAPE) - 1
    ends = torch.cartesian_prod(*(torch.tensor([0, size - 1]) for size in SHAPE))
    corners = ends - torch.tensor([0, 4, 4])
    tile = torch.arange(len(ends))
    places, similarity = best_in_windows(stack.at(ends), tile, stack, corners, Window(3, 6))
    assert torch.equal(places, ends)
    torch.testing.assert_close(similarity, torch.ones(8))
    far = corners + torch.tensor([40, 40, 40])
    places, _ = best_in_windows(stack.at(ends), tile, stack, far, Window(3, 6))
    assert torch.equal(places, last.expand(8, -1))  # beyond the stack is its edge


def test_tiles_of_unequal_counts_do_not_mix() -> None:
    stack = _stack()
    places = torch.tensor([[2, 3, 3], [2, 1, 12], [2, 0, 9], [2, 7, 15], [2, 12, 27]])
    tile = torch.tensor([0, 1, 1, 1, 2])
    corners = torch.tensor([[2, 0, 0], [2, 0, 8], [2, 8, 24]])
    found, _ = best_in_windows(stack.at(places), tile, stack, corners, Window(0, 0))
    assert torch.equal(found, places)


def test_what_does_not_return_is_dropped() -> None:
    fixed = _stack()
    descriptors = fixed.descriptors.clone()
    twin = descriptors[2, 4, 4] + 0.05 * descriptors[0, 0, 0]
    descriptors[2, 4, 7] = functional.normalize(twin, dim=0)  # 12 mm away
    moving = fixed.descriptors.clone()
    moving[2, 4, 7] = -moving[2, 4, 7]  # the twin has no partner of its own
    hits = _seek(_with(fixed, descriptors), _with(fixed, moving), Window(1, 4))
    starts = hits.start.tolist()
    assert [2, 4, 4] in starts
    assert [2, 4, 7] not in starts


def test_places_between_the_grid_are_found_along_each_axis() -> None:
    level, row, column = torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing="ij")
    peak = torch.tensor([2.3, 7.6, 11.2])
    far = (level - peak[0]) ** 2 + (row - peak[1]) ** 2 + (column - peak[2]) ** 2
    stack = _with(_stack(), (1 - 0.01 * far)[..., None])  # similarity to [1] is a parabola
    one = torch.ones(2, 1)
    found, similarity = below_places(one, stack, torch.tensor([[2, 8, 11], [0, 19, 11]]))
    torch.testing.assert_close(found[0], peak, atol=1e-3, rtol=0)
    assert found[1, :2].tolist() == [0.0, 19.0]  # no parabola at an edge
    assert similarity[0] == pytest.approx(1 - 0.01 * (0.09 + 0.16 + 0.04), abs=1e-4)


def test_landmarks_of_some_levels_only_and_the_share_done() -> None:
    fixed = _stack()
    none = torch.zeros(0)
    shares: list[float] = []
    hits = seek_stack(
        fixed,
        fixed,
        lambda k: (
            (torch.tensor([559, 0]), torch.tensor([1.0, 2.0]))
            if k in (1, 4)
            else (none.long(), none)
        ),
        _in_place(fixed),
        Window(1, 1),
        lambda _, share: shares.append(share),
    )
    assert hits.start.tolist() == [[1, 0, 0], [1, 19, 27], [4, 0, 0], [4, 19, 27]]
    assert hits.matchability.tolist() == [2.0, 1.0, 2.0, 1.0]
    assert_allclose(shares, np.arange(1, 7) / 6)


def test_no_landmarks_give_no_hits() -> None:
    fixed, none = _stack(), torch.zeros(0)
    hits = seek_stack(
        fixed, fixed, lambda k: (none.long(), none), _in_place(fixed), Window(1, 1), silent
    )
    assert [part.shape for part in hits] == [(0, 3), (0, 3), (0,), (0,)]


def test_middles_say_where_a_tile_went() -> None:
    """A motion far beyond the window is found, another for each tile."""
    fixed = _stack(shape=(3, 16, 48))
    descriptors = fixed.descriptors.clone()
    descriptors[:, :, :8], descriptors[:, :, 40:] = (
        fixed.descriptors[:, :, 40:],
        fixed.descriptors[:, :, :8],
    )
    ends = {0: 40, 40: 0}

    def middles(k: int, tiles: Tensor) -> Tensor:
        corners = functional.pad(tile_corners(tiles, 48), (1, 0), value=k)
        corners[:, 2] = torch.tensor([ends.get(int(c), int(c)) for c in corners[:, 2]])
        return corners

    moving = _with(fixed, descriptors)
    hits = seek_stack(fixed, moving, _all(fixed), middles, Window(0, 1), silent)
    assert len(hits.start) == 3 * 16 * 48
    first = hits.start[:, 2] < 8
    off = hits.found[first, 2] - hits.start[first, 2] - 40
    assert off.abs().max() < 0.35


@pytest.mark.parametrize(("step_mm", "every"), [(1.0, 1), (3.0, 1), (6.0, 2), (9.5, 3)])
def test_a_pooled_stack_keeps_its_millimetres(step_mm: float, every: int) -> None:
    fine = _stack(shape=(6, 21, 28))
    fine = MapStack(fine.descriptors, fine.matchability, PLACE_MM, LEVEL_MM, first_mm=-7.0)
    fine.matchability[3, 11, 8] = 9.0
    coarse = pooled(fine, step_mm)
    assert coarse.shape == (-(-6 // every), 10, 14)
    assert coarse.level_mm == every * LEVEL_MM
    four = np.array([[every, 10 + i, 8 + j] for i in (0, 1) for j in (0, 1)], dtype=np.float64)
    assert_allclose(
        places_mm(coarse, np.array([[1.0, 5.0, 4.0]])),
        places_mm(fine, four).mean(0, keepdims=True),
    )
    mean = functional.normalize(fine.at(torch.from_numpy(four).long()).mean(0), dim=0)
    torch.testing.assert_close(coarse.descriptors[1, 5, 4], mean)
    assert coarse.matchability.max() == (9.0 if 3 % every == 0 else 4.0)


def test_pooling_keeps_the_precision_of_the_descriptors() -> None:
    fine = _stack()
    assert pooled(_with(fine, fine.descriptors.bfloat16()), 6.0).descriptors.dtype == torch.bfloat16


def test_places_and_millimetres_are_inverse() -> None:
    stack = MapStack(torch.zeros(4, 5, 6, 1), torch.zeros(4, 5, 6), 4.0, 2.5, first_mm=-11.0)
    assert_allclose(places_mm(stack, np.array([[2.0, 0.0, 3.0]])), [[-6.0, 2.0, 14.0]])
    points = np.random.default_rng(0).uniform(-50, 50, (30, 3))
    assert_allclose(places_mm(stack, mm_places(stack, points)), points, atol=1e-12)
