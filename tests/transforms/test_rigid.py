"""Parts of a transform that are kept rigid."""

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose

from landmark_dir.geometry import distances_mm, index_to_physical, shape_zyx, voxel_centres
from landmark_dir.phantom.scanner import rotation
from landmark_dir.transforms.bspline import BSpline
from landmark_dir.transforms.chain import Chain, Linear
from landmark_dir.transforms.fields import jacobian
from landmark_dir.transforms.rigid import best_rigid, count_parts, keep_rigid, parts, unrigid_mm


@pytest.fixture(scope="module")
def labels() -> sitk.Image:
    """Two balls of label 1, and one of label 2 beside them: oblique, anisotropic, off-origin."""
    image = sitk.Image((90, 80, 40), sitk.sitkUInt16)
    image.SetSpacing((1.5, 1.8, 3.5))
    image.SetOrigin((-120.0, 35.0, -410.0))
    image.SetDirection(rotation((12, -8, 20)).ravel().tolist())
    values = np.zeros(shape_zyx(image), np.uint16)
    points = voxel_centres(image)
    for label, index, radius in (
        (1, (25, 40, 20), 14),
        (1, (65, 40, 20), 12),
        (2, (45, 62, 14), 9),
    ):
        centre = index_to_physical(image, [index])
        values[(distances_mm(points, centre) < radius).reshape(values.shape)] = label
    made = sitk.GetImageFromArray(values)
    made.CopyInformation(image)
    return made


@pytest.fixture(scope="module")
def bent() -> Chain:
    """An affine map that stretches, and bends of 10 mm on a grid of 14 mm."""
    rng = np.random.default_rng(1)
    coefficients = rng.normal(0, 2.0, (3, 24, 24, 24))
    spline = BSpline(coefficients, np.array([-200.0, -40, -480]), np.full(3, 14.0), np.eye(3))
    stretch = np.eye(3) * 1.04 + rng.normal(0, 0.02, (3, 3))
    centre = np.array([-80.0, 90, -350])
    return Chain((spline, Linear(stretch, centre, np.array([5.0, 3, -4]))))


def _kept(chain: Chain, labels: sitk.Image) -> Chain:
    for step in keep_rigid(chain, labels).steps:
        chain = chain.then(step)
    return chain


def test_the_best_rigid_motion_is_found() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(0, 20, (50, 3)) + [100, -50, 700]
    turn, shift = rotation((30, -20, 100)), np.array([3.0, -8, 40])
    found = best_rigid(points, points @ turn.T + shift)
    assert_allclose(found.matrix, turn, atol=1e-10)
    assert_allclose(found.map_points(points), points @ turn.T + shift, atol=1e-9)  # mm
    mirrored = best_rigid(points, points * [1, 1, -1])
    assert np.linalg.det(mirrored.matrix) == pytest.approx(1)  # no reflection


def test_each_connected_part_of_a_label_is_one(labels: sitk.Image) -> None:
    assert count_parts(labels) == 3
    voxels = [len(part.points) for part in parts(labels)]
    assert sum(voxels) == int((sitk.GetArrayViewFromImage(labels) > 0).sum())


def test_parts_move_rigidly_and_nothing_folds(bent: Chain, labels: sitk.Image) -> None:
    kept = _kept(bent, labels)
    inside = sitk.GetArrayViewFromImage(labels) > 0
    before, after = (sitk.GetArrayFromImage(jacobian(one, labels)) for one in (bent, kept))
    assert np.ptp(before[inside]) > 0.3
    for part in parts(labels):
        assert unrigid_mm(bent, part).max() > 1  # mm
        assert unrigid_mm(kept, part).max() < 0.1
        assert unrigid_mm(kept, part).mean() < 0.01
        # its own motion, not that of the next part
        middle = part.points.mean(axis=0, keepdims=True)
        assert distances_mm(kept.map_points(middle), bent.map_points(middle)) < 2
    assert abs(after[inside].mean() - 1) < 0.005
    assert after.min() > min(0.2, 0.9 * before.min())
    assert keep_rigid(bent, labels).left_mm < 0.1


def test_far_away_nothing_changes(bent: Chain, labels: sitk.Image) -> None:
    kept = _kept(bent, labels)
    far = voxel_centres(labels, stride=4)
    nearest = np.min(
        [
            np.linalg.norm(far[:, None] - part.points[None, ::20], axis=2).min(axis=1)
            for part in parts(labels)
        ],
        axis=0,
    )
    moved = distances_mm(kept.map_points(far), bent.map_points(far))
    assert (nearest > 60).sum() > 20
    assert moved[nearest > 60].max() == pytest.approx(0, abs=1e-3)  # mm
    assert moved.max() > 0.5


def test_a_rigid_motion_stays_as_it_is(labels: sitk.Image) -> None:
    rigid = Chain((Linear(rotation((5, 2, -9)), np.array([-80.0, 90, -350]), np.full(3, 4.0)),))
    points = voxel_centres(labels, stride=5)
    assert_allclose(_kept(rigid, labels).map_points(points), rigid.map_points(points), atol=2e-4)


def test_no_part_no_step(bent: Chain, labels: sitk.Image) -> None:
    assert keep_rigid(bent, labels * 0) == ((), 0.0)


def test_touching_parts_bend_least_where_they_do_not_touch(bent: Chain, labels: sitk.Image) -> None:
    values = sitk.GetArrayFromImage(labels)
    values[:, :, 45:][values[:, :, 45:] == 1] = 3
    index = np.argwhere(values == 2).mean(axis=0).astype(int)
    values[:, index[1] :, :][values[:, index[1] :, :] == 2] = 4  # one ball, cut in two
    touching = sitk.GetImageFromArray(values)
    touching.CopyInformation(labels)
    kept = _kept(bent, touching)
    assert count_parts(touching) == 4
    for part in parts(touching):
        assert np.median(unrigid_mm(kept, part)) < 0.1 < 0.3 * unrigid_mm(bent, part).max()
