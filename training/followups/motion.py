"""How the patient of a simulated follow-up moves: a random `Motion` with an exact inverse.

The whole patient turns, the inner organs slide along the body wall, and all bends smoothly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from landmark_dir.errors import LandmarkDirError
from landmark_dir.geometry import (
    Points,
    as_points,
    index_to_physical,
    physical_to_index,
    shape_zyx,
    voxel_centres,
)
from landmark_dir.phantom.scanner import rotation
from training.evaluation.appearance import SOFT_HU, WALL_MM, Floats
from training.evaluation.motion import FILLINGS, MAX_STEEPNESS

Range: TypeAlias = tuple[float, float]

NODE_MM = 4.0  # of the grid that carries the motion; thicker slices make it coarser
COARSE_SIGMA_MM = (34.0, 44.0)  # of the Gaussian bumps
FINE_SIGMA_MM = (15.0, 20.0)
FINE_SHARE = 0.12  # their displacement, of that of the coarse ones
FILLING_SIGMA_MM = (20.0, 32.0)  # where a fuller bladder or bowel pushes most
SLIDE_EDGE_MM = 6.0  # over which the inner organs let go of the wall
SKIN_SIGMA_MM = (4.0, 40.0)  # smoothing of the distance from the skin: across, and along, the body
UP = np.array([0.0, 0.0, 1.0])  # to the head, LPS

UNDO_STEPS = 200  # 0.7 to this power is nothing
UNDO_MM = 1e-7


@dataclass(frozen=True)
class Limits:
    """How far a patient moves; each value is drawn, uniformly.

    Attributes
    ----------
    rotation_deg, shift_mm : float
        Largest turn and shift of the whole patient, about and along any axis.
    smooth_mm : (float, float)
        Median displacement over the body by smooth motion.
    filling_mm : (float, float)
        How far a filling pushes its surroundings.
    slide_mm : (float, float)
        How far the inner organs slide along the body wall, up or down.
    sliding : bool
        Whether they do where the caller does not say.
    """

    rotation_deg: float
    shift_mm: float
    smooth_mm: Range
    filling_mm: Range
    slide_mm: Range
    sliding: bool


MOTIONS = {
    "small": Limits(5.0, 10.0, (3.2, 4.2), (1.0, 3.0), (2.0, 4.0), sliding=False),
    "large": Limits(10.0, 25.0, (9.0, 11.0), (3.0, 7.0), (6.0, 14.0), sliding=True),
}


@dataclass(frozen=True, eq=False)
class Motion:
    """S, moving -> fixed world points, and its inverse; LPS mm.

    Attributes
    ----------
    turn : ndarray, shape (3, 3)
        Rotation about `pivot`, moving -> fixed.
    pivot, shift : ndarray, shape (3,)
        The pivot of the fixed image is seen at pivot + shift in the moving one.
    skin : sitk.Image
        Depth below the skin on the nodes, mm.
    depth_mm : float
        Where, below the skin, the inner organs slide.
    slide_mm : float
        How far to the head S looks there, or to the feet if negative.
    bend : ndarray, shape (3, Z, Y, X)
        Smooth displacement along x, y and z of the world on the nodes.
    """

    turn: Floats
    pivot: Floats
    shift: Floats
    skin: sitk.Image
    depth_mm: float
    slide_mm: float
    bend: NDArray[np.float32]

    def to_fixed(self, points: ArrayLike) -> Points:
        """S, moving points [N, 3] -> fixed points."""
        return self.deform((as_points(points) - self.pivot - self.shift) @ self.turn.T + self.pivot)

    def to_moving(self, points: ArrayLike) -> Points:
        """Find the moving points of fixed points [N, 3], to `UNDO_MM`."""
        straight = _undo(self._slide, _undo(self._bend, as_points(points)))
        return (straight - self.pivot) @ self.turn + self.pivot + self.shift

    def inside_mm(self, points: ArrayLike) -> Floats:
        """How deep fixed points [N, 3] lie inside the sliding surface, mm [N]; negative: outside.

        Sliding is spread over `SLIDE_EDGE_MM` about that surface.
        """
        before = _undo(self._slide, _undo(self._bend, as_points(points)))
        skin = sitk.GetArrayViewFromImage(self.skin)
        return _sample(skin, physical_to_index(self.skin, before)) - self.depth_mm

    def deform(self, points: Points) -> Points:
        """S without its rigid part."""
        slid = points + self._slide(points)
        return slid + self._bend(slid)

    def _slide(self, points: Points) -> Points:
        if not self.slide_mm:
            return np.zeros_like(points)
        skin = sitk.GetArrayViewFromImage(self.skin)
        depth = _sample(skin, physical_to_index(self.skin, points))
        share = ((depth - self.depth_mm) / SLIDE_EDGE_MM + 0.5).clip(0, 1)
        return as_points((self.slide_mm * share**2 * (3 - 2 * share))[:, None] * UP)

    def _bend(self, points: Points) -> Points:
        index = physical_to_index(self.skin, points)
        return np.column_stack([_sample(part, index) for part in self.bend])


def _sample(array: NDArray[Any], index_xyz: Points) -> Floats:
    """Trilinear values [N] of an array [z, y, x]; its border is repeated outside."""
    x, y, z = index_xyz.T
    at = [z, y, x]
    return np.asarray(ndimage.map_coordinates(array, at, np.float64, order=1, mode="nearest"))


def _undo(displacement: Callable[[Points], Points], target: Points) -> Points:
    """Solve x + u(x) = target by fixed-point iteration, for a u that cannot fold."""
    points = target
    for _ in range(UNDO_STEPS):
        before, points = points, target - displacement(points)
        if np.abs(points - before).max(initial=0) < UNDO_MM:
            return points
    raise LandmarkDirError(
        f"simulated motion: expected an inverse within {UNDO_STEPS} steps, found none;"
        " take another seed"
    )


@dataclass(frozen=True)
class Soft:
    """Where bowel and bladder can be.

    Attributes
    ----------
    depth : ndarray [z, y, x]
        Distance on the nodes from all that is not inner soft tissue, mm.
    nodes : sitk.Image
        Their grid.
    """

    depth: Floats
    nodes: sitk.Image

    def places(self, count: int, rng: np.random.Generator) -> tuple[Points, Floats]:
        """Random points [N, 3] in the deeper half and their depth [N]; N is 0 if there is none."""
        if not self.depth.any():
            return np.zeros((0, 3)), np.zeros(0)
        deep = np.flatnonzero(self.depth >= np.median(self.depth[self.depth > 0]))
        rows = rng.choice(deep, count)
        z, y, x = np.unravel_index(rows, self.depth.shape)
        return index_to_physical(self.nodes, np.column_stack([x, y, z])), self.depth.flat[rows]


def skin_and_soft(fixed: sitk.Image, body: sitk.Image) -> tuple[sitk.Image, Soft]:
    """Lay out the coarse grid that carries the motion: its nodes.

    Returns
    -------
    skin : sitk.Image
        Depth below the skin on the nodes, mm; 0 outside the body.
    soft : Soft
        Inner soft tissue on the same nodes.
    """
    shrink = [
        max(1, min(int(NODE_MM / mm), n // 4))
        for mm, n in zip(fixed.GetSpacing(), fixed.GetSize(), strict=True)
    ]
    coarse = sitk.BinShrink(fixed, shrink)
    hu = sitk.GetArrayViewFromImage(coarse)
    in_body = sitk.GetArrayFromImage(sitk.BinShrink(body * 100, shrink)) >= 50
    spacing_zyx = coarse.GetSpacing()[::-1]
    # beside the body the border of the view is taken for skin; the body goes on past its ends
    framed = np.pad(in_body, ((0, 0), (1, 1), (1, 1)))
    depth = ndimage.distance_transform_edt(framed, spacing_zyx)[:, 1:-1, 1:-1]
    inner = depth > _wall_mm(depth)
    soft = inner & (hu > SOFT_HU[0]) & (hu < SOFT_HU[1])
    skin = sitk.GetImageFromArray(depth.astype(np.float32))
    skin.CopyInformation(coarse)
    return skin, Soft(ndimage.distance_transform_edt(soft, spacing_zyx), skin)


def _wall_mm(depth: NDArray[Any]) -> float:
    """How thick the body wall is; thin limbs have a thin one."""
    return float(min(WALL_MM, depth.max() / 2))


def draw_motion(
    skin: sitk.Image, soft: Soft, limits: Limits, sliding: bool, rng: np.random.Generator
) -> tuple[Motion, dict[str, Any]]:
    """Draw a motion that cannot fold.

    Parameters
    ----------
    skin, soft
        As from `skin_and_soft`.
    sliding : bool
        Whether the inner organs slide along the body wall.

    Returns
    -------
    motion : Motion
    description : dict
        What was drawn, and the displacement in the body without the rigid part.
    """
    depth = sitk.GetArrayFromImage(skin)
    inside_body = voxel_centres(skin)[depth.ravel() > 0]
    turn_deg, shift = (any_way(most, rng) for most in (limits.rotation_deg, limits.shift_mm))
    bend, fillings = _draw_bend(skin, soft, limits, rng)
    wall_mm, smooth_skin = _wall_mm(depth), _smooth_skin(skin)
    drawn_mm = rng.uniform(*limits.slide_mm) * rng.choice([-1, 1])
    most_mm = MAX_STEEPNESS / _slide_steepness(smooth_skin, wall_mm)
    slide_mm = float(np.clip(drawn_mm, -most_mm, most_mm)) if sliding else 0.0
    pivot = np.mean(inside_body, axis=0)
    motion = Motion(rotation(turn_deg), pivot, shift, smooth_skin, wall_mm, slide_mm, bend)
    far = np.linalg.norm(motion.deform(inside_body) - inside_body, axis=1)
    return motion, {
        "rotation_deg": turn_deg.tolist(),
        "shift_mm": shift.tolist(),
        "slide_mm": slide_mm,
        "fillings": fillings,
        "displacement_mm": {"median": float(np.median(far)), "max": float(far.max())},
    }


def any_way(most: float, rng: np.random.Generator) -> Floats:
    """Draw a vector [3] of any direction and a length up to `most`."""
    way = rng.standard_normal(3)
    return np.asarray(rng.uniform(0, most) * way / np.linalg.norm(way))


def _draw_bend(
    skin: sitk.Image, soft: Soft, limits: Limits, rng: np.random.Generator
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Smooth motion [3, z, y, x] that cannot fold, and the fillings in it."""
    in_body = sitk.GetArrayViewFromImage(skin) > 0

    def bumps(sigma_mm: Range, median_mm: float) -> Floats:
        field = _random_bumps(skin, rng.uniform(*sigma_mm), rng)
        now_mm = np.median(np.linalg.norm(field[:, in_body], axis=0))
        return np.asarray(field * (median_mm / now_mm))

    median_mm = rng.uniform(*limits.smooth_mm)
    bend = bumps(COARSE_SIGMA_MM, median_mm) + bumps(FINE_SIGMA_MM, FINE_SHARE * median_mm)
    fillings = []
    for place in soft.places(int(rng.integers(FILLINGS + 1)), rng)[0]:
        push_mm, sigma_mm = rng.uniform(*limits.filling_mm), rng.uniform(*FILLING_SIGMA_MM)
        bend += _filling(skin, place, push_mm, sigma_mm)
        fillings.append({"place": place.tolist(), "push_mm": push_mm, "sigma_mm": sigma_mm})
    tame = min(1.0, MAX_STEEPNESS / steepness(bend, skin))
    return (bend * tame).astype(np.float32), fillings


