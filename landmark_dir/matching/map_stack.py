"""The maps of a volume's slices as a stack, and seeking in a window of one.

Landmarks are taken tile by tile, and all those of a tile share one window of the other stack: their
similarities are one matrix product, without a loop over landmarks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from landmark_dir.matching.seek_slice import best_columns
from landmark_dir.models.device import has_bfloat16, share
from landmark_dir.models.paper import parabola_peak
from landmark_dir.progress import Progress

TILE = 8  # places of a map along a tile's side
BACK_MM = 6.0  # forward-backward check: largest distance from the start


@dataclass(frozen=True)
class MapStack:
    """The maps of a volume's slices.

    Attributes
    ----------
    descriptors : Tensor, shape (Z, h, w, C), half precision
    matchability : Tensor, shape (Z, h, w), logits
    place_mm : float
        Side of a place in-plane.
    level_mm : float
        Distance of the slices.
    first_mm : float
        Where the first of them lies in the frame that two stacks share.
    """

    descriptors: Tensor
    matchability: Tensor
    place_mm: float
    level_mm: float
    first_mm: float = 0.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Levels, rows, columns."""
        levels, rows, columns = self.matchability.shape
        return levels, rows, columns

    @property
    def unit_mm(self) -> NDArray[np.float64]:
        """Size of a place along level, row, column."""
        return np.array([self.level_mm, self.place_mm, self.place_mm])

    def at(self, places: Tensor) -> Tensor:
        """Descriptors [..., C] at places [..., 3]; beyond the stack those of its edge."""
        level, row, column = (
            places[..., axis].clamp(0, size - 1) for axis, size in enumerate(self.shape)
        )
        return self.descriptors[level, row, column]


class Hits(NamedTuple):
    """Landmarks and where they were found: places (level, row, column) [N, 3]."""

    start: Tensor  # long
    found: Tensor  # float, below the place
    similarity: Tensor
    matchability: Tensor  # logit


class Window(NamedTuple):
    """How far to look around a tile, beyond its own places: levels and places."""

    levels: int
    places: int


def pooled(stack: MapStack, step_mm: float) -> MapStack:
    """The stack at half the resolution in-plane and at levels about `step_mm` apart."""
    every = max(1, round(step_mm / stack.level_mm))
    maps = stack.descriptors[::every].float().permute(0, 3, 1, 2)
    mean = functional.normalize(functional.avg_pool2d(maps, 2), dim=1)
    return MapStack(
        mean.permute(0, 2, 3, 1).to(stack.descriptors.dtype).contiguous(),
        functional.max_pool2d(stack.matchability[::every, None], 2)[:, 0],
        2 * stack.place_mm,
        every * stack.level_mm,
        stack.first_mm,
    )


