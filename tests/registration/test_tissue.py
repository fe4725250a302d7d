"""What must not deform, and tissue that is ignored because it changed."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner
from numpy.testing import assert_allclose
from small_pairs import Case

import landmark_dir
from landmark_dir.cli.main import main
from landmark_dir.errors import BadPoints, BadVolume
from landmark_dir.geometry import distances_mm, index_to_physical, shape_zyx, voxel_centres
from landmark_dir.io import run_folder
from landmark_dir.options import RegisterOptions
from landmark_dir.phantom.scanner import Phantom, PhantomOptions, make_phantom
from landmark_dir.registration.apply import export
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.pipeline import register
from landmark_dir.registration.result import open_run
from landmark_dir.registration.stages import inside_mask
from landmark_dir.transforms.fields import jacobian
from landmark_dir.transforms.rigid import parts, unrigid_mm

OPTIONS = RegisterOptions.of(threads=1)


def ball(image: sitk.Image, share: tuple[float, float, float], radius_mm: float) -> sitk.Image:
    """A ball of label 1, its middle at a share of the grid."""
    middle = index_to_physical(image, [np.array(image.GetSize()) * share])
    inside = distances_mm(voxel_centres(image), middle) < radius_mm
    made = sitk.GetImageFromArray(inside.reshape(shape_zyx(image)).astype(np.uint8))
    made.CopyInformation(image)
    return made


def holds(mask: sitk.Image | None) -> np.ndarray:
    return sitk.GetArrayViewFromImage(mask) > 0


def test_ignored_tissue_is_in_no_mask(case: Case, tmp_path: Path) -> None:
    fixed, moving = case.phantom.fixed, case.phantom.moving
    here, there = ball(fixed, (0.4, 0.5, 0.5), 30), ball(moving, (0.5, 0.5, 0.4), 25)
    sitk.WriteImage(here, str(tmp_path / "here.nii.gz"))
    inputs = load_inputs(
        fixed, moving, OPTIONS, ignore=tmp_path / "here.nii.gz", ignore_moving=there
    )
    assert (holds(inputs.fixed_mask) == ~holds(here)).all()
    assert (holds(inputs.moving_mask) == ~holds(there)).all()
    assert not (holds(inputs.fixed_body) & holds(here)).any()
    assert set(inputs.sources) == {"fixed", "moving", "ignore", "ignore_moving"}
    assert len(inputs.sources["ignore"]["sha256"]) == 64
    # beside a mask of the user
    half = ball(fixed, (0.5, 0.5, 0.5), 80)
    both = load_inputs(fixed, moving, OPTIONS, fixed_mask=half, ignore=here)
    assert (holds(both.fixed_mask) == holds(half) & ~holds(here)).all()
    assert both.moving_mask is None


def test_bad_regions_are_named(case: Case) -> None:
    fixed, moving = case.phantom.fixed, case.phantom.moving
    for name in ("rigid", "ignore", "ignore_moving"):
        image = moving if name == "ignore_moving" else fixed
        nothing = sitk.Cast(image * 0, sitk.sitkUInt8)
        with pytest.raises(BadVolume, match="is 0 everywhere|mask is empty"):
            load_inputs(fixed, moving, OPTIONS, **{name: nothing})
        other = ball(fixed if image is moving else moving, (0.5, 0.5, 0.5), 30)
        with pytest.raises(BadVolume, match=r"resample (it|the mask) onto the image with nearest"):
            load_inputs(fixed, moving, OPTIONS, **{name: other})
    with pytest.raises(BadVolume, match="fixed mask: .* nothing but what is to be ignored there"):
        load_inputs(fixed, moving, OPTIONS, ignore=sitk.Cast(fixed * 0 + 1, sitk.sitkUInt8))
    with pytest.raises(BadVolume, match="rigid: expected a label map, found fractions"):
        load_inputs(fixed, moving, OPTIONS, rigid=sitk.Cast(fixed, sitk.sitkFloat32) / 7)
    dots = np.zeros(shape_zyx(fixed), np.uint8)
    dots[::4, ::4, ::4] = 1
    scattered = sitk.GetImageFromArray(dots)
    scattered.CopyInformation(fixed)
    with pytest.raises(BadVolume, match="rigid: expected at most 100 connected parts, found 1080"):
        load_inputs(fixed, moving, OPTIONS, rigid=scattered)


@pytest.mark.engine
@pytest.mark.usefixtures("few_iterations")
def test_a_rigid_part_stays_rigid(case: Case, tmp_path: Path) -> None:
    fixed, moving = case.phantom.fixed, case.phantom.moving
    mask = ball(fixed, (0.4, 0.5, 0.5), 28)
    free = register(fixed, moving, tmp_path / "free", OPTIONS, points=case.guides)
    kept = register(fixed, moving, tmp_path / "kept", OPTIONS, points=case.guides, rigid=mask)
    (part,) = parts(sitk.Cast(mask, sitk.sitkUInt16))
    assert unrigid_mm(free.chain, part).max() > 1  # mm
    again = open_run(tmp_path / "kept")
    assert unrigid_mm(again.chain, part).max() < 0.1
    # to single precision, and by differences over voxels of 6 mm
    inner = holds(ball(fixed, (0.4, 0.5, 0.5), 18))
    assert np.abs(sitk.GetArrayFromImage(jacobian(again.chain, fixed))[inner] - 1).max() < 0.02
    middle = part.points.mean(axis=0, keepdims=True)
    assert distances_mm(again.chain.map_points(middle), free.chain.map_points(middle))[0] < 2
    error = [
        distances_mm(one.chain.map_points(case.judges.fixed), case.judges.moving).mean()
        for one in (free, kept)
    ]
    assert error[1] < error[0] + 0.2  # mm; the motion of the phantom bends the ball
    assert kept.metrics["folded_share"] <= free.metrics["folded_share"]
    run = run_folder.read_run_json(tmp_path / "kept")
    assert "rigid" in run["inputs"]
    assert "rigid parts" in run["seconds"]
    assert export(again, tmp_path / "t.h5") < 1e-4  # mm, from transformix


@pytest.mark.engine
@pytest.mark.usefixtures("few_iterations")
def test_points_in_ignored_tissue_do_not_guide(case: Case, tmp_path: Path) -> None:
    fixed, moving = case.phantom.fixed, case.phantom.moving
    here = ball(fixed, (0.4, 0.5, 0.5), 30)
    result = register(fixed, moving, tmp_path / "run", OPTIONS, points=case.guides, ignore=here)
    lying = inside_mask(here, case.guides.fixed)
    assert 5 < lying.sum() < len(lying)
    assert_allclose(result.landmarks.fixed, case.guides.fixed[~lying], atol=1e-5)
    assert f"{lying.sum()} of {len(lying)} points lie in tissue" in " ".join(result.warnings)
    inside = case.guides.select(lying)
    with pytest.raises(BadPoints, match="all lie in tissue that is to be ignored"):
        register(fixed, moving, tmp_path / "no", OPTIONS, points=inside, ignore=here)


@pytest.fixture(scope="module")
def seen() -> Phantom:
    """A pair that the network can see."""
    return make_phantom(PhantomOptions(size_xyz=(104, 80, 24), spacing_mm=(3.0, 3.0, 6.0)))


@pytest.mark.engine
@pytest.mark.usefixtures("few_iterations")
def test_both_arms_of_a_comparison_take_it(seen: Phantom, tmp_path: Path) -> None:
    fixed, moving = seen.fixed, seen.moving
    at, gone_to = (0.4, 0.5, 0.5), (0.6, 0.5, 0.5)
    here, there = ball(fixed, at, 30), ball(moving, gone_to, 25)
    stiff = sitk.Cast(ball(fixed, (0.65, 0.4, 0.5), 20), sitk.sitkUInt16)
    files = {"ignore": here, "ignore-moving": there, "rigid": stiff, "fixed": fixed}
    files["moving"] = moving
    for name, image in files.items():
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    regions = [
        word
        for name in ("ignore", "ignore-moving", "rigid")
        for word in (f"--{name}", str(tmp_path / f"{name}.nii.gz"))
    ]
    images = [str(tmp_path / f"{side}.nii.gz") for side in ("fixed", "moving")]
    out = tmp_path / "out"
    options = ["--threads", "1", "--max-landmarks", "600", "-q"]
    done = CliRunner().invoke(main, ["compare", *images, "-o", str(out), *regions, *options])
    assert done.exit_code == 0, done.output
    guides = open_run(out / "with").landmarks
    assert len(guides) > 100
    # a voxel farther in: the file rounds the place of its border
    assert not inside_mask(ball(fixed, at, 27), guides.fixed).any()
    assert not inside_mask(ball(moving, gone_to, 22), guides.moving).any()
    (part,) = parts(stiff)
    for arm in ("without", "with"):
        assert unrigid_mm(open_run(out / arm).chain, part).max() < 0.1  # mm
        inputs = run_folder.read_run_json(out / arm)["inputs"]
        assert {"rigid", "ignore", "ignore_moving"} <= set(inputs)


def test_python_and_the_command_line_have_the_same_regions() -> None:
    shown = CliRunner().invoke(main, ["register", "--help"]).output
    for name in ("rigid", "ignore", "ignore_moving"):
        assert name in landmark_dir.register.__kwdefaults__
        assert f"--{name.replace('_', '-')} MASK" in shown
