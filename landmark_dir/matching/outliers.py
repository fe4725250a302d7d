"""Drop pairs that disagree with their neighbours, keep a well-spread selection.

All work on pairs whose global motion is gone (moving points in pre-aligned space).
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from landmark_dir.matching.local_affine import local_motion, nearest
from landmark_dir.options import DEFAULTS, OutlierOptions
from landmark_dir.points import PointPairs

Coordinates: TypeAlias = NDArray[np.float64]  # [N, D], D = 2 or 3, mm
Rows: TypeAlias = NDArray[np.intp]


def reject_outliers(pairs: PointPairs, options: OutlierOptions = DEFAULTS.outliers) -> PointPairs:
    """Keep the pairs whose displacement follows that of their neighbours; see `agreeing`."""
    return pairs.select(agreeing(pairs.fixed, pairs.moving, options))


def agreeing(
    fixed: Coordinates, moving: Coordinates, options: OutlierOptions = DEFAULTS.outliers
) -> Rows:
    """Rows of the points [N, D] whose displacement follows that of their neighbours.

    First against the median displacement of the neighbours, which stands up to many outliers;
    then against their affine motion, repeated until nothing more falls out; last, clusters that
    would have torn off their surroundings go. Fewer pairs than neighbours cannot be judged: none
    of them is kept.
    """
    rows = np.arange(len(fixed))
    rows = rows[_median_residual(fixed, moving, options.neighbours) <= options.coarse_mm]
    rows = rows[_follow_affine_motion(fixed[rows], moving[rows], options)]
    rows = rows[_in_large_part(fixed[rows], moving[rows], options)]
    return rows if len(rows) > options.neighbours else rows[:0]


def _median_residual(fixed: Coordinates, moving: Coordinates, count: int) -> NDArray[np.float64]:
    if len(fixed) <= count:
        return np.full(len(fixed), np.inf)
    move = moving - fixed
    typical = np.median(move[nearest(fixed, count)], axis=1)
    return np.asarray(np.linalg.norm(move - typical, axis=1))


def _follow_affine_motion(fixed: Coordinates, moving: Coordinates, options: OutlierOptions) -> Rows:
    """Rows of the pairs that follow the affine motion of their neighbours, round after round.

    A pair takes no part in that motion. What fell out matters to its neighbours only, so they alone
    are looked at again.
    """
    residual = np.empty(len(fixed))
    neighbours = np.empty((len(fixed), options.neighbours), dtype=np.intp)
    rows = changed = np.arange(len(fixed))
    for _ in range(options.rounds):
        if len(rows) <= options.neighbours:
            return rows[:0]
        among = nearest(fixed[rows], options.neighbours, np.searchsorted(rows, changed))
        neighbours[changed] = rows[among]
        around = local_motion(fixed[changed], fixed, moving, neighbours[changed])
        off = moving[changed] - fixed[changed] - around.displacement
        residual[changed] = np.linalg.norm(off, axis=1)
        typical = float(np.median(residual[rows]))
        out = np.zeros(len(fixed), dtype=bool)
        out[rows] = residual[rows] > max(options.floor_mm, options.factor * typical)
        if not out.any():
            break
        rows = rows[~out[rows]]
        changed = rows[out[neighbours[rows]].any(axis=1)]
    return rows


def _in_large_part(
    fixed: Coordinates, moving: Coordinates, options: OutlierOptions
) -> NDArray[np.bool_]:
    """Which pairs belong to a part of the body that moves together and is no small share of it.

    Neighbours are linked where tissue would not tear between them. A cluster that agrees with
    itself but jumped, such as a vertebra taken for the next one, is linked to nothing around it.
    """
    if len(fixed) < 2:
        return np.ones(len(fixed), dtype=bool)
    rows = nearest(fixed, min(options.links, len(fixed) - 1))
    one, two = np.repeat(np.arange(len(fixed)), rows.shape[1]), rows.ravel()
    apart = np.linalg.norm(fixed[one] - fixed[two], axis=1)
    move = moving - fixed
    jump = np.linalg.norm(move[one] - move[two], axis=1)
    whole = jump <= np.maximum(options.floor_mm, options.strain * apart)
    # only what holds: an entry that is stored counts as an edge, even if it says False
    links = (np.ones(int(whole.sum()), dtype=bool), (one[whole], two[whole]))
    graph = coo_array(links, shape=(len(fixed), len(fixed)))
    _, part = connected_components(graph, directed=False)
    return np.asarray((np.bincount(part) >= options.part_share * len(fixed))[part])


def select_spread(pairs: PointPairs, count: int) -> PointPairs:
    """Keep at most `count` pairs, the best score of each cell of a 3D grid of fixed points.

    The cells are cubes in mm, as small as the count allows.
    """
    return pairs.select(spread_rows(pairs.fixed, pairs.score, count))


def spread_rows(points: Coordinates, score: NDArray[np.float64], count: int) -> Rows:
    """Rows of at most `count` points [N, 3], the best score of each cell of a grid of cubes."""
    if len(points) <= count:
        return np.arange(len(points))
    by_score = np.argsort(-score, kind="stable")
    ordered = points[by_score]

    def best_rows(cell_mm: float) -> Rows:
        cells = np.floor((ordered - ordered.min(0)) / cell_mm).astype(np.int64)
        numbers = np.ravel_multi_index(tuple(cells.T), tuple(cells.max(0) + 1))
        _, first = np.unique(numbers, return_index=True)
        return np.asarray(np.sort(by_score[first]))

    low, high = 0.0, float(np.ptp(ordered, axis=0).max()) + 1.0  # one cell holds all
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if len(best_rows(middle)) <= count else (middle, high)
    return best_rows(high)
