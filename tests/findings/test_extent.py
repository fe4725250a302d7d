"""Volumes and diameters of findings, in a geometry that proves something."""

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose

from landmark_dir.findings.extent import (
    determinants,
    in_fixed_mm3,
    in_moving_mm3,
    longest_mm,
    volume_mm3,
)
from landmark_dir.geometry import index_to_physical, shape_zyx, voxel_centres
from landmark_dir.transforms.chain import Chain, Linear

RADIUS = 12.0


@pytest.fixture
def grid(oblique_ct: sitk.Image) -> sitk.Image:
    """Voxels of 1 x 1 x 2 mm, oblique and off-origin."""
    grid = sitk.Image(60, 56, 30, sitk.sitkUInt8)
    grid.SetSpacing((1.0, 1.0, 2.0))
    grid.SetDirection(oblique_ct.GetDirection())
    grid.SetOrigin(oblique_ct.GetOrigin())
    return grid


@pytest.fixture
def ball(grid: sitk.Image) -> sitk.Image:
    """A ball of radius 12 mm."""
    middle = index_to_physical(grid, [(30.0, 27.5, 15.0)])
    near = np.linalg.norm(voxel_centres(grid) - middle, axis=1) < RADIUS
    mask = sitk.GetImageFromArray(near.reshape(shape_zyx(grid)).astype(np.uint8))
    mask.CopyInformation(grid)
    return mask


@pytest.fixture
def stretch(grid: sitk.Image) -> Chain:
    """Turns, shears and makes 1.3 times as large."""
    matrix = np.array([[1.2, 0.1, 0.0], [-0.2, 1.0, 0.1], [0.0, -0.1, 1.0]])
    matrix *= np.cbrt(1.3 / np.linalg.det(matrix))
    return Chain((Linear(matrix, np.array(grid.GetOrigin()), np.array([5.0, -8.0, 3.0])),))


def test_a_balls_volume_and_diameter(ball: sitk.Image) -> None:
    assert_allclose(volume_mm3(ball), 4 / 3 * np.pi * RADIUS**3, rtol=0.02)
    assert 2 * RADIUS - 1 < longest_mm(ball) < 2 * RADIUS + 1.5  # corners of pixels


def test_one_voxel_is_as_long_as_its_diagonal(grid: sitk.Image) -> None:
    mask = sitk.Image(grid)
    mask[4, 5, 6] = 1
    assert_allclose(longest_mm(mask), np.sqrt(2))
    assert volume_mm3(mask) == 2.0


def test_volumes_are_carried_both_ways(ball: sitk.Image, stretch: Chain) -> None:
    own = volume_mm3(ball)
    assert_allclose(in_moving_mm3(stretch, ball), 1.3 * own, rtol=1e-6)
    assert_allclose(in_fixed_mm3(stretch, ball), own / 1.3, rtol=0.01)
    assert_allclose(determinants(stretch, voxel_centres(ball, 20)), 1.3, rtol=1e-6)
