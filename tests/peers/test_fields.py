"""Fields and matrices of other programs: the same map, however it is written."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose

from benchmarks.peers import contract, fields, greedy
from benchmarks.peers.inside import affine_file
from landmark_dir.geometry import Points, index_to_mm, index_to_physical

MATRIX = np.array([[1.02, 0.05, -0.03], [-0.04, 0.97, 0.02], [0.01, -0.06, 1.05]])
SHIFT = np.array([3.0, -7.0, 11.0])  # mm, LPS
RAS = np.array([-1.0, -1.0, 1.0])
ATOL_MM = 1e-3  # what NIfTI's single precision leaves of a field of 100 mm


def moved(points: Points) -> Points:
    """The true map: linear, so that a field of it is exact between its voxels."""
    return points @ MATRIX.T + SHIFT


@pytest.fixture
def inner(oblique_ct: sitk.Image) -> Points:
    """Points between the voxels."""
    rng = np.random.default_rng(1)
    return index_to_physical(oblique_ct, rng.uniform(1, 10, (50, 3)))


def lattice(image: sitk.Image) -> Points:
    """Voxel centres [x, y, z, 3]."""
    index = np.stack(np.meshgrid(*map(np.arange, image.GetSize()), indexing="ij"), axis=-1)
    points = index_to_physical(image, index.reshape(-1, 3).astype(float))
    return points.reshape(index.shape)


def ras_affine(image: sitk.Image) -> np.ndarray:
    """The grid as a NIfTI header has it."""
    affine = np.eye(4)
    affine[:3, :3] = index_to_mm(image) * RAS[:, None]
    affine[:3, 3] = np.array(image.GetOrigin()) * RAS
    return affine


@pytest.mark.parametrize("intent", ["vector", "displacement vector"])
def test_vectors_in_nifti_are_lps_whatever_the_intent(
    oblique_ct: sitk.Image, inner: Points, tmp_path: Path, intent: str
) -> None:
    points = lattice(oblique_ct)
    vectors = (moved(points.reshape(-1, 3)).reshape(points.shape) - points)[..., None, :]
    image = nib.Nifti1Image(vectors.astype(np.float32), ras_affine(oblique_ct))
    image.header.set_intent(intent)
    nib.save(image, tmp_path / "warp.nii.gz")
    mapped = fields.displaced(fields.read_nifti(tmp_path / "warp.nii.gz"))
    assert_allclose(mapped(inner), moved(inner), atol=ATOL_MM)


def test_vectors_in_metaimage(oblique_ct: sitk.Image, inner: Points, tmp_path: Path) -> None:
    points = lattice(oblique_ct)
    vectors = moved(points.reshape(-1, 3)).reshape(points.shape) - points
    image = sitk.GetImageFromArray(vectors.transpose(2, 1, 0, 3), isVector=True)
    image.CopyInformation(oblique_ct)
    sitk.WriteImage(image, tmp_path / "field.mha")
    mapped = fields.displaced(fields.read_itk(tmp_path / "field.mha"))
    assert_allclose(mapped(inner), moved(inner), atol=ATOL_MM)


def test_vectors_in_voxels(oblique_ct: sitk.Image, inner: Points, tmp_path: Path) -> None:
    points = lattice(oblique_ct)
    shift = moved(points.reshape(-1, 3)) - points.reshape(-1, 3)
    voxels = (shift @ np.linalg.inv(index_to_mm(oblique_ct)).T).reshape(points.shape)
    nib.save(nib.Nifti1Image(voxels, ras_affine(oblique_ct)), tmp_path / "disp.nii.gz")
    mapped = fields.displaced_voxels(fields.read_nifti(tmp_path / "disp.nii.gz"))
    assert_allclose(mapped(inner), moved(inner), atol=ATOL_MM)


def test_images_of_places(oblique_ct: sitk.Image, inner: Points, tmp_path: Path) -> None:
    points = lattice(oblique_ct)
    went = moved(points.reshape(-1, 3)).reshape(points.shape).astype(np.float32)
    files = [tmp_path / f"went{k}.nii.gz" for k in range(3)]
    for k, file in enumerate(files):
        nib.save(nib.Nifti1Image(went[..., k], ras_affine(oblique_ct)), file)
    mapped = fields.placed(fields.read_nifti_parts(files))
    assert_allclose(mapped(inner), moved(inner), atol=ATOL_MM)
    outside = index_to_physical(oblique_ct, [[-4.0, 5.0, 5.0]])  # goes with the edge
    edge = index_to_physical(oblique_ct, [[0.0, 5.0, 5.0]])
    assert_allclose(mapped(outside) - outside, moved(edge) - edge, atol=ATOL_MM)


def test_matrices_in_ras_and_of_itk(inner: Points, tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = MATRIX * np.outer(RAS, RAS), SHIFT * RAS
    assert_allclose(fields.ras_matrix(matrix)(inner), moved(inner), atol=1e-9)
    centre = np.array([5.0, 40.0, -400.0])
    shift = SHIFT + MATRIX @ centre - centre
    transform = sitk.AffineTransform(MATRIX.ravel().tolist(), shift.tolist(), centre.tolist())
    sitk.WriteTransform(transform, tmp_path / "affine.mat")
    assert_allclose(fields.itk_affine(tmp_path / "affine.mat")(inner), moved(inner), atol=1e-6)


def test_the_warp_comes_before_the_matrix(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    """As greedy and ANTs have it: moving = affine(x + u(x))."""
    warp = np.zeros((*oblique_ct.GetSize(), 1, 3), np.float32)
    warp[..., 0] = 10.0
    nib.save(nib.Nifti1Image(warp, ras_affine(oblique_ct)), tmp_path / "warp.nii.gz")
    np.savetxt(tmp_path / "affine.mat", np.diag([2.0, 1.0, 1.0, 1.0]))
    nothing = tmp_path / "nothing"
    job = contract.Job(nothing, nothing, nothing, nothing, tmp_path, 1)
    point = index_to_physical(oblique_ct, [[5.0, 5.0, 5.0]])
    want = (point + [10.0, 0.0, 0.0]) * [2.0, 1.0, 1.0]
    assert_allclose(greedy.read(job)(point), want, atol=ATOL_MM)


def test_a_field_of_one_value_is_refused(oblique_ct: sitk.Image, tmp_path: Path) -> None:
    sitk.WriteImage(oblique_ct, tmp_path / "one.nii.gz")
    with pytest.raises(ValueError, match="expected 3 values"):
        fields.read_nifti(tmp_path / "one.nii.gz")


def test_greedy_gets_the_affine_map_of_elastix(inner: Points, tmp_path: Path) -> None:
    centre = np.array([5.0, 40.0, -400.0])
    shift = SHIFT + MATRIX @ centre - centre
    numbers = " ".join(map(repr, [*MATRIX.ravel().tolist(), *shift.tolist()]))
    lines = {
        "Transform": '"AffineTransform"',
        "NumberOfParameters": "12",
        "TransformParameters": numbers,
        "InitialTransformParametersFileName": '"NoInitialTransform"',
        "HowToCombineTransforms": '"Compose"',
        "CenterOfRotationPoint": " ".join(map(str, centre)),
    }
    file = tmp_path / "TransformParameters.0.txt"
    file.write_text("".join(f"({key} {value})\n" for key, value in lines.items()))
    affine_file.main("ras", str(file), str(tmp_path / "affine.mat"))
    mapped = fields.ras_matrix(np.loadtxt(tmp_path / "affine.mat"))
    assert_allclose(mapped(inner), moved(inner), atol=1e-9)
    affine_file.main("itk", str(file), str(tmp_path / "itk.mat"))
    mapped = fields.itk_affine(tmp_path / "itk.mat")
    assert_allclose(mapped(inner), moved(inner), atol=1e-9)
