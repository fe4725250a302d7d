"""What is said of images that are hardly CT in HU, and what of an image a registration sees."""

import numpy as np
import pytest
import SimpleITK as sitk

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import same_grid
from landmark_dir.phantom.scanner import PhantomOptions, make_phantom
from landmark_dir.preprocessing.body_mask import body_mask
from landmark_dir.preprocessing.intensity import (
    OntoCt,
    is_cut_out,
    looks_like_ct,
    within_scanner_range,
)
from landmark_dir.preprocessing.padding import padding_mask
from training.followups.modality import as_modality


@pytest.fixture(scope="module")
def ct() -> sitk.Image:
    """A made patient with lungs, in HU; float32."""
    options = PhantomOptions(size_xyz=(48, 40, 36), spacing_mm=(6.0, 6.0, 6.0))
    return sitk.Cast(make_phantom(options).fixed, sitk.sitkFloat32)


def test_ct_passes_and_keeps_its_voxels(ct: sitk.Image) -> None:
    assert looks_like_ct(ct) is None
    assert within_scanner_range(ct) is ct


def test_hu_are_clipped_to_what_a_scanner_stores(ct: sitk.Image) -> None:
    for pixel in (sitk.sitkInt16, sitk.sitkFloat32):
        extreme = sitk.Cast(ct, pixel)
        extreme[3, 3, 3], extreme[4, 4, 4], extreme[5, 5, 5] = 30_000, -32_768, 3071
        clipped = within_scanner_range(extreme)
        assert clipped.GetPixelID() == pixel
        assert (clipped[3, 3, 3], clipped[4, 4, 4], clipped[5, 5, 5]) == (3071, -1024, 3071)


@pytest.mark.parametrize("noise_hu", [0.0, 15.0])
def test_an_offset_of_1024_is_named_with_its_remedy(ct: sitk.Image, noise_hu: float) -> None:
    shifted = sitk.Maximum(sitk.AdditiveGaussianNoise(ct, noise_hu, 1024.0, 1), 0)
    said = looks_like_ct(shifted)
    assert said is not None
    assert "looks like HU + 1024" in said
    assert said.endswith("subtract 1024")


def test_other_scales_are_not_taken_for_an_offset(ct: sitk.Image) -> None:
    hu = sitk.GetArrayFromImage(ct)
    mr = np.random.default_rng(0).gamma(2.0, 300.0, hu.shape) * (hu > -500)
    for values in (mr, hu / 1000 + 1, np.clip((hu + 160) / 400, 0, 1) * 255):
        said = looks_like_ct(sitk.GetImageFromArray(values))
        assert said is not None
        assert "1024" not in said
        assert "is this CT in HU?" in said


def test_padding_is_no_voxel_of_the_scale(ct: sitk.Image) -> None:
    padding = ct < -10_000  # nowhere, so far
    padding[:, :5] = 1
    shifted = sitk.Mask(ct + 1024.0, padding, -2000.0, 1)
    said = looks_like_ct(shifted, padding)
    assert said is not None
    assert "HU + 1024" in said
    cut_out = sitk.Mask(ct, ct > -300, -2000.0)
    assert looks_like_ct(cut_out, ct <= -300) is None


def test_another_modality_is_put_on_the_scale_of_ct(ct: sitk.Image) -> None:
    mr = as_modality(sitk.Cast(ct, sitk.sitkInt16), "mr-t2", 3)
    assert looks_like_ct(mr) is not None
    scale = OntoCt.of(mr, "moving")
    seen = scale.apply(mr)
    assert looks_like_ct(seen) is None
    assert seen.GetPixelID() == sitk.sitkInt16
    assert same_grid(seen, mr)
    own, hu = (sitk.GetArrayFromImage(image) for image in (mr, seen))
    order = np.argsort(own.ravel(), kind="stable")
    assert (np.diff(hu.ravel()[order].astype(int)) >= 0).all()  # it rises
    assert hu[own <= scale.darkest].max() == -1024
    assert hu[own >= scale.brightest].min() == 2000
    assert abs(np.interp(-500.0, np.sort(hu.ravel()), np.sort(own.ravel())) - scale.edge) < 2
    body = sitk.GetArrayFromImage(body_mask(ct))
    found = sitk.GetArrayFromImage(body_mask(seen))
    assert 2 * (found & body).sum() / (found.sum() + body.sum()) > 0.98


def test_only_the_distribution_counts(ct: sitk.Image) -> None:
    mr = sitk.Cast(as_modality(sitk.Cast(ct, sitk.sitkInt16), "mr-t1", 3), sitk.sitkFloat64)
    seen = OntoCt.of(mr, "fixed").apply(mr)
    for other in (mr * 1e-5, mr * 70.0 - 30_000.0):
        again = OntoCt.of(other, "fixed").apply(other)
        off = sitk.GetArrayFromImage(again).astype(int) - sitk.GetArrayFromImage(seen)
        assert np.abs(off).max() <= 2


def test_padding_is_background(ct: sitk.Image) -> None:
    mr = as_modality(sitk.Cast(ct, sitk.sitkInt16), "mr-t1", 3)
    padding = ct < -10_000  # nowhere, so far
    padding[:, :9] = 1
    cut = sitk.Mask(mr, padding, -32_768, 1)
    assert OntoCt.of(cut, "fixed").darkest == -32_768
    assert OntoCt.of(cut, "fixed", padding).darkest >= 0


def test_a_background_of_one_value_does_not_look_like_padding_alone(ct: sitk.Image) -> None:
    body = body_mask(ct)
    mr = sitk.Mask(as_modality(sitk.Cast(ct, sitk.sitkInt16), "mr-t1", 3), body) * 3 - 2000
    scale = OntoCt.of(mr, "fixed", padding_mask(mr))
    found = sitk.GetArrayFromImage(body_mask(scale.apply(mr)))
    body = sitk.GetArrayFromImage(body)
    assert 2 * (found & body).sum() / (found.sum() + body.sum()) > 0.97


def test_ct_that_is_cut_out_of_a_body_may_be_hu(ct: sitk.Image) -> None:
    fat = np.random.default_rng(0).random((20, 24, 28)) < 0.2
    cut = sitk.GetImageFromArray(np.where(fat, -100.0, 40.0))
    assert "no air" in (looks_like_ct(cut) or "")
    assert is_cut_out(cut)
    mr = as_modality(sitk.Cast(ct, sitk.sitkInt16), "mr-t1", 3)
    assert not is_cut_out(mr)
    assert not is_cut_out(ct)


def test_a_bright_background_is_told(ct: sitk.Image) -> None:
    mr = as_modality(sitk.Cast(ct, sitk.sitkInt16), "mr-t1", 3)
    assert OntoCt.of(mr, "fixed").doubt(mr) is None
    inverted = 1000 - mr
    said = OntoCt.of(inverted, "fixed").doubt(inverted)
    assert said is not None
    assert "no dark background" in said


def test_one_value_is_no_scan(ct: sitk.Image) -> None:
    with pytest.raises(BadVolume, match=r"moving: expected a scan, found one value \(7\) in"):
        OntoCt.of(ct * 0 + 7, "moving")
