"""Images through a chain: the same as transformix gives, on oblique grids."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from needs import needs
from numpy.testing import assert_array_equal

from landmark_dir.elastix.engines import find_engine
from landmark_dir.elastix.transform_files import format_translation
from landmark_dir.elastix.transformix import warp_image as transformix
from landmark_dir.geometry import corners, index_to_physical, same_grid
from landmark_dir.transforms.bspline_fit import fit_spline
from landmark_dir.transforms.chain import read_transform, write_after
from landmark_dir.transforms.warp import warp_image


@pytest.fixture
def smooth_ct(oblique_ct: sitk.Image) -> sitk.Image:
    """The oblique volume, smoothed, on a grid of its own; int16."""
    smooth = sitk.SmoothingRecursiveGaussian(sitk.Cast(oblique_ct, sitk.sitkFloat32), 3.0)
    return sitk.Cast(smooth * 4, sitk.sitkInt16)


@pytest.fixture
def bent(oblique_ct: sitk.Image, tmp_path: Path) -> Path:
    """A transform file of that grid: a shift, then two b-splines with bends of some mm."""
    file = tmp_path / "start.txt"
    file.write_text(format_translation([3.0, -2.0, 5.0], oblique_ct))
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        points = index_to_physical(oblique_ct, rng.uniform(0, oblique_ct.GetSize(), (60, 3)))
        box = corners(oblique_ct)
        spline = fit_spline(points, rng.normal(0, 2, (60, 3)), box, grid_mm=12.0)
        folder = tmp_path / str(seed)
        folder.mkdir()
        file = write_after(spline, file, folder / "bent.txt")
    return file


@pytest.mark.engine
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("name", ["itkelastix", "executable"])
def test_transformix_gives_the_same_image(
    name: str, labels: bool, smooth_ct: sitk.Image, bent: Path
) -> None:
    needs(name)
    moving = sitk.Cast(smooth_ct > 0, sitk.sitkUInt8) * 7 if labels else smooth_ct
    engine = find_engine(name, 1)
    want = sitk.GetArrayFromImage(transformix(engine, bent, moving, labels=labels))
    engine.close()
    warped = warp_image(moving, read_transform(bent), smooth_ct, labels=labels)
    found = sitk.GetArrayFromImage(warped)
    assert same_grid(warped, smooth_ct)
    assert found.dtype == want.dtype
    assert len(np.unique(found)) > (1 if labels else 100)
    if labels:
        assert (found != want).mean() < 0.002  # where the nearest voxel is a matter of rounding
    else:
        assert np.abs(found.astype(int) - want).max() <= 1  # HU, values half-way between two
        assert (found != want).mean() < 0.001


def test_type_and_range_are_kept(smooth_ct: sitk.Image, bent: Path) -> None:
    chain = read_transform(bent)
    for pixel in (sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkFloat32, sitk.sitkFloat64):
        box = sitk.Cast(smooth_ct > 0, pixel) * 100 + 50  # sharp edges make splines overshoot
        warped = warp_image(sitk.Cast(box, pixel), chain, smooth_ct)
        values = sitk.GetArrayFromImage(warped)
        assert warped.GetPixelID() == pixel
        assert (values.min(), values.max()) == (50, 150)


def test_large_labels_stay_themselves_and_there_are_none_outside(
    smooth_ct: sitk.Image, bent: Path
) -> None:
    highest = 2**31 - 1  # more than a float holds exactly
    labels = sitk.Cast(smooth_ct > 0, sitk.sitkInt32) * (highest - 7) + 7
    warped = warp_image(labels, read_transform(bent), smooth_ct, labels=True)
    assert_array_equal(np.unique(sitk.GetArrayFromImage(warped)), [0, 7, highest])
