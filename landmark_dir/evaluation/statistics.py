"""What may be said of figures that come in pairs; lists of numbers in, plain numbers out."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

WORST_SHARE = 0.3
CONFIDENCE = 0.95
LEAST_FOR_P = 6  # pairs that differ; with 5 the smallest two-sided p is 0.0625, whatever they say


class Difference(NamedTuple):
    """The differences `with - without` of N pairs.

    Interval and p take the pairs as independent. Cases of different patients are; points of one
    patient are not, so over points both look more certain than they are.
    """

    pairs: int
    mean: float  # NaN where N is 0
    low: float  # 95 % confidence interval of the mean, Student's t; NaN where N is below 2
    high: float
    p: float  # Wilcoxon signed-rank, two-sided; NaN if fewer than `LEAST_FOR_P` pairs differ
    lower: int  # in how many pairs `with` is the smaller one
    higher: int


def paired_difference(with_: ArrayLike, without: ArrayLike) -> Difference:
    """Compare two series of figures of the same N points or cases; N may be 0.

    Raises
    ------
    ValueError
        If the series are not two lists of one length, or hold NaN or infinity.
    """
    one, other = (np.asarray(series, dtype=np.float64) for series in (with_, without))
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"expected two lists of one length, found {one.shape} and {other.shape}")
    difference = one - other
    if not np.isfinite(difference).all():
        raise ValueError("paired figures with NaN or infinity; drop those pairs first")
    count = len(difference)
    mean = float(difference.mean()) if count else float("nan")
    half = _half_interval(difference)
    lower, higher = int((difference < 0).sum()), int((difference > 0).sum())
    return Difference(count, mean, mean - half, mean + half, _wilcoxon_p(difference), lower, higher)


def _half_interval(values: NDArray[np.float64]) -> float:
    """Half the width of the confidence interval of the mean."""
    count = len(values)
    if count < 2:
        return float("nan")
    return float(stdtrit(count - 1, (1 + CONFIDENCE) / 2) * values.std(ddof=1) / np.sqrt(count))


def _wilcoxon_p(difference: NDArray[np.float64]) -> float:
    different = difference[difference != 0]
    if len(different) < LEAST_FOR_P:
        return float("nan")
    # scipy.stats loads for more than half a second
    from scipy.stats import wilcoxon

    return float(wilcoxon(different).pvalue)


def worst_share_mean(distances: ArrayLike, share: float = WORST_SHARE) -> float:
    """Mean of the largest `share` of N distances, at least of one; NaN where N is 0."""
    values = np.sort(np.asarray(distances, dtype=np.float64))
    if not len(values):
        return float("nan")
    return float(values[-max(1, int(np.ceil(share * len(values)))) :].mean())
