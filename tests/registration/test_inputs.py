"""What is doubtful about the inputs reaches the warnings of a run, once."""

import logging
import struct
from pathlib import Path

import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose
from pydicom.dataset import Dataset

from landmark_dir.io.volumes import read_volume, read_with_warnings
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.inputs import as_volume, load_inputs
from tests.made_dicom import write_series

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
