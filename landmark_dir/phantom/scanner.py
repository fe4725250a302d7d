"""A CT-like torso and its follow-up, with the true transform between them.

The anatomy is a function of position, so no image is ever warped: the fixed image samples it at
x, the moving image at S(y). S is analytic and T, from fixed to moving points, is its inverse;
the truth is exact everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from landmark_dir.geometry import (
    Points,
    as_points,
    index_to_physical,
    inside,
    physical_to_index,
    shape_zyx,
)
from landmark_dir.phantom.anatomy import LABELS, paint_torso
from landmark_dir.phantom.patient import BLADDER_MM, TISSUES, Scan, Torso
from landmark_dir.phantom.shapes import Floats
from landmark_dir.preprocessing.intensity import SCANNER_HU

__all__ = ["LABELS", "Phantom", "PhantomOptions", "make_phantom"]


def rotation(degrees: ArrayLike) -> NDArray[np.float64]:
    """Rotate about x, then y, then z by `degrees`: a 3 x 3 matrix."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    turn: NDArray[np.float64] = about_z @ about_y @ about_x
    return turn


def _flat(matrix: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(v) for v in matrix.ravel())


@dataclass(frozen=True)
class PhantomOptions:
    """What pair to make. The body is about 270 x 190 mm and longer than the field of view.

    Attributes
    ----------
    size_xyz, spacing_mm, direction : tuple
        Grid of the fixed image; `direction` as in SimpleITK: nine cosines, row by row.
    centre_mm : tuple of float
        Where the patient's middle and the middle of the fixed grid lie, LPS mm.
    own_grid : bool
        Give the moving image another direction, spacing, number of slices and origin.
    displacement_mm : float
        Mean `|T(x) - x|` in the body, 0..15 (beyond, T may fold); 0 makes T the identity and
        leaves all else as it is.
    contrast, gas : bool
        Whether the moving scan is enhanced, and whether its bowel gas lies elsewhere.
    noise_hu : float
        Standard deviation of the scanner noise, independent in the two scans.
    seed : int
        Of the patient, the displacement and the noise.
    """

    size_xyz: tuple[int, int, int] = (160, 128, 64)
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 4.0)
    direction: tuple[float, ...] = _flat(rotation((3, -4, 5)))
    centre_mm: tuple[float, float, float] = (-31.0, 47.5, -412.0)
    own_grid: bool = True
    displacement_mm: float = 10.0
    contrast: bool = True
    gas: bool = True
    noise_hu: float = 12.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.size_xyz) < 4:
            raise ValueError(f"size_xyz needs at least 4 voxels an axis, found {self.size_xyz}")
        if min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing_mm must be positive, found {self.spacing_mm}")
        cosines = np.asarray(self.direction, dtype=np.float64)
        if cosines.size != 9 or not np.allclose(
            cosines.reshape(3, 3) @ cosines.reshape(3, 3).T, np.eye(3), atol=1e-6
        ):
            raise ValueError(f"direction must be nine orthonormal cosines, found {self.direction}")
        if not 0 <= self.displacement_mm <= 15:
            raise ValueError(f"displacement_mm must be 0..15, found {self.displacement_mm:g}")
        if self.noise_hu < 0:
            raise ValueError(f"noise_hu must not be negative, found {self.noise_hu:g}")


