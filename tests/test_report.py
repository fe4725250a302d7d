"""The report: one file, nothing from elsewhere, pictures a radiologist can read."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import Case, make_case
from matplotlib.image import imread
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from landmark_dir import report
from landmark_dir.geometry import physical_to_index
from landmark_dir.points import PointPairs

RUN = {
    "warnings": ["moving: <script>alert(1)</script> is odd"],
    "metrics": {"landmarks": 3, "residual_mm": {"mean": 0.5}, "correlation": float("nan")},
    "inputs": {"fixed": {"path": "a<script>.nii", "size_xyz": (4, 5, 6)}},
    "seconds": {"affine": 1.5},
    "options": {"threads": None, "landmark_weight": (0.1, 0.2)},
    "versions": {"python": "3"},
    "weights": None,
}


def write(case: Case, path: Path, pairs: PointPairs, *, after: bool = True) -> str:
    fixed, moving = case.phantom.fixed, case.phantom.moving
    before = sitk.Resample(moving, fixed, sitk.Transform(), sitk.sitkLinear, -1000.0)
    report.write_report(path, RUN, fixed, moving, before, before if after else None, pairs)
    return path.read_text(encoding="utf-8")


def pictures(page: str, folder: Path) -> list[NDArray[np.float32]]:
    """The decoded pictures of a page, [y, x, rgba]."""
    found = []
    for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page):
        (folder / "picture.png").write_bytes(base64.b64decode(data))
        found.append(imread(folder / "picture.png"))
    return found


@pytest.mark.parametrize("after", [True, False], ids=["registered", "landmarks only"])
def test_page_is_self_contained_and_escaped(case: Case, after: bool, tmp_path: Path) -> None:
    page = write(case, tmp_path / "report.html", case.guides, after=after)
    assert "http" not in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))
    board, landmarks = pictures(page, tmp_path)
    for picture in (board, landmarks):
        assert picture.shape[0] > 500
        assert picture[..., :3].std() > 0.1  # of 1; an empty picture has 0
    saturation = landmarks[..., :3].max(axis=2) - landmarks[..., :3].min(axis=2)
    assert (saturation > 0.3).sum() > 1000  # pixels of coloured landmarks


def test_page_without_landmarks(case: Case, tmp_path: Path) -> None:
    page = write(case, tmp_path / "report.html", PointPairs.empty())
    assert len(pictures(page, tmp_path)) == 1


@pytest.mark.parametrize("count", [1, 2, 11])
def test_few_landmarks_can_be_shown(case: Case, count: int) -> None:
    few = case.guides.select(np.arange(count))
    assert report.landmark_picture(case.phantom.fixed, case.phantom.moving, few)


def test_any_storage_order_is_seen_from_the_feet() -> None:
    """Patient's right on the left, front up: x grows along rows, y down, z with the slices."""
    sagittal = make_case(direction=(0, 0, -1, -1, 0, 0, 0, -1, 0)).phantom.fixed
    seen = report._as_seen(sagittal)
    assert_allclose(np.reshape(seen.GetDirection(), (3, 3)), np.eye(3), atol=1e-9)
    point = np.array([[-30.0, 40.0, -400.0]])
    index = np.rint(physical_to_index(sagittal, point)).astype(int)[0].tolist()
    where = np.rint(physical_to_index(seen, [sagittal.TransformIndexToPhysicalPoint(index)]))
    assert seen[where.astype(int)[0].tolist()] == sagittal[index]


def test_the_moving_plane_goes_through_the_moving_points(case: Case) -> None:
    fixed = report._as_seen(case.phantom.fixed)
    slice_ = fixed[:, :, 18:19]
    lattice = np.stack(np.meshgrid(np.arange(8, 40, 4), np.arange(8, 32, 4), [0]), -1)
    points = np.array(
        [slice_.TransformIndexToPhysicalPoint(i) for i in lattice.reshape(-1, 3).tolist()]
    )
    tilt = sitk.Euler3DTransform((-31.0, 47.5, -412.0), 0.2, -0.1, 0.3, (5.0, 9.0, -20.0))
    moving = np.array([tilt.TransformPoint(p) for p in points.tolist()])
    pairs = PointPairs(points, moving, np.ones(len(points)))
    plane = report._plane_of(pairs, slice_)
    index = physical_to_index(plane, moving)
    assert np.abs(index[:, 2]).max() < 1e-6  # mm off the plane
    assert (index[:, :2] > 0).all()
    assert (index[:, :2] < np.array(plane.GetSize())[:2]).all()
    assert np.linalg.det(np.reshape(plane.GetDirection(), (3, 3))) > 0.999  # not mirrored
