"""What becomes of the volume and the place of small structures that are carried to another grid.

    python -m benchmarks.carried_structures

Balls at random places between the voxels, turned by some degrees: nothing grows or shrinks. Beside
the way of the package (`structures.shares`) stand nearest neighbour, and linear interpolation that
is cut off at a half. Prints a row for each pair of grids and each radius: the mean error of the
volume, the mean of its size, and Dice against the voxels whose centres lie in the turned ball.
"""

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from landmark_dir.geometry import shape_zyx, voxel_centres
from landmark_dir.structures.shares import fullest, shares_of
from landmark_dir.structures.structure import as_mask

GRIDS = (  # spacing of the scan the structure is drawn on, and of the other
    ((0.8, 0.8, 2.5), (0.8, 0.8, 2.5)),
    ((0.8, 0.8, 5.0), (0.8, 0.8, 1.5)),
    ((0.7, 0.7, 1.0), (0.8, 0.8, 5.0)),
)
RADII_MM = (2.5, 5.0, 10.0)
BALLS = 40

Mask = NDArray[np.bool_]
Way = Callable[[sitk.Image, sitk.Image, sitk.Transform], Mask]


def nearest(mask: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> Mask:
    """Look up each voxel."""
    found = sitk.Resample(mask, grid, transform, sitk.sitkNearestNeighbor, 0)
    return np.asarray(sitk.GetArrayFromImage(found) > 0)


def half(mask: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> Mask:
    """Interpolate linearly, cut off at a half."""
    found = sitk.Resample(mask, grid, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    return np.asarray(sitk.GetArrayFromImage(found) > 0.5)


def package(mask: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> Mask:
    """As `landmark-dir warp --labels` does."""
    return fullest(shares_of(mask, grid, transform))


WAYS: dict[str, Way] = {"nearest": nearest, "linear > 0.5": half, "landmark_dir": package}


def around_origin(spacing: tuple[float, ...], extent_mm: float) -> sitk.Image:
    """A grid whose middle is the origin."""
    size = [int(extent_mm / step) + 3 for step in spacing]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetSpacing(spacing)
    grid.SetOrigin([-(n - 1) / 2 * step for n, step in zip(size, spacing, strict=True)])
    return grid


def ball(grid: sitk.Image, points: NDArray[np.float64], centre: object, radius: float) -> Mask:
    """Voxels whose points lie in a ball."""
    far = np.linalg.norm(points - centre, axis=1)
    return np.asarray((far <= radius).reshape(shape_zyx(grid)))


def one(
    rng: np.random.Generator, spacings: tuple[tuple[float, ...], tuple[float, ...]], radius: float
) -> dict[str, tuple[float, float]]:
    """Error of the volume and Dice of one ball, by way."""
    own, other = (around_origin(spacing, 2 * radius + 16) for spacing in spacings)
    centre = rng.uniform(-3, 3, 3)
    drawn = ball(own, voxel_centres(own), centre, radius)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(Rotation.from_rotvec(rng.normal(0, 0.15, 3)).as_matrix().ravel().tolist())
    transform.SetTranslation(rng.uniform(-2, 2, 3).tolist())
    points = np.array([transform.TransformPoint(p) for p in voxel_centres(other).tolist()])
    truth = ball(other, points, centre, radius)
    found = {}
    for name, way in WAYS.items():
        mask = way(as_mask(drawn, own), other, transform)
        volume = mask.sum() * np.prod(spacings[1]) / (drawn.sum() * np.prod(spacings[0])) - 1
        found[name] = volume, 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    return found


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    print(f"| from, to (mm) | radius (mm) | {' | '.join(WAYS)} |")
    print("|---" * (2 + len(WAYS)) + "|")
    for spacings in GRIDS:
        grids = ", ".join(" x ".join(f"{step:g}" for step in spacing) for spacing in spacings)
        for radius in RADII_MM:
            balls = [one(rng, spacings, radius) for _ in range(BALLS)]
            row = []
            for name in WAYS:
                volume, dice = np.array([found[name] for found in balls]).T
                size = np.abs(volume).mean()
                row.append(f"{volume.mean():+.1%}, {size:.1%}; {dice.mean():.3f}")
            print(f"| {grids} | {radius:g} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
