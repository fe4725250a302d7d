"""A pair that is no CT: registered as seen, given back with its own grey values; real engine."""

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from small_pairs import Case

from landmark_dir.comparison import compare
from landmark_dir.comparison.compare import Comparison
from landmark_dir.geometry import distances_mm
from landmark_dir.io import run_folder
from landmark_dir.io.volumes import write_volume
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.pipeline import register
from landmark_dir.registration.result import Result, open_run
from training.followups.modality import as_modality

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("few_iterations")]

ALONE = RegisterOptions.of(landmarks=False, threads=1, align="world")


@pytest.fixture(scope="module")
def run(case: Case, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """The pair as MR-like images, from files, and its moving file."""
    folder = tmp_path_factory.mktemp("mr")
    files = {"fixed": folder / "fixed.nii.gz", "moving": folder / "moving.nii.gz"}
    for seed, side in enumerate(files):
        write_volume(as_modality(getattr(case.phantom, side), "mr-t1", seed), files[side])
    return register(files["fixed"], files["moving"], folder / "run", ALONE), files["moving"]


def test_the_affine_stage_comes_as_near_as_on_ct(
    run: tuple[Result, Path], case: Case, tmp_path: Path
) -> None:
    ct = register(case.phantom.fixed, case.phantom.moving, tmp_path / "run", ALONE)
    mapped = (one.chain.affine().map_points(case.judges.fixed) for one in (run[0], ct))
    mr_mm, ct_mm = (distances_mm(points, case.judges.moving).mean() for points in mapped)
    assert mr_mm < 1.2 * ct_mm < 1.2 * distances_mm(case.judges.fixed, case.judges.moving).mean()


def test_the_warped_image_has_its_own_grey_values(run: tuple[Result, Path]) -> None:
    result, moving = run
    own = sitk.GetArrayFromImage(sitk.ReadImage(str(moving)))
    warped = sitk.GetArrayFromImage(result.warped)
    assert warped.min() >= own.min() - 100  # of a spline's ringing
    assert abs(np.percentile(warped, 90) - np.percentile(own, 90)) < 0.1 * own.max()


def test_the_record_says_how_they_were_taken(run: tuple[Result, Path]) -> None:
    record = run_folder.read_run_json(run[0].folder)
    for side in ("fixed", "moving"):
        values = record["inputs"][side]["grey_values"]
        assert values["darkest"] < values["edge"] < values["brightest"]
    assert all("taken as another modality" in text for text in record["warnings"])
    for name in ("correlation", "correlation_affine", "correlation_before"):
        assert record["metrics"][name] is run[0].metrics[name] is None
    page = (run[0].folder / run_folder.REPORT).read_text("utf-8")
    assert "no CT: grey values put on the scale of CT" in page
    assert '"unit":""' in page
    assert not re.search(r"\bnan\b", page.split("<script")[0], re.IGNORECASE)
    for result in (run[0], open_run(run[0].folder)):
        assert "correlation" not in result.summary()


def test_a_comparison_shows_both_arms_on_the_scale_of_the_fixed_image(
    run: tuple[Result, Path],
) -> None:
    comparison = Comparison(None, None, {}, dict.fromkeys(("without", "with"), run[0]), {})
    shown = compare._told(comparison, "with").warped
    assert shown is not None
    assert sitk.GetArrayViewFromImage(shown).min() == -1024
    assert sitk.GetArrayViewFromImage(shown).max() == 2000


def test_a_run_is_shown_alike_when_made_and_when_opened(run: tuple[Result, Path]) -> None:
    made, opened = run[0], open_run(run[0].folder)
    fixed = [result.fixed for result in (made, opened)]
    pictures = [
        sitk.GetArrayFromImage(result.on_ct_scale(image, "fixed"))
        for result, image in zip((made, opened), fixed, strict=True)
        if image is not None
    ]
    assert len(pictures) == 2
    assert (pictures[0] == pictures[1]).all()
    assert pictures[0].min() == -1024
    assert "<img" in opened._repr_html_()