def _random_bumps(nodes: sitk.Image, sigma_mm: float, rng: np.random.Generator) -> Floats:
    """A Gaussian bump of random height at every node, summed up: [3, z, y, x]."""
    heights = rng.standard_normal((3, *shape_zyx(nodes)))
    sigma = [sigma_mm / mm for mm in nodes.GetSpacing()[::-1]]
    # wrapped around, motion is as large at the border as in the middle
    return np.stack([ndimage.gaussian_filter(part, sigma, mode="wrap") for part in heights])


def _filling(nodes: sitk.Image, place: Floats, push_mm: float, sigma_mm: float) -> Floats:
    """Displacement [3, z, y, x] that looks inward where a filling pushed the tissue outward."""
    away = (voxel_centres(nodes) - place) / sigma_mm
    bell = np.exp(0.5 - 0.5 * np.sum(away**2, axis=1))  # |away| * bell is 1 at most
    return np.asarray((-push_mm * away * bell[:, None]).T.reshape(3, *shape_zyx(nodes)))


def steepness(bend: NDArray[np.floating], nodes: sitk.Image) -> float:
    """Largest spectral norm of the derivative of a displacement [3, z, y, x]."""
    spacing_zyx = nodes.GetSpacing()[::-1]
    slopes = np.stack([np.gradient(part, *spacing_zyx) for part in bend])  # [3, 3, z, y, x]
    return float(np.linalg.norm(slopes.reshape(3, 3, -1).T, 2, axis=(1, 2)).max())


