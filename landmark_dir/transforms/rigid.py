"""Keep parts of the fixed image rigid: a last step of a transform that undoes what deforms them.

Each part gets the rigid motion that is nearest to what the transform does to it. The step is a
b-spline on a small grid around the part: there it is the difference, beyond it fades away.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from landmark_dir.geometry import (
    Points,
    as_points,
    distances_mm,
    index_to_physical,
    physical_to_index,
)
from landmark_dir.transforms.bspline import BSpline, Floats
from landmark_dir.transforms.chain import Chain, Linear
from landmark_dir.transforms.fields import invert_points

SAMPLES = 4000  # of a part, at most, that its motion is fitted to
GRID_MM = 2.5  # between control points
MOST_NODES = 200_000  # of a grid; that of a large part is wider
GUARD = 2.0  # control points beyond a part that move with it: what a cubic b-spline looks at
FADE_MM = (10.0, 40.0)  # least and greatest width over which the step fades away
FADE_STEEPNESS = 4.0  # of this width, at least, to the change that fades: nothing folds


@dataclass(frozen=True)
class Part:
    """A part that moves as a whole.

    Attributes
    ----------
    points : ndarray, shape (N, 3)
        Centres of its voxels, LPS mm.
    outside_mm : sitk.Image
        Distance from the part around it, mm; 0 in it.
    apart_mm : sitk.Image
        Distance from all other parts on the same grid.
    """

    points: Points
    outside_mm: sitk.Image
    apart_mm: sitk.Image


def parts(labels: sitk.Image) -> Iterator[Part]:
    """The parts of a label map: each connected region of a label is one.

    `labels` is a whole-number image on the fixed grid; 0 belongs to no part.
    """
    values = sitk.GetArrayViewFromImage(labels)
    spacing_zyx = np.array(labels.GetSpacing()[::-1])
    reach = np.ceil(FADE_MM[1] * 1.5 / spacing_zyx).astype(int)
    for label in np.unique(values[values != 0]):
        regions, _ = ndimage.label(values == label)
        for number, box in enumerate(ndimage.find_objects(regions), start=1):
            first = np.maximum([s.start for s in box] - reach, 0)
            last = np.minimum([s.stop for s in box] + reach, values.shape)
            around = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
            mine = regions[around] == number
            others = (values[around] != 0) & ~mine
            corner = index_to_physical(labels, [first[::-1]])[0]
            z, y, x = np.nonzero(mine)
            yield Part(
                index_to_physical(labels, np.column_stack([x, y, z]) + first[::-1]),
                _distance(mine, labels, corner),
                _distance(others, labels, corner),
            )


def count_parts(labels: sitk.Image) -> int:
    """How many parts a label map has."""
    values = sitk.GetArrayViewFromImage(labels)
    return sum(ndimage.label(values == label)[1] for label in np.unique(values[values != 0]))


def _distance(mask: NDArray[np.bool_], like: sitk.Image, corner: Floats) -> sitk.Image:
    """Distance from a mask [z, y, x] whose first voxel lies at `corner`; far if it is empty."""
    spacing_zyx = like.GetSpacing()[::-1]
    far = np.full(mask.shape, 1e3)
    if mask.any():
        far = ndimage.distance_transform_edt(~mask, spacing_zyx)
    image = sitk.GetImageFromArray(far.astype(np.float32))
    image.SetSpacing(like.GetSpacing())
    image.SetDirection(like.GetDirection())
    image.SetOrigin(corner.tolist())
    return image


def best_rigid(points: Points, moved: Points) -> Linear:
    """The rotation and translation that takes points [N, 3] nearest to `moved`, least squares.

    References
    ----------
    Arun, Huang, Blostein, "Least-squares fitting of two 3-D point sets", PAMI 1987
    """
    centre, target = points.mean(axis=0), moved.mean(axis=0)
    left, _, right = np.linalg.svd((moved - target).T @ (points - centre))
    flip = np.diag([1, 1, np.sign(np.linalg.det(left @ right))])
    return Linear(left @ flip @ right, centre, target - centre)


def rigid_motion(chain: Chain, part: Part) -> Linear:
    """The rigid motion nearest to what a transform does to a part."""
    stride = -(-len(part.points) // SAMPLES)
    points = part.points[::stride]
    return best_rigid(points, chain.map_points(points))


def rigid_step(chain: Chain, part: Part) -> BSpline:
    """What has to come after a transform for a part to move rigidly; fades away around it."""
    motion = rigid_motion(chain, part)
    moved = motion.map_points(part.points)
    change = distances_mm(moved, chain.map_points(part.points)).max()
    fade_mm = float(np.clip(FADE_STEEPNESS * change, *FADE_MM))
    size_mm = np.ptp(moved, axis=0) + 2 * fade_mm
    grid_mm = max(GRID_MM, float(np.cbrt(size_mm.prod() / MOST_NODES)))
    guard_mm = GUARD * grid_mm
    margin = guard_mm + fade_mm + 3 * grid_mm
    low, high = moved.min(axis=0) - margin, moved.max(axis=0) + margin
    count = np.ceil((high - low) / grid_mm).astype(int) + 1
    z, y, x = np.indices(count[::-1]).reshape(3, -1)
    nodes = low + grid_mm * np.column_stack([x, y, z])
    fixed = invert_points(chain, nodes)
    wanted = motion.map_points(fixed) - nodes
    share = _share(part, fixed, guard_mm, fade_mm)
    displacement = (share[:, None] * wanted).T.reshape(3, *count[::-1])
    coefficients = np.stack([ndimage.spline_filter(one) for one in displacement])
    return BSpline(coefficients, low, np.full(3, grid_mm), np.eye(3))


def _share(part: Part, points: Points, guard_mm: float, fade_mm: float) -> Floats:
    """How far [N] fixed points move with a part: 1 within `guard_mm`, 0 beyond the fade."""
    outside, apart = (_sampled(one, points) for one in (part.outside_mm, part.apart_mm))
    # halfway to the next part, half
    room = np.minimum(fade_mm + guard_mm, np.maximum(outside + apart, 1e-6))
    guard = np.minimum(guard_mm, room / 4)
    away = ((outside - guard) / (room - 2 * guard).clip(1e-6)).clip(0, 1)
    return np.asarray(1 - away**2 * (3 - 2 * away))


def _sampled(image: sitk.Image, points: Points) -> Floats:
    """Trilinear values [N] at points [N, 3]; far away beyond the image."""
    index = physical_to_index(image, points)[:, ::-1].T
    values = sitk.GetArrayViewFromImage(image)
    return np.asarray(ndimage.map_coordinates(values, index, order=1, cval=1e3))


class Kept(NamedTuple):
    """What has to come after a transform, in this order, and how far parts bend then, at most."""

    steps: tuple[BSpline, ...]
    left_mm: float


def keep_rigid(chain: Chain, labels: sitk.Image) -> Kept:
    """Keep the parts of a label map rigid: a step for each."""
    steps: list[BSpline] = []
    for part in parts(labels):
        steps.append(rigid_step(chain, part))
        chain = chain.then(steps[-1])
    left = (unrigid_mm(chain, part).max() for part in parts(labels))
    return Kept(tuple(steps), float(max(left, default=0.0)))


def unrigid_mm(chain: Chain, part: Part) -> Floats:
    """How far [N] the voxels of a part lie from where its best rigid motion takes them, mm."""
    moved = chain.map_points(part.points)
    return distances_mm(as_points(moved), best_rigid(part.points, moved).map_points(part.points))
