"""Expert points and label maps are checked before anything slow is done."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import Case

from landmark_dir.comparison.references import Judges, described, load_judges
from landmark_dir.errors import BadPoints, BadVolume
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.registration.inputs import Inputs, load_inputs


@pytest.fixture(scope="module")
def inputs(case: Case) -> Inputs:
    return load_inputs(case.phantom.fixed, case.phantom.moving, None, None, RegisterOptions())


def test_files_are_named_as_the_columns_of_cases(
    inputs: Inputs, case: Case, case_files: Path, tmp_path: Path
) -> None:
    maps = tmp_path / "fixed.nrrd", tmp_path / "moving.nrrd"
    sitk.WriteImage(case.phantom.fixed_labels, str(maps[0]))
    sitk.WriteImage(case.phantom.moving_labels, str(maps[1]))
    points = case_files / "judges_fixed.txt", case_files / "judges_moving.txt"
    judges = load_judges(points, maps, inputs)
    assert len(judges.expert) == len(case.judges)
    assert judges.labels is not None
    want = ["fixed_points", "moving_points", "fixed_labels", "moving_labels"]
    assert list(described(judges.files)) == want
    assert len({file["sha256"] for file in described(judges.files).values()}) == 4


def test_nothing_judges_where_nothing_is_given(inputs: Inputs, case: Case) -> None:
    judges = load_judges(None, None, inputs)
    assert (len(judges.expert), judges.labels, judges.files) == (0, None, {})
    given = load_judges(case.judges, None, inputs)
    assert isinstance(given, Judges)
    assert given.files == {}


def test_points_that_do_not_fit_are_refused(inputs: Inputs, case: Case) -> None:
    far = [side + [0, 0, 600] for side in (case.judges.fixed, case.judges.moving)]
    with pytest.raises(BadPoints, match="200 of 200 fixed points lie outside the fixed image"):
        load_judges(PointPairs(*far, case.judges.score), None, inputs)


def test_label_maps_that_do_not_fit_are_refused(inputs: Inputs, case: Case) -> None:
    fixed, moving = case.phantom.fixed_labels, case.phantom.moving_labels
    with pytest.raises(BadVolume, match="fixed labels: its voxels are not those of its image"):
        load_judges(None, (moving, fixed), inputs)
    with pytest.raises(BadVolume, match="moving labels: expected labels, found"):
        load_judges(None, (fixed, inputs.moving), inputs)
    other = sitk.Cast(moving > 0, sitk.sitkUInt8) * 200
    assert 200 not in np.unique(sitk.GetArrayViewFromImage(fixed))
    with pytest.raises(BadVolume, match="no label in common"):
        load_judges(None, (fixed, other), inputs)
