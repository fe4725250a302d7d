"""The phantom is only worth something if its truth is the truth."""

import time
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from landmark_dir.geometry import Points, corners, inside, physical_to_index, voxel_centres
from landmark_dir.phantom.scanner import LABELS, Phantom, PhantomOptions, make_phantom, rotation

SMALL = PhantomOptions(size_xyz=(80, 64, 32), spacing_mm=(4.0, 4.0, 8.0))
TINY = PhantomOptions(size_xyz=(40, 32, 20), spacing_mm=(8.0, 8.0, 12.0))
FLIPPED = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def pair() -> Phantom:
    return make_phantom(replace(SMALL, contrast=False, gas=False))


def sample(image: sitk.Image, points: Points, order: int = 1) -> np.ndarray:
    """Read an image at physical points, linearly or (order 0) at the nearest voxel."""
    index_zyx = physical_to_index(image, points)[:, ::-1].T
    array = sitk.GetArrayFromImage(image).astype(float)
    return ndimage.map_coordinates(array, index_zyx, order=order, mode="nearest")


def bounds(image: sitk.Image) -> tuple[Points, Points]:
    return corners(image).min(axis=0), corners(image).max(axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_transform_and_its_inverse_agree(seed: int) -> None:
    tiny = make_phantom(replace(TINY, seed=seed))
    points = np.random.default_rng(1).uniform(*bounds(tiny.fixed), (300, 3))
    assert_allclose(tiny.to_fixed(tiny.to_moving(points)), points, atol=1e-6)  # mm
    assert_allclose(tiny.to_moving(tiny.to_fixed(points)), points, atol=1e-6)  # mm
    assert tiny.to_moving([]).shape == (0, 3)


@pytest.mark.parametrize("seed", range(3))
def test_transform_does_not_fold_even_at_its_largest(seed: int) -> None:
    options = PhantomOptions(size_xyz=(4, 4, 4), seed=seed, displacement_mm=15.0)
    tiny = make_phantom(options)
    reach = np.array((180, 150, 160))  # mm, beyond the default field of view
    points = np.random.default_rng(2).uniform(-reach, reach, (2000, 3)) + options.centre_mm
    step = 0.01  # mm
    columns = [
        (tiny.to_moving(points + step * axis) - tiny.to_moving(points - step * axis)) / (2 * step)
        for axis in np.eye(3)
    ]
    assert np.linalg.det(np.stack(columns, axis=-1)).min() > 0.1


def test_displacement_has_the_wanted_size(pair: Phantom) -> None:
    fixed, moving = pair.truth_points(1000, np.random.default_rng(3))
    length = np.linalg.norm(moving - fixed, axis=1)
    assert 8 < length.mean() < 12  # mm; scaled on a box, so the body's own mean is a little off
    assert 14 < length.max() < 27


def test_null_pair_has_the_identity_as_truth() -> None:
    null = make_phantom(replace(TINY, displacement_mm=0.0))
    fixed, moving = null.truth_points(50, np.random.default_rng(0))
    assert_allclose(moving, fixed, atol=1e-9)  # mm
    moved = make_phantom(TINY)
    assert_array_equal(*map(sitk.GetArrayViewFromImage, (null.fixed, moved.fixed)))


@pytest.mark.parametrize("direction", [IDENTITY, SMALL.direction, FLIPPED, SAGITTAL])
def test_images_agree_with_the_truth(direction: tuple[float, ...]) -> None:
    size = (64, 64, 64) if direction == SAGITTAL else SMALL.size_xyz
    options = replace(SMALL, size_xyz=size, direction=direction, contrast=False, gas=False)
    pair = make_phantom(replace(options, noise_hu=0.0))
    fixed, moving = pair.truth_points(6000, np.random.default_rng(4))
    here = np.clip(sample(pair.fixed, fixed), -200, 500)
    there = np.clip(sample(pair.moving, moving), -200, 500)
    unmoved = np.clip(sample(pair.moving, fixed), -200, 500)
    agreement = np.corrcoef(here, there)[0, 1]
    assert agreement > 0.85  # 8 mm slices on two grids: edges are blurred differently
    assert np.corrcoef(here, unmoved)[0, 1] < agreement - 0.2
    for axis in np.eye(3):  # and nowhere beside the truth is it better
        for step in (-2.0, 2.0):  # mm, half a voxel
            beside = np.clip(sample(pair.moving, moving + step * axis), -200, 500)
            assert np.corrcoef(here, beside)[0, 1] < agreement


def test_soft_tissue_texture_moves_with_the_tissue() -> None:
    default = make_phantom(
        PhantomOptions(size_xyz=(64, 64, 10), spacing_mm=(2.0, 2.0, 2.0), contrast=False)
    )
    fixed, moving = default.truth_points(20000, np.random.default_rng(5))
    muscle = sample(default.fixed_labels, fixed, order=0) == LABELS["muscle"]
    deep = muscle & (np.abs(sample(default.fixed, fixed) - 52) < 45)  # away from fat
    here = sample(default.fixed, fixed)[deep]
    there, unmoved = (
        np.clip(sample(default.moving, points), 0, 110)[deep] for points in (moving, fixed)
    )
    agreement = np.corrcoef(here, there)[0, 1]
    assert agreement > 0.55  # the rest is scanner noise
    assert np.corrcoef(here, unmoved)[0, 1] < agreement - 0.2


def test_labels_follow_the_truth(pair: Phantom) -> None:
    fixed, moving = pair.truth_points(6000, np.random.default_rng(6))
    here, there = (
        sample(labels, points, order=0)
        for labels, points in ((pair.fixed_labels, fixed), (pair.moving_labels, moving))
    )
    for name in ("bone", "lung", "liver", "muscle"):
        value = LABELS[name]
        dice = (
            2
            * np.sum((here == value) & (there == value))
            / np.sum((here == value).astype(int) + (there == value))
        )
        assert dice > 0.6, name  # nearest neighbour on 4 x 4 x 8 mm voxels


def test_labels_name_every_organ_and_mean_what_they_say(pair: Phantom) -> None:
    labels, hu = map(sitk.GetArrayViewFromImage, (pair.fixed_labels, pair.fixed))
    assert set(np.unique(labels)) == {0, *LABELS.values()}
    medians = {name: np.median(hu[labels == value]) for name, value in LABELS.items()}
    assert medians["lung"] < -600
    assert -130 < medians["body"] < 0
    assert 40 < medians["liver"] < 75
    assert medians["bone"] > 120
    assert hu[0].min() >= -1024
    assert np.median(hu[labels == 0]) < -950


def test_table_is_no_body(pair: Phantom) -> None:
    labels, hu = map(sitk.GetArrayViewFromImage, (pair.fixed_labels, pair.fixed))
    assert np.count_nonzero((labels == 0) & (hu > -750)) > 2000  # voxels


def test_contrast_lights_up_vessels_and_kidneys() -> None:
    plain, enhanced = (make_phantom(replace(SMALL, contrast=c)) for c in (False, True))
    assert_array_equal(*(sitk.GetArrayViewFromImage(p.fixed) for p in (plain, enhanced)))
    for name, gain in (("vessel", 60), ("kidney", 50), ("liver", 30), ("bladder", -10)):
        before, after = (
            np.median(
                sitk.GetArrayViewFromImage(p.moving)[
                    sitk.GetArrayViewFromImage(p.moving_labels) == LABELS[name]
                ]
            )
            for p in (plain, enhanced)
        )
        assert after - before > gain, name


def test_bladder_is_fuller_in_the_moving_scan(pair: Phantom) -> None:
    volumes = [
        np.count_nonzero(sitk.GetArrayViewFromImage(labels) == LABELS["bladder"])
        * np.prod(labels.GetSpacing())
        for labels in (pair.fixed_labels, pair.moving_labels)
    ]
    assert volumes[1] > 1.5 * volumes[0]  # mm^3


def test_gas_moves_within_the_bowel() -> None:
    moved = make_phantom(replace(SMALL, contrast=False, displacement_mm=0.0, own_grid=False))
    bowel = sitk.GetArrayViewFromImage(moved.fixed_labels) == LABELS["bowel"]
    gas = [sitk.GetArrayViewFromImage(i) < -500 for i in (moved.fixed, moved.moving)]
    assert all(np.count_nonzero(g & bowel) > 20 for g in gas)
    assert np.count_nonzero(bowel & (gas[0] != gas[1])) > 20  # voxels


def test_noise_has_the_wanted_strength_and_is_independent() -> None:
    options = replace(SMALL, displacement_mm=0.0, own_grid=False, contrast=False, gas=False)
    pair = make_phantom(replace(options, noise_hu=20.0))
    clean = make_phantom(replace(options, noise_hu=0.0))
    body = sitk.GetArrayViewFromImage(pair.fixed_labels) > 1
    one, two, truth = (
        sitk.GetArrayViewFromImage(i)[body].astype(float)
        for i in (pair.fixed, pair.moving, clean.fixed)
    )
    assert_allclose([np.std(one - truth), np.std(two - truth)], 20, rtol=0.05)
    assert abs(np.corrcoef(one - truth, two - truth)[0, 1]) < 0.05


def test_same_seed_same_voxels_other_seed_other_patient() -> None:
    first, again, other = (make_phantom(replace(TINY, seed=s)) for s in (3, 3, 4))
    for image, twin in ((first.fixed, again.fixed), (first.moving, again.moving)):
        assert_array_equal(*map(sitk.GetArrayViewFromImage, (image, twin)))
    labels = [sitk.GetArrayViewFromImage(p.fixed_labels) for p in (first, other)]
    assert np.mean(labels[0] != labels[1]) > 0.05


def test_grids_are_as_asked() -> None:
    options = replace(TINY, direction=FLIPPED, centre_mm=(5.0, 6.0, 700.0))
    pair = make_phantom(options)
    assert pair.fixed.GetSize() == options.size_xyz
    assert pair.fixed.GetSpacing() == options.spacing_mm
    assert pair.fixed.GetDirection() == FLIPPED
    assert_allclose(corners(pair.fixed).mean(axis=0), options.centre_mm, atol=1e-9)  # mm
    assert pair.fixed.GetPixelID() == sitk.sitkInt16
    for image, labels in ((pair.fixed, pair.fixed_labels), (pair.moving, pair.moving_labels)):
        assert labels.GetPixelID() == sitk.sitkUInt8
        assert_array_equal(corners(image), corners(labels))
    assert pair.moving.GetDepth() != pair.fixed.GetDepth()
    assert pair.moving.GetDirection() != pair.fixed.GetDirection()
    shared = make_phantom(replace(options, own_grid=False))
    assert_array_equal(corners(shared.moving), corners(shared.fixed))


def test_anatomy_stays_in_the_world_when_the_grid_turns() -> None:
    straight, turned = (
        make_phantom(replace(SMALL, direction=d, noise_hu=0.0)) for d in (IDENTITY, FLIPPED)
    )
    points = voxel_centres(straight.fixed, stride=3)
    assert_allclose(sample(turned.fixed, points), sample(straight.fixed, points), atol=1)  # HU


def test_truth_points_lie_evenly_in_the_body_of_both(pair: Phantom) -> None:
    fixed, moving = pair.truth_points(800, np.random.default_rng(7))
    assert fixed.shape == moving.shape == (800, 3)
    assert inside(pair.moving, moving).all()
    assert np.all(sample(pair.fixed_labels, fixed, order=0) > 0)
    halves = fixed > np.asarray(pair.options.centre_mm)
    assert np.all(np.abs(halves.mean(axis=0) - 0.5) < 0.1)  # share on each side of the middle
    assert pair.truth_points(0, np.random.default_rng(0))[0].shape == (0, 3)


def test_truth_points_say_so_when_the_scans_share_nothing() -> None:
    sliver = make_phantom(PhantomOptions(size_xyz=(4, 4, 4), spacing_mm=(0.1, 0.1, 0.1)))
    with pytest.raises(ValueError, match="expected 5 points seen in both scans"):
        sliver.truth_points(5, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_xyz": (10, 10, 1)}, "at least 4 voxels"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm must be positive"),
        ({"direction": (1.0,) * 9}, "orthonormal"),
        ({"direction": (1.0, 0.0)}, "orthonormal"),
        ({"displacement_mm": 40.0}, r"0\.\.15, found 40"),
        ({"noise_hu": -1.0}, "noise_hu"),
    ],
)
def test_bad_options_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_rotation_turns_about_the_named_axis() -> None:
    assert_allclose(rotation((0, 0, 90)) @ (1, 0, 0), (0, 1, 0), atol=1e-12)


def test_small_pair_is_made_in_seconds() -> None:
    start = time.process_time()
    make_phantom(SMALL)
    assert time.process_time() - start < 5  # s; 0.8 on an idle core
