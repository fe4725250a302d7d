"""Tilted and uneven DICOM slices: resampled to what the scanner saw, with a warning, or refused."""

from collections.abc import Callable
from pathlib import Path

import made_dicom as made
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.dataset import Dataset

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import voxel_centres
from landmark_dir.io.reading import Reading
from landmark_dir.io.volumes import read_with_warnings

EVEN = (4.0,) * 15
PARTS = (1.25,) * 8 + (5.0,) * 6  # lung, abdomen
GAP = (5.0,) * 6 + (7.2,) + (5.0,) * 6
CHANGED = (4.0,) * 6 + (5.6,) * 6
JITTER = (4.0,) * 6 + (4.3, 3.7) + (4.0,) * 4
GROWING = tuple(4.05 + 0.1 * k for k in range(12))
UNEVEN = {"parts": PARTS, "gap": GAP, "changed": CHANGED, "jitter": JITTER, "growing": GROWING}
AIR = -1024  # HU

Hu = Callable[[np.ndarray], np.ndarray]


class Scan:
    """Slices of `image` at true places: `gaps_mm` apart, moved by `shear` mm for each mm.

    `hu` gives the true HU at points [N, 3]; `flip` (x, y) turns rows and columns over, and one
    alone gives slices that a left-handed reader would mirror.
    """

    def __init__(self, image, gaps_mm=EVEN, shear_xy=(0.0, 0.0), hu=None, flip=(1, 1)):
        axes = np.reshape(image.GetDirection(), (3, 3)) * (*flip, flip[0] * flip[1])
        self.along = np.concatenate([[0.0], np.cumsum(gaps_mm)])
        step = axes[:, 2] + axes[:, :2] @ shear_xy
        self.first = np.array(image.GetOrigin()) + self.along[:, None] * step  # [N, 3]
        self.axes = axes
        self.spacing = np.array(image.GetSpacing())
        self.columns, self.rows = 24, 20
        self.hu = ramp if hu is None else hu
        y, x = np.mgrid[: self.rows, : self.columns] * self.spacing[1::-1, None, None]
        flat = x[..., None] * axes[:, 0] + y[..., None] * axes[:, 1]
        values = self.hu(self.first[:, None, None] + flat).round()
        values[:, 0, 0] = AIR
        self.image = sitk.GetImageFromArray(values.astype(np.int16))
        self.image.SetSpacing(image.GetSpacing())
        self.image.SetDirection(axes.ravel().tolist())

    def position(self, k: int) -> list[str]:
        return [f"{value:.6f}" for value in self.first[k]]

    def write(self, folder: Path, change: made.Change = made.unchanged) -> Path:
        def placed(k: int, dataset: Dataset) -> None:
            dataset.ImagePositionPatient = self.position(k)
            change(k, dataset)

        made.write_series(self.image, folder, placed)
        return folder

    def write_frames(self, file: Path, order: list[int]) -> Path:
        def placed(n: int, frame: Dataset) -> None:
            frame.PlanePositionSequence[0].ImagePositionPatient = self.position(order[n])

        return made.write_enhanced(self.image, file, order, placed)

    def seen(self, points: np.ndarray) -> np.ndarray:
        """Whether points [N, 3] lie in both neighbouring slices; not beside the voxel of air."""
        beside = (points - self.first[0]) @ self.axes
        upper = np.searchsorted(self.along, beside[:, 2]).clip(1, len(self.along) - 1)
        inside = np.ones(len(points), bool)
        for k in (upper - 1, upper):
            index = ((points - self.first[k]) @ self.axes / self.spacing)[:, :2]
            inside &= (index >= 0).all(axis=1) & (index >= 1).any(axis=1)
            inside &= (index <= np.array([self.columns, self.rows]) - 1).all(axis=1)
        return inside


def ramp(points: np.ndarray) -> np.ndarray:
    return (points - (-120.0, 35.0, -410.0)) @ (3.1, -2.3, 4.7)


def waves(points: np.ndarray) -> np.ndarray:
    return 400 * np.cos(2 * np.pi * points / 40.0).mean(axis=-1)


def degrees(tilt: float) -> float:
    return float(np.tan(np.radians(tilt)))


