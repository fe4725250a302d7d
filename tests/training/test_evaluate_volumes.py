"""Errors of landmarks in 3D against a simulated truth, by axis and by motion."""

from pathlib import Path

import numpy as np
import pytest

from landmark_dir.phantom.scanner import PhantomOptions, make_phantom
from landmark_dir.points import PointPairs
from training.evaluate_volumes import (
    Case,
    judge,
    main,
    row,
    table,
    write_results,
)
from training.followups.pair import FollowUp, best_affine, make_follow_up, mapped, truth_points


@pytest.fixture(scope="module")
def pair() -> FollowUp:
    options = PhantomOptions(size_xyz=(60, 48, 16), spacing_mm=(5.0, 5.0, 8.0))
    return make_follow_up(make_phantom(options).fixed, "small", seed=1)


def test_errors_are_told_along_the_fixed_slices_and_through_them(pair: FollowUp) -> None:
    fixed, moving = truth_points(pair, 200, seed=3)
    axes = np.reshape(pair.fixed.GetDirection(), (3, 3))
    found = PointPairs(fixed, moving + axes @ [3.0, 4.0, -2.0], np.full(200, 0.9))
    case = judge("w", "a", pair, found, 1.0)
    np.testing.assert_allclose(case.error_mm, [[3.0, 4.0, -2.0]] * 200, atol=1e-5)
    figures = row([case])
    assert figures[0] == 200
    assert figures[1:3] == pytest.approx([np.sqrt(29)] * 2, abs=1e-5)
    assert figures[5:7] == pytest.approx([5.0, 2.0], abs=1e-5)
    assert figures[3:5] == ["0.0", "0.00"]


def test_motion_is_what_the_best_affine_map_leaves(pair: FollowUp) -> None:
    fixed, moving = truth_points(pair, 500, seed=4)
    affine = best_affine(pair)
    left = np.linalg.norm(mapped(affine, fixed) - moving, axis=1)
    np.testing.assert_allclose(
        mapped(affine, fixed[:3]), [affine.TransformPoint(p) for p in fixed[:3]]
    )
    shifted = moving - fixed - (moving - fixed).mean(0)  # what a mere shift would leave
    assert np.mean(left**2) < np.mean(np.square(shifted).sum(1))
    case = judge("w", "a", pair, PointPairs(fixed, moving, np.ones(500)), 1.0)
    np.testing.assert_allclose(case.motion_mm, left, atol=1e-5)


def test_rows_hold_the_pairs_of_their_motion_only() -> None:
    error = np.column_stack([np.arange(4.0), np.zeros(4), np.zeros(4)])
    case = Case("w", "a", error, np.array([1.0, 9.0, 12.0, 30.0]), np.ones(4), 2.0)
    assert [row([case], *limits)[0] for limits in ((0, 10), (10, 20), (20, 40), (40, 99))] == [
        2,
        1,
        1,
        0,
    ]
    assert row([case], 10, 20)[1] == 2.0
    assert table([case]).count("\n") == 2 + 1 + 3  # header, case, all, three motions


def test_results_are_written_whole(tmp_path: Path) -> None:
    case = Case("w", "a, small", np.ones((3, 3)), np.ones(3), np.array([0.2, 0.9, 0.9]), 2.0)
    text = write_results(tmp_path / "out", [case], {"threads": 1})
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "table.md",
        "pairs.csv",
        "evaluation.json",
    }
    assert (tmp_path / "out" / "table.md").read_text() == text
    lines = (tmp_path / "out" / "pairs.csv").read_text().splitlines()
    assert len(lines) == 4
    assert lines[1] == "w,a small,1.0000,1.0000,1.0000,1.0000,0.2000"


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="exists already"):
        main(["x.nii.gz", "-o", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: .*nosuch"):
        main(["x.nii.gz", "-o", str(tmp_path / "new"), "--weights", "nosuch"])
    with pytest.raises(SystemExit, match=r"error: .*x\.nii\.gz"):
        main([str(tmp_path / "x.nii.gz"), "-o", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()
