"""What is doubtful about the inputs reaches the warnings of a run, once."""

import logging
import struct
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from made_dicom import write_series
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.dataset import Dataset
from small_pairs import Case

from landmark_dir.errors import BadVolume
from landmark_dir.io.volumes import read_volume, read_with_warnings
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.inputs import as_volume, load_inputs
from training.followups.modality import as_modality

ALONE = RegisterOptions.of(landmarks=False)
QOFFSET_X = 268  # in a NIfTI-1 header


def with_two_places(image: sitk.Image, path: Path) -> Path:
    """Write a NIfTI whose qform is some mm beside its sform."""
    sitk.WriteImage(image, str(path))
    content = bytearray(path.read_bytes())
    (x,) = struct.unpack_from("<f", content, QOFFSET_X)
    struct.pack_into("<f", content, QOFFSET_X, x + 0.4)
    path.write_bytes(content)
    return path


def test_warnings_of_reading_reach_the_run_and_are_logged_once(
    oblique_ct: sitk.Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fixed = with_two_places(oblique_ct, tmp_path / "fixed.nii")
    mask = with_two_places(sitk.Cast(oblique_ct > -900, sitk.sitkUInt8), tmp_path / "mask.nii")
    with caplog.at_level(logging.WARNING):
        inputs = load_inputs(fixed, oblique_ct, RegisterOptions(), fixed_mask=mask)
    for name in ("fixed", "fixed mask"):
        said = f"{name}: qform and sform are up to 0.4 mm apart"
        assert sum(warning.startswith(said) for warning in inputs.warnings) == 1
        assert caplog.text.count(said) == 1
    assert not any(warning.startswith("moving: qform") for warning in inputs.warnings)


def test_warnings_of_a_volume_that_was_read_before_reach_the_run(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    reading = read_with_warnings(with_two_places(oblique_ct, tmp_path / "ct.nii"))
    inputs = load_inputs(oblique_ct, reading, RegisterOptions())
    assert any(warning.startswith("moving: qform and sform") for warning in inputs.warnings)


def test_reading_alone_logs_them_with_the_name_of_the_file(
    oblique_ct: sitk.Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = with_two_places(oblique_ct, tmp_path / "ct.nii")
    for read in (read_volume, lambda path: as_volume(path, "image")):
        caplog.clear()
        image = read(path)
        assert_allclose(image.GetOrigin(), oblique_ct.GetOrigin(), atol=1e-4)
        assert caplog.text.count(f"{path}: qform and sform are up to 0.4 mm apart") == 1


def test_what_a_run_keeps_of_a_dicom_series_names_no_one(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    for side, patient, day in (("fixed", "ANNA", "20250103"), ("moving", "BERT", "20250113")):
        (tmp_path / side).mkdir()

        def tagged(_: int, dataset: Dataset, patient: str = patient, day: str = day) -> None:
            dataset.PatientID, dataset.StudyDate = patient, day
            dataset.SeriesDescription = "thorax 2 mm"

        write_series(oblique_ct, tmp_path / side, tagged)
    inputs = load_inputs(tmp_path / "fixed", tmp_path / "moving", RegisterOptions())
    fixed, moving = (inputs.sources[side] for side in ("fixed", "moving"))
    assert fixed["dicom"]["description"] == "thorax 2 mm"
    assert len(fixed["dicom"]["series"]) == 16
    assert moving["days_after_fixed"] == 10
    assert "days_after_fixed" not in fixed
    kept = repr(inputs.sources) + repr(inputs.warnings)
    assert not any(word in kept for word in ("ANNA", "BERT", "2025", "1.2.826"))
    assert sum("PatientID is not that of the fixed" in text for text in inputs.warnings) == 1


# --- extreme HU ---------------------------------------------------------------------------------


def in_a_circle(image: sitk.Image, padding: int, share: float = 0.8) -> sitk.Image:
    """The image as int16, with padding outside an ellipse in each slice."""
    columns, rows, _ = image.GetSize()
    beyond = np.hypot(*np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]) > share
    values = sitk.GetArrayFromImage(image).astype(np.int16)
    values[:, beyond] = padding
    made = sitk.GetImageFromArray(values)
    made.CopyInformation(image)
    return made


@pytest.mark.parametrize("value", [-2000, -3024, -32768])
def test_padding_counts_nowhere_but_in_the_true_moving_image(case: Case, value: int) -> None:
    fixed, moving = (in_a_circle(i, value) for i in (case.phantom.fixed, case.phantom.moving))
    inputs = load_inputs(fixed, moving, RegisterOptions())
    assert not inputs.warnings
    for given, seen, mask in (
        (fixed, inputs.fixed, inputs.fixed_mask),
        (moving, inputs.moving, inputs.moving_mask),
    ):
        padded = sitk.GetArrayViewFromImage(given) == value
        values = sitk.GetArrayViewFromImage(seen)
        assert (values[padded] == -1024).all()
        assert_array_equal(values[~padded], sitk.GetArrayViewFromImage(given)[~padded])
        assert_array_equal(sitk.GetArrayViewFromImage(mask) == 0, padded)
    assert_array_equal(
        sitk.GetArrayViewFromImage(inputs.original_moving), sitk.GetArrayViewFromImage(moving)
    )
    body = sitk.GetArrayViewFromImage(inputs.fixed_body) > 0
    assert body.any()
    assert not body[sitk.GetArrayViewFromImage(fixed) == value].any()
    assert inputs.outside_original() == value


def test_padding_is_left_out_of_a_mask_of_the_user(case: Case) -> None:
    fixed = in_a_circle(case.phantom.fixed, -2000)
    ours = sitk.Image(fixed.GetSize(), sitk.sitkUInt8)
    ours.CopyInformation(fixed)
    ours[:20] = 1
    inputs = load_inputs(fixed, case.phantom.moving, RegisterOptions(), fixed_mask=ours)
    assert inputs.fixed_mask is not None
    want = (sitk.GetArrayViewFromImage(fixed) != -2000) & (sitk.GetArrayViewFromImage(ours) > 0)
    assert_array_equal(sitk.GetArrayViewFromImage(inputs.fixed_mask) > 0, want)
    assert inputs.moving_mask is None
    with pytest.raises(BadVolume, match="fixed mask: expected voxels with data, found nothing but"):
        load_inputs(fixed, fixed, RegisterOptions(), fixed_mask=fixed == -2000)


def test_ordinary_images_are_registered_as_they_are(case: Case) -> None:
    inputs = load_inputs(case.phantom.fixed, case.phantom.moving, RegisterOptions())
    for given, seen in ((case.phantom.fixed, inputs.fixed), (case.phantom.moving, inputs.moving)):
        same = sitk.GetArrayViewFromImage(given), sitk.GetArrayViewFromImage(seen)
        assert_array_equal(*same)
    assert inputs.original_moving is inputs.moving
    assert (inputs.fixed_mask, inputs.moving_mask, inputs.moving_padding) == (None, None, None)


def test_only_ct_is_clipped(case: Case) -> None:
    metal = sitk.Cast(case.phantom.moving, sitk.sitkInt16)
    metal[20:24, 18:22, 10:20] = 30_000
    inputs = load_inputs(metal * 0 + 100 + sitk.Cast(metal > 0, sitk.sitkInt16), metal, ALONE)
    assert sitk.GetArrayViewFromImage(inputs.moving).max() == 3071
    assert sitk.GetArrayViewFromImage(inputs.original_moving).max() == 30_000
    scaled = sitk.Cast(metal, sitk.sitkFloat32) + 5000.0  # no scale that is known
    inputs = load_inputs(scaled, scaled, ALONE)
    assert sitk.GetArrayViewFromImage(inputs.original_moving).max() == 35_000
    assert sitk.GetArrayViewFromImage(inputs.moving).max() == 2000
    assert "fixed: no air below -500 HU" in inputs.warnings[0]
    assert "(taken as another modality" in inputs.warnings[0]


def test_what_grey_values_are_can_be_said(case: Case) -> None:
    ct, mr = case.phantom.fixed, as_modality(case.phantom.fixed, "mr-t1", 1)
    auto = load_inputs(ct, mr, ALONE)
    assert auto.fixed_scale is None
    assert auto.moving_scale is not None
    assert auto.sources["moving"]["grey_values"] == asdict(auto.moving_scale)
    assert "grey_values" not in auto.sources["fixed"]
    told = load_inputs(ct, mr, ALONE.but(modality="other"))
    assert told.fixed_scale is not None
    assert told.moving_scale == auto.moving_scale
    assert told.warnings == ()
    as_hu = load_inputs(ct, mr, ALONE.but(modality="ct"))
    assert as_hu.moving_scale is None
    assert sitk.GetArrayViewFromImage(as_hu.moving).max() == min(
        3071, sitk.GetArrayViewFromImage(mr).max()
    )
    assert as_hu.warnings[0].endswith("is this CT in HU?")


def test_an_offset_in_one_image_is_told_of_that_image(case: Case) -> None:
    moving = sitk.Cast(case.phantom.moving, sitk.sitkInt16) + 1024
    warnings = load_inputs(case.phantom.fixed, moving, ALONE).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith("moving: looks like HU + 1024, expected HU: air lies near ")
