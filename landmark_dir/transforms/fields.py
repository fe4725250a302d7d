"""A transform on a grid: its displacement, its Jacobian determinant, its inverse.

Large grids are worked on in slabs of slices, so that what is held beside the result is small.
"""

from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from landmark_dir.geometry import (
    Points,
    as_points,
    distances_mm,
    index_to_physical,
    inside,
    shape_zyx,
    voxel_centres,
)
from landmark_dir.transforms.bspline import BSpline
from landmark_dir.transforms.chain import Chain

INVERSE_STEPS = 60
PLAIN_STEPS = 20  # of these before Newton's
SLOPE_MM = 0.5  # either side of a point, for the derivative there
STEP_MM = 5.0  # longest of Newton's steps
INVERSE_MM = 1e-4  # residual at which a point of the inverse is found
LATTICE_MM = 4.0  # where the inverse is found first, before each voxel is corrected
CORRECTIONS = 2
UNSOLVED_MM = 0.1  # residual above which a voxel counts as not inverted
SLAB = 500_000  # voxels worked on at once
TO_A_KNOT = 3  # nodes from where a spline follows b-splines, to a distance of control points
WORTH = 0.25  # share of the voxels from where on a lattice saves no time
LEAST_NODES = 4  # that a cubic spline needs
OFF_MM = 0.05  # most that it may be off
CHECKED_SLICES, CHECKED = 8, 250  # where that is looked at: slices, voxels of each


def displacement(chain: Chain, grid: sitk.Image) -> sitk.Image:
    """T(x) - x at each voxel of a grid: vector image, float32, mm, LPS."""
    field: sitk.Image = sitk.TransformToDisplacementField(
        chain.itk(),
        sitk.sitkVectorFloat32,
        grid.GetSize(),
        grid.GetOrigin(),
        grid.GetSpacing(),
        grid.GetDirection(),
    )
    return field


class DenseField:
    """T(x) - x at the voxels of a grid, a slab of slices at a time.

    b-splines are slow to evaluate, and smooth: their displacement is evaluated on a lattice,
    `TO_A_KNOT` nodes to a control point, and a cubic spline through these is evaluated at the
    voxels. Where that is off by more than `OFF_MM` at any of some voxels, or saves nothing, each
    voxel is evaluated.
    """

    def __init__(self, chain: Chain, grid: sitk.Image) -> None:
        self._chain, self._grid = chain, grid
        self.nodes = _nodes(chain, grid)
        self._exact = self.nodes == grid.GetSize()
        if self._exact:
            return
        voxels = np.array(grid.GetSize())
        lattice = sitk.Image(self.nodes, sitk.sitkUInt8)
        step = (voxels - 1) / (np.array(self.nodes) - 1)
        lattice.SetSpacing((step * grid.GetSpacing()).tolist())
        lattice.SetOrigin(grid.GetOrigin())
        lattice.SetDirection(grid.GetDirection())
        values = sitk.GetArrayFromImage(displacement(chain, lattice))
        self._values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))  # [z, 3, y, x]
        self._between = [_between(*n) for n in zip(self.nodes, grid.GetSize(), strict=True)]
        self._exact = self._off_mm() > OFF_MM

    def slab(self, start: int, end: int) -> sitk.Image:
        """The displacement of slices `start` to `end`, which is left out: float32, mm, LPS."""
        grid = self._grid[:, :, start:end]
        if self._exact:
            return displacement(self._chain, grid)
        along_x, along_y, along_z = self._between
        depth, _, height, width = self._values.shape
        found = along_z[start:end] @ self._values.reshape(depth, -1)
        found = along_y @ found.reshape(-1, height, width)  # [z 3, y, nodes x]
        found = found.reshape(-1, width) @ along_x.T  # [z 3 y, x]
        slices, rows, columns = shape_zyx(grid)
        vectors = found.reshape(slices, 3, rows, columns).transpose(0, 2, 3, 1)
        field = sitk.GetImageFromArray(np.ascontiguousarray(vectors), isVector=True)
        field.CopyInformation(grid)
        return field

    def _off_mm(self) -> float:
        """How far the spline is off, at most, at voxels of some slices."""
        rng, (columns, rows, slices) = np.random.default_rng(0), self._grid.GetSize()
        off = []
        for k in rng.integers(0, slices, CHECKED_SLICES):
            x, y = (rng.integers(0, size, CHECKED) for size in (columns, rows))
            index = np.column_stack([x, y, np.full(CHECKED, k)]).astype(np.float64)
            points = index_to_physical(self._grid, index)
            moved = points + sitk.GetArrayFromImage(self.slab(int(k), int(k) + 1))[0, y, x]
            off.append(np.abs(moved - self._chain.map_points(points)).max())
        return float(max(off))


