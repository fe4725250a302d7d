"""Drop pairs that disagree with their neighbours, settle the rest, keep a well-spread selection.

All work on pairs whose global motion is gone (moving points in pre-aligned space).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from landmark_dir.points import PointPairs

CHUNK = 8192  # pairs fitted at once; bounds the memory
REWEIGHTINGS = 3  # of the robust fit
RIDGE = 1e-5  # keeps the fit of coplanar or too few neighbours solvable


@dataclass(frozen=True)
class OutlierOptions:
    """When a pair disagrees with its neighbours.

    Attributes
    ----------
    neighbours : int
        Nearest pairs, by fixed point, that a pair is held against.
    coarse_mm : float
        Largest distance from the neighbours' median displacement, mm.
    factor : float
        Largest residual from the neighbours' affine motion, as a multiple of the median one.
    floor_mm : float
        Residuals below this are never outliers, mm.
    rounds : int
        Most repetitions of the affine test.
    """

    neighbours: int = 24
    coarse_mm: float = 15.0
    factor: float = 3.0
    floor_mm: float = 2.0
    rounds: int = 8

    def __post_init__(self) -> None:
        if self.neighbours < 5:
            raise ValueError(
                f"neighbours: expected at least 5 for an affine fit, found {self.neighbours}"
            )


DEFAULTS = OutlierOptions()


def reject_outliers(pairs: PointPairs, options: OutlierOptions = DEFAULTS) -> PointPairs:
    """Keep the pairs whose displacement follows that of their neighbours.

    First against the median displacement of the neighbours, which stands up to many outliers;
    then against their affine motion, repeated until nothing more falls out. Fewer pairs than
    neighbours cannot be judged and come back empty.
    """
    pairs = pairs.select(_median_residual(pairs, options.neighbours) <= options.coarse_mm)
    for _ in range(options.rounds):
        if len(pairs) <= options.neighbours:
            return PointPairs.empty()
        residual = _affine_residual(pairs, options.neighbours)
        keep = residual <= max(options.floor_mm, options.factor * float(np.median(residual)))
        pairs = pairs.select(keep)
        if keep.all():
            break
    return pairs


def _neighbours(fixed: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Rows [N, count] of the nearest other points."""
    _, rows = cKDTree(fixed).query(fixed, k=count + 1)
    return np.asarray(rows)[:, 1:]


def _median_residual(pairs: PointPairs, count: int) -> NDArray[np.float64]:
    if len(pairs) <= count:
        return np.full(len(pairs), np.inf)
    move = pairs.moving - pairs.fixed
    typical = np.median(move[_neighbours(pairs.fixed, count)], axis=1)
    return np.asarray(np.linalg.norm(move - typical, axis=1))


def _affine_residual(pairs: PointPairs, count: int) -> NDArray[np.float64]:
    """Distance, mm, of each displacement from the motion of its neighbours; it takes no part."""
    motion = _local_motion(pairs, _neighbours(pairs.fixed, count))
    return np.asarray(np.linalg.norm(pairs.moving - pairs.fixed - motion, axis=1))


def settle(pairs: PointPairs, options: OutlierOptions = DEFAULTS) -> PointPairs:
    """Move each moving point to where its neighbours and itself agree it belongs.

    A single match is only as precise as a slice and a pixel; the robust affine motion of two
    dozen matches around it is several times more so. Bends within that neighbourhood are lost,
    so it stays small: about 15 mm where matches are dense. Too few pairs stay as they are.
    """
    if len(pairs) <= options.neighbours:
        return pairs
    own = np.arange(len(pairs))[:, None]
    rows = np.concatenate([own, _neighbours(pairs.fixed, options.neighbours)], axis=1)
    return replace(pairs, moving=pairs.fixed + _local_motion(pairs, rows))


def _local_motion(pairs: PointPairs, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Displacement [N, 3] at each fixed point: robust affine fit to the pairs `rows` [N, count]."""
    motion = np.empty((len(pairs), 3))
    for start in range(0, len(pairs), CHUNK):
        part = slice(start, start + CHUNK)
        near = rows[part]
        offset = pairs.fixed[near] - pairs.fixed[part, None]  # [n, count, 3]
        reach = np.linalg.norm(offset, axis=2).max(1)[:, None, None] + 1e-9
        design = np.concatenate([np.ones((*near.shape, 1)), offset / reach], axis=2)
        motion[part] = _robust_constant(design, (pairs.moving - pairs.fixed)[near])
    return motion


def _robust_constant(
    design: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """First row [n, 3] of the Cauchy-weighted fit of values on design, both [n, count, .]."""
    weight = np.ones((*values.shape[:2], 1))
    for _ in range(REWEIGHTINGS):
        normal = design.transpose(0, 2, 1) @ (weight * design)
        normal += RIDGE * values.shape[1] * np.diag([0.0, 1.0, 1.0, 1.0])
        fit = np.linalg.solve(normal, design.transpose(0, 2, 1) @ (weight * values))  # [n, 4, 3]
        residual = np.linalg.norm(values - design @ fit, axis=2, keepdims=True)
        scale = np.median(residual, axis=1, keepdims=True) + 1e-6  # mm; never 0
        weight = 1 / (1 + (residual / scale) ** 2)
    return np.asarray(fit[:, 0])


def select_spread(pairs: PointPairs, count: int) -> PointPairs:
    """Keep at most `count` pairs, the best score of each cell of a 3D grid of fixed points.

    The cells are cubes in mm, as small as the count allows.
    """
    if len(pairs) <= count:
        return pairs
    by_score = np.argsort(-pairs.score, kind="stable")
    ordered = pairs.fixed[by_score]

    def best_rows(cell_mm: float) -> NDArray[np.intp]:
        cells = np.floor((ordered - ordered.min(0)) / cell_mm).astype(np.int64)
        _, first = np.unique(cells, axis=0, return_index=True)
        return np.asarray(np.sort(by_score[first]))

    low, high = 0.0, float(np.ptp(ordered, axis=0).max()) + 1.0  # one cell holds all
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if len(best_rows(middle)) <= count else (middle, high)
    return pairs.select(best_rows(high))