class _Motion:
    """S, from moving to fixed positions in patient mm, and its inverse T.

    A small rigid motion, breathing and a smooth random field are added up and scaled to the
    wanted mean; then the surroundings of the bladder shrink towards its middle.
    """

    def __init__(self, rng: np.random.Generator, mean_mm: float) -> None:
        self._turn = rotation(rng.uniform(-2.0, 2.0, 3)) - np.eye(3)
        shift = rng.normal(size=3)
        self._shift = 5.0 * shift / np.linalg.norm(shift)  # mm
        way = rng.normal(size=(3, 6))
        lengths = rng.uniform(150, 280, 6)  # mm; long waves keep T free of folds
        self._waves = 2 * np.pi * way / np.linalg.norm(way, axis=0) / lengths
        self._phases = rng.uniform(0, 2 * np.pi, 6)
        self._heights = rng.normal(size=(6, 3)) * (1.4, 1.4, 1.6)
        self._filling = 0.03 * min(mean_mm, 10.0)  # share of the radius, in the bladder's middle
        self._scale = 0.0
        self._scale_to(mean_mm, rng.uniform((-120, -85, -120), (120, 85, 120), (2000, 3)))

    def _scale_to(self, mean_mm: float, places: Points) -> None:
        if mean_mm > 0:
            self._scale = 1.0
            for _ in range(8):  # the bladder's part does not scale, hence the loop
                self._scale *= mean_mm / np.linalg.norm(self(places) - places, axis=1).mean()

    def __call__(self, y: Points) -> Points:
        """S: moving to fixed positions."""
        breath = 5.0 / (1 + np.exp(-(y[:, 2:] - 10) / 40)) * (0.0, 0.25, -1.0)
        smooth = np.sin(y @ self._waves + self._phases) @ self._heights
        moved = y + self._scale * (y @ self._turn.T + self._shift + breath + smooth)
        arm = moved - BLADDER_MM
        fade = np.exp(-(arm**2).sum(axis=1, keepdims=True) / 42.0**2)
        fixed: Points = moved - self._filling * fade * arm
        return fixed

    def inverse(self, x: Points) -> Points:
        """T: fixed to moving positions, to 1e-9 mm."""
        y = x.copy()
        for _ in range(200):
            step = x - self(y)
            y += step
            if not y.size or np.abs(step).max() < 1e-9:
                return y
        raise AssertionError("the displacement of the phantom is no contraction")


@dataclass(frozen=True)
class Phantom:
    """A fixed and a moving scan of one patient; points are LPS mm.

    Attributes
    ----------
    fixed, moving : sitk.Image
        int16 HU.
    fixed_labels, moving_labels : sitk.Image
        uint8, on the grid of their image; values as in `LABELS`, 0 outside the body.
    """

    fixed: sitk.Image
    moving: sitk.Image
    fixed_labels: sitk.Image
    moving_labels: sitk.Image
    options: PhantomOptions
    _motion: _Motion

    def to_moving(self, points: ArrayLike) -> Points:
        """Apply T: where fixed points (N, 3) lie in the moving scan; exact outside it, too."""
        middle = np.asarray(self.options.centre_mm)
        moved: Points = self._motion.inverse(as_points(points) - middle) + middle
        return moved

    def to_fixed(self, points: ArrayLike) -> Points:
        """Undo T: where moving points (N, 3) lie in the fixed scan."""
        middle = np.asarray(self.options.centre_mm)
        fixed: Points = self._motion(as_points(points) - middle) + middle
        return fixed

    def truth_points(self, n: int, rng: np.random.Generator) -> tuple[Points, Points]:
        """Spread `n` true correspondences evenly over the body seen in both scans.

        Returns
        -------
        fixed, moving : ndarray, shape (n, 3)
            The moving points are T of the fixed points.

        Raises
        ------
        ValueError
            If the two images share too little of the body.
        """
        kept = [np.zeros((0, 3))]
        start, golden = rng.random(3), np.array([0.81917251, 0.67104361, 0.54970048])
        step = 0
        while sum(map(len, kept)) < n:  # additive recurrence: evener than random points
            index = (start + golden * np.arange(step, step + 4 * n)[:, None]) % 1
            points = index_to_physical(self.fixed, index * (np.asarray(self.fixed.GetSize()) - 1))
            points = points[_labels_at(self.fixed_labels, points) > 0]
            kept.append(points[inside(self.moving, self.to_moving(points))])
            step += 4 * n
            if step > 2000 * n:
                raise ValueError(
                    f"expected {n} points seen in both scans, found {sum(map(len, kept))}; "
                    f"make the phantom larger than {self.options.size_xyz} voxels"
                )
        fixed = np.concatenate(kept)[:n]
        return fixed, self.to_moving(fixed)


def _labels_at(labels: sitk.Image, points: Points) -> NDArray[np.uint8]:
    x, y, z = np.rint(physical_to_index(labels, points)).astype(int).T
    values: NDArray[np.uint8] = sitk.GetArrayViewFromImage(labels)[z, y, x]
    return values


