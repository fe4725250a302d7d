"""Lesions of a simulated follow-up: drawn into both examinations, with their truth.

A lesion is a firm lump with a bumpy surface. From one examination to the other its middle goes
where the patient's motion takes it, it turns as the tissue there turns, and its volume changes by a
factor that is known exactly. It does not bend: nodules and metastases are firmer than lung, liver
and fat.

Growth replaces what was there and moves nothing: the tissue outside of a lesion has the same motion
with it and without it, so the truth there stays exact. Lung nodules, infiltrating tumours and
metastases of the replacement type grow so; one that pushes its surroundings away is not simulated.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial.distance import pdist

from landmark_dir.geometry import (
    Points,
    as_points,
    index_to_physical,
    physical_to_index,
    shape_zyx,
)
from landmark_dir.io.text_files import write_rows
from landmark_dir.phantom.scanner import rotation
from training.evaluation.appearance import GAS_EDGE_MM, SOFT_HU, WALL_MM, Floats, Hu, Mask

Side: TypeAlias = Literal["fixed", "moving"]
Mapping: TypeAlias = Callable[[Points], Points]  # fixed -> moving points, LPS mm

SIDES: tuple[Side, Side] = ("fixed", "moving")
COLUMNS = (
    *("number", "kind", "change"),
    *(f"{side}_{axis}_mm" for side in SIDES for axis in "xyz"),
    *(f"{side}_volume_mm3" for side in SIDES),
    *(f"{side}_longest_mm" for side in SIDES),
)
LUNG = "lung nodule"

CHANGES = {  # volume in the moving image, of that in the fixed one; each as often as it is listed
    "stable": (1.0, 1.0, 1.0),
    "grown": (1.3, 1.3, 2.0),
    "shrunk": (0.7, 0.3),
    "vanished": (0.0,),
    "new": (math.inf,),
}
DIRECTIONS = 4000  # of the surface that volume and middle are summed over
BUMPS = 14
BUMP_HEIGHT = 0.16  # standard deviation, of the radius
BUMP_SHARPNESS = 9.0  # of a von Mises-Fisher bell: about 20 degrees wide
FLATNESS = (0.65, 1.0)  # shorter semi-axes, of the longest
TEXTURE_HU = 8.0  # standard deviation within a lesion; it moves with it
TEXTURE_MM = (5.0, 14.0)  # wave lengths
WAVES = 6
APART_MM = 8.0  # between the surfaces of two lesions
EDGE_MM = GAS_EDGE_MM  # either side of the surface, as the scanner blurs it
FINE_MM = 1.0  # voxels are split into parts of about this
NODE_MM = 2.0  # of the grid that places are chosen on
LEAST_MM = 5.0  # smallest diameter, where there is hardly room
LUNG_ML = 150.0  # less air in one piece is bowel
STEP_MM = 1.0  # either side of a middle, for the turn there
SMOOTH_MM = 2.0  # of HU, before tissue is told by it
PLACES = 60  # that are tried before a lesion is made smaller
SMALLER = 0.8
MARGIN_MM = 4.0  # around a lesion, whose HU are its surroundings
GRAIN_MM = 1.0  # what changes over less than this in a slice is noise
GRAIN_MOST = 2.5  # standard deviations of noise; what sticks out farther is anatomy


@dataclass(frozen=True)
class Kind:
    """What a kind of lesion looks like.

    Attributes
    ----------
    share : float
        Of all lesions, where there is room for it.
    tissue_hu : (float, float)
        Smoothed HU of where it occurs.
    depth_mm : float
        Least depth of that tissue below the skin.
    diameter_mm : (float, float)
        Of a ball as large, in the examination where it is larger.
    room : float
        Depth within the tissue that it needs, in radii.
    hu : (float, float) or None
        Its own HU; None: `contrast_hu` beside its surroundings.
    uptake : (float, float)
        Share of the contrast agent of the second examination that it takes up.
    """

    share: float
    tissue_hu: tuple[float, float]
    depth_mm: float
    diameter_mm: tuple[float, float]
    room: float
    hu: tuple[float, float] | None
    uptake: tuple[float, float] = (0.0, 0.0)


CONTRAST_HU = (25.0, 60.0)  # of soft-tissue lesions: darker, or brighter in some
BRIGHTER = 0.3  # share of them
KINDS = {
    LUNG: Kind(0.4, (-950, -600), 0, (5, 25), 0.9, (-20, 60), (0.1, 0.4)),
    "soft-tissue lesion": Kind(0.4, SOFT_HU, WALL_MM, (8, 30), 0.9, None),
    "lymph node": Kind(0.2, (-140, -60), 12, (7, 18), 0.7, (20, 60), (0.2, 0.6)),
}


@dataclass(frozen=True, eq=False)
class Shape:
    """A bumpy ellipsoid of 1 mm^3 around its own centroid.

    Attributes
    ----------
    axes : ndarray, shape (3, 3)
        Columns: directions of the semi-axes.
    semi_axes : ndarray, shape (3,)
    bumps : ndarray, shape (BUMPS, 3)
        Unit directions.
    heights : ndarray, shape (BUMPS,)
        Of the radius.
    middle : ndarray, shape (3,)
        Where rays start, from the centroid, mm.
    """

    axes: Floats
    semi_axes: Floats
    bumps: Floats
    heights: Floats
    middle: Floats

    def radius(self, directions: Points) -> Floats:
        """Distance [N] of the surface from the middle along unit directions [N, 3]."""
        ellipsoid = 1 / np.linalg.norm(directions @ self.axes / self.semi_axes, axis=1)
        bells = np.exp(BUMP_SHARPNESS * (directions @ self.bumps.T - 1))
        return np.asarray(ellipsoid * np.exp(bells @ self.heights))

    def outside(self, points: Points) -> Floats:
        """How far beyond the surface points [N, 3] lie along their ray; negative inside."""
        away = points - self.middle
        far = np.linalg.norm(away, axis=1)
        return np.asarray(far - self.radius(away / np.maximum(far, 1e-9)[:, None]))

    @cached_property
    def surface(self) -> Points:
        """Evenly spread points [DIRECTIONS, 3]."""
        return as_points(self.middle + self.radius(SPHERE)[:, None] * SPHERE)

    @cached_property
    def reach(self) -> float:
        """Largest distance of the surface from the centroid, mm."""
        return float(np.linalg.norm(self.surface, axis=1).max())


def _sphere(count: int) -> Points:
    """Unit directions [N, 3], each standing for the same solid angle: a Fibonacci lattice."""
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (1 + math.sqrt(5)) * np.arange(count)
    around = np.sqrt(1 - z**2)
    return np.column_stack([around * np.cos(turn), around * np.sin(turn), z])


SPHERE = _sphere(DIRECTIONS)


def draw_shape(rng: np.random.Generator) -> Shape:
    """Draw a shape."""
    bumps = rng.standard_normal((BUMPS, 3))
    bumps /= np.linalg.norm(bumps, axis=1, keepdims=True)
    semi_axes = np.array([1, *rng.uniform(*FLATNESS, 2)])
    heights = rng.normal(0, BUMP_HEIGHT, BUMPS)
    rough = Shape(rotation(rng.uniform(0, 180, 3)), semi_axes, bumps, heights, np.zeros(3))
    radius = rough.radius(SPHERE)
    size = np.cbrt(4 * np.pi / 3 * np.mean(radius**3))
    centroid = np.mean(radius[:, None] ** 4 * SPHERE, axis=0) * 0.75 / np.mean(radius**3)
    return replace(rough, semi_axes=semi_axes / size, middle=-centroid / size)


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion and its truth in both examinations.

    Attributes
    ----------
    number : int
        From 1: its label in both label maps.
    kind : str
        One of `KINDS`.
    change : str
        One of `CHANGES`.
    centre_fixed, centre_moving : ndarray, shape (3,)
        Centroid, LPS mm; where there is no lesion, where it was or will be. They correspond.
    volume_fixed, volume_moving : float
        mm^3; 0 where there is no lesion.
    turn : ndarray, shape (3, 3)
        Rotation from the fixed to the moving world.
    shape : Shape
    hu : float or None
        Its own HU; None: `contrast_hu` beside its surroundings.
    contrast_hu : float
        Beside its surroundings, in both examinations.
    uptake : float
        As in `Kind`.
    waves : ndarray, shape (WAVES, 4)
        Texture: three wave numbers, 1/mm, and a phase, each.
    """

    number: int
    kind: str
    change: str
    centre_fixed: Floats
    centre_moving: Floats
    volume_fixed: float
    volume_moving: float
    turn: Floats
    shape: Shape
    hu: float | None
    contrast_hu: float
    uptake: float
    waves: Floats

    def centre(self, side: Side) -> Floats:
        """Centroid in one examination, LPS mm."""
        return self.centre_fixed if side == "fixed" else self.centre_moving

    def volume(self, side: Side) -> float:
        """Volume in one examination, mm^3."""
        return self.volume_fixed if side == "fixed" else self.volume_moving

    def longest_mm(self, side: Side) -> float:
        """Longest diameter in one examination; 0 where there is no lesion."""
        return float(pdist(self.shape.surface[::4]).max() * np.cbrt(self.volume(side)))

    def reach_mm(self, side: Side) -> float:
        """Largest distance of its surface from its centroid."""
        return float(self.shape.reach * np.cbrt(self.volume(side)))

    def own(self, points: Points, side: Side) -> Points:
        """World points [N, 3] of one side in the lesion's own axes, from its centroid, mm."""
        if side == "fixed":
            return as_points(points - self.centre_fixed)
        return as_points((points - self.centre_moving) @ self.turn)

    def outside_mm(self, points: Points, side: Side) -> Floats:
        """How far beyond the surface world points [N, 3] lie, mm; infinite if it is not there."""
        size = np.cbrt(self.volume(side))
        if not size:
            return np.full(len(points), np.inf)
        return np.asarray(size * self.shape.outside(self.own(points, side) / size))

    def texture(self, points: Points, side: Side) -> Floats:
        """HU [N] that world points add to the lesion's own."""
        phase = self.own(points, side) @ self.waves[:, :3].T + self.waves[:, 3]
        return np.asarray(TEXTURE_HU * math.sqrt(2 / WAVES) * np.cos(phase).sum(axis=1))

    def row(self) -> dict[str, Any]:
        """One line of `lesions.csv`, by its `COLUMNS`."""
        places = (f"{at:.6f}" for side in SIDES for at in self.centre(side))
        sizes = (f"{size(side):.3f}" for size in (self.volume, self.longest_mm) for side in SIDES)
        values = (self.number, self.kind, self.change, *places, *sizes)
        return dict(zip(COLUMNS, values, strict=True))


