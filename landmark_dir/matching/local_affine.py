"""The motion around a place: a robust affine fit to the pairs nearest to it.

Points have D = 2 or 3 coordinates of any one unit; no tensor, no image.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from landmark_dir.parallel import share, thread_count

ALL = slice(None)
CHUNK = 2048  # places fitted at once; bounds the memory
REWEIGHTINGS = 3
RIDGE = 1e-5  # keeps the fit of coplanar or too few neighbours solvable


class LocalMotion(NamedTuple):
    """What the neighbours of N places say."""

    displacement: NDArray[np.float64]  # [N, D] at the place itself
    gradient: NDArray[np.float64]  # [N, D, D] of the displacement, by x, y (, z)
    spread: NDArray[np.float64]  # [N] median distance of the neighbours from their fit


def nearest(
    fixed: NDArray[np.float64], count: int, of: NDArray[np.intp] | slice = ALL
) -> NDArray[np.intp]:
    """Rows [N, count] of the points nearest to each, itself left out; of some of them, `of`."""
    asked = fixed[of]
    workers = thread_count() if len(asked) > CHUNK else 1  # threads cost more than a few queries
    _, rows = cKDTree(fixed).query(asked, k=count + 1, workers=workers)
    return np.asarray(rows)[:, 1:]


def with_neighbours(fixed: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Rows [N, count] of each point [N, D] itself and the others, from near to far."""
    own = np.arange(len(fixed))[:, None]
    return np.concatenate([own, nearest(fixed, min(count, len(fixed)) - 1)], axis=1)


def local_motion(
    places: NDArray[np.float64],
    fixed: NDArray[np.float64],
    moving: NDArray[np.float64],
    rows: NDArray[np.intp],
) -> LocalMotion:
    """Fit the pairs `rows` [N, count] around each of the places [N, D], Cauchy-weighted.

    Parameters
    ----------
    fixed, moving : ndarray, shape (M, D)
        Row i belongs to row i.
    """
    move = moving - fixed

    def around(start: int) -> LocalMotion:
        near = rows[start : start + CHUNK]
        offset = fixed[near] - places[start : start + CHUNK, None]  # [n, count, D]
        return _fit(offset, move[near])

    parts = list(share(around, range(0, len(places), CHUNK)))
    if not parts:
        size = places.shape[1]
        return LocalMotion(np.zeros((0, size)), np.zeros((0, size, size)), np.zeros(0))
    return LocalMotion(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def scatter(
    fixed: NDArray[np.float64], moving: NDArray[np.float64], count: int = 24
) -> NDArray[np.float64]:
    """How far pairs lie from the motion of their neighbourhood, median [N]; 0 for a handful."""
    if len(fixed) <= count:
        return np.zeros(len(fixed))
    return local_motion(fixed, fixed, moving, with_neighbours(fixed, count + 1)).spread


def _fit(offset: NDArray[np.float64], values: NDArray[np.float64]) -> LocalMotion:
    """Affine fit of values on offsets, both [n, count, D]."""
    count, size = offset.shape[1:]
    reach = np.sqrt(_squared(offset).max(1))[:, None, None] + 1e-9
    ones = np.ones((len(offset), 1, count))  # sums run along the last axis, which lies together
    design = np.concatenate([ones, (offset / reach).transpose(0, 2, 1)], axis=1)
    ridge = RIDGE * count * np.diag([0.0] + [1.0] * size)
    weight = ones
    for _ in range(REWEIGHTINGS):
        weighted = weight * design
        normal = weighted @ design.transpose(0, 2, 1) + ridge
        fit = np.linalg.solve(normal, weighted @ values)  # [n, 1 + D, D]
        squared = _squared(values - design.transpose(0, 2, 1) @ fit)
        middle = np.partition(squared, count // 2, axis=1)[:, count // 2, None] + 1e-12  # never 0
        weight = (1 / (1 + squared / middle))[:, None]
    return LocalMotion(fit[:, 0], (fit[:, 1:] / reach).transpose(0, 2, 1), np.sqrt(middle[:, 0]))


def _squared(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared lengths [n, count] of vectors [n, count, D]."""
    return np.asarray(np.einsum("nkd,nkd->nk", vectors, vectors))
