"""The whole way, on real engines and small phantoms whose truth is known."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose
from PIL import Image
from small_pairs import Case, make_case

import landmark_dir
from landmark_dir.elastix.engines import available
from landmark_dir.errors import BadArgument, BadPoints, BadVolume
from landmark_dir.evaluation.overlap import dice
from landmark_dir.geometry import distances_mm, inside, same_grid
from landmark_dir.io import run_folder
from landmark_dir.io.point_files import read_elastix_points
from landmark_dir.io.slicer_points import read_markups
from landmark_dir.options import PRESETS, RegisterOptions
from landmark_dir.phantom.scanner import LABELS, rotation
from landmark_dir.points import PointPairs
from landmark_dir.registration import pipeline
from landmark_dir.registration.apply import warp, warp_points
from landmark_dir.registration.pipeline import Result, register

ALONE = RegisterOptions.of(landmarks=False, threads=1)
GUIDED = RegisterOptions.of(landmark_weight=(1.0,) * 3, threads=1)
CONTRACT = {
    run_folder.WARPED,
    run_folder.FIXED_POINTS,
    run_folder.MOVING_POINTS,
    run_folder.LANDMARKS_CSV,
    run_folder.FIXED_MARKUPS,
    run_folder.MOVING_MARKUPS,
    run_folder.TRANSFORM,
    run_folder.RUN_JSON,
    run_folder.REPORT,
    run_folder.PREVIEW,
    run_folder.LOG,
}

pytestmark = pytest.mark.usefixtures("few_iterations")


def tre_mm(run: Path, case: Case) -> float:
    """Mean error at points that never guided."""
    mapped = warp_points(run, case.judges.fixed)
    return float(distances_mm(mapped, case.judges.moving).mean())


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threads": 0}, "threads: expected 1 to 1024, found 0"),
        ({"seed": 0}, "seed: expected 1 to 2147483647, found 0"),
        ({"search_mm": -1.0}, "search_mm: expected 0 to 1000, found -1"),
        ({"search_mm": float("nan")}, "search_mm: .* found nan"),
        ({"min_score": 1.5}, "min_score: expected 0 to 1, found 1.5"),
        ({"max_landmarks": 0}, "max_landmarks: expected 1 to"),
        ({"max_landmarks": 29}, r"at least min_landmarks \(30\), found 29"),
        ({"landmark_weight": (0.1, 0.2)}, "one number, or one for each of 3 resolutions, found 2"),
        ({"landmark_weight": (-0.1,)}, "landmark_weight: expected 0 or more, found"),
        ({"landmark_weight": (float("nan"),)}, "landmark_weight: expected 0 or more"),
        ({"landmark_weight": ()}, "a tuple of one or more numbers"),
        ({"preset": "brain"}, "preset: expected one of default, fast, .*, found 'brain'"),
        (
            {"preset": "points-only", "landmarks": False},
            "is made of landmarks alone",
        ),
        ({"hold_back": 0.6}, "hold_back: expected 0 to 0.5, found 0.6"),
        ({"passes": 0}, "passes: expected 1 to 10, found 0"),
        ({"robust": True}, "robust: unknown option"),
        ({"bending_energy": -1.0}, "bending_energy: expected 0 or more, found -1.0"),
        ({"bending_energy": float("nan")}, "bending_energy: expected 0 or more, found nan"),
        ({"threads": True}, "threads: expected a whole number, found True"),
        ({"preset": None}, "preset: expected one of"),
        ({"matching": 3}, r"matching: expected MatchingOptions\(...\), found 3"),
        ({"backend": "ants"}, "backend: expected one of auto, itkelastix"),
        ({"align": "moments"}, "align: expected one of auto, world, centers"),
        ({"on_few_landmarks": "ignore"}, "on_few_landmarks: expected one of"),
        ({"device": "tpu"}, "device: expected one of"),
    ],
)
def test_bad_options_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadArgument, match=said):
        RegisterOptions.of(**change)  # type: ignore[arg-type]


def test_one_landmark_weight_is_for_all_resolutions() -> None:
    assert RegisterOptions.of(landmark_weight=(0.2,)).metric_weights() == (0.2, 0.2, 0.2)
    assert RegisterOptions.of(landmark_weight=(3, 2, 1)).metric_weights() == (3, 2, 1)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_says_what_is_not_asked_for(preset: str) -> None:
    plain = RegisterOptions.of(preset=preset)
    assert plain.most_landmarks() == PRESETS[preset].landmarks
    assert plain.match_passes() == PRESETS[preset].passes
    asked = RegisterOptions.of(preset=preset, max_landmarks=77, passes=4)
    assert (asked.most_landmarks(), asked.match_passes()) == (77, 4)


# --- a guided run, seen from all sides ----------------------------------------------------------


@pytest.fixture(scope="module")
def guided(case: Case, case_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A finished run, guided by true points given as files."""
    return register(
        case_files / "fixed.nii.gz",
        case_files / "moving.nii.gz",
        tmp_path_factory.mktemp("guided") / "run",
        GUIDED,
        points=(case_files / "guides_fixed.txt", case_files / "guides_moving.txt"),
    )


