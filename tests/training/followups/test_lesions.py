"""Lesions of simulated follow-ups: as large, as far and as many as their truth says."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from landmark_dir.geometry import index_to_physical, inside, physical_to_index, voxel_centres
from landmark_dir.io.volumes import read_labels, read_volume, write_volume
from landmark_dir.phantom.scanner import PhantomOptions, make_phantom
from training.followups.lesions import (
    KINDS,
    LUNG,
    SIDES,
    Side,
    coverage,
    draw_shape,
    inside_any,
)
from training.followups.pair import FollowUp, main, make_follow_up, truth_points

SEED = 14


@pytest.fixture(scope="module")
def volume() -> sitk.Image:
    """A made patient with lungs, oblique, anisotropic and off-origin."""
    return make_phantom(PhantomOptions(size_xyz=(112, 90, 64), spacing_mm=(3.0, 3.0, 4.0))).fixed


@pytest.fixture(scope="module")
def part(volume: sitk.Image) -> sitk.Image:
    """Some slices of it."""
    return volume[:, :, 20:42]


@pytest.fixture(scope="module")
def plain(volume: sitk.Image) -> FollowUp:
    return make_follow_up(volume, "small", SEED)


@pytest.fixture(scope="module")
def ill(volume: sitk.Image) -> FollowUp:
    return make_follow_up(volume, "small", SEED, lesions=10)


def _voxels(image: sitk.Image) -> np.ndarray:
    return np.asarray(sitk.GetArrayFromImage(image))


def test_a_shape_is_one_cubic_millimetre_around_its_centroid() -> None:
    rng = np.random.default_rng(3)
    for _ in range(3):
        shape = draw_shape(rng)
        points = rng.uniform(-2, 2, (400_000, 3))
        within = points[shape.outside(points) < 0]
        assert len(within) * 64 / len(points) == pytest.approx(1, abs=0.03)  # of chance
        assert_allclose(within.mean(axis=0), 0, atol=0.02)  # mm, of 0.6 mm radius
        far = np.linalg.norm(shape.surface, axis=1)
        assert 1.2 < far.max() / far.min() < 4  # neither ball nor spike


def test_every_kind_and_change_comes(ill: FollowUp) -> None:
    assert {lesion.kind for lesion in ill.lesions} == set(KINDS)
    changes = [lesion.change for lesion in ill.lesions]
    assert sorted(set(changes)) == ["grown", "new", "shrunk", "stable", "vanished"]
    assert [lesion.number for lesion in ill.lesions] == list(range(1, 11))
    for lesion in ill.lesions:
        if lesion.change in ("stable", "grown", "shrunk"):
            factor = lesion.volume_moving / lesion.volume_fixed
            assert any(factor == pytest.approx(f) for f in (1.0, 1.3, 2.0, 0.7, 0.3))
        longer = max(lesion.longest_mm(side) for side in SIDES)
        assert 5 <= longer < 50
        assert longer >= np.cbrt(6 / np.pi * max(lesion.volume_fixed, lesion.volume_moving))
    assert not ill.lesions[changes.index("vanished")].volume_moving
    assert not ill.lesions[changes.index("new")].volume_fixed


def test_centres_correspond(ill: FollowUp) -> None:
    fixed, moving = (np.array([one.centre(side) for one in ill.lesions]) for side in SIDES)
    assert_allclose(ill.to_moving(fixed), moving, rtol=0, atol=1e-6)  # mm, as iterated
    for lesion in ill.lesions:
        assert_allclose(lesion.turn @ lesion.turn.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(lesion.turn) > 0
        # turned as the tissue is
        step = lesion.centre_fixed + 2 * np.eye(3)
        moved = (ill.to_moving(step) - lesion.centre_moving) / 2
        assert np.abs(lesion.turn.T - moved).max() < 0.5


@pytest.mark.parametrize("side", SIDES)
def test_voxels_hold_the_volume_and_the_place(ill: FollowUp, side: Side) -> None:
    grid = getattr(ill, side)
    labels = _voxels(ill.lesion_labels(side))
    voxel = float(np.prod(grid.GetSpacing()))
    for lesion in ill.lesions:
        assert (labels == lesion.number).any() == (lesion.volume(side) > 0)
        if not lesion.volume(side):
            continue
        box, share = coverage(grid, lesion, side, edge_mm=0.0)
        assert share.sum() * voxel == pytest.approx(lesion.volume(side), rel=0.06)  # parts of 1 mm
        z, y, x = np.indices(share.shape).reshape(3, -1)
        index = np.column_stack([x, y, z]) + [one.start for one in box[::-1]]
        weights = share.ravel() / share.sum()
        centroid = weights @ index_to_physical(grid, index)
        assert_allclose(centroid, lesion.centre(side), atol=0.3)  # mm
        assert_array_equal(labels[box][share > 0.5], lesion.number)


def test_a_lesion_is_seen_where_its_truth_says(ill: FollowUp, plain: FollowUp) -> None:
    for side in SIDES:
        changed = _voxels(getattr(ill, side)) - _voxels(getattr(plain, side))
        points = voxel_centres(getattr(ill, side))
        touched = inside_any(points, ill.lesions, side).reshape(changed.shape)
        near = ndimage.binary_dilation(touched, np.ones((3, 3, 3)), iterations=3)
        assert np.abs(changed[touched]).mean() > 20  # HU
        assert np.abs(changed[~near]).max() < 30  # what a sharp kernel makes of an edge
        assert (np.abs(changed[~near]) > 0).mean() < 0.01
        for lesion in (one for one in ill.lesions if one.kind == LUNG and one.volume(side) > 500):
            x, y, z = np.round(physical_to_index(getattr(ill, side), [lesion.centre(side)])[0])
            assert _voxels(getattr(ill, side))[int(z), int(y), int(x)] > -150


def test_without_lesions_nothing_changes(volume: sitk.Image, plain: FollowUp) -> None:
    none = make_follow_up(volume, "small", SEED, lesions=0, growth=2.0)
    for side in SIDES:
        assert_array_equal(_voxels(getattr(none, side)), _voxels(getattr(plain, side)))
    assert none.description == plain.description
    assert (none.lesions, plain.lesions) == ((), ())


def test_the_motion_is_that_without_lesions(ill: FollowUp, plain: FollowUp) -> None:
    fixed, moving = truth_points(plain, 500, 1)
    assert_allclose(ill.to_moving(fixed), moving, rtol=0, atol=1e-6)  # mm
    assert ill.moving.GetOrigin() == plain.moving.GetOrigin()
    fixed, moving = truth_points(ill, 500, 1)
    assert not inside_any(fixed, ill.lesions, "fixed").any()
    assert not inside_any(moving, ill.lesions, "moving").any()


def test_lesions_lie_apart_and_in_view(ill: FollowUp) -> None:
    for side in SIDES:
        centres = np.array([one.centre(side) for one in ill.lesions])
        assert inside(getattr(ill, side), centres).all()
        found, count = ndimage.label(_voxels(ill.lesion_labels(side)) > 0, np.ones((3, 3, 3)))
        assert count == sum(one.volume(side) > 0 for one in ill.lesions)
        assert len(np.unique(found)) == count + 1


def test_growth_is_that_of_all(part: sitk.Image) -> None:
    pair = make_follow_up(part, "small", SEED, lesions=3, growth=1.3)
    for lesion in pair.lesions:
        assert lesion.change == "grown"
        assert lesion.volume_moving == pytest.approx(1.3 * lesion.volume_fixed)
        longer = lesion.longest_mm("moving") / lesion.longest_mm("fixed")
        assert longer == pytest.approx(np.cbrt(1.3))


def test_one_seed_gives_one_pair(volume: sitk.Image, ill: FollowUp) -> None:
    again = make_follow_up(volume, "small", SEED, lesions=10)
    for side in SIDES:
        assert_array_equal(_voxels(getattr(again, side)), _voxels(getattr(ill, side)))
    assert [one.row() for one in again.lesions] == [one.row() for one in ill.lesions]


def test_the_command_line_writes_the_truth(part: sitk.Image, tmp_path: Path) -> None:
    source = tmp_path / "one.nii.gz"
    write_volume(part, source)
    arguments = [str(source), "--motion", "small", "--seed", str(SEED), "--points", "100"]
    main([*arguments, "--lesions", "4", "--growth", "2", "-o", str(tmp_path / "out")])
    folder = tmp_path / "out" / f"one-small-{SEED}"
    pair = make_follow_up(read_volume(source), "small", SEED, lesions=4, growth=2.0)
    with (folder / "lesions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [{k: str(v) for k, v in one.row().items()} for one in pair.lesions]
    assert {row["change"] for row in rows} == {"grown"}
    for side in SIDES:
        labels = read_labels(folder / f"lesions_{side}.nii.gz")
        assert_array_equal(_voxels(labels), _voxels(pair.lesion_labels(side)))
        assert labels.GetSize() == getattr(pair, side).GetSize()
    told = json.loads((folder / "followup.json").read_text())
    assert (told["lesions"], told["growth"]) == (4, 2.0)


def test_bad_wishes_are_named(volume: sitk.Image, thick_ct: sitk.Image) -> None:
    with pytest.raises(ValueError, match="lesions: expected 0 to 255, found 256"):
        make_follow_up(volume, "small", SEED, lesions=256)
    with pytest.raises(ValueError, match="growth: expected a factor above 0, .* found 0.0"):
        make_follow_up(volume, "small", SEED, lesions=1, growth=0.0)
    with pytest.raises(ValueError, match=r"lesions: expected room for 255, found it for \d+; ask"):
        make_follow_up(thick_ct, "small", SEED, lesions=255)
