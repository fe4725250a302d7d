"""Transforms without an engine: they agree with transformix, also on oblique grids and outside."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from needs import needs
from numpy.testing import assert_allclose
from small_pairs import Case

from landmark_dir.elastix.engines import find_engine
from landmark_dir.elastix.transform_files import format_translation, read_chain
from landmark_dir.elastix.transformix import map_points
from landmark_dir.errors import BadPoints, BadRunFolder
from landmark_dir.geometry import corners, index_to_physical, same_grid, voxel_centres
from landmark_dir.options import RegisterOptions
from landmark_dir.registration import apply
from landmark_dir.registration.apply import export, field, inverse, jacobian, warp_points
from landmark_dir.registration.pipeline import register
from landmark_dir.registration.result import Result
from landmark_dir.transforms import fields
from landmark_dir.transforms.bspline import BSpline
from landmark_dir.transforms.bspline_fit import fit_spline
from landmark_dir.transforms.chain import Chain, Linear, read_transform, write_after

OPTIONS = RegisterOptions.of(landmarks=False, threads=1)


def bent(grid: sitk.Image, folder: Path) -> Path:
    """A transform file: a shift, then a b-spline with random bends of some mm."""
    start = folder / "start.txt"
    start.write_text(format_translation([3.0, -2.0, 5.0], grid))
    rng = np.random.default_rng(0)
    points = index_to_physical(grid, rng.uniform(0, grid.GetSize(), (60, 3)))
    spline = fit_spline(points, rng.normal(0, 2, (60, 3)), corners(grid), grid_mm=12.0)
    file = folder / "bent.txt"
    return write_after(spline, start, file)


@pytest.fixture
def chain(oblique_ct: sitk.Image, tmp_path: Path) -> Chain:
    return read_transform(bent(oblique_ct, tmp_path))


def test_numpy_and_simpleitk_agree(chain: Chain, oblique_ct: sitk.Image) -> None:
    rng = np.random.default_rng(1)
    size = np.array(oblique_ct.GetSize())
    points = index_to_physical(oblique_ct, rng.uniform(-0.5 * size, 1.5 * size, (300, 3)))
    mapped = chain.map_points(points)
    composite = chain.itk()
    want = [composite.TransformPoint(point) for point in points.tolist()]
    assert_allclose(mapped, want, atol=1e-9)  # mm
    assert np.linalg.norm(mapped - points, axis=1).std() > 0.3  # mm: it does bend
    assert chain.map_points(points[:0]).shape == (0, 3)


def test_linear_steps_are_merged_for_simpleitk(chain: Chain) -> None:
    rng = np.random.default_rng(5)
    turns = [
        Linear(np.eye(3) + 0.1 * rng.normal(size=(3, 3)), *(50 * rng.normal(size=(2, 3))))
        for _ in range(3)
    ]
    mixed = Chain((turns[0], *chain.steps, *turns[1:]))
    composite = mixed.itk()
    assert composite.GetNumberOfTransforms() < len(mixed.steps)
    points = 100 * rng.normal(size=(50, 3))
    want = [composite.TransformPoint(point) for point in points.tolist()]
    assert_allclose(mixed.map_points(points), want, atol=1e-9)  # mm


@pytest.mark.engine
@pytest.mark.parametrize("engine", ["executable", "itkelastix"])
def test_transformix_agrees(engine: str, oblique_ct: sitk.Image, tmp_path: Path) -> None:
    file = bent(oblique_ct, tmp_path)
    rng = np.random.default_rng(1)
    size = np.array(oblique_ct.GetSize())
    points = index_to_physical(oblique_ct, rng.uniform(-0.3 * size, 1.3 * size, (500, 3)))
    needs(engine)
    backend = find_engine(engine, 1)
    want = map_points(backend, file, points)
    backend.close()
    assert_allclose(read_transform(file).map_points(points), want, atol=1e-5)  # mm, text rounding


def test_displacement_is_where_points_go(chain: Chain, oblique_ct: sitk.Image) -> None:
    field = fields.displacement(chain, oblique_ct)
    points = voxel_centres(oblique_ct)
    want = chain.map_points(points) - points
    found = sitk.GetArrayFromImage(field).reshape(-1, 3)
    assert_allclose(found, want, atol=1e-5)  # mm, float32


def test_jacobian_of_an_affine_map_is_its_determinant(oblique_ct: sitk.Image) -> None:
    matrix = np.array([[1.1, 0.2, 0.0], [0.0, 0.9, 0.1], [-0.1, 0.0, 1.3]])
    chain = Chain((Linear(matrix, np.array([5.0, 6.0, 7.0]), np.array([1.0, 2.0, 3.0])),))
    found = sitk.GetArrayFromImage(fields.jacobian(chain, oblique_ct))
    assert_allclose(found, np.linalg.det(matrix), rtol=1e-3)


def test_jacobian_follows_the_exact_derivative(chain: Chain, oblique_ct: sitk.Image) -> None:
    found = sitk.GetArrayFromImage(fields.jacobian(chain, oblique_ct)).ravel()
    step = 0.01
    points = voxel_centres(oblique_ct)
    columns = [
        (chain.map_points(points + step * axis) - chain.map_points(points - step * axis)) / step / 2
        for axis in np.eye(3)
    ]
    want = np.linalg.det(np.stack(columns, axis=-1))
    inner = np.zeros(oblique_ct.GetSize()[::-1], dtype=bool)
    inner[1:-1, 1:-1, 1:-1] = True
    difference = np.abs(found - want)[inner.ravel()]
    assert np.median(difference) < 0.02
    assert want.std() > 0.02  # there is something to find


def test_a_single_slice_has_no_jacobian(chain: Chain) -> None:
    with pytest.raises(ValueError, match="two or more voxels along each axis"):
        fields.jacobian(chain, sitk.Image(4, 4, 1, sitk.sitkFloat32))


def test_inverse_brings_points_back(chain: Chain, oblique_ct: sitk.Image) -> None:
    points = voxel_centres(oblique_ct, 3)
    again = fields.invert_points(chain, chain.map_points(points))
    assert_allclose(again, points, atol=1e-3)  # mm


def test_exams_far_apart_and_turned_are_inverted_too(chain: Chain, oblique_ct: sitk.Image) -> None:
    """Of two frames of reference nothing says that they lie near each other."""
    turn = np.reshape(oblique_ct.GetDirection(), (3, 3))
    away = Linear(
        turn @ turn @ turn, np.array([10.0, 20.0, 30.0]), np.array([900.0, -700.0, 400.0])
    )
    far = Chain((*chain.steps, away))
    points = voxel_centres(oblique_ct, 3)
    again = fields.invert_points(far, far.map_points(points))
    assert_allclose(again, points, atol=1e-3)  # mm
    assert fields.invert_points(far, np.zeros((0, 3))).shape == (0, 3)


def test_tissue_stretched_fourfold_is_inverted_too(chain: Chain) -> None:
    """Where T stretches to more than twice the length, plain fixed-point iteration runs away."""
    stretch = Linear(np.diag([4.0, 0.2, 1.0]), np.array([10.0, 20.0, 30.0]), np.zeros(3))
    steep = Chain((stretch, *chain.steps))
    points = np.random.default_rng(5).uniform(-30, 30, (200, 3))
    again = fields.invert_points(steep, steep.map_points(points))
    assert_allclose(again, points, atol=1e-3)  # mm


def test_affine_steps_of_a_chain_are_all_but_the_bends(chain: Chain) -> None:
    assert [type(step) for step in chain.steps] == [BSpline, Linear]
    assert chain.affine().steps == chain.steps[1:]


def test_inverse_field_has_the_residual_it_says(
    chain: Chain, oblique_ct: sitk.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = sitk.Image(20, 24, 9, sitk.sitkUInt8)
    grid.SetSpacing((2.0, 2.0, 5.0))
    grid.SetOrigin((-110.0, 40.0, -395.0))
    grid.SetDirection(oblique_ct.GetDirection())
    monkeypatch.setattr(fields, "SLAB", 1000)  # voxels: two slices at once
    found, residual = fields.invert(chain, grid, oblique_ct)
    assert same_grid(found, grid)
    moving = voxel_centres(grid)
    fixed = moving + sitk.GetArrayFromImage(found).reshape(-1, 3)
    error = np.linalg.norm(chain.map_points(fixed) - moving, axis=1)
    assert 0 < len(residual) < len(moving)  # those whose answer lies in the fixed image
    assert np.percentile(error, 95) < 0.01  # mm
    assert residual.max() <= error.max() + 1e-4


def test_the_inverse_of_a_large_grid_takes_little_memory(
    chain: Chain, oblique_ct: sitk.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fields, "SLAB", 4000)
    grid = sitk.Image(80, 80, 60, sitk.sitkUInt8)
    grid.SetSpacing((0.5, 0.5, 0.75))
    grid.SetOrigin(oblique_ct.GetOrigin())
    grid.SetDirection(oblique_ct.GetDirection())
    tracemalloc.start()
    fields.invert(chain, grid, oblique_ct)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / grid.GetNumberOfPixels() < 30  # bytes a voxel; the field alone has 12


def test_another_kind_of_transform_is_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    file = tmp_path / "start.txt"
    text = format_translation([0, 0, 0], oblique_ct)
    file.write_text(text.replace("TranslationTransform", "EulerTransform"))
    with pytest.raises(BadRunFolder, match="found EulerTransform of 3 parameters; use transf"):
        read_transform(file)


def test_bspline_does_nothing_beyond_its_grid() -> None:
    spline = BSpline(np.ones((3, 6, 6, 6)), np.zeros(3), np.full(3, 10.0), np.eye(3))
    points = np.array([[25.0, 25.0, 25.0], [9.9, 25.0, 25.0], [25.0, 25.0, 40.1]])
    assert_allclose(spline.map_points(points) - points, [[1.0] * 3, [0.0] * 3, [0.0] * 3])


@pytest.fixture(scope="module")
def run(few_iterations: None, case_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    out = tmp_path_factory.mktemp("applying") / "run"
    return register(case_files / "fixed.nii.gz", case_files / "moving.nii.gz", out, OPTIONS)


@pytest.mark.engine
def test_field_and_jacobian_lie_on_the_fixed_grid(run: Result, tmp_path: Path) -> None:
    image = field(run.folder, tmp_path / "field.nii.gz")
    again = sitk.ReadImage(str(tmp_path / "field.nii.gz"))
    assert same_grid(image, run.warped)
    assert again.GetNumberOfComponentsPerPixel() == 3
    points = voxel_centres(run.warped, 5)
    want = warp_points(run.folder, points) - points
    found = sitk.GetArrayFromImage(again)[::5, ::5, ::5].reshape(-1, 3)
    assert_allclose(found, want, atol=1e-3)  # mm, as promised
    values = sitk.GetArrayFromImage(jacobian(run.folder, tmp_path / "jacobian.mha"))
    assert 0.5 < values.mean() < 2


@pytest.mark.engine
@pytest.mark.parametrize("name", ["t.h5", "t.tfm"])
def test_export_is_read_back_right(run: Result, name: str, tmp_path: Path) -> None:
    assert export(run.folder, tmp_path / name) < 1e-3  # mm
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert sitk.ReadTransform(str(tmp_path / name)).GetDimension() == 3


@pytest.mark.engine
def test_export_refuses_another_suffix(run: Result, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of .h5, .tfm"):
        export(run.folder, tmp_path / "t.txt")


@pytest.mark.engine
def test_inverse_of_a_run(
    run: Result, case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = inverse(run.folder, tmp_path / "inverse.nii.gz")
    assert same_grid(found.field, case.phantom.moving)
    assert found.residual_mm.p95 < 0.05  # mm
    fixed = case.judges.fixed
    there = warp_points(run.folder, fixed)
    assert_allclose(warp_points(run.folder, there, inverse=True), fixed, atol=1e-3)  # mm
    with pytest.raises(BadPoints, match="NaN or infinite coordinates"):
        warp_points(run.folder, np.array([[np.nan] * 3]), inverse=True)
    monkeypatch.setattr(apply, "invert_points", lambda chain, moving: moving)  # finds nothing
    with pytest.raises(BadPoints, match="200 of 200 points have no fixed point within 0.01 mm"):
        warp_points(run.folder, there, inverse=True)


@pytest.mark.engine
def test_the_inverse_needs_no_image(few_iterations: None, case: Case, tmp_path: Path) -> None:
    result = register(case.phantom.fixed, case.phantom.moving, tmp_path / "run", OPTIONS)
    assert same_grid(inverse(result.folder).field, case.phantom.moving)
    assert len(read_chain(result.transform_file)) == 3
