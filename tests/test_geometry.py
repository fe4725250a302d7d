"""Voxel indices and physical points, on an oblique grid."""

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from landmark_dir.geometry import (
    as_points,
    centre,
    corners,
    index_to_physical,
    inside,
    physical_to_index,
    same_grid,
    shape_zyx,
    voxel_centres,
)

ROUNDING_MM = 1e-9


def test_index_to_physical_agrees_with_itk(oblique_ct: sitk.Image) -> None:
    index = np.array([[0.0, 0.0, 0.0], [23.0, 0.5, 11.0], [-3.25, 40.0, 1e3]])
    want = [oblique_ct.TransformContinuousIndexToPhysicalPoint(i) for i in index.tolist()]
    assert_allclose(index_to_physical(oblique_ct, index), want, atol=ROUNDING_MM)


def test_index_and_physical_round_trip(oblique_ct: sitk.Image) -> None:
    index = np.random.default_rng(1).uniform(-50, 50, (100, 3))
    points = index_to_physical(oblique_ct, index)
    assert_allclose(physical_to_index(oblique_ct, points), index, atol=ROUNDING_MM)


def test_no_points_stay_no_points(oblique_ct: sitk.Image) -> None:
    for empty in ([], np.zeros((0, 3))):
        assert index_to_physical(oblique_ct, empty).shape == (0, 3)
        assert physical_to_index(oblique_ct, empty).shape == (0, 3)
        assert inside(oblique_ct, empty).shape == (0,)


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [[1.0, 2.0]], np.zeros((2, 3, 1))])
def test_as_points_refuses_other_shapes(values: object) -> None:
    with pytest.raises(ValueError, match=r"expected points of shape \(N, 3\), found"):
        as_points(values)


def test_inside_ends_half_a_voxel_beyond_the_last_centre(oblique_ct: sitk.Image) -> None:
    nx, ny, nz = oblique_ct.GetSize()
    last = np.array([nx, ny, nz]) - 1.0
    index = [last, last + 0.49, last + [0.51, 0, 0], [-0.49] * 3, [0, 0, -0.51]]
    found = inside(oblique_ct, index_to_physical(oblique_ct, index))
    assert_array_equal(found, [True, True, False, True, False])


def test_voxel_centres_run_like_the_array(oblique_ct: sitk.Image) -> None:
    values = sitk.GetArrayFromImage(oblique_ct)
    points = voxel_centres(oblique_ct)
    rows = [0, 1, 24, 24 * 20, 5759]
    found = [oblique_ct[oblique_ct.TransformPhysicalPointToIndex(points[i])] for i in rows]
    assert_array_equal(found, values.ravel()[rows])
    assert len(voxel_centres(oblique_ct, stride=5)) == 5 * 4 * 3


def test_corners_and_centre(oblique_ct: sitk.Image) -> None:
    found = corners(oblique_ct)
    assert found.shape == (8, 3)
    assert_allclose(found.mean(axis=0), centre(oblique_ct)[0], atol=ROUNDING_MM)
    assert_allclose(found[0], oblique_ct.GetOrigin(), atol=ROUNDING_MM)
    far = oblique_ct.TransformIndexToPhysicalPoint((23, 19, 11))
    assert_allclose(found[-1], far, atol=ROUNDING_MM)


def test_shape_zyx_is_the_array_shape(oblique_ct: sitk.Image) -> None:
    assert shape_zyx(oblique_ct) == sitk.GetArrayViewFromImage(oblique_ct).shape


def test_same_grid_sees_a_shift_a_turn_and_another_size(oblique_ct: sitk.Image) -> None:
    assert same_grid(oblique_ct, sitk.Image(oblique_ct))
    shifted = sitk.Image(oblique_ct)
    shifted.SetOrigin([value + 0.01 for value in oblique_ct.GetOrigin()])
    assert not same_grid(oblique_ct, shifted)
    assert same_grid(oblique_ct, shifted, tolerance_mm=0.02)
    turned = sitk.Image(oblique_ct)
    turned.SetDirection(np.eye(3).ravel().tolist())
    assert not same_grid(oblique_ct, turned)
    assert not same_grid(oblique_ct, oblique_ct[:, :, 1:])
