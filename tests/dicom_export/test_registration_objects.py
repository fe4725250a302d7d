"""Registration objects say what T does, to a reader written from the standard."""

from pathlib import Path

import dicom_registration_reader as standard
import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose
from pydicom import uid

from landmark_dir.dicom_export.deformation import (
    deformable_registration,
    interpolation_error,
    node_grid,
)
from landmark_dir.dicom_export.linear import linear_registration
from landmark_dir.errors import BadArgument
from landmark_dir.geometry import distances_mm, index_to_physical, inside
from landmark_dir.io.dicom_headers import write_object
from landmark_dir.transforms.chain import Chain, Linear

NODE_MM = 1e-3  # float32 of vectors of some 100 mm
NODES = 200


@pytest.fixture
def deformable(pair, tmp_path: Path) -> Path:
    made = deformable_registration(pair.chain, pair.fixed_image, pair.fixed, pair.moving, 3.0)
    write_object(made, tmp_path / "registration.dcm")
    return tmp_path / "registration.dcm"


def test_the_nodes_hold_the_transform(pair, deformable: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = rng.integers(0, standard.dimensions(deformable), (NODES, 3)).tolist()
    places, mapped = np.array([standard.node(deformable, *ijk) for ijk in nodes]).swapaxes(0, 1)
    assert_allclose(mapped, pair.chain.map_points(places), atol=NODE_MM)
    straight = Chain(pair.chain.steps[:1]).map_points(places)
    assert distances_mm(mapped, straight).max() > 2  # mm: it bends


def test_between_nodes_it_is_as_far_off_as_is_said(pair, deformable: Path) -> None:
    off = interpolation_error(pydicom.dcmread(deformable), pair.chain, pair.fixed_image)
    last = np.array(pair.fixed_image.GetSize()) - 1
    places = np.random.default_rng(5).uniform(0, last, (2000, 3))
    points = index_to_physical(pair.fixed_image, places)
    mapped = standard.map_deformable(deformable, points)
    found = distances_mm(mapped, pair.chain.map_points(points))
    assert found.max() <= off.max * 1.01
    assert np.percentile(found, 95) == pytest.approx(off.p95, rel=0.1)


def test_a_finer_grid_is_nearer(pair) -> None:
    worst = []
    for grid_mm in (6.0, 3.0, 1.5):
        made = deformable_registration(
            pair.chain, pair.fixed_image, pair.fixed, pair.moving, grid_mm
        )
        worst.append(interpolation_error(made, pair.chain, pair.fixed_image).max)
    assert worst[0] > 2 * worst[1] > 4 * worst[2] > 0  # by the square of the distance


def test_the_grid_covers_the_fixed_image_along_the_axes_of_the_patient(pair) -> None:
    nodes = node_grid(pair.fixed_image, 2.5)
    assert nodes.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    size = np.array(pair.fixed_image.GetSize())
    edges = index_to_physical(pair.fixed_image, np.array(list(np.ndindex(2, 2, 2))) * size - 0.5)
    first, last = (index_to_physical(nodes, [at])[0] for at in ((0, 0, 0), nodes.GetSize()))
    assert (edges >= first - 1e-9).all()
    assert (edges <= last - 2.5 + 1e-9).all()
    assert (edges.min(axis=0) - first <= 0.01).all()
    assert (last - 2.5 - edges.max(axis=0) <= 2.5).all()


def test_a_grid_beyond_what_dicom_holds_is_refused(pair) -> None:
    pair.fixed_image.SetSpacing((40.0, 40.0, 40.0))
    with pytest.raises(BadArgument, match="take a coarser one"):
        node_grid(pair.fixed_image, 0.5)


def test_it_belongs_to_the_fixed_exam_and_names_the_moving_images(pair, deformable: Path) -> None:
    made = pydicom.dcmread(deformable)
    assert made.SOPClassUID == uid.DeformableSpatialRegistrationStorage
    assert made.Modality == "REG"
    assert made.FrameOfReferenceUID == pair.fixed.frame_of_reference
    assert made.StudyInstanceUID == pair.fixed.study != pair.moving.study
    assert len(made.ContentLabel) <= 16
    assert len(made.ContentDescription) <= 64
    (item,) = made.DeformableRegistrationSequence
    assert item.SourceFrameOfReferenceUID == pair.moving.frame_of_reference
    named = [image.ReferencedSOPInstanceUID for image in item.ReferencedImageSequence]
    assert named == [header.SOPInstanceUID for header in pair.moving.headers]
    (own,) = made.ReferencedSeriesSequence
    assert own.SeriesInstanceUID == pair.fixed.series.id
    (other,) = made.StudiesContainingOtherReferencedInstancesSequence
    assert other.ReferencedSeriesSequence[0].SeriesInstanceUID == pair.moving.series.id


@pytest.mark.parametrize("turned", [True, False])
def test_a_linear_one_maps_moving_to_fixed_points(pair, turned: bool, tmp_path: Path) -> None:
    turn = np.reshape(pair.fixed_image.GetDirection(), (3, 3))
    steps = (
        Linear(turn, np.array([5.0, 6.0, 7.0]), np.array([100.0, -20.0, 3.0])),
        Linear(np.diag([1.1, 0.9, 1.0]), np.zeros(3), np.array([1.0, 2.0, 3.0])),
    )
    chain = Chain(steps[:1] if turned else steps)
    linear = chain.as_linear()
    assert linear is not None
    made = linear_registration(linear, pair.fixed, pair.moving)
    write_object(made, tmp_path / "registration.dcm")
    (_, item) = made.RegistrationSequence
    (matrix,) = item.MatrixRegistrationSequence[0].MatrixSequence
    kind = matrix.FrameOfReferenceTransformationMatrixType
    assert kind == ("RIGID" if turned else "AFFINE")
    points = np.random.default_rng(0).normal(0, 300, (50, 3))  # fixed, mm
    moving = pair.moving.frame_of_reference
    back = standard.map_linear(tmp_path / "registration.dcm", moving, chain.map_points(points))
    assert_allclose(back, points, atol=1e-6)  # mm
    fixed = pair.fixed.frame_of_reference
    assert_allclose(
        standard.map_linear(tmp_path / "registration.dcm", fixed, points), points, atol=0
    )


def test_what_bends_is_not_linear(pair) -> None:
    assert pair.chain.as_linear() is None
    whole = Chain(()).as_linear()
    assert whole is not None
    assert_allclose(whole.map_points(np.eye(3)), np.eye(3), atol=0)
    assert inside(pair.fixed_image, index_to_physical(pair.fixed_image, [(0, 0, 0)])).all()
