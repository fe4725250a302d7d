"""From two exams to a run, and from the run to DICOM: where the exams are found again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dicom_registration_reader as standard
import made_dicom as made
import made_exams
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from click.testing import CliRunner, Result
from numpy.testing import assert_allclose, assert_array_equal
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage
from small_pairs import Case

import landmark_dir
from landmark_dir.cli.main import main
from landmark_dir.dicom_export.export import export_registration, export_warped
from landmark_dir.elastix.transform_files import format_translation
from landmark_dir.errors import BadRunFolder, BadVolume
from landmark_dir.geometry import distances_mm, physical_to_index, voxel_centres
from landmark_dir.io.run_folder import RUN_JSON, TRANSFORM, WARPED
from landmark_dir.io.volumes import read_volume, read_with_warnings
from landmark_dir.options import DicomOptions
from training.followups.modality import as_modality

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def exams(few_iterations: None, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `fixed`, `moving` and their `run`; leave it as it is."""
    folder = tmp_path_factory.mktemp("exams")
    for study, side in enumerate(("fixed", "moving"), 1):
        image = sitk.Cast(getattr(case.phantom, side), sitk.sitkInt16)
        made_exams.write(folder / side, image, study=study)
    landmark_dir.register(
        folder / "fixed", folder / "moving", folder / "run", threads=1, points=case.guides
    )
    return folder


@pytest.fixture
def copied(exams: Path, tmp_path: Path) -> Path:
    """A run whose files may be changed; its series are where they were."""
    return Path(shutil.copytree(exams / "run", tmp_path / "run"))


def changed(run: Path, change: Callable[[dict], None]) -> Path:
    content = json.loads((run / RUN_JSON).read_text("utf-8"))
    change(content["inputs"])
    (run / RUN_JSON).write_text(json.dumps(content), "utf-8")
    return run


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in ("export", *arguments)])


def test_the_transform_goes_out_as_the_standard_has_it(exams: Path, tmp_path: Path) -> None:
    file = tmp_path / "registration.dcm"
    said = call(exams / "run", "--to", "dicom", "-o", file)
    assert said.exit_code == 0, said.output
    assert "Deformable Spatial Registration, fixed to moving points" in said.output
    assert "p95" in said.output
    result = landmark_dir.open_run(exams / "run")
    rng = np.random.default_rng(0)
    nodes = rng.integers(0, standard.dimensions(file), (100, 3)).tolist()
    places, mapped = np.array([standard.node(file, *ijk) for ijk in nodes]).swapaxes(0, 1)
    assert distances_mm(mapped, result.chain.map_points(places)).max() < 1e-3
    fixed = voxel_centres(result.grid, 8)
    off_mm = distances_mm(standard.map_deformable(file, fixed), result.chain.map_points(fixed))
    assert off_mm.max() < 0.5


def test_a_linear_transform_goes_out_as_a_matrix(exams: Path, copied: Path, tmp_path: Path) -> None:
    shift = np.array([3.0, -2.0, 5.0])
    (copied / TRANSFORM).write_text(format_translation(shift, read_volume(exams / "fixed")))
    said = call(copied, "--to", "dicom", "-o", tmp_path / "t.dcm")
    assert said.exit_code == 0, said.output
    assert ": Spatial Registration, its matrix maps moving to fixed points" in said.output
    source = pydicom.dcmread(exams / "moving" / "000.dcm").FrameOfReferenceUID
    points = np.random.default_rng(0).normal(0, 100, (20, 3))
    back = standard.map_linear(tmp_path / "t.dcm", source, points + shift)
    assert_allclose(back, points, atol=1e-9)  # mm


def test_a_finer_grid_is_asked_for(exams: Path, tmp_path: Path) -> None:
    options = DicomOptions(grid_mm=6.0)
    coarse = export_registration(exams / "run", tmp_path / "6.dcm", options)
    fine = export_registration(exams / "run", tmp_path / "3.dcm")
    assert coarse.off_mm is not None
    assert fine.off_mm is not None
    assert fine.off_mm.max < coarse.off_mm.max
    assert standard.dimensions(tmp_path / "6.dcm") < standard.dimensions(tmp_path / "3.dcm")


