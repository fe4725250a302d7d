"""Point pairs and their files: round trips, and every way to get an elastix file wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from landmark_dir.errors import BadPoints, LandmarkDirError
from landmark_dir.geometry import Points, index_to_physical
from landmark_dir.io.point_files import (
    read_csv,
    read_elastix_points,
    read_pairs,
    read_point_list,
    read_points,
    write_csv,
    write_elastix_points,
    write_point_list,
)
from landmark_dir.io.slicer_points import (
    PointList,
    read_markups,
    write_markups,
)
from landmark_dir.points import (
    PointPairs,
    check_inside,
)

WRITTEN_MM = 1e-6  # six decimals


def some_points(count: int, seed: int = 0) -> Points:
    return np.random.default_rng(seed).uniform(-500, 500, (count, 3))


def some_pairs(count: int) -> PointPairs:
    score = np.random.default_rng(2).uniform(0, 1, count)
    return PointPairs(some_points(count), some_points(count, seed=1), score)


def test_select_keeps_rows_together() -> None:
    pairs = some_pairs(10)
    by_mask = pairs.select(pairs.score > 0.5)
    by_number = pairs.select(np.flatnonzero(pairs.score > 0.5))
    assert 0 < len(by_mask) < 10
    assert_array_equal(by_mask.moving, pairs.moving[pairs.score > 0.5])
    assert_array_equal(by_number.fixed, by_mask.fixed)
    assert len(pairs.select(np.zeros(10, dtype=bool))) == len(PointPairs.empty()) == 0


@pytest.mark.parametrize(
    ("fixed", "moving", "score", "said"),
    [
        (np.zeros((2, 3)), np.zeros((3, 3)), np.ones(2), "2 fixed points, 3 moving points"),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.ones(3), r"scores of shape \(3,\)"),
        (np.zeros((2, 2)), np.zeros((2, 3)), np.ones(2), r"\(N, 3\)"),
        (np.full((1, 3), np.nan), np.zeros((1, 3)), np.ones(1), "NaN"),
        (np.zeros((1, 3)), np.full((1, 3), np.inf), np.ones(1), "infinite"),
        (np.zeros((1, 3)), np.zeros((1, 3)), np.array([1.01]), "numbers of 0 to 1"),
        (np.zeros((1, 3)), np.zeros((1, 3)), np.array([np.nan]), "numbers of 0 to 1"),
    ],
)
def test_pairs_check_themselves(
    fixed: Points, moving: Points, score: np.ndarray, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        PointPairs(fixed, moving, score)


def test_elastix_round_trip(tmp_path: Path) -> None:
    points = np.vstack([some_points(50), [[0.0, -1e-9, 1e5]]])
    write_elastix_points(points, tmp_path / "points.txt")
    assert_allclose(read_elastix_points(tmp_path / "points.txt"), points, atol=WRITTEN_MM)


def test_elastix_file_is_what_elastix_wants(tmp_path: Path) -> None:
    write_elastix_points([[1.5, -2, 1e-7], [4, 5, 6]], tmp_path / "points.txt")
    want = b"point\n2\n1.500000 -2.000000 0.000000\n4.000000 5.000000 6.000000\n"
    assert (tmp_path / "points.txt").read_bytes() == want


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.array([[0.0, np.nan, 0.0]])])
def test_elastix_is_not_given_what_it_ignores(points: Points, tmp_path: Path) -> None:
    with pytest.raises(BadPoints, match="points.txt"):
        write_elastix_points(points, tmp_path / "points.txt")
    assert not (tmp_path / "points.txt").exists()


@pytest.mark.parametrize(
    "text",
    [
        "point\r\n2\r\n1 2 3\r\n4 5 6\r\n",
        "point\n2\n1 2 3\n4 5 6",
        "point\n2\n1 2 3\n4 5 6\n\n \n",
        " point \n 2\n\t1.0  +2 .3e1\n4. 5 6\n",
    ],
)
def test_elastix_harmless_variants_are_read(text: str, tmp_path: Path) -> None:
    # elastix 5.3.1 reads these four alike
    (tmp_path / "points.txt").write_bytes(text.encode())
    assert_array_equal(read_elastix_points(tmp_path / "points.txt"), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("point\n2\n1,2,3\n4,5,6\n", "line 3: comma in '1,2,3'"),
        ("point\n2\n1 2 3\n4,0 5,0 6,0\n", "line 4: comma"),
        ("Point\n2\n1 2 3\n4 5 6\n", "line 1: expected the word 'point', found 'Point'"),
        ("# made by hand\npoint\n2\n1 2 3\n4 5 6\n", "line 1: expected the word 'point'"),
        ("point\n# two\n2\n1 2 3\n4 5 6\n", "line 2: expected the number of points"),
        ("point\n2\n# head\n1 2 3\n4 5 6\n", "line 3: expected 3 numbers, found '# head'"),
        ("\ufeffpoint\n2\n1 2 3\n4 5 6\n", "line 1: expected the word 'point'"),
        ("2\n1 2 3\n4 5 6\n", "line 1: expected the word 'point', found '2'"),
        ("1 2 3\n4 5 6\n", "line 1: expected the word 'point'"),
        ("point\n1 2 3\n4 5 6\n", "line 2: expected the number of points alone"),
        ("point 2\n1 2 3\n4 5 6\n", "line 1: expected the word 'point'"),
        ("point\n2\n1 2 3\ntip 4 5 6\n", "line 4: expected 3 numbers, found 'tip 4 5 6'"),
        ("point\n2\n1 2 3\n4 5 6 7\n", "line 4: expected 3 numbers"),
        ("point\n2\n1 2\n4 5\n", "line 3: expected 3 numbers, found '1 2'"),
        ("point\n1\n1 2 3\n4 5 6\n", "header says 1 points, file holds 2"),
        ("point\n3\n1 2 3\n4 5 6\n", "header says 3 points, file holds 2"),
        ("point\n-2\n1 2 3\n4 5 6\n", "line 2: expected the number of points"),
        ("point\n2.0\n1 2 3\n4 5 6\n", "line 2: expected the number of points"),
        ("point\n0\n", "line 2: no points"),
        ("point\n", "line 2: expected the number of points"),
        ("", "line 1: expected the word 'point', found ''"),
        ("point\n2\n1 2 3\n4 nan 6\n", "line 4: expected 3 numbers"),
        ("point\n2\n1 2 3\n4 5 inf\n", "line 4: expected 3 numbers"),
        ("point\n2\n1 2 3\n\n4 5 6\n", "line 4: expected 3 numbers, found ''"),
        ("point\n2\n1_0 2 3\n4 5 6\n", "line 3: expected 3 numbers"),
        ("point\n2\n1 2 3\n4 5 0x6\n", "line 4: expected 3 numbers"),
        ("index\n2\n1 2 3\n4 5 6\n", "line 1: voxel indices.*physical mm"),
    ],
)
def test_elastix_malformed_is_refused_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text(text, encoding="utf-8")
    with pytest.raises(BadPoints, match=f"bad.txt, {said}|bad.txt, line 2: {said}"):
        read_elastix_points(tmp_path / "bad.txt")


def test_binary_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"point\n2\n\x80\xff\x00")
    with pytest.raises(BadPoints, match="bad.txt: expected a text file"):
        read_elastix_points(tmp_path / "bad.txt")
    with pytest.raises(BadPoints, match="none.txt: cannot be read"):
        read_elastix_points(tmp_path / "none.txt")
    with pytest.raises(LandmarkDirError, match="cannot be written"):
        write_elastix_points(some_points(2), tmp_path / "none" / "points.txt")


def test_read_pairs_keeps_fixed_and_moving_apart(tmp_path: Path) -> None:
    pairs = some_pairs(7)
    write_elastix_points(pairs.fixed, tmp_path / "fixed.txt")
    write_markups(pairs.moving, tmp_path / "moving.mrk.json")
    read = read_pairs(tmp_path / "fixed.txt", tmp_path / "moving.mrk.json")
    assert_allclose(read.fixed, pairs.fixed, atol=WRITTEN_MM)
    assert_allclose(read.moving, pairs.moving, atol=WRITTEN_MM)
    assert_array_equal(read.score, np.ones(7))


def test_read_pairs_refuses_unequal_counts(tmp_path: Path) -> None:
    write_elastix_points(some_points(7), tmp_path / "fixed.txt")
    write_elastix_points(some_points(6), tmp_path / "moving.txt")
    with pytest.raises(BadPoints, match="fixed.txt holds 7 points, .*moving.txt 6"):
        read_pairs(tmp_path / "fixed.txt", tmp_path / "moving.txt")


@pytest.fixture
def images(oblique_ct: sitk.Image) -> tuple[sitk.Image, sitk.Image]:
    """The oblique volume, and a moving one 300 mm away."""
    moving = sitk.Image(oblique_ct)
    moving.SetOrigin((180.0, 95.0, -120.0))
    return oblique_ct, moving


@pytest.fixture
def good_pairs(images: tuple[sitk.Image, sitk.Image]) -> PointPairs:
    index = np.random.default_rng(3).uniform(0, 11, (20, 3))
    fixed, moving = (index_to_physical(image, index) for image in images)
    return PointPairs(fixed, moving, np.ones(20))


def test_check_inside_accepts_good_pairs_and_no_pairs(
    images: tuple[sitk.Image, sitk.Image], good_pairs: PointPairs
) -> None:
    check_inside(good_pairs, *images)
    check_inside(some_pairs(0), *images)
    outside = good_pairs.fixed + np.where(np.arange(20) < 5, 60.0, 0.0)[:, None]  # a quarter may be
    check_inside(PointPairs(outside, good_pairs.moving, good_pairs.score), *images)


def test_a_point_that_lies_far_outside_is_named(
    images: tuple[sitk.Image, sitk.Image], good_pairs: PointPairs
) -> None:
    far = np.where(np.arange(20)[:, None] == 6, 2000.0, 0.0)
    with pytest.raises(BadPoints, match=r"fixed point 7 of 20 lies \d{4} mm outside"):
        check_inside(PointPairs(good_pairs.fixed + far, good_pairs.moving), *images)
    with pytest.raises(BadPoints, match=r"moving point 7 of 20 lies \d{4} mm outside"):
        check_inside(PointPairs(good_pairs.fixed, good_pairs.moving - far), *images)


def test_check_inside_names_the_mix_up(
    images: tuple[sitk.Image, sitk.Image], good_pairs: PointPairs
) -> None:
    fixed, moving = good_pairs.fixed, good_pairs.moving
    flip = np.array([-1, -1, 1])
    index = np.random.default_rng(3).uniform(0, 11, (20, 3))
    for guess, wrong in {
        "20 of 20 fixed points .* swapped": (moving, fixed),
        "RAS, not LPS": (fixed * flip, moving * flip),
        "z, y, x order": (fixed[:, ::-1], moving[:, ::-1]),
        "voxel indices": (index, index),
        r"expected physical mm \(LPS\)": (fixed + 1e4, moving),
    }.items():
        with pytest.raises(BadPoints, match=guess):
            check_inside(PointPairs(*wrong, good_pairs.score), *images)


@pytest.mark.parametrize("count", [0, 1, 20])
def test_csv_round_trip(count: int, tmp_path: Path) -> None:
    pairs = some_pairs(count)
    write_csv(pairs, tmp_path / "landmarks.csv")
    read = read_csv(tmp_path / "landmarks.csv")
    assert_allclose(read.fixed, pairs.fixed, atol=WRITTEN_MM)
    assert_allclose(read.moving, pairs.moving, atol=WRITTEN_MM)
    assert_allclose(read.score, pairs.score, atol=1e-6)  # six decimals
    header = (tmp_path / "landmarks.csv").read_text().splitlines()[0]
    assert header == "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z,score"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("score", "weight"), "line 1: expected the header fixed_x"),
        ((",0.5", ""), "line 2: expected 7 numbers"),
        (("0.5", "high"), "line 2: expected 7 numbers"),
        (("0.5", "1.5"), "score: expected numbers of 0 to 1"),
        (("0.5", "0.5\n\n1"), "line 3: expected 7 numbers"),
    ],
)
def test_csv_malformed_is_refused(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    good = "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z,score\n1,2,3,4,5,6,0.5\n"
    (tmp_path / "bad.csv").write_text(good)
    assert len(read_csv(tmp_path / "bad.csv")) == 1
    (tmp_path / "bad.csv").write_text(good.replace(*change))
    with pytest.raises(BadPoints, match=said):
        read_csv(tmp_path / "bad.csv")


@pytest.mark.parametrize("count", [0, 1, 20])
def test_markups_round_trip(count: int, tmp_path: Path) -> None:
    write_markups(some_points(count), tmp_path / "a.mrk.json", score=np.full(count, 0.87))
    assert_allclose(
        read_markups(tmp_path / "a.mrk.json").points, some_points(count), atol=WRITTEN_MM
    )


def test_markups_carry_labels_and_scores(tmp_path: Path) -> None:
    write_markups(some_points(3), tmp_path / "a.mrk.json", score=np.array([0.5, 0.25, 1.0]))
    (markup,) = json.loads((tmp_path / "a.mrk.json").read_text())["markups"]
    assert [point["label"] for point in markup["controlPoints"]] == ["1", "2", "3"]
    assert markup["controlPoints"][1]["description"] == "score 0.250"
    assert (markup["type"], markup["coordinateSystem"]) == ("Fiducial", "LPS")


def test_markups_in_ras_are_flipped(tmp_path: Path) -> None:
    write_markups([[1.0, 2.0, 3.0]], tmp_path / "a.mrk.json")
    text = (tmp_path / "a.mrk.json").read_text()
    (tmp_path / "a.mrk.json").write_text(text.replace('"LPS"', '"RAS"'))
    assert_array_equal(read_markups(tmp_path / "a.mrk.json").points, [[-1.0, -2.0, 3.0]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"LPS"', '"IJK"'), "expected LPS or RAS in mm, found 'IJK'"),
        (('"mm"', '"um"'), "found 'LPS' in 'um'"),
        (('"defined"', '"undefined"'), "point '1' is not placed"),
        (("3.0\n", "NaN\n"), "point '1' is not three numbers up to"),
        (("3.0\n", "3.0, 4.0\n"), "point '1' is not three numbers up to"),
        (('"controlPoints"', '"points"'), "expected 3D Slicer markups"),
        (('"markups": [', '"markups": [{}, '), "expected 3D Slicer markups"),
        (("{", ""), "expected 3D Slicer markups"),
    ],
)
def test_markups_malformed_are_refused(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    write_markups([[1.0, 2.0, 3.0]], tmp_path / "a.mrk.json")
    text = (tmp_path / "a.mrk.json").read_text()
    assert change[0] in text
    (tmp_path / "a.mrk.json").write_text(text.replace(*change, 1))
    with pytest.raises(BadPoints, match=said):
        read_markups(tmp_path / "a.mrk.json")


# --- one rule for all files of points ------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "sign"), [("x,y,z", 1), ("name, X ,Y,Z", 1), ("l,p,s", 1), ("label,r,a,s,more", -1)]
)
def test_a_table_says_by_its_header_what_its_axes_are(
    header: str, sign: int, tmp_path: Path
) -> None:
    named = header.lower().startswith(("name", "label"))
    row = ("apex," if named else "") + "10,-20.5,30.25" + (",1" if "more" in header else "")
    (tmp_path / "p.csv").write_text(f"{header}\n{row}\n")
    listed = read_point_list(tmp_path / "p.csv")
    assert_array_equal(listed.points, [[sign * 10, sign * -20.5, 30.25]])
    assert listed.labels == (("apex",) if named else ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected the columns x, y, z .* found ''"),
        ("1,2,3\n", "line 1: expected the columns x, y, z .* found '1, 2, 3'"),
        ("x,y,z,r,a,s\n1,2,3,-1,-2,3\n", "line 1: expected the columns"),
        ("x,y,z\n1,2\n", "line 2: expected 3 cells, found 2"),
        ("x,y,z\n1,2,nan\n", "line 2: expected 3 numbers"),
        ('x,y,z\n"1,2,3\n', "expected cells between commas"),
    ],
)
def test_a_malformed_table_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(BadPoints, match=said):
        read_point_list(tmp_path / "p.csv")


def test_a_message_names_the_kinds_of_files(tmp_path: Path) -> None:
    (tmp_path / "p.pts").write_text("1 2 3\n")
    with pytest.raises(BadPoints, match=r"tables \(.csv .*x, y, z\) and 3D Slicer's .*by their"):
        read_point_list(tmp_path / "p.pts")


FCSV = """# Markups fiducial file version = 4.11
# CoordinateSystem = {system}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
1,10.0,-20.5,30.25,0,0,0,1,1,1,0,"carina, left",seen twice,
2,1.0,2.0,3.0,0,0,0,1,1,1,0,apex,,vtkMRMLScalarVolumeNode1
"""


NAMES = ("p.json", "p.mrk.json", "P.JSON", "p.fcsv", "p.csv", "p.txt", "p.pts")


@pytest.mark.parametrize("name", NAMES)
def test_the_suffix_tells_the_kind_wherever_points_are_read(name: str, tmp_path: Path) -> None:
    points, labels = some_points(4), ("a", "b, c", "", 'd "e"')
    write_point_list(PointList(points, labels), tmp_path / name)
    listed = read_point_list(tmp_path / name)
    assert_allclose(listed.points, points, atol=WRITTEN_MM)
    assert listed.labels == (() if name.endswith(("txt", "pts")) else labels)
    assert_array_equal(read_points(tmp_path / name), listed.points)
    pairs = read_pairs(tmp_path / name, tmp_path / name)
    assert_array_equal(pairs.moving, listed.points)


@pytest.mark.parametrize(("system", "sign"), [("LPS", 1), ("RAS", -1), ("0", -1), ("1", 1)])
def test_fcsv_of_both_coordinate_systems(system: str, sign: int, tmp_path: Path) -> None:
    (tmp_path / "p.fcsv").write_text(FCSV.format(system=system))
    listed = read_point_list(tmp_path / "p.fcsv")
    assert_array_equal(listed.points, [[sign * 10, sign * -20.5, 30.25], [sign, sign * 2, 3]])
    assert listed.labels == ("carina, left", "apex")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("LPS", "IJK"), "expected a line '# CoordinateSystem = LPS' or RAS, found 'IJK'"),
        (("# CoordinateSystem = LPS\n", ""), "found 'none'"),
        (("10.0", "ten"), "line 4: expected 3 numbers"),
        (("2,1.0,2.0,3.0", "2,1.0"), "line 5: expected 14 columns, found 12"),
        (("id,x,y,z", "id,r,a,s"), "expected one column each for x, y and z"),
    ],
)
def test_fcsv_malformed_is_refused(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / "p.fcsv").write_text(FCSV.format(system="LPS").replace(*change, 1))
    with pytest.raises(BadPoints, match=said):
        read_point_list(tmp_path / "p.fcsv")
