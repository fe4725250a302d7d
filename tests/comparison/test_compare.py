"""Both arms of a comparison, on a phantom that the network can see."""

import csv
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose
from small_pairs import Case

from landmark_dir.comparison.compare import ARMS, Comparison, compare, demo
from landmark_dir.elastix.transform_files import read_chain
from landmark_dir.errors import BadArgument, BadPoints
from landmark_dir.geometry import distances_mm
from landmark_dir.io import run_folder
from landmark_dir.io.point_files import read_pairs
from landmark_dir.options import RegisterOptions
from landmark_dir.phantom.scanner import PhantomOptions
from landmark_dir.points import PointPairs
from landmark_dir.registration.apply import warp_points

ROWS = ["before", "affine", "without", "with"]
OPTIONS = RegisterOptions.of(threads=1)
SMALL = PhantomOptions(size_xyz=(104, 80, 24), spacing_mm=(3.0, 3.0, 6.0))


@pytest.fixture(scope="module")
def told() -> list[tuple[str, float]]:
    """What the demo says while it runs."""
    return []


@pytest.fixture(scope="module")
def comparison(
    few_iterations: None, told: list[tuple[str, float]], tmp_path_factory: pytest.TempPathFactory
) -> Comparison:
    out = tmp_path_factory.mktemp("compare") / "demo"
    return demo(
        out,
        OPTIONS,
        phantom_options=SMALL,
        progress=lambda stage, fraction: told.append((stage, fraction)),
    )


@pytest.mark.engine
def test_the_arms_improve_at_points_that_guided_neither(comparison: Comparison) -> None:
    assert comparison.expert is not None
    assert comparison.held_back is not None
    for at in (comparison.expert, comparison.held_back):
        assert list(at.summaries) == ROWS
        mean = {name: of.mean for name, of in at.summaries.items()}
        assert mean["affine"] < 0.7 * mean["before"]
        assert mean["without"] < mean["affine"]
        assert mean["with"] < mean["affine"]
        assert at.difference.pairs == at.summaries["with"].points
        assert at.difference.mean == pytest.approx(mean["with"] - mean["without"])
    for arm, result in comparison.results.items():
        held_back = comparison.held_back.summaries[arm]
        assert result.metrics["held_back_mm"]["mean"] == pytest.approx(held_back.mean, abs=1e-3)


@pytest.mark.engine
def test_the_table_shows_what_is_known(comparison: Comparison) -> None:
    blocks = comparison.table().split("\n\n")
    heads = [block.split("\n")[0].split()[0] for block in blocks]
    assert heads == ["TRE", "held", "correlation", "Over"]
    tre = [line.split() for line in blocks[0].split("\n")[1:5]]
    assert [row[0] for row in tre] == ROWS
    assert [row[1] for row in tre] == [f"{of.mean:.2f}" for of in comparison.tre_mm.values()]
    assert "no independent truth" in blocks[-1]
    assert re.fullmatch(r"<Comparison: without [a-z ]+, with [a-z ]+>", repr(comparison))
    seconds = comparison.seconds
    assert 0 < seconds["without"] < seconds["with"]


@pytest.mark.engine
def test_both_arms_are_run_folders_on_one_affine(comparison: Comparison) -> None:
    folders = [comparison.results[arm].folder for arm in ARMS]
    chains = [read_chain(folder / run_folder.TRANSFORM) for folder in folders]
    kinds = [[parameters["Transform"][0] for parameters in chain] for chain in chains]
    assert kinds[0] == ["RecursiveBSplineTransform", "AffineTransform", "AffineTransform"]
    assert kinds[1] == [
        kinds[0][0],
        "RecursiveBSplineTransform",
        *kinds[0][1:],
    ]  # from the landmarks
    moved = [chain[-2]["TransformParameters"] for chain in chains]
    assert moved[0] == moved[1]
    for folder in folders:
        assert comparison.results[folder.name].transform_file.is_file()
        for name in (
            run_folder.WARPED,
            run_folder.TRANSFORM,
            run_folder.RUN_JSON,
            run_folder.REPORT,
            run_folder.PREVIEW,
            run_folder.LOG,
        ):
            assert (folder / name).is_file()
    without, with_ = (run_folder.read_run_json(folder) for folder in folders)
    assert (without["options"]["landmarks"], with_["options"]["landmarks"]) == (False, True)
    assert (without["weights"], "landmarks" in without["seconds"]) == (None, False)
    assert with_["metrics"]["landmarks"] >= OPTIONS.guides.min_landmarks
    assert not (folders[0] / run_folder.FIXED_POINTS).exists()
    assert (folders[1] / run_folder.FIXED_POINTS).is_file()


