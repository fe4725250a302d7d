"""What other programs say of the structures that are written: a validator, and plastimatch."""

import subprocess
from pathlib import Path

import made_exams
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_structures import inside, structures
from needs import needs, program

from landmark_dir.io.dicom import choose_series
from landmark_dir.io.dicom_headers import SourceSeries, read_source
from landmark_dir.structures.writing import write_structures


def call(name: str, *arguments: object) -> str:
    """What a program says; some fail without an exit code."""
    needs(name)
    command = [program(name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.fixture
def exam(oblique_ct: sitk.Image, tmp_path: Path) -> SourceSeries:
    """A series whose tags leave a validator nothing to say of them."""
    made_exams.write(tmp_path / "ct", oblique_ct, PatientSex="F", StudyTime="1015", StudyID="1")
    return read_source(choose_series(tmp_path / "ct", None), "ct")


@pytest.mark.parametrize(
    ("kind", "name"), [("seg", "Segmentation"), ("rtstruct", "RTStructureSet")]
)
def test_a_validator_finds_no_error(
    kind: str, name: str, exam: SourceSeries, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    out = tmp_path / "x.dcm"
    write_structures(structures(oblique_ct), out, exam, kind)
    said = call("dciodvfy", out)
    assert name in said.splitlines(), said  # which IOD it was held against
    assert "Error" not in said
    assert "Warning" not in said
    dataset = pydicom.dcmread(out)
    del dataset["SegmentSequence" if kind == "seg" else "StructureSetLabel"]
    dataset.save_as(out)
    assert "Error" in call("dciodvfy", out)


def test_plastimatch_fills_the_same_voxels(
    exam: SourceSeries, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    """Contours on an oblique series: holes, islands, the border, a single voxel."""
    given = structures(oblique_ct)
    write_structures(given, tmp_path / "x.dcm", exam, "rtstruct")
    call(
        *("plastimatch", "convert", "--input", tmp_path / "x.dcm"),
        *("--referenced-ct", tmp_path / "ct", "--output-prefix", tmp_path / "out"),
        *("--prefix-format", "nrrd"),
    )
    files = {file.stem: file for file in (tmp_path / "out").iterdir()}
    assert len(files) == len(given)
    for one in given:
        (file,) = [path for stem, path in files.items() if stem[-3:] == one.name[-3:]]
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(file))) != 0
        assert np.array_equal(found, inside(one.mask, oblique_ct)), one.name
