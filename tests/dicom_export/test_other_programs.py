"""What other programs say of the DICOM that is written: a validator, and plastimatch."""

import subprocess
from pathlib import Path

import made_dicom as made
import made_exams
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from needs import needs, program
from numpy.testing import assert_allclose
from pydicom.dataset import Dataset

from landmark_dir.dicom_export.deformation import deformable_registration
from landmark_dir.dicom_export.linear import linear_registration
from landmark_dir.dicom_export.warped_series import stored, warped_slices
from landmark_dir.io.dicom import choose_series
from landmark_dir.io.dicom_headers import SourceSeries, read_source, save
from landmark_dir.transforms.chain import Chain, Linear


def call(name: str, *arguments: object) -> str:
    """What a program says; some fail without an exit code."""
    needs(name)
    command = [program(name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def linear(pair) -> Linear:
    found = Chain(pair.chain.steps[:1]).as_linear()
    assert found is not None
    return found


def enhanced(image: sitk.Image, file: Path) -> SourceSeries:
    """A series in one file of many frames, of the same patient."""

    def change(dataset: Dataset) -> None:
        dataset.PatientID = made_exams.PATIENT

    made.write_enhanced(image, file, change_file=change)
    return read_source(choose_series(file, None), "enhanced")


@pytest.mark.parametrize("kind", ["deformable", "linear", "series"])
@pytest.mark.parametrize("source", ["slices", "frames"])
def test_a_validator_finds_no_error(pair, kind: str, source: str, tmp_path: Path) -> None:
    moving = pair.moving
    if source == "frames":
        moving = enhanced(pair.moving_image, tmp_path / "frames.dcm")
    if kind == "deformable":
        new = deformable_registration(pair.chain, pair.fixed_image, pair.fixed, moving, 3.0)
    elif kind == "linear":
        new = linear_registration(linear(pair), pair.fixed, moving)
    else:
        warped = pair.warped
        pixels = stored(warped)
        new = next(iter(warped_slices(warped, pixels, pair.chain, -1000.0, pair.fixed, moving)))
    save(new, tmp_path / "new.dcm")
    said = call("dciodvfy", tmp_path / "new.dcm")
    known = ("DeformableSpatialRegistration", "SpatialRegistration", "CTImage")
    assert any(line in known for line in said.splitlines()), said  # which IOD it was held against
    assert "Error" not in said


def test_the_validator_finds_what_is_missing(pair, tmp_path: Path) -> None:
    new = linear_registration(linear(pair), pair.fixed, pair.moving)
    del new.ContentLabel
    save(new, tmp_path / "new.dcm")
    assert "Error - Missing attribute Type 1" in call("dciodvfy", tmp_path / "new.dcm")


def test_plastimatch_writes_the_same_matrix(pair, tmp_path: Path) -> None:
    """From T as an ITK transform."""
    transform = linear(pair)
    sitk.WriteTransform(transform.itk(), str(tmp_path / "t.tfm"))
    save(linear_registration(transform, pair.fixed, pair.moving), tmp_path / "ours.dcm")
    sides = ("--fixed-rcs", pair.fixed.files[0].parent, "--moving-rcs", pair.moving.files[0].parent)
    out = tmp_path / "theirs"
    call("plastimatch", "xf-convert", "--input", tmp_path / "t.tfm", "--output-dicom", out, *sides)
    (theirs,) = out.iterdir()
    matrices = [_matrices(pydicom.dcmread(file)) for file in (tmp_path / "ours.dcm", theirs)]
    assert list(matrices[0]) == [pair.fixed.frame_of_reference, pair.moving.frame_of_reference]
    assert matrices[0].keys() == matrices[1].keys()
    for frame_of_reference, matrix in matrices[0].items():
        assert_allclose(matrix, matrices[1][frame_of_reference], atol=1e-5)  # their six decimals


def _matrices(registration: Dataset) -> dict[str, list[float]]:
    return {
        item.FrameOfReferenceUID: list(
            item.MatrixRegistrationSequence[0]
            .MatrixSequence[0]
            .FrameOfReferenceTransformationMatrix
        )
        for item in registration.RegistrationSequence
    }


def test_plastimatch_reads_the_series(pair, tmp_path: Path) -> None:
    warped = pair.warped
    folder = tmp_path / "warped"
    folder.mkdir()
    slices = warped_slices(warped, stored(warped), pair.chain, -1000.0, pair.fixed, pair.moving)
    for k, new in enumerate(slices):
        save(new, folder / f"{k:03d}.dcm")
    file = tmp_path / "read.mha"
    call("plastimatch", "convert", "--input", folder, "--output-img", file)
    found = sitk.ReadImage(str(file))
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(warped))
    for n in ((0, 0, 0), (23, 0, 0), (0, 19, 0), (0, 0, 11)):
        place = warped.TransformIndexToPhysicalPoint(n)
        assert_allclose(found.TransformIndexToPhysicalPoint(n), place, atol=1e-3)  # mm