def values(read: Reading) -> np.ndarray:
    return sitk.GetArrayFromImage(read.image)


def refused(path: Path) -> str:
    with pytest.raises(BadVolume) as error:
        read_with_warnings(path)
    return str(error.value)


def errors_hu(read: Reading, scan: Scan) -> np.ndarray:
    """Found HU less true HU wherever two slices see a voxel."""
    points = voxel_centres(read.image)
    seen = scan.seen(points)
    assert seen.mean() > 0.2
    return values(read).ravel()[seen] - scan.hu(points[seen])


# --- resampled to what is true -------------------------------------------------------------------


@pytest.mark.parametrize("flip", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("gaps_mm", [EVEN, *UNEVEN.values()], ids=["even", *UNEVEN])
@pytest.mark.parametrize("tilt_xy", [(0.0, 0.0), (0.0, 1.1), (0.0, -22.0), (9.0, 29.0)])
def test_a_ramp_in_space_is_reproduced(
    tilt_xy: tuple[float, float],
    gaps_mm: tuple[float, ...],
    flip: tuple[int, int],
    oblique_ct: sitk.Image,
    tmp_path: Path,
) -> None:
    scan = Scan(oblique_ct, gaps_mm, [degrees(one) for one in tilt_xy], flip=flip)
    read = read_with_warnings(scan.write(tmp_path))
    assert np.linalg.det(np.reshape(read.image.GetDirection(), (3, 3))) > 0
    assert np.abs(errors_hu(read, scan)).max() < 1.01  # rounded when stored and when resampled
    assert ("gantry tilt" in str(read.warnings)) == any(tilt_xy)
    assert ("apart: resampled" in str(read.warnings)) == (gaps_mm is not EVEN)
    assert read.image.GetPixelID() == sitk.sitkInt16


@pytest.mark.parametrize("gaps_mm", [EVEN, *UNEVEN.values()], ids=["even", *UNEVEN])
@pytest.mark.parametrize("tilt", [0.0, 18.0])
def test_smooth_anatomy_is_kept_but_for_linear_interpolation(
    tilt: float, gaps_mm: tuple[float, ...], oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    scan = Scan(oblique_ct, gaps_mm, (0, degrees(tilt)), waves)
    read = read_with_warnings(scan.write(tmp_path))
    bend = 400 / 3 * (2 * np.pi / 40.0) ** 2 * 3  # HU / mm^2, the largest second derivative
    limit = bend * (max(gaps_mm) ** 2 * (gaps_mm is not EVEN) + 2.0**2 * (tilt != 0)) / 8
    assert np.abs(errors_hu(read, scan)).max() < limit + 1.01


def test_every_slice_is_there_with_all_its_voxels(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    scan = Scan(oblique_ct, CHANGED, (degrees(-7), degrees(25)))
    read = read_with_warnings(scan.write(tmp_path))
    last = np.array(read.image.GetSize()) - 1
    sides = np.array([(x, y) for x in (0, 23) for y in (0, 19)]) * scan.spacing[:2]
    for first in scan.first:
        for corner in first + sides @ scan.axes[:, :2].T:
            index = read.image.TransformPhysicalPointToContinuousIndex(corner.tolist())
            assert (np.array(index) > -0.05).all()
            assert (index < last + 0.05).all()
    assert_allclose(last[2] * read.image.GetSpacing()[2], scan.along[-1], atol=1e-3)


def test_even_tilted_slices_agree_with_simpleitk(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    """As an image without a tilt, read through an affine transform that is the tilt."""
    scan = Scan(oblique_ct, EVEN, (degrees(5), degrees(-20)), waves)
    read = read_with_warnings(scan.write(tmp_path))
    upright = sitk.GetImageFromArray(sitk.GetArrayFromImage(scan.image).astype(np.float64))
    upright.SetSpacing(scan.spacing.tolist())
    sheared = np.column_stack([scan.axes[:, :2], (scan.first[1] - scan.first[0]) / 4.0])
    to_upright = np.linalg.inv(sheared)
    transform = sitk.AffineTransform(
        to_upright.ravel().tolist(), (-to_upright @ scan.first[0]).tolist()
    )
    expected = sitk.Resample(upright, read.image, transform, sitk.sitkLinear, -5000.0)
    hu = sitk.GetArrayFromImage(expected)
    inside = hu > -5000
    assert 0.3 < inside.mean() < 0.9
    off = np.abs(values(read) - hu)[inside]
    assert np.quantile(off, 0.999) < 0.51  # rounded; the edge of a slice may be taken for outside
    assert (values(read)[~inside] == AIR).mean() > 0.999


@pytest.mark.parametrize("gaps_mm", UNEVEN.values(), ids=UNEVEN)
def test_uneven_slices_agree_with_numpy(
    gaps_mm: tuple[float, ...], oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    scan = Scan(oblique_ct, gaps_mm, hu=lambda p: rng.uniform(-1000, 1000, p.shape[:3]))
    read = read_with_warnings(scan.write(tmp_path))
    heights = np.arange(read.image.GetDepth()) * read.image.GetSpacing()[2]
    nearest = scan.along[np.abs(heights[:, None] - scan.along).argmin(axis=1)]
    heights = np.where(np.abs(heights - nearest) <= 0.05, nearest, heights)  # tags are rounded
    slices = sitk.GetArrayFromImage(scan.image)
    expected = np.stack(
        [[np.interp(heights, scan.along, slices[:, y, x]) for x in range(24)] for y in range(20)]
    )
    assert_allclose(values(read), np.moveaxis(expected, 2, 0), atol=0.51)


def test_planes_that_lie_on_an_even_slice_stay_as_they_are(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    scan = Scan(oblique_ct, PARTS, hu=lambda p: rng.uniform(-1000, 1000, p.shape[:3]))
    read = read_with_warnings(scan.write(tmp_path))
    kept = [*range(9), *range(12, 33, 4)]
    assert_array_equal(values(read)[kept], sitk.GetArrayFromImage(scan.image))


def test_frames_in_any_order_are_resampled_like_files(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    scan = Scan(oblique_ct, CHANGED, (0, degrees(-12)))
    files = read_with_warnings(scan.write(tmp_path / "files"))
    for order in (list(range(12, -1, -1)), [5, 0, 9, 2, 12, 7, 1, 11, 4, 10, 3, 8, 6]):
        frames = read_with_warnings(scan.write_frames(tmp_path / "a.dcm", order))
        assert_array_equal(values(frames), values(files))
        assert frames.image.GetOrigin() == files.image.GetOrigin()


def test_the_warning_says_what_was_found_and_done(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    scan = Scan(oblique_ct, CHANGED, (0, degrees(12.3)))
    read = read_with_warnings(scan.write(tmp_path))
    assert read.warnings == (
        "gantry tilt of 12.3 degrees and slices 4 to 5.6 mm apart: resampled to a right-angled box"
        " of 24 x 27 x 16 voxels, slices 3.84 mm apart, linearly between neighbouring slices"
        ", with the smallest value outside them",
    )
    assert read.image.GetSize() == (24, 27, 16)
    assert values(read)[-1, 0, 0] == values(read).min() == AIR


def test_fractions_stay_fractions(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    def fine(_: int, dataset: Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2").astype(np.int64).reshape(20, 24)
        made.set_stored(dataset, stored - 1024, "<i2")
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.25, -700

    scan = Scan(oblique_ct, CHANGED, (0, degrees(12)))
    read = read_with_warnings(scan.write(tmp_path, fine))
    assert read.image.GetPixelID() == sitk.sitkFloat32
    scan.hu = lambda points: ramp(points) / 4 - 700
    assert np.abs(errors_hu(read, scan)).max() < 0.126  # rounded when stored


def test_rounded_tags_blur_no_slice(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    def rounded(_: int, dataset: Dataset) -> None:
        dataset.ImagePositionPatient = [f"{float(v):.2f}" for v in dataset.ImagePositionPatient]

    rng = np.random.default_rng(2)
    scan = Scan(oblique_ct, PARTS, hu=lambda p: rng.uniform(-1000, 1000, p.shape[:3]))
    read = read_with_warnings(scan.write(tmp_path, rounded))
    assert read.image.GetSize() == (24, 20, 33)
    assert_array_equal(values(read)[:9], sitk.GetArrayFromImage(scan.image)[:9])


# --- refused -------------------------------------------------------------------------------------

FINE = (1.25,) * 8


@pytest.mark.parametrize(
    ("gaps_mm", "said"),
    [
        ((4.0,) * 6 + (8.0,) + (4.0,) * 6, "slices are missing"),
        ((4.0,) * 6 + (6.1,) + (4.0,) * 6, "slices are missing"),
        ((4.0,) * 6 + (8.0, 8.0) + (4.0,) * 6, "slices are missing"),
        ((8.0,) + (4.0,) * 9, "slices are missing"),
        ((4.0,) * 9 + (8.0, 8.0), "slices are missing"),
        ((4.0,) * 6 + (40.0,) + (4.0,) * 6, "4 to 40 mm apart, usually 4: slices are missing"),
        ((4.0, 8.0) * 5, "2 even stacks that lie between each other"),
        ((1.7, 2.3) * 5, "2 even stacks that lie between each other"),
        ((1.2, 2.0, 2.8) * 4, "3 even stacks that lie between each other"),
        ((4.0,) * 6 + (2.0, 2.0) + (4.0,) * 6, "several acquisitions are mixed"),
        (FINE + (12.0,) + (5.0,) * 6, "slices are missing"),  # more than either part has
        (FINE + (0.4,) + (5.0,) * 6, "several acquisitions are mixed"),
        (FINE + (6.5,) * 6, "usually 1.25, expected at most 6.25: too far to interpolate"),
        ((5.0,) * 6 + (12.0,) * 6, "expected at most 10: too far to interpolate"),
    ],
)
@pytest.mark.parametrize("tilt", [0.0, 10.0])
def test_gaps_that_cannot_be_interpolated_are_refused(
    tilt: float, gaps_mm: tuple[float, ...], said: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    scan = Scan(oblique_ct, gaps_mm, (0, degrees(tilt)))
    assert said in refused(scan.write(tmp_path / "files"))
    assert said in refused(scan.write_frames(tmp_path / "a.dcm", list(range(len(scan.along)))))


@pytest.mark.parametrize(
    ("gaps_mm", "slices", "step_mm"),
    [
        (PARTS, 33, 1.25),
        ((1.0,) * 8 + (5.0,) * 6, 39, 1.0),
        (FINE + (3.0,) + (5.0,) * 6, 36, 43 / 35),  # a passage from one part to the other
        (JITTER, 13, 4.0),
        (CHANGED, 16, 57.6 / 15),
        (GAP, 15, 67.2 / 14),
    ],
)
def test_even_slices_are_as_close_as_the_closest(
    gaps_mm: tuple[float, ...],
    slices: int,
    step_mm: float,
    oblique_ct: sitk.Image,
    tmp_path: Path,
) -> None:
    read = read_with_warnings(Scan(oblique_ct, gaps_mm).write(tmp_path))
    assert read.image.GetDepth() == slices
    assert_allclose(read.image.GetSpacing()[2], step_mm, atol=1e-4)


def test_a_tilt_beyond_a_gantry_is_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    scan = Scan(oblique_ct, EVEN, (0, degrees(30.5)))
    assert "gantry tilt of 30.5 degrees, expected at most 30" in refused(scan.write(tmp_path))


def test_corners_are_filled_with_air_only(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    def no_air(k: int, dataset: Dataset) -> None:
        made.set_stored(dataset, np.full((20, 24), 1000 + k))

    scan = Scan(oblique_ct, EVEN, (0, degrees(10)))
    assert "a box with -24 HU in its empty corners" in refused(scan.write(tmp_path / "a", no_air))
    straight = Scan(oblique_ct, CHANGED)  # has no corners to fill
    assert values(read_with_warnings(straight.write(tmp_path / "b", no_air))).min() == -24


@pytest.mark.parametrize("count", [2, 3])
def test_few_slices_cannot_tell_a_tilt_from_a_wrong_tag(
    count: int, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    tilted = Scan(oblique_ct, EVEN[: count - 1], (0, degrees(10)))
    said = f"10 degrees, and {count} slices are too few to resample, expected at least 4"
    assert said in refused(tilted.write(tmp_path))


def test_three_uneven_slices_are_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    assert "slices are missing" in refused(Scan(oblique_ct, (4.0, 5.0)).write(tmp_path))
