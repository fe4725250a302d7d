"""Findings followed through a real run: table, markups, page, and what is refused."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner
from numpy.testing import assert_allclose
from small_pairs import Case

import landmark_dir
from landmark_dir.cli.main import main
from landmark_dir.errors import BadArgument, BadPoints, BadStructures
from landmark_dir.findings.follow import COLUMNS, follow
from landmark_dir.geometry import distances_mm, index_to_physical, inside, physical_to_index
from landmark_dir.io.point_files import read_point_list, write_csv
from landmark_dir.io.run_folder import HELD_BACK_CSV, LANDMARKS_CSV, RUN_JSON, write_json
from landmark_dir.io.slicer_points import write_markups
from landmark_dir.io.volumes import write_volume

pytestmark = pytest.mark.engine
PLACES = 6


@pytest.fixture(scope="module")
def run(
    few_iterations: None, case: Case, case_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run guided by true points, with others in the place of held-back landmarks."""
    out = tmp_path_factory.mktemp("follow") / "run"
    images = case_files / "fixed.nii.gz", case_files / "moving.nii.gz"
    landmark_dir.register(*images, out, threads=1, points=case.guides)
    write_csv(case.judges, out / HELD_BACK_CSV)
    return out


@pytest.fixture
def places(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """True correspondences well inside both scans."""
    middle = np.argsort(distances_mm(case.judges.fixed, case.judges.fixed.mean(axis=0)))
    rows = middle[:PLACES]
    return case.judges.fixed[rows], case.judges.moving[rows]


@pytest.mark.parametrize("of", ["fixed", "moving"])
def test_points_are_carried_to_where_they_are_with_a_radius(
    run: Path, places: tuple[np.ndarray, np.ndarray], of: str, tmp_path: Path
) -> None:
    own, there = places if of == "fixed" else places[::-1]
    names = [f"lesion {k}" for k in range(PLACES)]
    write_markups(own, tmp_path / "in.mrk.json", labels=names)
    followed = follow(run, tmp_path / "in.mrk.json", tmp_path / "out.csv", of=of)
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["finding"] for row in rows] == names
    other = "moving" if of == "fixed" else "fixed"
    carried = np.array([[float(row[f"{other}_{axis}"]) for axis in "xyz"] for row in rows])
    assert distances_mm(carried, there).max() < 4.0
    marked = read_point_list(tmp_path / "out.mrk.json")
    assert list(marked.labels) == names
    assert_allclose(marked.points, carried, atol=1e-3)
    radii = np.array([[float(row[f"radius_{n}_mm"]) for n in (50, 80, 95)] for row in rows])
    assert (np.diff(radii, axis=1) > 0).all()
    assert {row["inside"] for row in rows} == {"yes"}
    page = (tmp_path / "out.html").read_text()
    assert page.count("<img") == 4 * PLACES
    assert "lesion 3" in page
    assert len(followed.table().splitlines()) == PLACES + 1


def test_slices_are_counted_from_one(run: Path, case: Case, tmp_path: Path) -> None:
    place = index_to_physical(case.phantom.fixed, [(20.0, 20.0, 17.2)])[0]
    row = "x,y,z\n" + ",".join(f"{value:.4f}" for value in place) + "\n"
    (tmp_path / "in.csv").write_text(row)
    (found,) = follow(run, tmp_path / "in.csv").rows
    assert found["fixed_slice"] == 18
    moving = [found[f"moving_{axis}"] for axis in "xyz"]
    index = physical_to_index(case.phantom.moving, [moving])[0, 2]
    assert found["moving_slice"] == round(index) + 1


