"""Simulated follow-up pairs: exact both ways, unfolded, as far apart as said, and repeatable."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from landmark_dir.errors import BadVolume
from landmark_dir.evaluation.metrics import folding
from landmark_dir.geometry import (
    Points,
    index_to_physical,
    inside,
    physical_to_index,
    voxel_centres,
)
from landmark_dir.io.point_files import read_pairs
from landmark_dir.io.volumes import read_volume, write_volume
from landmark_dir.phantom.scanner import rotation
from training.evaluation.motion import MAX_STEEPNESS
from training.followups.motion import MOTIONS, UP, draw_motion, skin_and_soft, steepness
from training.followups.pair import BACK, FollowUp, main, make_follow_up, truth_points
from training.followups.scan import add_pocket

SIZE = (48, 40, 18)
SEED = 14  # slices of a few mm: neither slow nor blurred


def _volume() -> sitk.Image:
    """A thick tilted cylinder of slowly changing soft tissue: oblique, anisotropic, off-origin."""
    image = sitk.Image(SIZE, sitk.sitkInt16)
    image.SetSpacing((3.0, 3.5, 5.0))
    image.SetOrigin((-120.0, 35.0, -410.0))
    image.SetDirection(rotation((12, -8, 20)).ravel().tolist())
    z, y, x = np.mgrid[: SIZE[2], : SIZE[1], : SIZE[0]]
    far = np.hypot((x - 24) / 20, (y - 20) / 16 + 0.005 * (z - 8))
    texture = 50 * np.sin(x / 5) + 40 * np.cos(y / 4 + 1) + 40 * np.sin(z / 3 + x / 9)
    hu = np.where(far < 1, 50 + texture, -1000).round().astype(np.int16)
    made = sitk.GetImageFromArray(hu)
    made.CopyInformation(image)
    return made


@pytest.fixture(scope="module")
def volume() -> sitk.Image:
    return _volume()


@pytest.fixture(scope="module")
def pairs(volume: sitk.Image) -> dict[str, FollowUp]:
    """Every motion, sliding, with the HU left as they are."""
    return {
        name: make_follow_up(volume, name, SEED, sliding=True, appearance=False) for name in MOTIONS
    }


@pytest.fixture(params=MOTIONS)
def pair(request: pytest.FixtureRequest, pairs: dict[str, FollowUp]) -> FollowUp:
    return pairs[request.param]


@pytest.fixture(scope="module")
def changed(volume: sitk.Image) -> FollowUp:
    return make_follow_up(volume, "large", SEED)


def _hu(image: sitk.Image, points: Points) -> np.ndarray:
    x, y, z = physical_to_index(image, points).T
    hu = sitk.GetArrayViewFromImage(image).astype(np.float64)
    return np.asarray(ndimage.map_coordinates(hu, [z, y, x], order=1))


def test_there_and_back(pair: FollowUp) -> None:
    fixed, moving = truth_points(pair, 2000, 0)
    assert_allclose(pair.to_moving(fixed), moving, rtol=0, atol=1e-6)  # mm, as iterated
    assert_allclose(pair.to_fixed(moving), fixed, rtol=0, atol=1e-6)
    assert inside(pair.fixed, fixed).all()
    assert inside(pair.moving, moving).all()
    assert pair.to_moving(np.zeros((0, 3))).shape == (0, 3)


def test_both_images_show_the_same_at_corresponding_points(pair: FollowUp) -> None:
    fixed, moving = truth_points(pair, 4000, 1)
    skin_mm = sitk.GetArrayFromImage(pair.motion.skin)
    x, y, z = np.round(physical_to_index(pair.motion.skin, fixed)).astype(int).T
    last = np.array(skin_mm.shape) - 1
    deep = skin_mm[z.clip(0, last[0]), y.clip(0, last[1]), x.clip(0, last[2])] > 12
    _, _, k = physical_to_index(pair.fixed, fixed).T
    deep &= (k > 2) & (k < pair.fixed.GetSize()[2] - 3)  # a thick slice must not look beyond
    off = np.abs(_hu(pair.fixed, fixed[deep]) - _hu(pair.moving, moving[deep]))
    still = np.abs(_hu(pair.fixed, fixed[deep]) - _hu(pair.moving, fixed[deep]))
    assert deep.sum() > 500
    # HU; linear interpolation of waves of 50 HU, slices of up to 8 mm
    assert np.median(off) < 2.5
    assert np.percentile(off, 95) < 8
    assert np.median(off) < 0.2 * np.median(still)


def test_nothing_folds(pair: FollowUp) -> None:
    assert folding(pair.to_moving, pair.fixed, pair.fixed_body).folded_share == 0
    assert steepness(pair.motion.bend, pair.motion.skin) < MAX_STEEPNESS + 1e-6


def test_motion_beyond_the_limit_is_tamed(changed: FollowUp) -> None:
    skin, soft = skin_and_soft(changed.fixed, changed.fixed_body)
    wild = replace(MOTIONS["large"], smooth_mm=(60.0, 60.0))
    motion, _ = draw_motion(skin, soft, wild, True, np.random.default_rng(0))
    assert steepness(motion.bend, skin) == pytest.approx(MAX_STEEPNESS, rel=1e-5)


def test_motion_is_as_large_as_its_name(pairs: dict[str, FollowUp]) -> None:
    for name, median_mm, most_mm in (("small", (3, 6), 15), ("large", (7, 14), 45)):
        drawn = pairs[name].description
        assert median_mm[0] < drawn["displacement_mm"]["median"] < median_mm[1]
        assert 1.2 * drawn["displacement_mm"]["median"] < drawn["displacement_mm"]["max"] < most_mm
        assert 0 < np.linalg.norm(drawn["rotation_deg"]) <= MOTIONS[name].rotation_deg
        assert 0 < np.linalg.norm(drawn["shift_mm"]) <= MOTIONS[name].shift_mm


def test_the_depth_inside_the_sliding_surface_is_that_before_the_motion(changed: FollowUp) -> None:
    motion = changed.motion
    nodes = voxel_centres(motion.skin)
    depth_mm = sitk.GetArrayFromImage(motion.skin).ravel() - motion.depth_mm
    inner = depth_mm > -motion.depth_mm + 5
    found = motion.inside_mm(motion.deform(nodes[inner]))
    assert_allclose(found, depth_mm[inner], atol=1e-3)


def test_inner_organs_slide_along_the_wall(changed: FollowUp) -> None:
    slides = replace(changed.motion, bend=np.zeros_like(changed.motion.bend))
    depth_mm = sitk.GetArrayFromImage(slides.skin).ravel() - slides.depth_mm
    nodes = voxel_centres(slides.skin)
    moved = slides.deform(nodes) - nodes
    inner, wall = depth_mm > 3.1, depth_mm < -3.1
    assert abs(slides.slide_mm) > 2  # large motion slides unless told not to
    assert min(inner.sum(), wall.sum()) > 1000
    assert_allclose(moved[inner], np.broadcast_to(slides.slide_mm * UP, moved[inner].shape))
    assert_allclose(moved[wall], 0, atol=1e-9)  # mm


def test_one_seed_gives_one_pair(volume: sitk.Image, changed: FollowUp) -> None:
    again = make_follow_up(volume, "large", SEED)
    assert_array_equal(*(sitk.GetArrayFromImage(one.moving) for one in (changed, again)))
    assert changed.description == again.description
    other = make_follow_up(volume, "large", SEED + 1)
    assert changed.description["shift_mm"] != other.description["shift_mm"]


def test_the_second_examination_looks_different(
    changed: FollowUp, pairs: dict[str, FollowUp]
) -> None:
    plain = pairs["large"]
    fixed, moving = truth_points(changed, 2000, 0)
    # the motion does not depend on it
    assert_allclose(plain.to_moving(fixed), moving, rtol=0, atol=1e-6)  # mm, as iterated
    brighter = np.median(_hu(changed.moving, moving) - _hu(plain.moving, moving))
    assert 3 < brighter < 120  # HU of contrast agent
    assert changed.description["patient"]["gas"]
    spacing = changed.moving.GetSpacing()
    assert 0.7 <= spacing[0] <= 1.0
    assert spacing != changed.fixed.GetSpacing()
    assert changed.moving.GetDirection() != changed.fixed.GetDirection()


def test_fluid_gathers_at_the_back(changed: FollowUp) -> None:
    for seed in range(SEED, SEED + 5):
        hu = np.full(sitk.GetArrayFromImage(changed.fixed).shape, 80, dtype=np.float32)
        place = index_to_physical(changed.fixed, [np.array(changed.fixed.GetSize()) / 2])[0]
        add_pocket(hu, changed.fixed, place, 25.0, BACK, np.random.default_rng(seed))
        z, y, x = np.nonzero(hu < -400)
        gas = index_to_physical(changed.fixed, np.column_stack([x, y, z]))
        assert 20 < len(gas) < 2000
        assert np.linalg.norm(gas - place, axis=1).max() < 27
        assert np.mean(gas @ BACK) <= place @ BACK + 1  # mm


def test_the_command_line_writes_what_it_made(volume: sitk.Image, tmp_path: Path) -> None:
    source = tmp_path / "some one.nii.gz"
    write_volume(volume, source)
    arguments = [str(source), "--motion", "small", "--seed", "6", "-o", str(tmp_path / "out")]
    main([*arguments, "--points", "300"])
    folder = tmp_path / "out" / "some one-small-6"
    told = json.loads((folder / "followup.json").read_text())
    assert (told["source"], told["seed"], told["motion"]) == ("some one.nii.gz", 6, "small")
    assert told["slide_mm"] == 0
    pair = make_follow_up(read_volume(source), "small", 6)
    points = read_pairs(folder / "points_fixed.txt", folder / "points_moving.txt")
    assert len(points) == 300
    assert_allclose(
        pair.to_moving(points.fixed), points.moving, rtol=0, atol=5e-6
    )  # mm, as written
    written = read_volume(folder / "moving.nii.gz")
    assert_array_equal(*map(sitk.GetArrayFromImage, (written, pair.moving)))
    assert_allclose(written.GetDirection(), pair.moving.GetDirection(), atol=1e-6)
    with pytest.raises(SystemExit, match="some one-small-6 exists already; remove it or name"):
        main([*arguments, "--points", "300"])


def test_bad_input_is_named(volume: sitk.Image, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="motion: expected one of small, large, found huge"):
        make_follow_up(volume, "huge", 0)
    with pytest.raises(ValueError, match="seed: expected 0 or more, found -1"):
        make_follow_up(volume, "small", -1)
    air = sitk.AdditiveGaussianNoise(sitk.Cast(volume * 0, sitk.sitkFloat32) - 1000, 5.0, seed=1)
    with pytest.raises(BadVolume, match="expected a body in the volume, found air only; give a CT"):
        make_follow_up(air, "small", 0)
    with pytest.raises(SystemExit, match=r"error: .*none\.nii: no such file"):
        main([str(tmp_path / "none.nii"), "-o", str(tmp_path / "out")])