def draw_lesions(
    count: int,
    growth: float | None,
    fixed: sitk.Image,
    body: sitk.Image,
    moving_grid: sitk.Image,
    to_moving: Mapping,
    rng: np.random.Generator,
) -> tuple[Lesion, ...]:
    """Draw lesions where such occur; each lies wholly in both views, none near another.

    Parameters
    ----------
    growth : float, optional
        Volume in the moving image, of that in the fixed one, of all of them; None: some of each of
        `CHANGES`.
    fixed, body : sitk.Image
        HU, and uint8 0 / 1 on the same grid.

    Raises
    ------
    ValueError
        If there is no room for so many.
    """
    tissues = _tissues(fixed, body)
    shares = np.array([kind.share for kind in KINDS.values()])
    lesions: list[Lesion] = []
    for number, (change, factor) in enumerate(_changes(count, growth, rng), start=1):
        kinds = rng.choice(list(KINDS), len(KINDS), replace=False, p=shares / shares.sum())
        tried = (
            lesion
            for kind in kinds
            for lesion in _drawn(number, str(kind), change, factor, tissues[kind], to_moving, rng)
            if _fits(lesion, lesions, (fixed, moving_grid))
        )
        found = next(tried, None)
        if found is None:
            raise ValueError(
                f"lesions: expected room for {count}, found it for {len(lesions)}; ask for fewer or"
                " take another seed"
            )
        lesions.append(found)
    return tuple(lesions)


