"""The start: kept, found, refused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from small_pairs import Case

from landmark_dir.errors import BadPoints, BadVolume, NoCommonAnatomy
from landmark_dir.geometry import distances_mm
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.start import Start, find_start, from_points, told
from training.followups.modality import as_modality

AUTO = RegisterOptions.of(threads=1)
OFF = np.array([0.0, 120.0, 300.0])  # mm
TURNS = {  # proper ones
    "as it lies": np.eye(3),
    "prone": np.diag([-1.0, -1.0, 1.0]),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "feet first, prone": np.diag([1.0, -1.0, -1.0]),
}


def put(image: sitk.Image, turn: np.ndarray) -> sitk.Image:
    """The patient turned about the origin and put elsewhere; voxels stay as they are."""
    moved = sitk.Image(image)
    moved.SetDirection((turn @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    moved.SetOrigin((turn @ image.GetOrigin() + OFF).tolist())
    return moved


def start_of(fixed: sitk.Image, moving: sitk.Image, points: PointPairs | None = None) -> Start:
    return find_start(load_inputs(fixed, moving, AUTO, points=points), AUTO, None)


def test_the_world_is_kept_where_landmarks_agree(case: Case) -> None:
    start = start_of(case.phantom.fixed, case.phantom.moving)
    assert start.kind == "world"
    assert start.rigid.degrees() == 0
    assert start.agreeing is not None
    assert start.agreeing >= 24
    assert told(start.described()).startswith("start from the headers, ")


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("swap", [False, True], ids=["", "swapped"])
def test_a_patient_who_lies_elsewhere_is_found(case: Case, turn: np.ndarray, swap: bool) -> None:
    far = put(case.phantom.moving, turn)
    images, points = (
        [case.phantom.fixed, far],
        [case.judges.fixed, case.judges.moving @ turn.T + OFF],
    )
    if swap:
        images, points = images[::-1], points[::-1]
    start = start_of(*images)
    assert start.kind == "landmarks"
    assert np.linalg.det(start.rigid.turn) == pytest.approx(1)
    off = distances_mm(start.rigid.map_points(points[0]), points[1])
    assert off.mean() < 8.0  # mm; the best rigid motion leaves 5


@pytest.mark.parametrize("axis", [0, 2], ids=["left and right", "head and feet"])
def test_a_mirrored_file_is_refused(case: Case, axis: int) -> None:
    mirrored = sitk.Flip(case.phantom.moving, [k == axis for k in range(3)])
    mirrored.CopyInformation(case.phantom.moving)
    with pytest.raises(NoCommonAnatomy, match=r"mirrored: .*--align world"):
        start_of(case.phantom.fixed, mirrored)


def test_what_shows_nothing_is_left_to_the_world(case: Case, oblique_ct: sitk.Image) -> None:
    assert start_of(oblique_ct, oblique_ct) == Start("world")
    with pytest.raises(BadVolume, match=r"overlap in 0%.*--align centers"):
        start_of(case.phantom.fixed, oblique_ct)


def test_landmarks_without_a_partner_refute_nothing_in_another_contrast(case: Case) -> None:
    fixed = as_modality(case.phantom.fixed, "mr-t2", 0)
    moving = as_modality(case.phantom.moving, "mr-t1", 1)
    start = start_of(fixed, moving)
    assert (start.kind, start.agreeing) == ("world", None)


def test_grey_values_without_a_common_scale_refute_no_points(case: Case) -> None:
    fixed, moving = (
        as_modality(getattr(case.phantom, side), kind, 0)
        for side, kind in (("fixed", "mr-t1"), ("moving", "mr-t2"))
    )
    moving.SetOrigin((np.array(moving.GetOrigin()) + [0.0, 0.0, 90.0]).tolist())  # mm
    points = replace(case.judges, moving=case.judges.moving + [0.0, 0.0, 90.0])
    start = start_of(fixed, moving, points)
    assert start.kind == "points"
    assert distances_mm(start.rigid.map_points(points.fixed), points.moving).mean() < 8.0


def test_swapped_points_of_scans_that_overlap_are_told(case: Case) -> None:
    moving, shift = sitk.Image(case.phantom.moving), np.array([0.0, 0.0, 45.0])  # mm
    moving.SetOrigin((np.array(moving.GetOrigin()) + shift).tolist())
    right = PointPairs(case.guides.fixed, case.guides.moving + shift, case.guides.score)
    middle = right.fixed.mean(0)
    inner = [np.abs(side - middle).max(1) < 60 for side in (right.fixed, right.moving)]
    right = right.select(inner[0] & inner[1])  # inside both images
    assert start_of(case.phantom.fixed, moving, right).kind == "points"
    with pytest.raises(BadPoints, match=r"they look swapped, give FIXED first"):
        start_of(case.phantom.fixed, moving, PointPairs(right.moving, right.fixed, right.score))


MOVES: dict[str, tuple[Callable[[PointPairs], PointPairs], str]] = {
    "near": (lambda pairs: pairs, "world"),
    "far": (lambda p: PointPairs(p.fixed, p.moving + OFF, p.score), "points"),
    "prone": (
        lambda p: PointPairs(p.fixed, p.moving @ TURNS["prone"].T + OFF, p.score),
        "points",
    ),
    "one pair": (lambda p: PointPairs(p.fixed[:1], p.moving[:1] + OFF, p.score[:1]), "points"),
}


@pytest.mark.parametrize(("move", "kind"), MOVES.values(), ids=MOVES)
def test_given_points_say_where_to_start(
    case: Case, move: Callable[[PointPairs], PointPairs], kind: str
) -> None:
    pairs = move(case.guides)
    start = from_points(pairs)
    assert start.kind == kind
    assert distances_mm(start.rigid.map_points(pairs.fixed), pairs.moving).mean() < 11.0  # mm
    assert (start.of, start.agreeing) == (len(pairs), pytest.approx(len(pairs), rel=0.05))
