"""Metal and padding change what neither a registration nor its verdict finds; real engine."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from small_pairs import Case

from landmark_dir.geometry import distances_mm
from landmark_dir.io import run_folder
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.pipeline import register
from landmark_dir.registration.result import Result

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("few_iterations")]

ALONE = RegisterOptions.of(landmarks=False, threads=1)


def with_metal(image: sitk.Image, place_xyz: tuple[int, ...]) -> sitk.Image:
    """A block of 2 x 2 x 4 voxels of metal, in int16."""
    changed = sitk.Cast(image, sitk.sitkInt16)
    x, y, z = place_xyz
    changed[x : x + 2, y : y + 2, z : z + 4] = 30_000
    return changed


def with_padding(image: sitk.Image, value: int) -> sitk.Image:
    """The corners of all slices padded, in int16."""
    changed = sitk.GetArrayFromImage(sitk.Cast(image, sitk.sitkInt16))
    rows, columns = changed.shape[1:]
    beyond = np.hypot(*np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]) > 1
    changed[:, beyond] = value
    padded = sitk.GetImageFromArray(changed)
    padded.CopyInformation(image)
    return padded


def tre_mm(result: Result, case: Case) -> float:
    """Mean error at points that never guided."""
    mapped = result.chain.map_points(case.judges.fixed)
    return float(distances_mm(mapped, case.judges.moving).mean())


@pytest.fixture(scope="module")
def plain(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The pair as it is, without landmarks."""
    out = tmp_path_factory.mktemp("plain") / "run"
    return register(case.phantom.fixed, case.phantom.moving, out, ALONE)


def test_padding_changes_little_and_stays_in_the_warped_image(
    plain: Result, case: Case, tmp_path: Path
) -> None:
    images = (with_padding(i, -32_768) for i in (case.phantom.fixed, case.phantom.moving))
    result = register(*images, tmp_path / "run", ALONE)
    assert tre_mm(result, case) < tre_mm(plain, case) + 0.5
    assert result.verdict.verdict == plain.verdict.verdict == "not checked"
    for name in ("correlation", "correlation_affine", "correlation_before"):
        assert result.metrics[name] == pytest.approx(plain.metrics[name], abs=0.03)
    warped = sitk.GetArrayViewFromImage(result.warped)
    assert (warped == -32_768).any()
    assert warped[warped != -32_768].min() >= -1100  # nothing between padding and air
    assert "DefaultPixelValue -32768" in result.transform_file.read_text()
    assert run_folder.read_run_json(result.folder)["warnings"] == []


def test_metal_in_one_image_does_not_lead_astray_and_keeps_its_values(
    plain: Result, case: Case, tmp_path: Path
) -> None:
    moving = with_metal(case.phantom.moving, (28, 22, 16))
    result = register(case.phantom.fixed, moving, tmp_path / "run", ALONE)
    assert tre_mm(result, case) < tre_mm(plain, case) + 1.0  # 6.6 mm more without clipping
    assert result.verdict.verdict == plain.verdict.verdict
    assert sitk.GetArrayViewFromImage(result.warped).max() > 15_000


def test_an_offset_stands_in_run_json(case: Case, tmp_path: Path) -> None:
    moving = sitk.Cast(case.phantom.moving, sitk.sitkInt16) + 1024
    result = register(case.phantom.fixed, moving, tmp_path / "run", ALONE)
    (warning,) = run_folder.read_run_json(result.folder)["warnings"]
    assert "moving: looks like HU + 1024" in warning
