"""`batch`, `gather` and `compare --cases` as typed."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner, Result
from run_schema import complaints
from small_pairs import Case, make_case

from benchmarks import stand_in
from landmark_dir.cli import main
from landmark_dir.errors import BadRunFolder
from landmark_dir.geometry import same_grid
from landmark_dir.io import run_folder
from landmark_dir.io.volumes import write_volume
from landmark_dir.registration.result import open_run
from landmark_dir.study import how, task


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two cases of files that only `stand_in` reads."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "pairs.csv").write_text("case,fixed,moving\none,a.txt,b.txt\ntwo,b.txt,a.txt\n")
    return tmp_path / "pairs.csv"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stand-in do the cases."""
    monkeypatch.setattr(how.How, "worker", stand_in.NAME)
    monkeypatch.setattr(how.How.__init__, "__defaults__", _with_stand_in())


def _with_stand_in() -> tuple[object, ...]:
    defaults = how.How.__init__.__defaults__ or ()
    return tuple(stand_in.NAME if one == task.CASE_WORKER else one for one in defaults)


def run(*words: object) -> Result:
    return CliRunner().invoke(main.main, [*map(str, words)])


@pytest.mark.usefixtures("quick")
def test_batch_and_gather(pairs: Path) -> None:
    out = pairs.parent / "study"
    done = run("batch", pairs, "-o", out, "--shard", "1/2", "-q")
    assert done.exit_code == 0, done.output
    assert f"1 of 1 cases have a result\ntables: `landmark-dir gather {out}`" in done.output
    gathered = run("gather", out)
    assert "1 of 2 cases have a result, judged 1 good; 1 left" in gathered.output
    done = run("batch", pairs, "-o", out, "--workers", 1)
    assert done.exit_code == 0, done.output
    assert "warning: 1 of 2 cases are done and kept" in done.output
    assert "2 of 2 cases have a result, judged 2 good" in done.output
    assert f"page: {out / 'study.html'}" in done.output


@pytest.mark.usefixtures("quick")
def test_exit_code_1_if_a_case_failed(pairs: Path) -> None:
    (pairs.parent / "a.txt").write_text("refused")
    for command in (["batch", pairs, "--shard", "1/1"], ["compare", "--cases", pairs]):
        done = run(*command, "-o", pairs.parent / command[0])
        assert done.exit_code == 1
        assert "error: one failed: elastix gave up" in done.output
    assert "Error: 1 of 2 cases failed" in done.output
    assert "one failed: elastix gave up" in done.output


