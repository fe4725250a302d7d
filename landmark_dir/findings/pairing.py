"""Findings of both scans, one to one: which is the same, which is new, which is gone."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from landmark_dir.geometry import Points


def pair(carried: Points, reach_mm: NDArray[np.float64], others: Points) -> list[tuple[int, int]]:
    """Pair carried findings with those of the other scan: as many as can be, the nearest ones.

    Parameters
    ----------
    carried : ndarray, shape (N, 3)
        Where the findings are expected in the other scan, LPS mm.
    reach_mm : ndarray, shape (N,)
        How far from there the finding can be.
    others : ndarray, shape (M, 3)
        The findings of the other scan, LPS mm.

    Returns
    -------
    list of (row of carried, row of others)
    """
    if not len(carried) or not len(others):
        return []
    away = np.linalg.norm(carried[:, None] - others, axis=2)
    allowed = away <= reach_mm[:, None]
    # a pair that may not be costs more than all that may be together
    cost = np.where(allowed, away, 1.0 + away[allowed].sum() if allowed.any() else 1.0)
    rows, columns = linear_sum_assignment(cost)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if allowed[i, j]]
