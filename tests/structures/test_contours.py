"""Contours to masks, against areas and volumes known without them."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_structures import circle, inside, on_slice

from landmark_dir.errors import BadStructures
from landmark_dir.geometry import voxel_centres
from landmark_dir.structures.contours import fill, mask_of


def test_a_pixel_is_inside_if_its_centre_is() -> None:
    square = np.array([[0.6, 1.4], [3.4, 1.4], [3.4, 2.6], [0.6, 2.6]])
    want = np.zeros((5, 6), bool)
    want[2, 1:4] = True
    for polygon in (square, square[::-1], np.roll(square, 2, axis=0)):
        assert np.array_equal(fill([polygon], (5, 6)), want)


def test_areas_that_share_a_line_share_no_pixel() -> None:
    one = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 4.0], [0.0, 4.0]])
    both = [fill([one + (shift, 0)], (5, 5)) for shift in (0, 2)]
    assert not (both[0] & both[1]).any()
    assert (both[0] | both[1]).sum() == 16


def test_a_hole_by_contour_and_by_keyhole_are_the_same() -> None:
    outer = np.array([[0.5, 0.5], [8.5, 0.5], [8.5, 8.5], [0.5, 8.5]])
    inner = np.array([[3.5, 3.5], [5.5, 3.5], [5.5, 5.5], [3.5, 5.5]])
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    nested = fill([outer, inner], (10, 10))
    assert nested.sum() == 64 - 4
    assert np.array_equal(fill([keyhole], (10, 10)), nested)


def test_polygons_beyond_the_pixels_are_cut() -> None:
    huge = np.array([[-50.0, -50.0], [50.0, -50.0], [50.0, 50.0], [-50.0, 50.0]])
    assert fill([huge], (4, 3)).all()
    assert not fill([huge + 200], (4, 3)).any()
    assert not fill([huge - 200], (4, 3)).any()


def test_a_cylinder_on_an_oblique_grid(oblique_ct: sitk.Image) -> None:
    disk = circle(9.1, (18.0, 20.0))
    contours = [on_slice(oblique_ct, disk, k) for k in range(3, 9)]
    found = inside(mask_of(contours, oblique_ct, "disk"), oblique_ct)
    index = np.moveaxis(np.indices(found.shape), 0, -1)[..., ::-1] * oblique_ct.GetSpacing()
    want = np.hypot(index[..., 0] - 18, index[..., 1] - 20) < 9.1
    want[[0, 1, 2, 9, 10, 11]] = False
    assert np.array_equal(found, want)


@pytest.mark.parametrize("shift", [0.5, 0.3, -0.4])
def test_planes_between_the_slices_keep_the_volume(oblique_ct: sitk.Image, shift: float) -> None:
    disk = circle(9.1, (18.0, 20.0))
    contours = [on_slice(oblique_ct, disk, k + shift) for k in range(3, 9)]
    found = inside(mask_of(contours, oblique_ct, "disk"), oblique_ct)
    assert found.any(axis=(1, 2)).sum() == 6  # slices


@pytest.mark.parametrize("planes", [1.0, 2.0, 3.0, 5.0])
def test_a_sphere_on_planes_of_another_distance(planes: float) -> None:
    grid = sitk.Image(61, 61, 61, sitk.sitkUInt8)
    grid.SetOrigin((-30.0, -30.0, -30.0))
    contours = [
        np.column_stack([circle(np.sqrt(400 - z * z)), np.full(200, z)])
        for z in np.arange(-19.5, 20, planes)
    ]
    found = inside(mask_of(contours, grid, "sphere"), grid)
    assert found.sum() == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.015 * planes)  # mm3


def test_contours_across_the_slices() -> None:
    """Drawn on sagittal planes, and on planes oblique to the grid."""
    grid = sitk.Image(61, 61, 41, sitk.sitkUInt8)
    grid.SetSpacing((1.0, 1.0, 1.5))
    grid.SetOrigin((-30.0, -30.0, -30.0))
    flat = [
        np.column_stack([circle(np.sqrt(400 - z * z)), np.full(200, z)])
        for z in np.arange(-19.0, 20)
    ]
    sagittal = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], float)
    for turn in (sagittal, np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2 + 1)[0]):
        contours = [points @ turn.T for points in flat]
        found = inside(mask_of(contours, grid, "sphere"), grid)
        distance = np.linalg.norm(voxel_centres(grid), axis=1).reshape(found.shape)
        assert found.sum() * 1.5 == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.01)  # mm3
        assert (np.abs(distance[found != (distance <= 20)] - 20) < 0.8).all()
        # mm: the flat ends are 0.5 off, the finer voxels 0.25


def test_two_parts_are_not_bridged(
    oblique_ct: sitk.Image, caplog: pytest.LogCaptureFixture
) -> None:
    disk = circle(9.1, (18.0, 20.0))
    contours = [on_slice(oblique_ct, disk, k) for k in (1, 2, 3, 7, 8)]
    found = inside(mask_of(contours, oblique_ct, "disk"), oblique_ct)
    assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == [1, 2, 3, 7, 8]
    assert "disk: 1 times no contour for up to 16 mm" in caplog.text


@pytest.mark.parametrize(
    ("drawn", "filled"),
    [
        ((1, 3, 5), (1, 2, 3, 4, 5)),  # on every other slice
        ((1, 2, 5), (1, 2, 5)),  # on slices that follow each other, and further away
        ((1, 9), (1, 9)),  # 32 mm apart
    ],
)
def test_what_is_between_planes(
    drawn: tuple[int, ...], filled: tuple[int, ...], oblique_ct: sitk.Image
) -> None:
    contours = [on_slice(oblique_ct, circle(9.1, (18.0, 20.0)), k) for k in drawn]
    found = inside(mask_of(contours, oblique_ct, "disk"), oblique_ct)
    assert set(filled) <= set(np.flatnonzero(found.any(axis=(1, 2))).tolist())
    between = set(range(min(drawn), max(drawn) + 1)) - set(filled)
    assert not found[sorted(between)].any()


def test_a_copy_of_a_contour_is_no_hole(oblique_ct: sitk.Image) -> None:
    one = on_slice(oblique_ct, circle(9.1, (18.0, 20.0)), 4)
    once = inside(mask_of([one], oblique_ct, "disk"), oblique_ct)
    twice = inside(mask_of([one, one.copy()], oblique_ct, "disk"), oblique_ct)
    assert once.any()
    assert np.array_equal(once, twice)


def test_a_single_plane_is_as_thick_as_a_slice_or_as_it_says(oblique_ct: sitk.Image) -> None:
    one = [on_slice(oblique_ct, circle(9.1, (18.0, 20.0)), 4.0)]
    for slab_mm, slices in ((None, 1), (1.0, 1), (12.0, 3)):
        found = inside(mask_of(one, oblique_ct, "disk", slab_mm), oblique_ct)
        assert found.any(axis=(1, 2)).sum() == slices


def test_outside_the_grid_is_left_out(oblique_ct: sitk.Image) -> None:
    contours = [on_slice(oblique_ct, circle(9.0, (0.0, 0.0)), k) for k in (-3, -2, -1, 0, 1)]
    found = inside(mask_of(contours, oblique_ct, "disk"), oblique_ct)
    assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == [0, 1]
    away = [on_slice(oblique_ct, circle(9.0, (900.0, 0.0)), 2)]
    assert not inside(mask_of(away, oblique_ct, "disk"), oblique_ct).any()


def test_contours_that_are_not_planar_are_refused(oblique_ct: sitk.Image) -> None:
    bent = on_slice(oblique_ct, circle(9.1, (18.0, 20.0)), 4)
    bent[::2] += 3
    with pytest.raises(BadStructures, match="blob: expected planar contours in parallel planes"):
        mask_of([bent], oblique_ct, "blob")
    flat = [on_slice(oblique_ct, circle(9.1, (18.0, 20.0)), 4), np.eye(3) * 30]
    with pytest.raises(BadStructures, match="in one orientation"):
        mask_of(flat, oblique_ct, "blob")
