"""How good a registration is: distances at points, folding, similarity."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.evaluation.statistics import worst_share_mean
from landmark_dir.geometry import Points, index_to_physical

LATTICE_POINTS = 60_000  # most points the Jacobian is sampled at


class Summary(NamedTuple):
    """Distances in mm over a set of points."""

    points: int
    mean: float
    median: float
    p95: float
    worst30: float  # mean of the worst 30 %
    max: float


def summarise(distances: NDArray[np.float64]) -> Summary:
    """Summarise N distances; all is NaN where N is 0."""
    if not len(distances):
        return Summary(0, *[float("nan")] * 5)
    median, p95 = np.percentile(distances, (50, 95)).tolist()
    worst = worst_share_mean(distances)
    return Summary(
        len(distances), float(distances.mean()), median, p95, worst, float(distances.max())
    )


class Folding(NamedTuple):
    """What the Jacobian determinant of T says inside a mask."""

    folded_share: float  # share of the samples with a determinant <= 0
    sd_log_jacobian: float  # over the samples that are not folded


def folding(
    map_points: Callable[[Points], Points], image: sitk.Image, mask: sitk.Image | None = None
) -> Folding:
    """Sample the Jacobian determinant of a transform on a lattice over the fixed image.

    Parameters
    ----------
    map_points : callable
        T, fixed points [N, 3] to moving points, LPS mm.
    image : sitk.Image
        The fixed image.
    mask : sitk.Image, optional
        Where it counts, on the grid of `image`.
    """
    size = np.array(image.GetSize())
    stride = np.maximum(1, np.round(_lattice_mm(image) / np.array(image.GetSpacing()))).astype(int)
    axes = [np.arange(0, n, s) for n, s in zip(size, stride, strict=True)]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)  # [x, y, z, 3]
    fixed = index_to_physical(image, index.reshape(-1, 3))
    moved = map_points(fixed).reshape(index.shape)
    determinant = _jacobian_determinant(fixed.reshape(index.shape), moved)
    if mask is not None:
        inside = sitk.GetArrayViewFromImage(mask).transpose(2, 1, 0)[np.ix_(*axes)] > 0
        determinant = determinant[inside]
    positive = determinant[determinant > 0]
    if not determinant.size:
        return Folding(float("nan"), float("nan"))
    spread = float(np.log(positive).std()) if positive.size else float("nan")
    return Folding(float((determinant <= 0).mean()), spread)


def _lattice_mm(image: sitk.Image) -> float:
    """Lattice spacing: 4 mm, or coarser where the image is large."""
    extent = np.array(image.GetSize()) * np.array(image.GetSpacing())
    return float(max(4.0, (np.prod(extent) / LATTICE_POINTS) ** (1 / 3)))


def _jacobian_determinant(
    fixed: NDArray[np.float64], moved: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Determinant of d moved / d fixed on a lattice [x, y, z, 3], by differences of neighbours."""
    moved_steps = np.stack([np.gradient(moved, axis=a) for a in range(3)], axis=-1)
    fixed_steps = np.stack([np.gradient(fixed, axis=a) for a in range(3)], axis=-1)
    return np.asarray(np.linalg.det(moved_steps) / np.linalg.det(fixed_steps))


def correlation(one: sitk.Image, other: sitk.Image, mask: sitk.Image | None = None) -> float:
    """Normalised cross-correlation of two images on one grid, inside a mask; -1..1."""
    views = [sitk.GetArrayViewFromImage(image) for image in (one, other)]
    if mask is not None:
        inside = sitk.GetArrayViewFromImage(mask) > 0
        views = [view[inside] for view in views]
    a, b = (view.astype(np.float64).ravel() for view in views)
    if not a.size or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a -= a.mean()
    b -= b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))
