"""A finished run in Python: opened again, looked at in a notebook, and wrong arguments refused."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from small_pairs import Case

import landmark_dir
from landmark_dir.errors import BadArgument, BadRunFolder, BadVolume
from landmark_dir.io.run_folder import TRANSFORM, WARPED
from landmark_dir.registration.apply import RESAMPLE_NOTE, resample_call
from landmark_dir.registration.result import Result


@pytest.fixture(scope="module")
def result(
    few_iterations: None, case: Case, case_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Result:
    """A run from files, guided by true points."""
    out = tmp_path_factory.mktemp("result") / "run"
    images = case_files / "fixed.nii.gz", case_files / "moving.nii.gz"
    return landmark_dir.register(*images, out, threads=1, points=case.guides)


@pytest.mark.engine
def test_the_transform_is_at_hand_and_its_file_under_another_name(
    result: Result, case: Case
) -> None:
    mapped = [result.transform.TransformPoint(point) for point in case.judges.fixed.tolist()]
    assert_allclose(mapped, landmark_dir.warp_points(result, case.judges.fixed), atol=1e-6)  # mm
    assert result.transform_file == result.folder / TRANSFORM
    assert result.transform_file.is_file()
    assert_array_equal(result.array, sitk.GetArrayFromImage(result.warped))
    assert result.displacement.GetNumberOfComponentsPerPixel() == 3
    assert 0.5 < sitk.GetArrayFromImage(result.jacobian).mean() < 2


@pytest.mark.engine
def test_a_run_is_opened_as_it_was_left(
    result: Result, case: Case, case_files: Path, tmp_path: Path
) -> None:
    again = landmark_dir.open_run(result.folder)
    assert again.verdict == result.verdict
    assert again.warnings == result.warnings
    assert again.metrics["correlation"] == result.metrics["correlation"]
    assert_array_equal(again.array, result.array)
    assert_allclose(again.landmarks.fixed, result.landmarks.fixed, atol=1e-6)  # six decimals
    points = case.judges.fixed
    assert_allclose(again.chain.map_points(points), result.chain.map_points(points), atol=1e-9)
    assert again.fixed is not None
    assert_array_equal(
        sitk.GetArrayFromImage(again.fixed), sitk.GetArrayFromImage(case.phantom.fixed)
    )
    warped = landmark_dir.warp(again, case_files / "moving.nii.gz")
    assert_array_equal(sitk.GetArrayFromImage(warped), result.array)
    with pytest.raises(BadRunFolder, match="expected a finished run folder"):
        landmark_dir.open_run(tmp_path)


@pytest.mark.engine
def test_it_is_short_in_print_and_shows_itself_in_a_notebook(result: Result) -> None:
    assert repr(result) == f"<Result {result.folder}: not checked, 1000 landmarks>"
    assert repr(result.landmarks) == "<PointPairs: 1000, score 1.00 to 1.00>"
    assert result.fixed is not None
    shown = result._repr_html_()
    assert "<b>not checked</b>" in shown
    assert result.verdict.reasons[0].split(";")[0] in shown
    data = shown.split("base64,")[1].split('"')[0]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    width = picture.shape[1] // 2
    assert len(np.unique(picture[:, :width])) > 20  # the fixed image
    assert len(np.unique(picture[:, width:])) > 20  # the warped one
    assert len(shown) < 200_000


@pytest.mark.engine
@pytest.mark.usefixtures("few_iterations")
def test_a_run_of_images_in_memory_is_shown_too(case: Case, tmp_path: Path) -> None:
    images = case.phantom.fixed, case.phantom.moving
    result = landmark_dir.register(*images, tmp_path / "run", threads=1, points=case.guides)
    assert result.fixed is not None
    again = landmark_dir.open_run(tmp_path / "run")
    assert again.fixed is None  # it was never a file
    assert "<img" in again._repr_html_()


@pytest.mark.engine
@pytest.mark.parametrize("name", ["t.h5", "t.tfm"])
def test_the_printed_call_makes_the_warped_image(
    result: Result, case_files: Path, name: str, tmp_path: Path
) -> None:
    landmark_dir.export(result, tmp_path / name)
    fixed, moving = (
        sitk.ReadImage(str(case_files / f"{side}.nii.gz")) for side in ("fixed", "moving")
    )
    call = resample_call(result, tmp_path / name)
    made = eval(call, {"sitk": sitk, "fixed": fixed, "moving": moving})
    values = sitk.GetArrayFromImage(moving)
    found = np.rint(sitk.GetArrayFromImage(made).clip(values.min(), values.max()))
    want = sitk.GetArrayFromImage(sitk.ReadImage(str(result.folder / WARPED)))
    assert all(word in RESAMPLE_NOTE for word in ("clip", "round"))  # as above
    assert_allclose(found, want, atol=1)  # HU, values half-way between two
    assert (found != want).mean() < 0.001


ARRAY = np.zeros((8, 8, 8))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda ct, out: landmark_dir.register(ARRAY, ct, out), "fixed: expected a SimpleITK"),
        (lambda ct, out: landmark_dir.register(ct, ARRAY, out), "moving: .*GetImageFromArray"),
        (lambda ct, out: landmark_dir.register(ct, None, out), "moving: .*found NoneType"),
        (lambda ct, out: landmark_dir.register(ct, ct, None), "out: expected the path"),
        (lambda ct, out: landmark_dir.register(ct, ct, out, {"threads": 1}), "options: expected"),
        (lambda ct, out: landmark_dir.register(ct, ct, out, thread=1), "thread: unknown option"),
        (
            lambda ct, out: landmark_dir.register(ct, ct, out, fixed_mask=ARRAY),
            "fixed mask: expected",
        ),
        (
            lambda ct, out: landmark_dir.register(ct, ct, out, points=(ARRAY[0], ARRAY[0])),
            "points: expected PointPairs, or two point files",
        ),
        (lambda ct, out: landmark_dir.register(ct, ct, out, points="a.txt"), "points: .*found str"),
        (lambda ct, out: landmark_dir.find_landmarks(ct, 3), "moving: .*found int"),
        (lambda ct, out: landmark_dir.compare(ct, ct, out, expert=3), "expert: .*found int"),
        (lambda ct, out: landmark_dir.match_slices([[1]], ARRAY[0]), "hu_1: .*found list"),
        (lambda ct, out: landmark_dir.match_slices(ARRAY[0], ARRAY), r"hu_2: .*shape \(8, 8, 8\)"),
        (lambda ct, out: landmark_dir.match_slices(ARRAY[:0, 0], ARRAY[0]), "hu_1: .*shape"),
        (lambda ct, out: landmark_dir.open_run(3), "run: expected the path of a run folder"),
        (lambda ct, out: landmark_dir.PointPairs([[1, 2]], [[1, 2, 3]]), r"fixed: .*\(N, 3\)"),
        (lambda ct, out: landmark_dir.PointPairs([["a"] * 3], [[1, 2, 3]]), "fixed: could not"),
    ],
)
def test_wrong_types_are_refused_by_the_name_of_the_argument(
    call: object, said: str, oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    with pytest.raises(BadArgument, match=said):
        call(oblique_ct, tmp_path / "run")  # type: ignore[operator]
    assert not list(tmp_path.iterdir())


def test_an_image_that_is_no_volume_is_named_as_the_argument(
    oblique_ct: sitk.Image, tmp_path: Path
) -> None:
    with pytest.raises(BadVolume, match="^moving: 24 x 20 voxels, expected one 3D volume"):
        landmark_dir.register(oblique_ct, oblique_ct[:, :, 0], tmp_path / "run")