def _nodes(chain: Chain, grid: sitk.Image) -> tuple[int, ...]:
    """How many nodes along x, y, z are dense enough for the b-splines of a chain; or its voxels."""
    size, spacing = np.array(grid.GetSize()), np.array(grid.GetSpacing())
    knots = [step.spacing.min() for step in chain.steps if isinstance(step, BSpline)]
    apart = min(knots, default=np.inf) / TO_A_KNOT
    nodes = np.maximum(np.ceil((size - 1) * spacing / apart) + 1, LEAST_NODES).astype(int)
    nodes = np.minimum(nodes, size)
    few = nodes.prod() < WORTH * size.prod()
    return tuple((nodes if few else size).tolist())


def _between(nodes: int, voxels: int) -> NDArray[np.float32]:
    """The cubic spline through values at nodes, at voxels: a matrix [voxels, nodes]."""
    if nodes == voxels:
        return np.eye(voxels, dtype=np.float32)
    at = np.linspace(0, voxels - 1, nodes)
    return np.asarray(make_interp_spline(at, np.eye(nodes))(np.arange(voxels)), dtype=np.float32)


def resample(
    image: sitk.Image, chain: Chain, grid: sitk.Image, outside: float, *, linear: bool = False
) -> sitk.Image:
    """Cubic or linear resampling of a moving image onto a grid, by displacements on a lattice.

    For the network's eyes: a lattice of `LATTICE_MM` is within some hundredths of a mm of a smooth
    transform, and many times as fast. Values keep within the range of the image.
    """
    lattice = _lattice(grid)
    field = sitk.Cast(displacement(chain, lattice), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(field)
    kind, between = sitk.sitkFloat32, sitk.sitkLinear if linear else sitk.sitkBSpline
    resampled = sitk.Resample(image, grid, transform, between, outside, kind)
    if linear:
        return resampled
    values = sitk.GetArrayViewFromImage(image)
    return sitk.Clamp(resampled, kind, float(values.min()), float(values.max()))


def jacobian(chain: Chain, grid: sitk.Image) -> sitk.Image:
    """Determinant of dT/dx at each voxel of a grid, by central differences; float32.

    Below 1 tissue shrinks from fixed to moving, above 1 it grows, at 0 and below T folds. A grid
    of a single slice has no derivative across it, and is refused.
    """
    if min(grid.GetSize()) < 2:
        raise ValueError(
            f"Jacobian: expected two or more voxels along each axis, found {grid.GetSize()}"
        )
    axes = np.reshape(grid.GetDirection(), (3, 3)) * np.array(grid.GetSpacing())
    found = np.empty(shape_zyx(grid), dtype=np.float32)
    for start, end in slabs(grid):
        low, high = max(start - 1, 0), min(end + 1, len(found))  # with a neighbour on either side
        field = displacement(chain, grid[:, :, low:high])
        slab = _determinant(sitk.GetArrayViewFromImage(field), axes)  # [z, y, x]
        found[start:end] = slab[start - low : end - low]
    image = sitk.GetImageFromArray(found)
    image.CopyInformation(grid)
    return image


def slabs(grid: sitk.Image) -> Iterator[tuple[int, int]]:
    """First slice, and the one after the last, of parts of about `SLAB` voxels."""
    columns, rows, slices = grid.GetSize()
    thick = max(1, SLAB // (columns * rows))
    for start in range(0, slices, thick):
        yield start, min(start + thick, slices)


def _determinant(vectors: NDArray[np.float32], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Determinant [z, y, x] of the map whose displacement is given on voxels with `axes`, mm."""
    steps = [np.gradient(vectors, axis=axis) for axis in (2, 1, 0)]  # along x, y, z of the grid
    moved = np.stack(steps, axis=-1) + axes  # [z, y, x, component, axis]
    return np.asarray(np.linalg.det(moved) / np.linalg.det(axes))


def invert_points(chain: Chain, moving: Points, start: Points | None = None) -> Points:
    """Fixed points that T maps to moving points [N, 3], LPS mm.

    By fixed-point iteration from where the affine steps have them; where it has not come to rest,
    for T stretches tissue to twice its length or more, by Newton's. Where T folds, or far outside
    the images, there may be no answer: check with `chain.map_points`.
    """
    moving = as_points(moving)
    first = _back_affine(chain, moving) if start is None else start
    fixed, active = first.copy(), np.arange(len(moving))
    damping, last = np.ones(len(moving)), np.full(len(moving), np.inf)
    for number in range(INVERSE_STEPS):
        newton = number >= PLAIN_STEPS
        if number == PLAIN_STEPS:  # from the start: what did not come to rest may be far away
            fixed[active], damping[active], last[active] = first[active], 1.0, np.inf
        left = moving[active] - chain.map_points(fixed[active])
        length = np.linalg.norm(left, axis=1)
        damping[active] = np.where(length > last[active], damping[active] / 2, damping[active])
        last[active] = length
        unsolved = length > INVERSE_MM
        active, left = active[unsolved], left[unsolved]
        if not len(active):
            break
        step = _newton_step(chain, fixed[active], left) if newton else left
        fixed[active] += damping[active, None] * step
    return fixed


def _back_affine(chain: Chain, moving: Points) -> Points:
    """Points that the affine steps alone map to moving points [N, 3]."""
    affine = chain.affine()
    zero, *axes = affine.map_points(np.concatenate([np.zeros((1, 3)), np.eye(3)]))
    return as_points(np.linalg.solve((np.array(axes) - zero).T, (moving - zero).T).T)


def _newton_step(chain: Chain, points: Points, left: Points) -> Points:
    """Where T, linearised at points [N, 3], takes away what is left [N, 3]; `STEP_MM` at most."""
    slopes = [
        (chain.map_points(points + SLOPE_MM * axis) - chain.map_points(points - SLOPE_MM * axis))
        / (2 * SLOPE_MM)
        for axis in np.eye(3)
    ]
    matrix = np.stack(slopes, axis=-1) + 1e-6 * np.eye(3)
    step = np.linalg.solve(matrix, left[:, :, None])[:, :, 0]
    length = np.linalg.norm(step, axis=1, keepdims=True)
    return np.asarray(step * np.minimum(1, STEP_MM / np.maximum(length, 1e-12)))


def invert(
    chain: Chain, grid: sitk.Image, fixed_grid: sitk.Image
) -> tuple[sitk.Image, NDArray[np.float32]]:
    """Moving -> fixed at each voxel of a grid in moving space.

    First solved on a coarse lattice, then each voxel is corrected by what T leaves there. Takes
    about 30 bytes a voxel.

    Returns
    -------
    field : sitk.Image
        Displacement, mm, LPS; three components, float32.
    residual_mm : ndarray, shape (N,)
        |T(inverse(y)) - y| at the N voxels y whose answer lies in the fixed image.
    """
    lattice = _lattice(grid)
    places = voxel_centres(lattice)
    found = invert_points(chain, places) - places
    coarse = sitk.GetImageFromArray(found.reshape(*shape_zyx(lattice), 3), isVector=True)
    coarse.CopyInformation(lattice)
    field = np.empty((*shape_zyx(grid), 3), np.float32)
    residuals = [np.zeros(0, np.float32)]
    for start, end in slabs(grid):
        slab = grid[:, :, start:end]
        moving = voxel_centres(slab)
        # the lattice reaches beyond the grid, so no voxel is left without a first answer
        guess = sitk.Resample(coarse, slab, sitk.Transform(), sitk.sitkLinear)
        vectors = sitk.GetArrayFromImage(guess).reshape(-1, 3)
        left = _correct(chain, moving, vectors)
        answered = inside(fixed_grid, moving + vectors)
        residuals.append(left[answered].astype(np.float32))
        field[start:end] = vectors.reshape(*shape_zyx(slab), 3)
    image = sitk.GetImageFromArray(field, isVector=True)
    image.CopyInformation(grid)
    return image, np.concatenate(residuals)


def _correct(chain: Chain, moving: Points, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Improve the displacements [N, 3] in place; what is left of the error, mm [N].

    Where two corrections do not do, mostly where T nearly folds, each voxel is solved by itself.
    """
    for _ in range(CORRECTIONS):
        vectors += moving - chain.map_points(moving + vectors)
    left = distances_mm(chain.map_points(moving + vectors), moving)
    hard = np.flatnonzero(left > UNSOLVED_MM)
    found = invert_points(chain, moving[hard])
    again = distances_mm(chain.map_points(found), moving[hard])
    better = again < left[hard]
    vectors[hard[better]] = (found - moving[hard])[better]
    left[hard[better]] = again[better]
    return left


def coarse_grid(image: sitk.Image) -> sitk.Image:
    """A grid of about `LATTICE_MM` over an image, from its first voxel on."""
    step = np.maximum(1, np.round(LATTICE_MM / np.array(image.GetSpacing()))).astype(int)
    size = (np.array(image.GetSize()) - 1) // step + 1
    grid = sitk.Image(np.maximum(size, 2).tolist(), sitk.sitkUInt8)
    grid.SetSpacing((step * image.GetSpacing()).tolist())
    grid.SetOrigin(image.GetOrigin())
    grid.SetDirection(image.GetDirection())
    return grid


def _lattice(grid: sitk.Image) -> sitk.Image:
    """A coarse grid over another, one step larger on each side."""
    spacing = np.maximum(LATTICE_MM, grid.GetSpacing())
    extent = (np.array(grid.GetSize()) - 1) * grid.GetSpacing()
    size = np.ceil(extent / spacing).astype(int) + 3
    lattice = sitk.Image(size.tolist(), sitk.sitkUInt8)
    lattice.SetSpacing(spacing.tolist())
    lattice.SetDirection(grid.GetDirection())
    step = np.reshape(grid.GetDirection(), (3, 3)) @ spacing
    lattice.SetOrigin((np.array(grid.GetOrigin()) - step).tolist())
    return lattice
