"""Both arms of a comparison, on a phantom that the network can see."""

import json
import math
from pathlib import Path

import pytest
from numpy.testing import assert_allclose

from landmark_dir import rundir
from landmark_dir.applying import warp_points
from landmark_dir.compare import ARMS, Comparison, demo
from landmark_dir.metrics import distances_mm
from landmark_dir.options import RegisterOptions
from landmark_dir.parameters import read_parameters
from landmark_dir.phantom import PhantomOptions
from landmark_dir.points import read_pairs

ROWS = ["before", "affine", "without", "with"]
OPTIONS = RegisterOptions(backend="executable", threads=1)
SMALL = PhantomOptions(size_xyz=(104, 80, 24), spacing_mm=(3.0, 3.0, 6.0))


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What the demo says while it runs."""
    return []


@pytest.fixture(scope="module")
def comparison(
    few_iterations: None, told: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Comparison:
    out = tmp_path_factory.mktemp("compare") / "demo"
    return demo(out, OPTIONS, phantom_options=SMALL, say=told.append)


@pytest.mark.engine
def test_the_table_has_four_rows_and_the_arms_improve(comparison: Comparison) -> None:
    head, *rows = comparison.table().splitlines()
    assert head.split() == ["TRE", "(mm)", "mean", "median", "p95", "max", "folded", "landmarks"]
    assert [row.split()[0] for row in rows] == ROWS == list(comparison.tre_mm)
    mean = {name: tre.mean for name, tre in comparison.tre_mm.items()}
    assert mean["affine"] < 0.7 * mean["before"]
    assert mean["without"] < mean["affine"]
    assert math.isfinite(mean["with"])
    assert mean["with"] < mean["affine"]


@pytest.mark.engine
def test_both_arms_are_run_folders_on_one_affine(comparison: Comparison) -> None:
    folders = [comparison.results[arm].folder for arm in ARMS]
    affine = [read_parameters(folder / "transform.1.txt") for folder in folders]
    assert affine[0]["Transform"] == ("AffineTransform",)
    assert affine[0] == affine[1]
    for folder in folders:
        assert comparison.results[folder.name].transform.is_file()
        for name in (rundir.WARPED, rundir.TRANSFORM, rundir.RUN_JSON, rundir.REPORT, rundir.LOG):
            assert (folder / name).is_file()
    without, with_ = (rundir.read_run_json(folder) for folder in folders)
    assert (without["options"]["landmarks"], with_["options"]["landmarks"]) == (False, True)
    assert (without["weights"], "landmarks" in without["seconds"]) == (None, False)
    assert with_["metrics"]["landmarks"] >= OPTIONS.min_landmarks
    assert not (folders[0] / rundir.FIXED_POINTS).exists()
    assert (folders[1] / rundir.FIXED_POINTS).is_file()


@pytest.mark.engine
def test_json_and_files_agree_with_the_table(comparison: Comparison) -> None:
    out = comparison.results["with"].folder.parent
    assert [file.name for file in out.parent.iterdir()] == ["demo"]
    written = json.loads((out / rundir.COMPARISON_JSON).read_text())
    assert list(written["tre_mm"]) == ROWS
    for name, tre in comparison.tre_mm.items():
        assert written["tre_mm"][name] == tre._asdict()
    truth = read_pairs(out / "truth_fixed.txt", out / "truth_moving.txt")
    mapped = warp_points(out / "with", truth.fixed, backend="executable")
    again = distances_mm(mapped, truth.moving).mean()
    assert_allclose(again, comparison.tre_mm["with"].mean, atol=1e-4)  # mm, rounding of files
    assert (out / "fixed.nii.gz").is_file()


@pytest.mark.engine
def test_progress_names_the_arm(comparison: Comparison, told: list[str]) -> None:
    stages = list(dict.fromkeys(text.split(":")[0] for text in told))
    assert stages.index("landmarks") < stages.index("without landmarks, b-spline")
    assert stages[-1] == "with landmarks, report"


@pytest.mark.engine
@pytest.mark.slow
def test_the_demo_runs_as_shipped(tmp_path: Path) -> None:
    comparison = demo(tmp_path / "demo")
    assert comparison.tre_mm["with"].mean < 2.0  # mm; voxels are 2 x 2 x 4