def tile_of(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """The tile of each place of a map that is `width` places wide."""
    across = -(-width // TILE)
    return rows // TILE * across + columns // TILE


def tile_corners(tiles: Tensor, width: int) -> Tensor:
    """First (row, column) [T, 2] of tiles."""
    across = -(-width // TILE)
    return TILE * torch.stack([tiles // across, tiles % across], dim=-1)


def best_in_windows(
    descriptors: Tensor, tile: Tensor, stack: MapStack, corners: Tensor, window: Window
) -> tuple[Tensor, Tensor]:
    """Most similar place to each descriptor in the window of its tile.

    Parameters
    ----------
    descriptors : Tensor, shape (N, C)
    tile : Tensor, shape (N,)
        Rows of `corners`, ascending.
    corners : Tensor, shape (T, 3)
        Level, row and column of the tile's middle level and first place in `stack`.

    Returns
    -------
    places : Tensor, shape (N, 3)
        Level, row, column, inside the stack.
    similarity : Tensor, shape (N,)
    """
    device = descriptors.device
    reach = torch.arange(-window.levels, window.levels + 1, device=device)
    side = torch.arange(-window.places, TILE + window.places, device=device)
    around_tiles = _rows(stack, corners, (reach, side, side))  # [T, S]
    counts = torch.bincount(tile, minlength=len(corners))
    slot = torch.arange(len(tile), device=device) - (counts.cumsum(0) - counts)[tile]
    packed = descriptors.new_zeros(len(corners), int(counts.max()), descriptors.shape[1])
    packed[tile, slot] = descriptors
    flat = stack.descriptors.flatten(0, 2)
    around = flat.index_select(0, around_tiles.flatten()).view(*around_tiles.shape, -1)  # [T, S, C]
    if not _fast_half(descriptors):
        packed, around = packed.float(), around.float()
    similarity = packed @ around.transpose(1, 2)  # [T, K, S]
    best = best_columns(similarity.flatten(0, 1)).view(similarity.shape[:2])[tile, slot]
    rows = around_tiles[tile, best]
    _, height, width = stack.shape
    places = torch.stack([rows // (height * width), rows // width % height, rows % width], 1)
    return places, similarity[tile, slot, best].float()


def _rows(stack: MapStack, corners: Tensor, steps: tuple[Tensor, ...]) -> Tensor:
    """Rows [T, S] of the flattened stack: all steps from each corner [T, 3]; edges go on."""
    level, row, column = (
        (corners[:, axis, None] + step).clamp(0, size - 1)
        for axis, (size, step) in enumerate(zip(stack.shape, steps, strict=True))
    )
    _, height, width = stack.shape
    rows = level[:, :, None, None] * height + row[:, None, :, None]
    return (rows * width + column[:, None, None, :]).flatten(1)


def _fast_half(tensor: Tensor) -> bool:
    """Whether products of this half precision are as fast as they are small."""
    return tensor.device.type == "cuda" or has_bfloat16(tensor.device.type)


def below_places(descriptors: Tensor, stack: MapStack, places: Tensor) -> tuple[Tensor, Tensor]:
    """Where similarity peaks around places [N, 3], by parabolas along each axis; and the peak's."""
    mine = descriptors.float()
    here = (stack.at(places).float() * mine).sum(1)
    found = places.float()
    for axis, size in enumerate(stack.shape):
        step = torch.zeros(3, dtype=torch.long, device=places.device)
        step[axis] = 1
        before, after = ((stack.at(places + s).float() * mine).sum(1) for s in (-step, step))
        inner = (places[:, axis] > 0) & (places[:, axis] < size - 1)
        found[:, axis] += parabola_peak(before, here, after) * inner
    return found, here


def seek_stack(
    fixed: MapStack,
    moving: MapStack,
    starts: Callable[[int], tuple[Tensor, Tensor]],
    middles: Callable[[int, Tensor], Tensor],
    window: Window,
    progress: Progress,
) -> Hits:
    """Seek the landmarks of every fixed slice in the moving stack, with a forward-backward check.

    Parameters
    ----------
    starts : callable
        Rows of the flattened map, and their matchability, of fixed slice k.
    middles : callable
        Level, row and column [T, 3] of the first places of where tiles [T] of slice k went.
    window : Window
        How far to look around it.
    """
    levels, _, width = fixed.shape
    unit = torch.from_numpy(fixed.unit_mm).to(fixed.matchability)
    none = unit.new_zeros(0)
    nothing = Hits(unit.new_zeros((0, 3)).long(), unit.new_zeros((0, 3)), none, none)

    def sought(k: int) -> Hits:
        flat, matchability = starts(k)
        if not len(flat):
            return nothing
        start = torch.stack([torch.full_like(flat, k), flat // width, flat % width], 1)
        tile = tile_of(start[:, 1], start[:, 2], width)
        order = torch.argsort(tile, stable=True)
        start, matchability = start[order], matchability[order]
        tiles, tile = torch.unique_consecutive(tile[order], return_inverse=True)
        mine = fixed.at(start)
        there, _ = best_in_windows(mine, tile, moving, middles(k, tiles), window)
        home = functional.pad(tile_corners(tiles, width), (1, 0), value=k)
        back, _ = best_in_windows(moving.at(there), tile, fixed, home, window)
        keep = ((back - start) * unit).norm(dim=1) <= BACK_MM
        below, similarity = below_places(mine[keep], moving, there[keep])
        return Hits(start[keep], below, similarity, matchability[keep])

    found = [nothing]
    for k, hits in enumerate(share(sought, range(levels), unit.device)):
        found.append(hits)
        progress("", (k + 1) / levels)
    return Hits(*(torch.cat(column) for column in zip(*found, strict=True)))


def places_mm(stack: MapStack, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Middles of places [N, 3] in mm of the common frame: level, row, column."""
    return (places + [0.0, 0.5, 0.5]) * stack.unit_mm + [stack.first_mm, 0.0, 0.0]


def mm_places(stack: MapStack, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """`places_mm`, the other way round."""
    return (points_mm - [stack.first_mm, 0.0, 0.0]) / stack.unit_mm - [0.0, 0.5, 0.5]
