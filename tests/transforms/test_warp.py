"""Images through a chain: the same as transformix gives, on oblique grids."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from needs import needs
from numpy.testing import assert_allclose, assert_array_equal

from landmark_dir.elastix.engines import find_engine
from landmark_dir.elastix.transform_files import format_translation
from landmark_dir.elastix.transformix import warp_image as transformix
from landmark_dir.geometry import corners, index_to_physical, same_grid
from landmark_dir.transforms.bspline import BSpline
from landmark_dir.transforms.bspline_fit import fit_spline
from landmark_dir.transforms.chain import Chain, read_transform, write_after
from landmark_dir.transforms.fields import DenseField, displacement
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
        off = np.abs(found.astype(int) - want)  # HU, where 100 HU a mm are usual
        assert (off > 1).mean() < 0.001
        assert off.max() <= 2  # places are off by 0.016 mm at most
        assert (off > 0).mean() < 0.1  # and by 0.002 mm in the mean


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


@pytest.fixture
def tissue_ct(oblique_ct: sitk.Image) -> sitk.Image:
    """Soft tissue with smooth texture up to the border, 72 x 60 x 36 voxels, on an oblique grid."""
    z, y, x = np.mgrid[:36, :60, :72]
    image = sitk.GetImageFromArray(np.rint(40 + 30 * np.sin(x / 7) * np.cos(y / 9 + z / 11)))
    image.SetDirection(oblique_ct.GetDirection())
    image.SetSpacing(np.divide(oblique_ct.GetSpacing(), 3).tolist())
    image.SetOrigin(oblique_ct.GetOrigin())
    return sitk.Cast(image, sitk.sitkInt16)


@pytest.mark.parametrize("value", [-2000, -32768])
def test_padding_does_not_ring_into_the_body(value: int, tissue_ct: sitk.Image, bent: Path) -> None:
    """More than a voxel from padding, voxels are those of the same image without it."""
    chain = read_transform(bent)
    values = sitk.GetArrayFromImage(tissue_ct)
    beyond = np.hypot(*np.mgrid[-1:1:60j, -1:1:72j]) > 0.8
    values[:, beyond] = value
    values[18, 30, 36] = 30_000  # metal keeps its value
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(tissue_ct)
    plain = sitk.GetImageFromArray(np.where(beyond, sitk.GetArrayViewFromImage(tissue_ct), values))
    plain.CopyInformation(tissue_ct)
    warped, want = (sitk.GetArrayFromImage(warp_image(i, chain, tissue_ct)) for i in (image, plain))
    nearest, near = (
        sitk.GetArrayFromImage(
            sitk.Resample(of, tissue_ct, chain.itk(), sitk.sitkNearestNeighbor, outside)
        )
        for of, outside in ((image, value), (padding_within(image, value, voxels=1), 1))
    )
    assert_array_equal(warped == value, nearest == value)
    assert 0.2 < (nearest != value).mean() < 0.8
    inside = (near == 0) & (want < 500)
    assert np.abs(warped.astype(int) - want)[inside].max() <= 3  # HU; with ringing, hundreds
    assert warped.max() > 10_000


def padding_within(image: sitk.Image, value: int, *, voxels: int) -> sitk.Image:
    """Padding, and what lies at most so many voxels beside it; uint8 0 / 1."""
    return sitk.BinaryDilate(image == value, [voxels] * 3, sitk.sitkBox)


def test_an_image_without_padding_is_what_the_spline_gives(
    smooth_ct: sitk.Image, bent: Path
) -> None:
    chain = read_transform(bent)
    lowest, highest = (float(f(sitk.GetArrayViewFromImage(smooth_ct))) for f in (np.min, np.max))
    spline = sitk.Resample(
        smooth_ct, smooth_ct, chain.itk(), sitk.sitkBSpline, lowest, sitk.sitkFloat32
    )
    want = np.rint(sitk.GetArrayFromImage(spline)).clip(lowest, highest)
    found = sitk.GetArrayFromImage(warp_image(smooth_ct, chain, smooth_ct))
    off = np.abs(found - want)  # HU; as above
    assert (off > 1).mean() < 0.001
    assert off.max() <= 2


def test_a_dense_field_is_what_the_chain_says(smooth_ct: sitk.Image, bent: Path) -> None:
    chain = read_transform(bent)
    fine = sitk.Expand(smooth_ct, [4, 4, 4])
    field = DenseField(chain, fine)
    assert np.prod(field.nodes) < 0.1 * np.prod(fine.GetSize())
    slab = sitk.GetArrayFromImage(field.slab(7, 11))
    want = sitk.GetArrayFromImage(displacement(chain, fine[:, :, 7:11]))
    assert_allclose(slab, want, atol=0.05)  # mm


def test_where_a_lattice_would_be_wrong_each_voxel_is_evaluated(smooth_ct: sitk.Image) -> None:
    rough = np.random.default_rng(0).normal(0, 5, (3, 9, 9, 9))  # steps at the edge of its grid
    spline = BSpline(rough, np.array(smooth_ct.GetOrigin()), np.full(3, 12.0), np.eye(3))
    chain, fine = Chain((spline,)), sitk.Expand(smooth_ct, [4, 4, 4])
    slab = sitk.GetArrayFromImage(DenseField(chain, fine).slab(7, 11))
    assert_array_equal(slab, sitk.GetArrayFromImage(displacement(chain, fine[:, :, 7:11])))
