"""Expert points and label maps are checked before anything slow is done."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from small_pairs import Case

from landmark_dir.comparison.references import References, load_references
from landmark_dir.errors import BadPoints, BadVolume
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.registration.inputs import Inputs, load_inputs


@pytest.fixture(scope="module")
def inputs(case: Case) -> Inputs:
    return load_inputs(case.phantom.fixed, case.phantom.moving, RegisterOptions())


def test_files_are_named_as_the_columns_of_cases(
    inputs: Inputs, case: Case, case_files: Path, tmp_path: Path
) -> None:
    maps = tmp_path / "fixed.nrrd", tmp_path / "moving.nrrd"
    sitk.WriteImage(case.phantom.fixed_labels, str(maps[0]))
    sitk.WriteImage(case.phantom.moving_labels, str(maps[1]))
    points = case_files / "judges_fixed.txt", case_files / "judges_moving.txt"
    references = load_references(points, maps, inputs)
    assert len(references.expert) == len(case.judges)
    assert references.labels is not None
    want = ["fixed_points", "moving_points", "fixed_labels", "moving_labels"]
    assert list(references.files) == want


def test_nothing_is_measured_where_nothing_is_given(inputs: Inputs, case: Case) -> None:
    references = load_references(None, None, inputs)
    assert (len(references.expert), references.labels, references.files) == (0, None, {})
    given = load_references(case.judges, None, inputs)
    assert isinstance(given, References)
    assert given.files == {}


def test_points_that_do_not_fit_are_refused(inputs: Inputs, case: Case) -> None:
    far = [side + [0, 0, 600] for side in (case.judges.fixed, case.judges.moving)]
    with pytest.raises(BadPoints, match="200 of 200 fixed points lie outside the fixed image"):
        load_references(PointPairs(*far, case.judges.score), None, inputs)


def test_label_maps_that_do_not_fit_are_refused(inputs: Inputs, case: Case) -> None:
    fixed, moving = case.phantom.fixed_labels, case.phantom.moving_labels
    with pytest.raises(BadVolume, match="fixed labels: its voxels are not those of its image"):
        load_references(None, (moving, fixed), inputs)
    with pytest.raises(BadVolume, match="moving labels: expected labels, found"):
        load_references(None, (fixed, inputs.moving), inputs)
    other = sitk.Cast(moving > 0, sitk.sitkUInt8) * 200
    assert 200 not in np.unique(sitk.GetArrayViewFromImage(fixed))
    with pytest.raises(BadVolume, match="no label in common"):
        load_references(None, (fixed, other), inputs)
