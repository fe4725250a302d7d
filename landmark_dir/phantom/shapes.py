"""Shapes and noise that the phantom's anatomy is made of.

Positions are arrays [3, N], rows x, y, z in mm. Distances [N] are signed mm, negative inside.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

Floats: TypeAlias = NDArray[np.float32]
Triple: TypeAlias = tuple[float, float, float]
Polyline: TypeAlias = Sequence[Sequence[float]]  # nodes x, y, z, radius in mm

FAR = np.float32(1e3)  # mm; stands for "not near this shape"


class Noise:
    """Smooth random fields of unit SD, periodic, tabulated on a cubic lattice."""

    def __init__(
        self,
        rng: np.random.Generator,
        channels: int,
        cell_mm: float,
        cells: int,
        wavelengths_mm: tuple[float, float],
        slope: float,
    ) -> None:
        shape = (channels, cells, cells, cells)
        spectrum = fft.rfftn(rng.standard_normal(shape, dtype=np.float32), axes=(1, 2, 3))
        f = np.fft.fftfreq(cells, cell_mm).astype(np.float32)
        squared = f[:, None, None] ** 2 + f[:, None] ** 2 + f[: cells // 2 + 1] ** 2
        shortest, longest = wavelengths_mm
        band = (squared + longest**-2) ** (-slope / 2) * np.exp(-squared * shortest**2)
        field = fft.irfftn(spectrum * band.astype(np.float32), shape[1:], axes=(1, 2, 3))
        field /= field.std(axis=(1, 2, 3), keepdims=True)
        self._table = np.ascontiguousarray(np.moveaxis(field, 0, -1)).reshape(-1, channels)
        self._cells, self._cell_mm = cells, np.float32(cell_mm)

    def __call__(self, p: Floats) -> Floats:
        """Interpolate all channels linearly at positions [3, N]; returns [channels, N]."""
        scaled = p / self._cell_mm
        floor = np.floor(scaled)
        (u, v, w), lower = scaled - floor, floor.astype(np.int32) % self._cells
        upper = (lower + 1) % self._cells
        value = np.zeros((p.shape[1], self._table.shape[1]), np.float32)
        for i, a in ((lower[0], 1 - u), (upper[0], u)):
            for j, b in ((lower[1], 1 - v), (upper[1], v)):
                row, ab = (i * self._cells + j) * self._cells, a * b
                value += (ab * (1 - w))[:, None] * self._table[row + lower[2]]
                value += (ab * w)[:, None] * self._table[row + upper[2]]
        return np.ascontiguousarray(value.T)


def _near(p: Floats, low: ArrayLike, high: ArrayLike) -> NDArray[np.intp]:
    """Columns of `p` [3, N] inside a box."""
    lo, hi = np.asarray(low), np.asarray(high)
    hit = (p[2] > lo[2]) & (p[2] < hi[2])
    if not hit.any():
        return np.empty(0, np.intp)
    hit &= (p[0] > lo[0]) & (p[0] < hi[0]) & (p[1] > lo[1]) & (p[1] < hi[1])
    return np.flatnonzero(hit)


def ellipsoid(p: Floats, centre: ArrayLike, radii: ArrayLike, margin: float = 8.0) -> Floats:
    """Approximate signed distance [N] to an ellipsoid; `FAR` beyond `margin` mm around it."""
    c, r = np.asarray(centre, np.float32), np.asarray(radii, np.float32)
    distance = np.full(p.shape[1], FAR)
    columns = _near(p, c - r - margin, c + r + margin)
    q = (p[:, columns] - c[:, None]) / r[:, None]
    k = np.sqrt((q * q).sum(axis=0))
    slope = np.sqrt(((q / r[:, None]) ** 2).sum(axis=0))
    distance[columns] = k * (k - 1) / np.maximum(slope, 1e-4)
    return distance


class Nearest(NamedTuple):
    """The tube nearest to each point: all [N]."""

    distance: Floats  # signed, to its surface
    second: Floats  # signed, to the nearest other run
    run: NDArray[np.intp]
    behind: Floats  # y of the point less y of the axis, mm


class Tubes:
    """Round tubes along polylines, one polyline a run."""

    def __init__(self, runs: Sequence[Polyline]) -> None:
        pieces = [(i, *pair) for i, run in enumerate(runs) for pair in pairwise(run)]
        self.runs = len(runs)
        self._run = [i for i, _, _ in pieces]
        self._ends = np.array([[a, b] for _, a, b in pieces], np.float32)  # [M, 2, (x, y, z, r)]

    def nearest(self, p: Floats, margin: float = 6.0) -> Nearest:
        """Find the nearest run of each point [3, N] within `margin` mm of the surface."""
        count = p.shape[1]
        found = Nearest(
            np.full(count, FAR), np.full(count, FAR), np.full(count, -1), np.zeros(count, "f4")
        )
        reach = self._ends[:, :, 3:].max(axis=1) + margin
        low, high = (
            self._ends[:, :, :3].min(axis=1) - reach,
            self._ends[:, :, :3].max(axis=1) + reach,
        )
        hit = np.all((high > p.min(axis=1)) & (low < p.max(axis=1)), axis=1)
        for m in np.flatnonzero(hit):
            columns = _near(p, low[m], high[m])
            if columns.size:
                self._update(found, p[:, columns], columns, int(m))
        return found

    def _update(self, found: Nearest, p: Floats, columns: NDArray[np.intp], m: int) -> None:
        (a, b), run = self._ends[m], self._run[m]
        q, step = p - a[:3, None], b[:3] - a[:3]
        along = np.clip(step @ q / (step @ step), 0, 1)
        q -= step[:, None] * along
        distance = np.sqrt((q * q).sum(axis=0)) - (a[3] + (b[3] - a[3]) * along)
        best, other = found.distance[columns], found.run[columns] != run
        closer = distance < best
        loser = np.where(closer, best, distance)  # of the two, the one that is not the nearest
        second = found.second[columns]
        found.second[columns] = np.where(other, np.minimum(second, loser), second)
        won = columns[closer]
        found.distance[won], found.run[won], found.behind[won] = distance[closer], run, q[1, closer]


def capsule(x: Floats, y: Floats, a: Sequence[Floats], b: Sequence[Floats]) -> Floats:
    """In-plane distance to the line from `a` to `b`, whose ends depend on the level."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    distance: Floats = np.hypot(x - a[0] - along * dx, y - a[1] - along * dy)
    return distance


def at_level(z: Floats, levels: Sequence[float], values: Sequence[float]) -> Floats:
    """Interpolate `values`, given at increasing `levels`, to the heights `z`."""
    return np.interp(z, levels, values).astype(np.float32)