def test_findings_of_both_scans_are_paired_and_the_rest_is_new_or_gone(
    run: Path, case: Case, places: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    fixed, moving = places
    wide = np.argsort(-distances_mm(fixed, fixed[0]))[:2]  # the farthest from the first, and it
    rows = [0, int(wide[0])]
    before = _balls(case.phantom.fixed, fixed[[*rows]], (13.0, 13.0))
    after = _balls(case.phantom.moving, moving[[rows[0]]], (16.0,))
    after[_voxel(case.phantom.moving, moving.mean(axis=0) + 60)] = 2
    write_volume(before, tmp_path / "before.nii.gz")
    write_volume(after, tmp_path / "after.nii.gz")
    out = tmp_path / "out.csv"
    followed = follow(run, tmp_path / "before.nii.gz", out, found=tmp_path / "after.nii.gz")
    assert [row["change"] for row in followed.rows] == ["same", "gone", "new"]
    same, gone, new = followed.rows
    assert same["is"] == "label 1"
    assert 30 < same["volume_change_percent"] < 180
    assert same["longest_change_percent"] > 5
    assert gone["is"] is None
    assert new["of"] == "moving"
    assert_allclose(same["jacobian"], same["carried_volume_mm3"] / same["volume_mm3"])


def test_a_run_without_held_back_landmarks_says_that_nothing_is_known(
    run: Path, places: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(run, bare)
    (bare / HELD_BACK_CSV).unlink()
    write_markups(places[0], tmp_path / "in.mrk.json")
    rows = follow(bare, tmp_path / "in.mrk.json").rows
    assert {row["radius_95_mm"] for row in rows} == {None}
    assert {row["place"] for row in rows} == {"doubtful"}
    assert "nothing says how sure" in rows[0]["reasons"]


def test_a_run_that_no_landmarks_guided_is_doubtful(
    run: Path, places: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(run, plain)
    (plain / LANDMARKS_CSV).unlink()
    write_markups(places[0], tmp_path / "in.mrk.json")
    rows = follow(plain, tmp_path / "in.mrk.json").rows
    assert all("no landmarks guided it" in row["reasons"] for row in rows)


def test_a_structure_cut_by_the_end_of_its_scan_is_doubtful(
    run: Path, case: Case, tmp_path: Path
) -> None:
    last = case.phantom.fixed.GetSize()[2] - 1
    middle = index_to_physical(case.phantom.fixed, [(24.0, 20.0, float(last))])
    write_volume(_balls(case.phantom.fixed, middle, (15.0,)), tmp_path / "cut.nii.gz")
    (found,) = follow(run, tmp_path / "cut.nii.gz").rows
    assert found["place"] == "doubtful"
    assert "reaches the end of its scan" in found["reasons"]


def test_findings_in_ras_are_noticed(
    run: Path, case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = case.phantom.fixed
    ends = np.array(list(np.ndindex(2, 2, 2))) * (np.array(image.GetSize()) - 3) + 1
    ras = index_to_physical(image, ends) * (-1, -1, 1)
    ras = ras[~inside(image, ras)]
    rows = [",".join(map(str, place)) for place in ras.tolist()]
    for header, noticed in (("x,y,z", True), ("r,a,s", False)):
        caplog.clear()
        (tmp_path / "in.csv").write_text("\n".join([header, *rows, ""]))
        follow(run, tmp_path / "in.csv")
        assert ("inside if they are RAS" in caplog.text) == noticed


def test_outside_a_scan_no_radius_is_told(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("name,x,y,z\nfar,900,900,900\n")
    (found,) = follow(run, tmp_path / "in.csv").rows
    assert found["radius_95_mm"] is None
    assert found["reasons"].startswith("outside the fixed scan")
    assert "held back" not in found["reasons"]


@pytest.mark.parametrize(
    ("days", "words"), [(90, ["same", "gone", "new"]), (-90, ["same", "new", "gone"])]
)
def test_new_and_gone_go_by_the_dates(
    run: Path,
    case: Case,
    places: tuple[np.ndarray, np.ndarray],
    days: int,
    words: list[str],
    tmp_path: Path,
) -> None:
    dated = tmp_path / "dated"
    shutil.copytree(run, dated)
    content = json.loads((dated / RUN_JSON).read_text())
    content["inputs"]["moving"]["days_after_fixed"] = days
    write_json(dated / RUN_JSON, content)
    fixed, moving = places
    far = int(np.argmax(distances_mm(fixed, np.broadcast_to(fixed[0], fixed.shape))))
    before = _balls(case.phantom.fixed, fixed[[0, far]], (13.0, 13.0))
    after = _balls(case.phantom.moving, moving[[0]], (16.0,))
    after[_voxel(case.phantom.moving, moving.mean(axis=0) + 60)] = 2
    write_volume(before, tmp_path / "before.nii.gz")
    write_volume(after, tmp_path / "after.nii.gz")
    rows = follow(dated, tmp_path / "before.nii.gz", found=tmp_path / "after.nii.gz").rows
    assert [row["change"] for row in rows] == words
    assert (rows[0]["volume_change_percent"] > 0) == (days > 0)


def test_what_is_refused(
    run: Path, case: Case, places: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    given = tmp_path / "in.mrk.json"
    write_markups(places[0], given)
    with pytest.raises(BadArgument, match="expected .csv"):
        follow(run, given, tmp_path / "out.txt")
    with pytest.raises(BadArgument, match="lies in the run"):
        follow(run, given, run / "landmarks.csv")
    with pytest.raises(BadArgument, match="expected fixed or moving"):
        follow(run, given, of="both")
    (tmp_path / "bad.csv").write_text("x,y\n1,2\n")
    with pytest.raises(BadPoints, match="line 1: expected the columns x, y, z"):
        follow(run, tmp_path / "bad.csv")
    image = tmp_path / "ct.nii.gz"
    sitk.WriteImage(sitk.Cast(case.phantom.fixed, sitk.sitkInt16), str(image))
    with pytest.raises(BadStructures, match="is this an image"):
        follow(run, image)
    image.unlink()
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(BadArgument, match="exists already"):
        follow(run, given, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.csv", "in.mrk.json", "out.csv"]


def test_the_command_prints_the_table(
    run: Path, places: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    write_markups(places[0], tmp_path / "in.mrk.json", labels=list("abcdef"))
    call = ["follow", str(run), str(tmp_path / "in.mrk.json"), "-o", str(tmp_path / "t.csv")]
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 0, done.output
    assert "95 % within" in done.output
    again = CliRunner().invoke(main, call)
    assert again.exit_code == 2
    assert "exists already" in again.output
    assert CliRunner().invoke(main, [*call, "--overwrite"]).exit_code == 0


def _balls(image: sitk.Image, middles: np.ndarray, radii: tuple[float, ...]) -> sitk.Image:
    labels = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    labels.CopyInformation(image)
    shape = tuple(reversed(image.GetSize()))
    index = np.indices(shape).reshape(3, -1).T[:, ::-1]
    points = index_to_physical(image, index)
    values = np.zeros(len(points), np.uint8)
    for number, (middle, radius) in enumerate(zip(middles, radii, strict=True), start=1):
        values[distances_mm(points, np.broadcast_to(middle, points.shape)) < radius] = number
    filled = sitk.GetImageFromArray(values.reshape(shape))
    filled.CopyInformation(labels)
    return filled


def _voxel(image: sitk.Image, place: np.ndarray) -> tuple[int, int, int]:
    index = np.clip(np.rint(physical_to_index(image, [place])[0]), 0, np.array(image.GetSize()) - 1)
    x, y, z = index.astype(int).tolist()
    return x, y, z
