"""A cubic b-spline fitted to corresponding points: the motion that landmarks alone say.

The fit is robust and smooth: displacements that disagree with the rest count less, and where there
are no points the bending energy decides. It goes from a coarse grid to a fine one, each level
starting where the coarser one ended.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, dia_array, diags_array, eye_array, kron, vstack
from scipy.sparse.linalg import LinearOperator, cg

from landmark_dir.geometry import Points

Floats = NDArray[np.float64]

LEVELS = 3  # grids, each half as wide as the one before
BORDER = 2  # control points beyond the box of the points that are mapped
ROUNDS = 2  # of reweighting at each level
SCALE_MM = 0.5  # least residual at which a point begins to count less
STEPS = 60  # of conjugate gradients at each round
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Spline:
    """Displacement on a uniform cubic b-spline grid along the world's axes, LPS mm.

    Attributes
    ----------
    coefficients : ndarray, shape (Z, Y, X, 3)
        Of the displacement along x, y, z, mm.
    origin : ndarray, shape (3,)
        World place (x, y, z) of the first control point.
    spacing_mm : float
    """

    coefficients: Floats
    origin: Floats
    spacing_mm: float

    def displacement(self, points: Points) -> Points:
        """Displacement [N, 3], mm, at points [N, 3] within the grid."""
        flat = self.coefficients.reshape(-1, 3)
        return np.asarray(_design(points, self) @ flat)

    def refined(self) -> "Spline":
        """The same displacement on a grid of half the spacing."""
        finer = self.coefficients
        for axis in range(3):
            finer = _halved(finer, axis)
        step = self.spacing_mm / 2
        return Spline(finer, self.origin + step, step)


def _halved(values: Floats, axis: int) -> Floats:
    """Insert a control point between any two; the first and the last half step fall off."""
    values = np.moveaxis(values, axis, 0)
    between = (values[:-1] + values[1:]) / 2
    on = (values[:-2] + 6 * values[1:-1] + values[2:]) / 8
    finer = np.empty((len(between) + len(on), *values.shape[1:]))
    finer[0::2], finer[1::2] = between, on
    return np.moveaxis(finer, 0, axis)


def fit_spline(
    points: Points,
    displacement: Points,
    box: Points,
    grid_mm: float = 10.0,
    stiffness: float = 0.02,
    weight: Floats | None = None,
) -> Spline:
    """Fit displacements [N, 3], mm, at points [N, 3], LPS mm.

    Parameters
    ----------
    box : ndarray, shape (M, 3)
        Points that the grid has to hold beside `points`.
    grid_mm : float
        Spacing of the finest grid.
    stiffness : float
        Weight of the mean squared second difference of the coefficients.
    weight : ndarray, shape (N,), optional
        Trust in each point.
    """
    trust = np.ones(len(points)) if weight is None else weight
    spline = _flat(np.concatenate([points, box]), grid_mm * 2 ** (LEVELS - 1))
    for level in range(LEVELS):
        if level:
            spline = spline.refined()
        design = _design(points, spline)
        bending = _bending(spline.coefficients.shape[:3], stiffness / spline.spacing_mm)
        for _ in range(ROUNDS):
            left = displacement - design @ spline.coefficients.reshape(-1, 3)
            length = np.linalg.norm(left, axis=1)
            scale = max(SCALE_MM, 2 * float(np.median(length)))
            robust = trust / (1 + (length / scale) ** 2)
            spline = _solved(spline, design, robust, displacement, bending)
    return spline


def _flat(points: Points, spacing_mm: float) -> Spline:
    """No displacement, on a grid around points."""
    low, high = points.min(axis=0), points.max(axis=0)
    count = np.ceil((high - low) / spacing_mm).astype(int) + 2 * BORDER + 2
    middle = (low + high) / 2
    origin = middle - (count - 1) / 2 * spacing_mm
    return Spline(np.zeros((*count[::-1], 3)), origin, spacing_mm)


def _design(points: Points, spline: Spline) -> csr_array:
    """Values [N, number of control points] of all b-splines at points [N, 3]."""
    shape = spline.coefficients.shape[:3]
    at = (points - spline.origin) / spline.spacing_mm
    last = np.array(shape[::-1]) - 3
    first = np.clip(np.floor(at).astype(int), 1, last) - 1  # [N, 3] x, y, z
    t = np.clip(at - first - 1, 0, 1)
    basis = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=-1
    )
    bx, by, bz = np.moveaxis(basis / 6, 1, 0)  # each [N, 4]
    values = np.einsum("nk,nj,ni->nkji", bz, by, bx).reshape(len(points), 64)
    k, j, i = np.indices((4, 4, 4)).reshape(3, 64)
    x, y, z = first.T[:, :, None] + np.stack([i, j, k])[:, None]  # each [N, 64]
    columns = np.ravel_multi_index((z, y, x), shape)
    rows = np.arange(len(points) + 1) * 64
    size = (len(points), int(np.prod(shape)))
    return csr_array((values.ravel(), columns.ravel(), rows), shape=size)


def _bending(shape: tuple[int, ...], weight: float) -> csr_array:
    """Bending energy of the coefficients, [number of control points] squared."""
    once = [_differences(n, (-1, 1)) for n in shape]
    twice = [_differences(n, (1, -2, 1)) for n in shape]
    same = [eye_array(n) for n in shape]
    parts = []
    for one in range(3):
        for other in range(one, 3):
            along = [
                twice[a] if a == one == other else once[a] if a in (one, other) else same[a]
                for a in range(3)
            ]
            share = 1.0 if one == other else 2.0
            parts.append(np.sqrt(share) * kron(kron(along[0], along[1]), along[2]))
    rows = vstack(parts).tocsr()
    return csr_array(weight * (rows.T @ rows))


def _differences(count: int, stencil: tuple[int, ...]) -> dia_array:
    size = count - len(stencil) + 1
    bands = [np.full(size, float(value)) for value in stencil]
    return diags_array(bands, offsets=range(len(stencil)), shape=(size, count))


def _solved(
    spline: Spline, design: csr_array, weight: Floats, wanted: Points, bending: csr_array
) -> Spline:
    """The coefficients that fit best, from those at hand."""
    start = spline.coefficients.reshape(-1, 3)
    across = design.T.tocsr()
    ridge = 1e-9
    diagonal = (across**2) @ weight + bending.diagonal() + ridge
    size = (len(start), len(start))

    def normal(x: Floats) -> Floats:
        return np.asarray(across @ (weight * (design @ x)) + bending @ x + ridge * x)

    operator = LinearOperator(size, matvec=normal, dtype=np.float64)
    scaled = LinearOperator(size, matvec=lambda x: x / diagonal, dtype=np.float64)
    right = across @ (weight[:, None] * wanted)
    solved = [
        cg(operator, right[:, a], x0=start[:, a], rtol=TOLERANCE, maxiter=STEPS, M=scaled)[0]
        for a in range(3)
    ]
    values = np.stack(solved, axis=-1).reshape(spline.coefficients.shape)
    return Spline(values, spline.origin, spline.spacing_mm)