def test_the_warped_image_goes_out_as_a_series(exams: Path, tmp_path: Path) -> None:
    said = call(exams / "run", "--to", "dicom-series", "-o", tmp_path / "warped")
    assert said.exit_code == 0, said.output
    want = sitk.ReadImage(str(exams / "run" / WARPED))
    found = read_volume(tmp_path / "warped")
    index = physical_to_index(found, voxel_centres(want))
    assert_allclose(index, np.rint(index), atol=1e-4)  # voxels: NIfTI rounds
    zyx = tuple(np.rint(index).astype(int)[:, ::-1].T)
    assert_array_equal(sitk.GetArrayFromImage(found)[zyx], sitk.GetArrayFromImage(want).ravel())


def test_a_series_is_not_written_over_files(exams: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(BadRunFolder, match="exists already"):
        export_warped(exams / "run", tmp_path)
    with pytest.raises(BadRunFolder, match="would be lost"):
        export_registration(exams / "run", exams / "moving" / "000.dcm")
    assert pydicom.dcmread(exams / "moving" / "000.dcm").Modality == "CT"


def test_series_that_moved_are_named(exams: Path, copied: Path, tmp_path: Path) -> None:
    def elsewhere(inputs: dict) -> None:
        for side in ("fixed", "moving"):
            inputs[side]["path"] = str(tmp_path / "gone" / side)

    run, out = changed(copied, elsewhere), tmp_path / "t.dcm"
    said = call(run, "--to", "dicom", "-o", out)
    assert said.exit_code == 1
    assert "its fixed image is no longer at" in said.output
    assert "with --fixed-dicom" in said.output
    assert not out.exists()
    sides = [("--fixed-dicom", exams), ("--moving-dicom", exams / "moving")]  # among others, too
    said = call(run, "--to", "dicom", "-o", out, *sides[0], *sides[1])
    assert said.exit_code == 0, said.output
    with pytest.raises(BadVolume, match="none of them the one that the run was made from"):
        export_registration(run, out, fixed_dicom=exams / "moving")
    with pytest.raises(BadVolume, match="--fixed-dicom: there is no"):
        export_registration(run, out, fixed_dicom=tmp_path / "gone")


def test_a_run_of_converted_images_needs_to_be_told(
    exams: Path, copied: Path, tmp_path: Path
) -> None:
    def converted(inputs: dict) -> None:
        for side in ("fixed", "moving"):
            del inputs[side]["dicom"]
            inputs[side]["path"] = f"{side}.nii.gz"

    run, out = changed(copied, converted), tmp_path / "t.dcm"
    with pytest.raises(BadRunFolder, match="was not read from DICOM; if it was converted"):
        export_registration(run, out)
    with pytest.raises(BadVolume, match="lies elsewhere than the fixed image"):
        export_registration(run, out, fixed_dicom=exams / "moving")
    with pytest.raises(BadVolume, match="holds 2 DICOM series"):
        export_registration(run, out, fixed_dicom=exams)
    sides = {f"{side}_dicom": exams / side for side in ("fixed", "moving")}
    assert export_registration(run, out, **sides).off_mm is not None


def test_two_patients_are_refused_unless_told(exams: Path, copied: Path, tmp_path: Path) -> None:
    def other(_: int, dataset: Dataset) -> None:
        dataset.PatientID = "another"

    image = read_volume(exams / "moving")
    moving = pydicom.dcmread(exams / "moving" / "000.dcm").SeriesInstanceUID
    made.write_series(image, tmp_path / "moving", other, moving)
    given = ("--moving-dicom", tmp_path / "moving", "-o", tmp_path / "t.dcm")
    said = call(copied, "--to", "dicom", *given)
    assert said.exit_code == 1
    assert "the PatientIDs of both exams differ" in said.output
    said = call(copied, "--to", "dicom", *given, "--allow-other-patient")
    assert said.exit_code == 0, said.output
    assert pydicom.dcmread(tmp_path / "t.dcm").PatientID == made_exams.PATIENT


def test_a_shared_frame_of_reference_is_pointed_out(
    exams: Path, copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = pydicom.dcmread(exams / "fixed" / "000.dcm")

    def shared(_: int, dataset: Dataset) -> None:
        dataset.PatientID = made_exams.PATIENT
        dataset.FrameOfReferenceUID = first.FrameOfReferenceUID

    image = read_volume(exams / "moving")
    moving = pydicom.dcmread(exams / "moving" / "000.dcm").SeriesInstanceUID
    made.write_series(image, tmp_path / "moving", shared, moving)
    export_registration(copied, tmp_path / "t.dcm", moving_dicom=tmp_path / "moving")
    assert "both series have the same frame of reference" in caplog.text
    (item,) = pydicom.dcmread(tmp_path / "t.dcm").DeformableRegistrationSequence
    assert len(item.ReferencedImageSequence) == image.GetDepth()


def test_options_that_mean_nothing_are_refused(exams: Path, tmp_path: Path) -> None:
    refused = (("itk", "--grid-mm"), ("dicom-series", "--grid-mm"), ("itk", "--fixed-dicom"))
    for to, option in refused:
        said = call(exams / "run", "--to", to, "-o", tmp_path / "t.h5", option, "4")
        assert said.exit_code == 2
        assert f"{option} means nothing for --to {to}" in said.output
    said = call(exams / "run", "--to", "dicom", "-o", tmp_path / "t.dcm", "--grid-mm", "0.1")
    assert said.exit_code == 2
    assert "0.5 to 50" in said.output
    said = call(exams / "run", "--to", "dicom", "-o", tmp_path / "t.h5")
    assert "expected one of .dcm" in said.output
    assert not any(tmp_path.iterdir())


def test_an_acquisition_is_found_again(case: Case, tmp_path: Path) -> None:
    """Of several in one series, the one that was registered, which `run.json` counts."""
    image = sitk.Cast(case.phantom.moving, sitk.sitkInt16)
    made_exams.write(tmp_path / "fixed", image, study=1, AcquisitionNumber="1", series=77)
    later = image + 5
    uid = made_exams.write(tmp_path / "later", later, study=1, AcquisitionNumber="2", series=77)
    for file in (tmp_path / "later").iterdir():
        dataset = pydicom.dcmread(file)
        dataset.SOPInstanceUID += ".2"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(tmp_path / "fixed" / f"later-{file.name}")
    shutil.rmtree(tmp_path / "later")
    made_exams.write(tmp_path / "moving", image, study=2)
    fixed = read_with_warnings(tmp_path / "fixed", "#2")
    pairs = landmark_dir.PointPairs(*[case.guides.moving] * 2, np.ones(len(case.guides)))
    run = landmark_dir.register(
        fixed, tmp_path / "moving", tmp_path / "run", threads=1, points=pairs
    )
    export_registration(run, tmp_path / "t.dcm")
    (own,) = pydicom.dcmread(tmp_path / "t.dcm").ReferencedSeriesSequence
    assert own.SeriesInstanceUID == uid
    ids = [one.ReferencedSOPInstanceUID for one in own.ReferencedInstanceSequence]
    assert len(ids) == image.GetDepth()
    assert all(one.endswith(".2") for one in ids)


def test_mr_is_registered_and_its_transform_goes_out(case: Case, tmp_path: Path) -> None:
    tags: dict[str, Any] = {"SOPClassUID": MRImageStorage, "Modality": "MR"}
    tags |= {"RescaleSlope": None, "RescaleIntercept": None}  # an MR has none
    for study, side in enumerate(("fixed", "moving"), 1):
        mr = as_modality(getattr(case.phantom, side), "mr-t1", study)
        made_exams.write(tmp_path / side, mr, study=study, **tags)
    run = landmark_dir.register(
        tmp_path / "fixed", tmp_path / "moving", tmp_path / "run", threads=1, points=case.guides
    )
    assert run.warnings == []
    inputs = json.loads((tmp_path / "run" / RUN_JSON).read_text("utf-8"))["inputs"]
    assert all("grey_values" in inputs[side] for side in ("fixed", "moving"))
    assert export_registration(run, tmp_path / "t.dcm").kind == "Deformable Spatial Registration"
    with pytest.raises(BadVolume, match="expected CT, whose HU are written as a series, found MR"):
        export_warped(run, tmp_path / "warped")
    assert not (tmp_path / "warped").exists()