def _smooth_skin(skin: sitk.Image) -> sitk.Image:
    """Depth without corners, along the body most: where it changes there, sliding squeezes."""
    across, along = SKIN_SIGMA_MM
    up = np.abs(np.reshape(skin.GetDirection(), (3, 3))[2])  # share of each axis along the body
    sigma_xyz = (across + (along - across) * up) / np.array(skin.GetSpacing())
    depth = sitk.GetArrayViewFromImage(skin)
    smooth = sitk.GetImageFromArray(ndimage.gaussian_filter(depth, sigma_xyz[::-1], mode="nearest"))
    smooth.CopyInformation(skin)
    return smooth


def _slide_steepness(skin: sitk.Image, wall_mm: float) -> float:
    """How much a slide of 1 mm squeezes along its way, at most, 1/mm."""
    depth = sitk.GetArrayViewFromImage(skin)
    up = np.reshape(skin.GetDirection(), (3, 3))[2, ::-1]
    slopes = np.gradient(depth, *skin.GetSpacing()[::-1])
    along = sum(share * slope for share, slope in zip(up, slopes, strict=True))
    edge = np.abs(depth - wall_mm) < 0.5 * SLIDE_EDGE_MM + NODE_MM  # interpolation looks so far
    return float(1.5 / SLIDE_EDGE_MM * np.abs(along[edge]).max(initial=1e-9))
