"""Seek the landmarks of one volume in another, in three dimensions, with the `default` network.

The moving volume is pre-aligned: its slices and the fixed ones are parallel and share a frame,
though their distances may differ. A few landmarks are sought far around, on coarser maps; they say
where to look for all others, nearby. What contradicts its neighbours is dropped, and the place
below the voxel is measured in the images. Slices pass the network once; memory holds their
descriptors in half precision.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from landmark_dir.matching.local_affine import local_motion, with_neighbours
from landmark_dir.matching.map_stack import (
    TILE,
    Hits,
    MapStack,
    Window,
    mm_places,
    places_mm,
    pooled,
    seek_stack,
    tile_corners,
)
from landmark_dir.matching.outliers import agreeing, spread_rows
from landmark_dir.matching.patch_alignment import LEVELS_3D, align
from landmark_dir.matching.seek_slice import (
    MANY,
    MatchFeatures,
    Measured,
    best_places,
    better_reading,
)
from landmark_dir.models.default import MAP_PX, SeekMaps
from landmark_dir.models.device import share
from landmark_dir.options import OutlierOptions
from landmark_dir.progress import Progress, part

FAR_MM = 40.0  # how far a landmark may have moved
FAR_STEP_MM = 6.0  # between the slices of the far search
NEAR_MM = 12.0  # how far from where the far search leads, in-plane
FINEST_MM = 2.0  # least distance of the slices that the network sees
STEP_MM = 4.0  # least distance of the fixed slices whose landmarks are sought
FAR_AGREEMENT = OutlierOptions(coarse_mm=30.0, floor_mm=8.0, rounds=3)
AGREEMENT = OutlierOptions(floor_mm=3.0, rounds=4)
GUIDES = 12  # far pairs that say where a tile's landmarks went
LOST_MM = 4.0  # where the images pull a landmark farther from its neighbours, they misled it
MEASURED = 20_000  # pairs measured in the images, at most; a registration takes fewer


@dataclass(frozen=True)
class Slices:
    """A volume cut into slices, for the network.

    Attributes
    ----------
    images : ndarray, shape (Z, H, W), float32
        Network units, 1 mm in-plane.
    level_mm : float
        Distance of the slices.
    first_mm : float
        Where the first lies on the axis that both volumes share.
    """

    images: NDArray[np.float32]
    level_mm: float
    first_mm: float = 0.0

    def pixels(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (level, row, column) [N, 3] mm as px and slices (x, y, k)."""
        level, row, column = points_mm.T
        return np.column_stack([column - 0.5, row - 0.5, (level - self.first_mm) / self.level_mm])

    def points(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        """`pixels`, the other way round."""
        x, y, k = pixels.T
        return np.column_stack([k * self.level_mm + self.first_mm, y + 0.5, x + 0.5])


class Pairs3D(NamedTuple):
    """Corresponding points (x, y, k) [N, 3], px of 1 mm and slices, and what speaks for them."""

    fixed: NDArray[np.float64]
    moving: NDArray[np.float64]
    evidence: MatchFeatures


class Guides(NamedTuple):
    """Far pairs that lead the near search: points (level, row, column) [N, 3] mm."""

    fixed: NDArray[np.float64]
    moving: NDArray[np.float64]

    def moved(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where points [M, 3] mm went; with too few guides they stay."""
        if len(self.fixed) < GUIDES:
            return points_mm
        _, rows = cKDTree(self.fixed).query(points_mm, k=GUIDES)
        move = np.median((self.moving - self.fixed)[rows], axis=1)
        return np.asarray(points_mm + move)


NO_GUIDES = Guides(np.zeros((0, 3)), np.zeros((0, 3)))


class Encoded(NamedTuple):
    """A volume, and what the network says of it."""

    slices: Slices
    maps: MapStack


class Look(NamedTuple):
    """Which landmarks are sought, and where."""

    far: bool = True  # first a few, far around; else nothing has moved farther than `near_mm`
    near_mm: float = NEAR_MM  # how far from where the far search leads, in-plane
    through_mm: float = math.inf  # the same through-plane, where the options allow more
    step_mm: float = STEP_MM  # least distance of the fixed slices whose landmarks are sought


WIDE = Look()
LEFT = Look(far=False)  # what a pass before has left: nothing is far away any more


@torch.inference_mode()
def seek_volumes(
    fixed: Encoded,
    moving: Encoded,
    inside: Callable[[Tensor, int], Tensor],
    look: Look,
    through_mm: float,
    threshold: float,
    progress: Progress,
) -> Pairs3D:
    """Seek the landmarks of a fixed volume in a moving one.

    Parameters
    ----------
    inside : callable
        Which places [N, 2] px of fixed slice k count.
    through_mm : float
        How far from where the far search leads, through-plane.
    threshold : float
        Least matchability, 0..1.
    """
    maps, device = (fixed.maps, moving.maps), fixed.maps.matchability.device
    thin = round(fixed.maps.level_mm / fixed.slices.level_mm)

    def counts(xy: Tensor, k: int) -> Tensor:
        return inside(xy, k * thin)

    guides = NO_GUIDES
    if look.far:
        guides = _far(*maps, counts, threshold, part(progress, 0.0, 0.4, "seek far"))
    told = part(progress, 0.4, 0.75, "seek near")
    hits = _near(*maps, guides, counts, look, through_mm, threshold, told)
    start, found = _in_mm(*maps, hits)
    kept = agreeing(start, found, AGREEMENT)
    if not len(kept):
        none = torch.zeros(0, device=device)
        nothing = MatchFeatures(*[none] * len(MatchFeatures._fields))
        return Pairs3D(np.zeros((0, 3)), np.zeros((0, 3)), nothing)
    progress("measure", 0.75)
    kept = kept[_spread(start[kept], hits.matchability[torch.from_numpy(kept).to(device)])]
    places, reading, correlation = _measure(
        fixed.slices, moving.slices, start[kept], found[kept], device
    )
    rows = torch.from_numpy(kept).to(device)
    spread, apart = (torch.from_numpy(mm).to(device) for mm in (reading.spread, reading.apart))
    evidence = MatchFeatures(
        hits.matchability[rows], hits.similarity[rows], correlation, spread, apart
    )
    return Pairs3D(fixed.slices.pixels(start[kept]), moving.slices.pixels(places), evidence)


def _spread(points: NDArray[np.float64], matchability: Tensor) -> NDArray[np.intp]:
    """Rows of the most matchable points, at most `MEASURED`, spread over the volume."""
    return spread_rows(points, matchability.double().cpu().numpy(), MEASURED)


@torch.inference_mode()
def encoded(
    slices: Slices,
    encode: Callable[[Tensor], SeekMaps],
    device: torch.device,
    progress: Progress,
) -> Encoded:
    """Encode slices, at least `FINEST_MM` apart; `encode` says the maps of one [1, 1, H, W]."""
    thin = max(1, int(FINEST_MM / slices.level_mm + 1e-6))
    seen = list(slices.images[::thin])
    descriptors, matchability = [], []
    half = torch.bfloat16 if device.type == "cpu" else torch.float16

    def said(image: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        maps = encode(torch.from_numpy(image)[None, None].to(device))
        return maps.descriptors[0].permute(1, 2, 0).to(half), maps.matchability[0]

    for k, (one, other) in enumerate(share(said, seen, device)):
        descriptors.append(one)
        matchability.append(other)
        progress("", (k + 1) / len(seen))
    maps_of_all = torch.stack(descriptors), torch.stack(matchability)
    level_mm = thin * slices.level_mm
    maps = MapStack(*maps_of_all, float(MAP_PX), level_mm, slices.first_mm)
    return Encoded(slices, maps)


def _starts(
    stack: MapStack,
    inside: Callable[[Tensor, int], Tensor],
    threshold: float,
    every: int,
    thin: int,
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """The landmarks of every `every`-th slice of a stack, whose slices are every `thin`-th."""
    width = stack.shape[2]

    def landmarks(k: int) -> tuple[Tensor, Tensor]:
        if k % every:
            none = torch.zeros(0, device=stack.matchability.device)
            return none.long(), none
        flat, logit = best_places(stack.matchability[k], threshold)
        column, row = flat % width, flat // width
        xy = (torch.stack([column, row], -1) + 0.5) * stack.place_mm - 0.5
        keep = inside(xy, k * thin)
        return flat[keep], logit[keep]

    return landmarks


def _far(
    fixed: MapStack,
    moving: MapStack,
    inside: Callable[[Tensor, int], Tensor],
    threshold: float,
    progress: Progress,
) -> Guides:
    """Seek a few landmarks far around."""
    one, two = (pooled(stack, FAR_STEP_MM) for stack in (fixed, moving))
    window = Window(math.ceil(FAR_MM / two.level_mm), math.ceil(FAR_MM / two.place_mm))
    thin = round(one.level_mm / fixed.level_mm)
    starts = _starts(one, inside, threshold, 1, thin)

    hits = seek_stack(one, two, starts, _middles(one, two, lambda points: points), window, progress)
    start, found = _in_mm(one, two, hits)
    kept = agreeing(start, found, FAR_AGREEMENT)
    return Guides(start[kept], found[kept])


def _near(
    fixed: MapStack,
    moving: MapStack,
    guides: Guides,
    inside: Callable[[Tensor, int], Tensor],
    look: Look,
    through_mm: float,
    threshold: float,
    progress: Progress,
) -> Hits:
    """Seek all landmarks near where the guides lead."""
    through_mm = min(through_mm, look.through_mm)
    window = Window(
        math.ceil(through_mm / moving.level_mm), math.ceil(look.near_mm / moving.place_mm)
    )
    every = max(1, round(look.step_mm / fixed.level_mm))
    starts = _starts(fixed, inside, threshold, every, 1)
    return seek_stack(
        fixed, moving, starts, _middles(fixed, moving, guides.moved), window, progress
    )


def _middles(
    fixed: MapStack, moving: MapStack, moved: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Callable[[int, Tensor], Tensor]:
    """Level, row and column in `moving` of the first places of tiles of a fixed slice."""
    half = (TILE - 1) / 2  # from a tile's first place to its middle

    def corners(k: int, tiles: Tensor) -> Tensor:
        first = tile_corners(tiles, fixed.shape[2]).cpu().numpy()
        middle = np.column_stack([np.full(len(first), k), first + half])
        there = mm_places(moving, moved(places_mm(fixed, middle))) - [0.0, half, half]
        return torch.from_numpy(there.round().astype(np.int64)).to(tiles.device)

    return corners


def _in_mm(
    fixed: MapStack, moving: MapStack, hits: Hits
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (level, row, column) [N, 3] mm of hits."""
    return (
        places_mm(fixed, hits.start.double().cpu().numpy()),
        places_mm(moving, hits.found.double().cpu().numpy()),
    )


def _measure(
    fixed: Slices,
    moving: Slices,
    start: NDArray[np.float64],
    found: NDArray[np.float64],
    device: torch.device,
) -> tuple[NDArray[np.float64], Measured, Tensor]:
    """The places measured in the images, mm, what the better reading says of them, and their fit.

    The better reading takes part in the score only. Errors of single patches have little to do with
    each other, so all places together are more exact than the map, which is wrong as a whole.
    """
    rows = with_neighbours(start, MANY)
    around = local_motion(start, start, found, rows)
    near = start + around.displacement
    images = [torch.from_numpy(part.images).to(device) for part in (fixed, moving)]
    spacing = [np.array([1.0, 1.0, part.level_mm]) for part in (fixed, moving)]
    bend = (np.eye(3) + around.gradient)[:, ::-1, ::-1]  # x, y, level
    motion = bend * spacing[0] / spacing[1][:, None]
    at_1, at_2, motion = (
        torch.from_numpy(np.ascontiguousarray(values)).float().to(device)
        for values in (fixed.pixels(start), moving.pixels(near), motion)
    )
    unit = torch.from_numpy(spacing[0]).float().to(device)
    pulled, correlation = align(images[0], images[1], at_1, at_2, motion, unit, LEVELS_3D)
    measured = moving.points(pulled.double().cpu().numpy())
    lost = np.linalg.norm(measured - near, axis=1) > LOST_MM
    measured[lost] = found[lost]
    return measured, better_reading(start, found, around, measured, rows), correlation
