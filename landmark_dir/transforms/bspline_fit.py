"""A cubic b-spline fitted to corresponding points: the dense motion of landmarks alone.

The fit is robust twice. Displacements that disagree with the rest count less. And bends, which cost
energy, cost less where the motion bends sharply: tissue that slides along other tissue stays sharp,
while noise elsewhere is smoothed away. Where there are no points the bending energy decides. It
goes from a coarse grid to a fine one, each level starting where the coarser one ended.
"""

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, dia_array, diags_array, eye_array, kron, vstack
from scipy.sparse.linalg import LinearOperator, cg

from landmark_dir.geometry import Points
from landmark_dir.parallel import share
from landmark_dir.transforms.bspline import BSpline, Floats

Singles: TypeAlias = NDArray[np.float32]

LEVELS = 3  # grids, each half as wide as the one before
BORDER = 2  # control points beyond the box of the points that are mapped
ROUNDS = 2  # of reweighting at each level
STEPS = 30  # of conjugate gradients at each round
TOLERANCE = 1e-3
RIDGE = 1e-9  # keeps what no point and no bend says solvable
LEAST_MM = 0.3  # scatter below this says nothing more
SHARP_PER_MM = 0.003  # curvature from where on a bend begins to cost less


def refined(spline: BSpline) -> BSpline:
    """The same displacement on a grid of half the spacing."""
    finer = spline.coefficients
    for axis in (1, 2, 3):
        finer = _halved(finer, axis)
    step = spline.spacing / 2
    return BSpline(finer, spline.origin + spline.direction @ step, step, spline.direction)


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
    stiffness: float = 3.0,
    scatter_mm: Floats | None = None,
) -> BSpline:
    """Fit displacements [N, 3], mm, at points [N, 3], LPS mm.

    Parameters
    ----------
    box : ndarray, shape (M, 3)
        Points that the grid has to hold beside `points`.
    grid_mm : float
        Spacing of the finest grid.
    stiffness : float
        Weight of the squared second differences of the coefficients.
    scatter_mm : ndarray, shape (N,), optional
        How uncertain each displacement is; none if not given.

    Returns
    -------
    BSpline
        x -> x + displacement, on control points along the world's axes.
    """
    scatter = np.zeros(len(points)) if scatter_mm is None else scatter_mm
    trust = 1 / (scatter**2 + LEAST_MM**2)
    spline = _still(np.concatenate([points, box]), grid_mm * 2 ** (LEVELS - 1))
    for level in range(LEVELS):
        if level:
            spline = refined(spline)
        design = _single(_design(points, spline))
        bends = _bends(spline.coefficients.shape[1:])
        for _ in range(ROUNDS):
            flat = _flat(spline)
            misfit = np.linalg.norm(displacement - design @ flat, axis=1) * np.sqrt(trust)
            weight = trust * _cauchy(misfit / max(1.0, float(np.median(misfit))))
            curvature = np.linalg.norm(bends @ flat, axis=1) / spline.spacing[0] ** 2
            cost = stiffness / spline.spacing[0] * _cauchy(curvature / SHARP_PER_MM)
            bending = csr_array(bends.T @ (diags_array(cost) @ bends))
            spline = _solved(spline, design, weight, displacement, bending)
    return spline


def _cauchy(size: Floats) -> Floats:
    """Weight of what is `size` times as large as usual."""
    return np.asarray(1 / (1 + size**2))


def _flat(spline: BSpline) -> Floats:
    """The coefficients as [number of control points, 3]."""
    return spline.coefficients.reshape(3, -1).T


def _still(points: Points, spacing_mm: float) -> BSpline:
    """No displacement, on a grid around points."""
    low, high = points.min(axis=0), points.max(axis=0)
    count = np.ceil((high - low) / spacing_mm).astype(int) + 2 * BORDER + 2
    middle = (low + high) / 2
    origin = middle - (count - 1) / 2 * spacing_mm
    return BSpline(np.zeros((3, *count[::-1])), origin, np.full(3, spacing_mm), np.eye(3))


def _design(points: Points, spline: BSpline) -> csr_array:
    """Values [N, number of control points] of all b-splines at points [N, 3]."""
    shape = spline.coefficients.shape[1:]
    at = (points - spline.origin) / spline.spacing
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


def _bends(shape: tuple[int, ...]) -> csr_array:
    """Second differences of the coefficients, [number of differences, of control points]."""
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
    return csr_array(vstack(parts).tocsr())


def _differences(count: int, stencil: tuple[int, ...]) -> dia_array:
    size = count - len(stencil) + 1
    bands = [np.full(size, float(value)) for value in stencil]
    return diags_array(bands, offsets=range(len(stencil)), shape=(size, count))


def _solved(
    spline: BSpline, design: csr_array, weight: Floats, wanted: Points, bending: csr_array
) -> BSpline:
    """The coefficients that fit best, from those at hand."""
    weight = weight.astype(np.float32)
    bending, across = _single(bending), design.T
    diagonal = across.power(2) @ weight + bending.diagonal() + np.float32(RIDGE)
    size = (len(diagonal), len(diagonal))

    def normal(x: Singles) -> Singles:
        bent = bending @ x + np.float32(RIDGE) * x
        return np.asarray(bent + across @ (weight * (design @ x)))

    system = LinearOperator(size, matvec=normal, dtype=np.float32)
    scaled = LinearOperator(size, matvec=lambda x: x / diagonal, dtype=np.float32)
    flat, wanted_32 = _flat(spline).astype(np.float32), wanted.astype(np.float32)

    def component(axis: int) -> Singles:
        right = across @ (weight * wanted_32[:, axis])
        x0 = flat[:, axis]
        return cg(system, right, x0, rtol=TOLERANCE, maxiter=STEPS, M=scaled)[0]  # type: ignore[no-any-return]

    solved = np.stack(list(share(component, range(3))))
    values = solved.reshape(spline.coefficients.shape).astype(np.float64)
    return replace(spline, coefficients=values)


def _single(matrix: csr_array) -> csr_array:
    """In single precision: products with it take a fifth of the time, and are exact enough."""
    parts = (
        matrix.data.astype(np.float32),
        matrix.indices.astype(np.int32),
        matrix.indptr.astype(np.int32),
    )
    return csr_array(parts, shape=matrix.shape)