@pytest.mark.usefixtures("quick")
def test_compare_cases_keeps_replaces_or_refuses_as_asked(pairs: Path) -> None:
    command = ["compare", "--cases", pairs, "-o", pairs.parent / "out"]
    assert run(*command).exit_code == 0
    records = sorted((pairs.parent / "out").glob("cases/*/comparison.json"))
    first = [path.stat().st_mtime_ns for path in records]
    refused = run(*command)
    assert refused.exit_code == 1
    assert "--resume keeps its finished cases, --overwrite replaces them" in refused.output
    assert run(*command, "--resume").exit_code == 0
    assert [path.stat().st_mtime_ns for path in records] == first
    assert run(*command, "--overwrite").exit_code == 0
    assert all(now.stat().st_mtime_ns > then for now, then in zip(records, first, strict=True))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("compare",), 2, "expected FIXED and MOVING, or --cases"),
        (("compare", "a.txt", "a.txt", "--resume"), 2, "--cases, which --resume goes with"),
        (("compare", "--cases", "pairs.csv", "a.txt"), 2, "fixed: belongs to one pair"),
        (("compare", "--cases", "pairs.csv", "--fixed-series", "1"), 2, "belongs to one pair"),
        (("compare", "--cases", "a.txt"), 1, "a.txt, line 1: column fixed is missing"),
        (("compare", "--cases", "pairs.csv", "--no-landmarks"), 2, "No such option"),
        (("batch", "a.txt"), 1, "a.txt, line 1: column fixed is missing"),
        (("batch", "pairs.csv", "--shard", "3"), 2, "expected I/N, such as 3/100, found '3'"),
        (("batch", "pairs.csv", "--shard", "0/3"), 2, "with I from 1 to N, found 0/3"),
        (("batch", "pairs.csv", "--keep", "x"), 2, "keep: expected some of all, transform"),
        (("batch", "pairs.csv", "--workers", "1", "--scheduler", "x"), 2, "contradict each other"),
        (("batch", "pairs.csv", "--compare", "--no-landmarks"), 2, "runs both arms itself"),
        (("batch", "pairs.csv", "--timeout", "0"), 2, "timeout_min: expected more than 0"),
        (("gather", "none"), 1, "expected the folder of a study"),
    ],
)
def test_wrong_usage_is_one_sentence(
    pairs: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    out = pairs.parent / "out"
    there = {"a.txt", "pairs.csv", "none"}
    paths = [str(pairs.parent / word) if word in there else word for word in words]
    done = run(*paths, *([] if words[0] == "gather" else ["-o", out]))
    assert done.exit_code == code, done.output
    assert said in " ".join(done.output.split())
    assert not out.exists()


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of one case with points, labels, and another column."""
    case: Case = make_case(size_xyz=(104, 80, 24), spacing_mm=(3.0, 3.0, 6.0))
    folder = case.write(tmp_path_factory.mktemp("judged") / "case")
    for side in ("fixed", "moving"):
        labels = getattr(case.phantom, f"{side}_labels")
        write_volume(labels, folder / f"labels_{side}.nii.gz")
    given = ["guides_{}.txt", "labels_{}.nii.gz"]
    cells = [name.format(side) for name in ("{}.nii.gz", *given) for side in ("fixed", "moving")]
    header = "fixed,moving,fixed_points,moving_points,fixed_labels,moving_labels,case,site"
    row = ",".join([*cells, "Müller 1", "north"])
    (folder / "cases.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    return folder / "cases.csv"


@pytest.mark.engine
def test_real_comparisons_with_all_that_judges(judged: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quick = ("--preset", "fast", "--threads", "1")
    done = run("compare", "--cases", judged, "-o", out, *quick)
    assert done.exit_code == 0, done.output
    with (out / run_folder.COMPARISON_CSV).open(newline="", encoding="utf-8") as file:
        states = {row["state"]: row for row in csv.DictReader(file)}
    tre = [float(states[name]["tre_mm_mean"]) for name in ("before", "affine", "without")]
    assert tre == sorted(tre, reverse=True)
    dice = [float(states[name]["mean_dice"]) for name in ("before", "affine", "with")]
    assert dice == sorted(dice)
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["case"], row["site"]) == ("Müller 1", "north")
    assert float(row["with_tre_mm_mean"]) == float(states["with"]["tre_mm_mean"])
    assert (out / row["folder"] / "with" / run_folder.PREVIEW).is_file()
    pooled = json.loads((out / "study.json").read_text())["pooled"]
    assert set(pooled) == {"tre_mm", "held_back_mm", "mean_dice"}


@pytest.mark.engine
def test_a_real_batch_keeps_the_parts_asked_for(judged: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quick = ("--preset", "fast", "--no-landmarks", "--workers", 1)
    done = run("batch", judged, "-o", out, "--keep", "transform,points", *quick)
    assert done.exit_code == 0, done.output
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    kept = {path.name for path in (out / row["folder"]).iterdir()}
    transforms = {name for name in kept if name.startswith("transform")}
    assert kept - transforms == {run_folder.RUN_JSON, run_folder.PREVIEW}
    assert run_folder.TRANSFORM in transforms
    assert 0 < float(row["tre_mm_mean"]) < 10
    assert 0.5 < float(row["mean_dice"]) <= 1
    points = out.parent / "mapped.txt"
    mapped = run(
        "warp-points", out / row["folder"], judged.parent / "guides_fixed.txt", "-o", points
    )
    assert mapped.exit_code == 0, mapped.output
    warped = out.parent / "warped.nii.gz"
    assert (
        run("warp", out / row["folder"], judged.parent / "moving.nii.gz", "-o", warped).exit_code
        == 0
    )
    fixed = sitk.ReadImage(str(judged.parent / "fixed.nii.gz"))
    assert same_grid(sitk.ReadImage(str(warped)), fixed, 0.01)
    with pytest.raises(BadRunFolder, match=r"has no warped\.nii\.gz; make it with"):
        _ = open_run(out / row["folder"]).warped
    assert np.isfinite(float(row["correlation"]))
    record = run_folder.read_run_json(out / row["folder"])
    assert complaints(record) == []
    assert record["case"]["name"] == "Müller 1"