def _grid(options: PhantomOptions, moving: bool) -> sitk.Image:
    """Make an empty int16 image that says where the voxels are."""
    size, spacing = np.array(options.size_xyz), np.array(options.spacing_mm)
    direction, offset = np.reshape(options.direction, (3, 3)), np.zeros(3)
    if moving and options.own_grid:
        size, spacing = size + (4, -2, 3), spacing * (0.98, 1.02, 0.96)
        direction, offset = rotation((-5, 3, -4)) @ direction, np.array((2.5, -3.0, 4.5))
    image = sitk.Image([int(n) for n in size], sitk.sitkInt16)
    image.SetSpacing(spacing.tolist())
    image.SetDirection(_flat(direction))
    middle = direction @ ((size - 1) / 2 * spacing)
    image.SetOrigin((np.asarray(options.centre_mm) + offset - middle).tolist())
    return image


def _under_body(p: Points) -> Floats:
    """Give the HU of air and the table, which stays with the scanner, at positions [N, 3]."""
    hollow = p[:, 1] - 106 - (p[:, 0] / 60) ** 2  # mm below the table's top
    air, foam, shell = (TISSUES[name].native for name in ("air", "table", "shell"))
    skin = np.clip(1.3 - np.abs(np.abs(hollow - 6) - 6) / 2, 0, 1)  # two sheets of carbon fibre
    core = np.where(np.abs(hollow - 6) < 6, foam, air)
    hu: Floats = (core + skin * (shell - core)).astype(np.float32)
    return hu


def _noise(rng: np.random.Generator, shape: tuple[int, int, int], sd: float) -> Floats:
    """Scanner noise, correlated in-plane as a soft reconstruction kernel leaves it."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter1d(noise, 0.6, axis=1)
    noise = ndimage.gaussian_filter1d(noise, 0.6, axis=2)
    scaled: Floats = noise * np.float32(sd / noise.std())
    return scaled


def _acquire(
    grid: sitk.Image,
    options: PhantomOptions,
    torso: Torso,
    scan: Scan,
    to_patient: Callable[[Points], Points],
    rng: np.random.Generator,
) -> tuple[sitk.Image, sitk.Image]:
    """Fill `grid` slice by slice: the HU image and its label map."""
    nx, ny, nz = grid.GetSize()
    hu = _noise(rng, shape_zyx(grid), options.noise_hu)
    labels = np.zeros(hu.shape, np.uint8)
    plane = np.stack([*np.mgrid[0:ny, 0:nx][::-1], np.zeros((ny, nx))], axis=-1).reshape(-1, 3)
    edge_mm = sorted(options.spacing_mm)[1]
    for k in range(nz):
        p = index_to_physical(grid, plane + (0, 0, k)) - options.centre_mm
        values, names = paint_torso(torso, scan, to_patient(p), edge_mm, _under_body(p))
        hu[k] += values.reshape(ny, nx)
        labels[k] = names.reshape(ny, nx)
    image = sitk.GetImageFromArray(np.clip(np.rint(hu), *SCANNER_HU).astype(np.int16))
    label_map = sitk.GetImageFromArray(labels)
    image.CopyInformation(grid)
    label_map.CopyInformation(grid)
    return image, label_map


def make_phantom(options: PhantomOptions | None = None) -> Phantom:
    """Make a follow-up pair; the same options give the same voxels."""
    options = options or PhantomOptions()
    patient, motion_rng, day_one, day_two = np.random.default_rng(options.seed).spawn(4)
    torso = Torso(patient)
    motion = _Motion(motion_rng, options.displacement_mm)
    first = torso.scan(day_one, contrast=False)
    second = torso.scan(day_two, contrast=options.contrast)
    if not options.gas:
        second = first._replace(contrast=options.contrast)
    fixed, fixed_labels = _acquire(
        _grid(options, moving=False), options, torso, first, lambda p: p, day_one
    )
    moving, moving_labels = _acquire(
        _grid(options, moving=True), options, torso, second, motion, day_two
    )
    return Phantom(fixed, moving, fixed_labels, moving_labels, options, motion)