@pytest.fixture(scope="module")
def alone(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The same without landmarks."""
    out = tmp_path_factory.mktemp("alone") / "run"
    return register(case.phantom.fixed, case.phantom.moving, out, ALONE)


@pytest.mark.engine
def test_points_bring_it_far_nearer_to_the_truth(guided: Result, alone: Result, case: Case) -> None:
    before = distances_mm(case.judges.fixed, case.judges.moving).mean()
    assert tre_mm(alone.folder, case) < 0.5 * before
    assert tre_mm(guided.folder, case) < 0.4 * tre_mm(alone.folder, case)
    assert guided.metrics["residual_mm"]["mean"] < 1.0  # mm; voxels are 6 mm
    assert guided.metrics["folded_share"] == 0


@pytest.mark.engine
def test_run_folder_keeps_the_contract(guided: Result, case: Case) -> None:
    files = {file.name for file in guided.folder.iterdir()}
    assert files - {"transform.1.txt", "transform.2.txt"} == CONTRACT
    for name in (run_folder.FIXED_POINTS, run_folder.MOVING_POINTS):
        assert (guided.folder / name).read_text().splitlines()[:2] == ["point", "1000"]
    assert_allclose(
        read_markups(guided.folder / run_folder.FIXED_MARKUPS).points, case.guides.fixed, atol=1e-5
    )
    assert guided.transform_file == guided.folder.absolute() / run_folder.TRANSFORM
    assert [f.name for f in guided.folder.parent.iterdir()] == ["run"]


@pytest.mark.engine
def test_the_preview_shows_fixed_before_and_after(guided: Result) -> None:
    picture = Image.open(guided.folder / run_folder.PREVIEW).convert("L")
    fixed, before, after = np.split(np.asarray(picture, float), 3, axis=1)
    assert fixed.shape[0] == 200
    assert np.abs(after - fixed).mean() < 0.7 * np.abs(before - fixed).mean()


@pytest.mark.engine
def test_run_folder_without_landmarks_has_no_point_files(alone: Result) -> None:
    files = {file.name for file in alone.folder.iterdir()}
    points = {name for name in CONTRACT if name.startswith("landmarks")}
    assert files - {"transform.1.txt", "transform.2.txt"} == CONTRACT - points
    run = run_folder.read_run_json(alone.folder)
    assert run["weights"] is None
    assert "torch" not in run["versions"]
    assert "residual" not in alone.summary()
    assert run["verdict"]["verdict"] == "not checked"


@pytest.mark.engine
def test_run_json_tells_how_it_came_to_be(guided: Result, case_files: Path) -> None:
    run = run_folder.read_run_json(guided.folder)
    assert run["landmark_dir"] == landmark_dir.__version__
    assert {"python", "SimpleITK", "itkelastix"} <= set(run["versions"])
    assert run["options"]["seed"] == GUIDED.compute.seed
    assert run["seconds"]["b-spline"] > 0
    assert run["seconds"].keys() == run["cpu_seconds"].keys()
    assert run["cpu_seconds"]["b-spline"] > 0.1  # most of it in the process of the engine
    for name, file in (("fixed", "fixed.nii.gz"), ("moving_points", "guides_moving.txt")):
        sha256 = hashlib.sha256((case_files / file).read_bytes()).hexdigest()
        assert run["inputs"][name]["sha256"] == sha256


@pytest.mark.engine
def test_warped_image_lies_on_the_fixed_grid(guided: Result, case: Case) -> None:
    written = sitk.ReadImage(str(guided.folder / run_folder.WARPED))
    assert same_grid(written, case.phantom.fixed)
    assert written.GetPixelID() == case.phantom.moving.GetPixelID()
    assert_allclose(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(guided.warped))
    assert guided.metrics["correlation"] > guided.metrics["correlation_before"] + 0.2


@pytest.mark.engine
def test_a_moved_run_warps_and_maps_as_before(
    guided: Result, case: Case, case_files: Path, tmp_path: Path
) -> None:
    mapped = warp_points(guided.folder, case.judges.fixed)
    home = Path(shutil.copytree(guided.folder, tmp_path / "first"))
    moved = Path(shutil.move(home, tmp_path / "else where"))
    assert_allclose(warp_points(moved, case.judges.fixed), mapped, atol=1e-6)
    warped = warp(moved, case_files / "moving.nii.gz")
    assert_allclose(sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(guided.warped))


@pytest.mark.engine
def test_labels_keep_their_values_and_overlap_better(guided: Result, case: Case) -> None:
    fixed, moving = case.phantom.fixed_labels, case.phantom.moving_labels
    warped = warp(guided.folder, moving, labels=True)
    before = sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkNearestNeighbor)
    values = np.unique(sitk.GetArrayViewFromImage(warped))
    assert set(values) <= set(np.unique(sitk.GetArrayViewFromImage(moving)))
    for organ in ("liver", "bone"):
        label = LABELS[organ]
        assert dice(fixed, warped, label) > dice(fixed, before, label) + 0.1


@pytest.mark.engine
@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (sitk.sitkUInt8, sitk.sitkUInt8),
        (sitk.sitkUInt16, sitk.sitkUInt16),
        (sitk.sitkUInt32, sitk.sitkUInt32),
        (sitk.sitkFloat32, sitk.sitkInt32),
    ],
)
def test_label_maps_keep_their_type(guided: Result, case: Case, kind: int, kept: int) -> None:
    factor = 1 if kind == sitk.sitkUInt8 else 3000
    labels = sitk.Cast(sitk.Cast(case.phantom.moving_labels, sitk.sitkUInt32) * factor, kind)
    warped = warp(guided.folder, labels, labels=True)
    assert warped.GetPixelID() == kept
    values = set(np.unique(sitk.GetArrayViewFromImage(warped)).tolist())
    assert values <= set(np.unique(sitk.GetArrayViewFromImage(labels)).tolist())
    assert len(values) > 5


@pytest.mark.engine
def test_labels_that_cannot_be_kept_are_refused(guided: Result, case: Case) -> None:
    halves = sitk.Cast(case.phantom.moving_labels, sitk.sitkFloat32) * 0.5
    with pytest.raises(BadVolume, match="found fractions"):
        warp(guided.folder, halves, labels=True)


@pytest.mark.engine
def test_swapped_points_are_told_by_the_affine_stage(case: Case, tmp_path: Path) -> None:
    moving = sitk.Image(case.phantom.moving)
    shift = np.array([0.0, 0.0, 40.0])
    moving.SetOrigin((np.array(moving.GetOrigin()) + shift).tolist())
    swapped = PointPairs(case.guides.moving + shift, case.guides.fixed, case.guides.score)
    inner = np.abs(swapped.fixed - swapped.fixed.mean(0)).max(1) < 60  # mm; inside both images
    with pytest.raises(BadPoints, match="they look swapped, give FIXED first"):
        register(case.phantom.fixed, moving, tmp_path / "run", GUIDED, points=swapped.select(inner))
    assert not (tmp_path / "run").exists()


@pytest.mark.engine
def test_same_seed_same_transform(guided: Result, case_files: Path, tmp_path: Path) -> None:
    images = case_files / "fixed.nii.gz", case_files / "moving.nii.gz"
    points = case_files / "guides_fixed.txt", case_files / "guides_moving.txt"
    again = register(*images, tmp_path / "run", GUIDED, points=points)
    assert again.transform_file.read_text() == guided.transform_file.read_text()


@pytest.mark.engine
def test_points_outside_are_warned_of(
    guided: Result, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    warp_points(guided.folder, case.judges.fixed[:3] + (0, 0, 5000))
    assert "3 of 3 points lie outside the fixed image" in caplog.text
    assert "RAS" not in caplog.text
    warp_points(guided.folder, case.judges.fixed[:3] * (-1, -1, 1))
    assert "; most lie inside if they are RAS" in caplog.text
    assert len(warp_points(guided.folder, np.zeros((0, 3)))) == 0


@pytest.mark.engine
def test_an_image_from_elsewhere_is_not_warped(guided: Result, case: Case, tmp_path: Path) -> None:
    far = sitk.Image(case.phantom.moving)
    far.SetOrigin((5000.0, 0.0, 0.0))
    with pytest.raises(BadVolume, match="wholly outside"):
        warp(guided.folder, far, tmp_path / "out.nii.gz")
    assert not list(tmp_path.iterdir())


# --- geometry, masks, starts --------------------------------------------------------------------

GEOMETRIES = {
    "oblique": {"direction": tuple(rotation((25, -20, 30)).ravel())},
    "flipped and anisotropic, one grid": {
        "direction": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
        "size_xyz": (64, 52, 20),
        "spacing_mm": (5.0, 5.0, 10.0),
        "own_grid": False,
    },
    "sagittal": {"direction": (0, 0, -1, -1, 0, 0, 0, -1, 0)},
}


@pytest.mark.engine
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_points_guide_in_any_geometry(geometry: dict[str, object], tmp_path: Path) -> None:
    case = make_case(**geometry)
    phantom = case.phantom
    register(phantom.fixed, phantom.moving, tmp_path / "run", GUIDED, points=case.guides)
    assert tre_mm(tmp_path / "run", case) < 1.0  # mm; without points it is about 3


def shifted(image: sitk.Image, shift_mm: tuple[float, float, float]) -> sitk.Image:
    moved = sitk.Image(image)
    moved.SetOrigin(tuple(np.add(image.GetOrigin(), shift_mm)))
    return moved


@pytest.mark.engine
def test_centers_are_aligned_where_the_world_does_not_meet(case: Case, tmp_path: Path) -> None:
    shift = (0.0, 120.0, 300.0)  # mm
    far = shifted(case.phantom.moving, shift)
    with pytest.raises(BadVolume, match=r"overlap in 0%.*--align centers"):
        register(case.phantom.fixed, far, tmp_path / "run", ALONE, align="world")
    options = RegisterOptions.of(landmarks=False, align="centers", threads=1)
    result = register(case.phantom.fixed, far, tmp_path / "run", options)
    mapped = warp_points(result.folder, case.judges.fixed)
    assert distances_mm(mapped, case.judges.moving + shift).mean() < 5.0  # mm; 10 at the start
    assert result.metrics["correlation_before"] > 0.1  # the start is that of the centres
    assert "NaN" not in (result.folder / run_folder.RUN_JSON).read_text()


@pytest.mark.engine
def test_a_far_and_turned_image_is_found_without_landmarks_too(case: Case, tmp_path: Path) -> None:
    turn, shift = np.diag([-1.0, 1.0, -1.0]), np.array([0.0, 120.0, 300.0])  # feet first; mm
    far = sitk.Image(case.phantom.moving)
    axes = np.reshape(far.GetDirection(), (3, 3))
    far.SetDirection((turn @ axes).ravel().tolist())
    far.SetOrigin((turn @ far.GetOrigin() + shift).tolist())
    result = register(case.phantom.fixed, far, tmp_path / "run", ALONE)
    mapped = warp_points(result.folder, case.judges.fixed)
    true = case.judges.moving @ turn.T + shift
    assert distances_mm(mapped, true).mean() < 5.0  # mm; 10 at the start
    start = run_folder.read_run_json(result.folder)["start"]
    assert start == result.start
    assert start["from"] == "landmarks"
    assert start["turn_degrees"] == pytest.approx(180, abs=5)
    assert start["agreeing"] >= 50
    assert "start from landmarks, turned by" in result.summary()


@pytest.mark.engine
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_few_slices_find_their_place(case: Case, side: str, tmp_path: Path) -> None:
    images = {name: getattr(case.phantom, name) for name in ("fixed", "moving")}
    images[side] = images[side][:, :, 16:22]  # 36 mm of 216
    result = register(images["fixed"], images["moving"], tmp_path / "run", ALONE)
    there = case.judges.select(
        inside(images["fixed"], case.judges.fixed) & inside(images["moving"], case.judges.moving)
    )
    mapped = warp_points(result.folder, there.fixed)
    assert distances_mm(mapped, there.moving).mean() < 6.0  # mm; 10 at the start


@pytest.mark.engine
def test_masks_and_no_affine(case: Case, case_files: Path, tmp_path: Path) -> None:
    masks = {}
    for side in ("fixed", "moving"):
        labels = getattr(case.phantom, f"{side}_labels")
        masks[f"{side}_mask"] = tmp_path / f"{side}_mask.nii.gz"
        sitk.WriteImage(labels > 0, str(masks[f"{side}_mask"]))
    options = RegisterOptions.of(affine=False, landmark_weight=(1.0,) * 3)
    images = case_files / "fixed.nii.gz", case_files / "moving.nii.gz"
    result = register(*images, tmp_path / "run", options, points=case.guides, **masks)
    assert tre_mm(result.folder, case) < 1.5  # mm
    run = run_folder.read_run_json(result.folder)
    assert "affine" not in run["seconds"]
    assert set(run["inputs"]) >= {"fixed_mask", "moving_mask"}


# --- the default engine, and what a run leaves alone --------------------------------------------

DEFAULT_RUN = """
import sys
import SimpleITK as sitk
from landmark_dir.registration import pipeline
from landmark_dir.registration import stages
from landmark_dir.options import RegisterOptions

folder, out = sys.argv[1:]
shipped = stages.bundled
stages.bundled = lambda name: {**shipped(name), "MaximumNumberOfIterations": ("40",)}
before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
result = pipeline.register(
    f"{folder}/fixed.nii.gz", f"{folder}/moving.nii.gz", out,
    RegisterOptions.of(threads=1),
    points=(f"{folder}/guides_fixed.txt", f"{folder}/guides_moving.txt"),
)
assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == before
print(sorted({"torch", "itk"} & set(sys.modules)))
"""


@pytest.mark.engine
def test_given_points_need_no_torch_and_threads_stay(case_files: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEFAULT_RUN, str(case_files), str(tmp_path / "run")],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]", done.stderr
    versions = json.loads((tmp_path / "run" / run_folder.RUN_JSON).read_text())["versions"]
    assert next(iter(available())) in versions


# --- the network --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen() -> Case:
    """A pair with voxels fine enough for the network; a short stack, to be quick."""
    return make_case(size_xyz=(104, 80, 14), spacing_mm=(3.0, 3.0, 6.0), displacement_mm=6.0)


@pytest.mark.engine
def test_landmarks_are_found_and_written(seen: Case, tmp_path: Path) -> None:
    import torch

    threads = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    options = RegisterOptions.of(threads=1)
    out = tmp_path / "run"
    pairs = pipeline.write_landmarks(seen.phantom.fixed, seen.phantom.moving, out, options)
    error = distances_mm(seen.phantom.to_moving(pairs.fixed), pairs.moving)
    assert np.median(error) < 4.0  # mm; 6 at the start, a slice is 6 thick
    missing = {run_folder.WARPED, run_folder.TRANSFORM, run_folder.PREVIEW}
    assert {file.name for file in out.iterdir()} == CONTRACT - missing
    assert_allclose(read_elastix_points(out / run_folder.FIXED_POINTS), pairs.fixed, atol=1e-5)
    run = run_folder.read_run_json(out)
    assert len(run["weights"]["sha256"]) == 64
    assert "torch" in run["versions"]
    assert threads == (
        torch.get_num_threads(),
        sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(),
    )


def test_points_and_no_landmarks_contradict(tmp_path: Path, case: Case) -> None:
    with pytest.raises(ValueError, match="--no-landmarks"):
        register(
            case.phantom.fixed,
            case.phantom.moving,
            tmp_path / "run",
            RegisterOptions.of(landmarks=False),
            points=case.guides,
        )
    assert not (tmp_path / "run").exists()