@pytest.mark.engine
def test_an_arm_without_landmarks_is_not_blamed_for_having_none(comparison: Comparison) -> None:
    without = comparison.results["without"]
    assert not any("litre" in reason for reason in without.verdict.reasons)
    assert run_folder.read_run_json(without.folder)["metrics"]["matched_per_litre"] is None
    assert comparison.results["with"].metrics["matched_per_litre"] > 300


@pytest.mark.engine
def test_json_and_files_agree_with_the_table(comparison: Comparison) -> None:
    out = comparison.results["with"].folder.parent
    assert [file.name for file in out.parent.iterdir()] == ["demo"]
    written = json.loads((out / run_folder.COMPARISON_JSON).read_text())
    assert list(written["states"]) == ROWS
    for name, tre in comparison.tre_mm.items():
        assert written["states"][name]["tre_mm"] == tre._asdict()
    with (out / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ROWS
    for row, tre in zip(rows, comparison.tre_mm.values(), strict=True):
        assert float(row["tre_mm_worst30"]) == pytest.approx(tre.worst30, abs=1e-6)
    truth = read_pairs(out / "truth_fixed.txt", out / "truth_moving.txt")
    before = distances_mm(truth.fixed, truth.moving).mean()  # it starts from world coordinates
    assert_allclose(before, comparison.tre_mm["before"].mean, atol=1e-4)
    mapped = warp_points(out / "with", truth.fixed)
    again = distances_mm(mapped, truth.moving).mean()
    assert_allclose(again, comparison.tre_mm["with"].mean, atol=1e-4)  # mm, rounding of files
    assert (out / "fixed.nii.gz").is_file()
    page = (out / run_folder.REPORT).read_text()
    assert '"name":"without landmarks"' in page
    assert '"name":"with landmarks"' in page
    assert '"name":"affine only"' in page
    assert "Landmarks helped: " in page
    assert comparison.table().splitlines()[-1] in html.unescape(page)  # the caveats, too


@pytest.mark.engine
def test_progress_names_the_arm(comparison: Comparison, told: list[tuple[str, float]]) -> None:
    stages = list(dict.fromkeys(stage.split(":")[0] for stage, _ in told))
    assert stages.index("landmarks") < stages.index("without landmarks, b-spline")
    assert stages[-3:] == ["with landmarks, report", "comparison", "done"]
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


@pytest.mark.engine
@pytest.mark.usefixtures("few_iterations")
def test_swapped_expert_points_are_refused(case: Case, tmp_path: Path) -> None:
    moving = shifted(case.phantom.moving, 60.0)
    truth = PointPairs(case.judges.moving + [60.0, 0, 0], case.judges.fixed, case.judges.score)
    options = RegisterOptions.of(threads=1, align="centers")
    with pytest.raises(BadPoints, match="swapped"):
        compare(case.phantom.fixed, moving, tmp_path / "run", options, expert=truth)
    assert not list(tmp_path.iterdir())


def shifted(image: sitk.Image, mm: float) -> sitk.Image:
    moved = sitk.Image(image)
    moved.SetOrigin((np.array(image.GetOrigin()) + [mm, 0, 0]).tolist())
    return moved


@pytest.mark.parametrize(
    "options",
    [
        RegisterOptions.of(landmarks=False),
        RegisterOptions.of(preset="points-only"),
    ],
)
def test_options_that_leave_no_choice_are_refused(options: RegisterOptions, tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="leave landmarks on"):
        compare("fixed.nii", "moving.nii", tmp_path / "run", options)
    assert not list(tmp_path.iterdir())


@pytest.mark.engine
@pytest.mark.slow
def test_the_demo_runs_as_shipped(tmp_path: Path) -> None:
    comparison = demo(tmp_path / "demo")
    assert comparison.tre_mm["with"].mean < 2.0  # mm; voxels are 2 x 2 x 4