def _changes(count: int, growth: float | None, rng: np.random.Generator) -> list[tuple[str, float]]:
    """What becomes of each lesion, and its factor of volume."""
    if growth is not None:
        return [("grown" if growth > 1 else "shrunk" if growth < 1 else "stable", growth)] * count
    one_each = [(name, factor) for name, factors in CHANGES.items() for factor in factors]
    rounds = -(-count // len(one_each))
    order = np.concatenate([rng.permutation(len(one_each)) for _ in range(rounds)])[:count]
    return [one_each[i] for i in order]


class Tissue(NamedTuple):
    """Where a kind of lesion may be."""

    depth_mm: Floats  # [z, y, x], from all that is another tissue
    nodes: sitk.Image


def _tissues(fixed: sitk.Image, body: sitk.Image) -> dict[str, Tissue]:
    """Where each of `KINDS` may be, on nodes of about `NODE_MM`."""
    shrink = [max(1, int(NODE_MM / mm)) for mm in fixed.GetSpacing()]
    nodes = sitk.BinShrink(fixed, shrink)
    spacing_zyx = np.array(nodes.GetSpacing()[::-1])
    hu = ndimage.gaussian_filter(sitk.GetArrayFromImage(nodes), SMOOTH_MM / spacing_zyx)
    in_body = sitk.GetArrayFromImage(sitk.BinShrink(body * 100, shrink)) >= 50
    skin_mm = ndimage.distance_transform_edt(in_body, spacing_zyx)
    found = {}
    for name, kind in KINDS.items():
        low, high = kind.tissue_hu
        inner = skin_mm > min(kind.depth_mm, skin_mm.max() / 2)
        tissue = inner & (hu > low) & (hu < high)
        if name == LUNG:
            tissue = _large_parts(tissue, LUNG_ML * 1000 / float(np.prod(spacing_zyx)))
        found[name] = Tissue(ndimage.distance_transform_edt(tissue, spacing_zyx), nodes)
    return found


def _large_parts(mask: Mask, least: float) -> Mask:
    """The connected parts of a mask [z, y, x] of that many voxels or more."""
    parts, count = ndimage.label(mask)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((sizes >= least)[parts])


def _drawn(
    number: int,
    name: str,
    change: str,
    factor: float,
    tissue: Tissue,
    to_moving: Mapping,
    rng: np.random.Generator,
) -> Iterator[Lesion]:
    """Lesions of one kind: at some places in deep enough tissue, then smaller ones."""
    kind = KINDS[name]
    diameter = float(np.exp(rng.uniform(*np.log(kind.diameter_mm))))
    shape = draw_shape(rng)
    hu = None if kind.hu is None else float(rng.uniform(*kind.hu))
    contrast_hu = float(rng.uniform(*CONTRAST_HU) * (1 if rng.random() < BRIGHTER else -1))
    uptake = float(rng.uniform(*kind.uptake))
    ways = rng.standard_normal((WAVES, 3))
    lengths = rng.uniform(*TEXTURE_MM, (WAVES, 1))
    ways *= 2 * np.pi / lengths / np.linalg.norm(ways, axis=1, keepdims=True)
    waves = np.column_stack([ways, rng.uniform(0, 2 * np.pi, WAVES)])
    while diameter >= LEAST_MM:
        larger = np.pi / 6 * diameter**3
        volumes = (0.0, larger) if math.isinf(factor) else _volumes(larger, factor)
        deep = np.flatnonzero(tissue.depth_mm >= kind.room * diameter / 2)
        for row in rng.choice(deep, min(PLACES, len(deep)), replace=False):
            z, y, x = np.unravel_index(row, tissue.depth_mm.shape)
            centre = index_to_physical(tissue.nodes, [(x, y, z)])
            moving, turn = _moved(centre, to_moving)
            yield Lesion(
                number, name, change, centre[0], moving, *volumes, turn, shape, hu, contrast_hu,
                uptake, waves,
            )  # fmt: skip
        diameter *= SMALLER


def _volumes(larger: float, factor: float) -> tuple[float, float]:
    """Fixed and moving volume, of which one is the larger."""
    fixed = larger / max(1.0, factor)
    return fixed, fixed * factor


def _moved(centre: Points, to_moving: Mapping) -> tuple[Floats, Floats]:
    """Where a motion takes a point [1, 3], and how it turns what is there."""
    steps = STEP_MM * np.concatenate([np.eye(3), -np.eye(3)])
    around = to_moving(np.concatenate([centre, centre + steps]))
    slopes = (around[1:4] - around[4:]).T / (2 * STEP_MM)
    left, _, right = np.linalg.svd(slopes)
    return around[0], np.asarray(left @ right)


def _fits(lesion: Lesion, others: Sequence[Lesion], grids: tuple[sitk.Image, sitk.Image]) -> bool:
    """Whether it lies wholly in both views, and apart from other lesions."""
    for side, grid in zip(SIDES, grids, strict=True):
        centre = lesion.centre(side)
        reach = max(lesion.reach_mm(one) for one in SIDES) + EDGE_MM
        index = physical_to_index(grid, [centre])[0]
        room = reach / np.array(grid.GetSpacing())
        if (index < room).any() or (index > np.array(grid.GetSize()) - 1 - room).any():
            return False
        for other in others:
            far = float(np.linalg.norm(centre - other.centre(side)))
            if far < reach + max(other.reach_mm(one) for one in SIDES) + APART_MM:
                return False
    return True


def paint(
    image: sitk.Image, lesions: Sequence[Lesion], side: Side, agent_hu: float = 0.0
) -> sitk.Image:
    """Draw lesions into HU, with the grain of the image they are drawn into.

    Parameters
    ----------
    agent_hu : float
        Contrast agent that tissue of full uptake has taken up.
    """
    hu = sitk.GetArrayFromImage(image)
    sigma_zyx = GRAIN_MM / np.array(image.GetSpacing()[::-1])
    sigma_zyx[0] = 0  # slices have noise of their own
    for lesion in lesions:
        if not lesion.volume(side):
            continue
        box, share = coverage(image, lesion, side)
        before = hu[box]
        grain = before - ndimage.gaussian_filter(before, sigma_zyx)
        most = GRAIN_MOST * 1.4826 * float(np.median(np.abs(grain)))
        own = _level(lesion, before, share, agent_hu) + grain.clip(-most, most)
        own += lesion.texture(_box_points(image, box), side).reshape(own.shape)
        hu[box] = before + share * (own - before)
    painted = sitk.GetImageFromArray(hu)
    painted.CopyInformation(image)
    return painted


def _level(lesion: Lesion, before: Hu, share: Floats, agent_hu: float) -> float:
    """HU of a lesion without its texture."""
    if lesion.hu is not None:
        return lesion.hu + lesion.uptake * agent_hu
    return float(np.median(before[share == 0])) + lesion.contrast_hu


def label_map(grid: sitk.Image, lesions: Sequence[Lesion], side: Side) -> sitk.Image:
    """Numbers of the lesions on a grid: voxels that one fills at least by half, or the fullest."""
    labels = np.zeros(shape_zyx(grid), dtype=np.uint8)
    for lesion in lesions:
        if lesion.volume(side):
            box, share = coverage(grid, lesion, side, edge_mm=0.0)
            labels[box][share >= min(0.5, share.max())] = lesion.number
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(grid)
    return image


def coverage(
    grid: sitk.Image, lesion: Lesion, side: Side, edge_mm: float = EDGE_MM
) -> tuple[tuple[slice, slice, slice], Floats]:
    """Which part of a grid a lesion lies in, and the share [z, y, x] of each voxel there it fills.

    The part reaches `MARGIN_MM` beyond the lesion.
    """
    spacing = np.array(grid.GetSpacing())
    at = physical_to_index(grid, [lesion.centre(side)])[0]
    reach = (lesion.reach_mm(side) + MARGIN_MM) / spacing
    first = np.maximum(np.floor(at - reach), 0).astype(int)
    last = np.minimum(np.ceil(at + reach), np.array(grid.GetSize()) - 1).astype(int)
    x, y, z = (slice(a, b + 1) for a, b in zip(first, last, strict=True))
    box = z, y, x
    parts = np.ceil(spacing / FINE_MM).astype(int)
    filled = np.zeros([one.stop - one.start for one in box])
    for part in np.ndindex(*parts):
        shift = (np.array(part) + 0.5) / parts - 0.5
        beyond = lesion.outside_mm(_box_points(grid, box, shift), side)
        inner = beyond < 0 if not edge_mm else (0.5 - 0.5 * beyond / edge_mm).clip(0, 1)
        filled += inner.reshape(filled.shape)
    return box, filled / parts.prod()


def _box_points(
    grid: sitk.Image, box: tuple[slice, slice, slice], shift_xyz: ArrayLike = (0, 0, 0)
) -> Points:
    """World points [N, 3] of the voxels of a box, each `shift_xyz` voxels beside its centre."""
    z, y, x = np.mgrid[box].reshape(3, -1)
    return index_to_physical(grid, np.column_stack([x, y, z]) + shift_xyz)


def inside_any(points: Points, lesions: Sequence[Lesion], side: Side) -> NDArray[np.bool_]:
    """Which world points [N, 3] lie in a lesion, or in the blur around it."""
    found = np.zeros(len(points), dtype=bool)
    for lesion in lesions:
        far = np.linalg.norm(points - lesion.centre(side), axis=1)
        near = np.flatnonzero(far < 1.2 * lesion.reach_mm(side) + EDGE_MM)
        found[near] |= lesion.outside_mm(points[near], side) < EDGE_MM
    return found


def write_lesions(lesions: Sequence[Lesion], path: Path) -> None:
    """Write the truth of lesions as CSV: LPS mm, mm^3."""
    write_rows(path, COLUMNS, (lesion.row() for lesion in lesions))
