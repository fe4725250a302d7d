"""Several cases: one that fails stops no other, what is finished stays, and the means are right."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from small_pairs import make_case

from landmark_dir.cli import main
from landmark_dir.comparison import compare_cases
from landmark_dir.comparison.cases import Case, read_cases
from landmark_dir.comparison.compare_cases import CasesComparison
from landmark_dir.comparison.references import described
from landmark_dir.errors import BadArgument, BadRunFolder, ElastixFailed
from landmark_dir.evaluation.metrics import Summary
from landmark_dir.evaluation.statistics import paired_difference
from landmark_dir.io import run_folder
from landmark_dir.io.volumes import write_volume
from landmark_dir.options import RegisterOptions

OPTIONS = RegisterOptions.of(threads=1)
MEANS = {  # case -> without, with; mm
    "a": (2.0, 1.0),
    "b": (3.0, 1.5),
    "c": (1.0, 1.25),
    "d": (2.5, 1.0),
    "e": (4.0, 2.0),
    "f": (3.5, 1.75),
    "g": (2.25, 1.5),
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results" / "many"


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Cases a to g, of files that hold their name."""
    for name in MEANS:
        (tmp_path / f"{name}.nii").write_text(name)
    rows = [f"{name},{name}.nii,{name}.nii" for name in MEANS]
    (tmp_path / "cases.csv").write_text("\n".join(["case,fixed,moving", *rows]))
    return read_cases(tmp_path / "cases.csv")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for the registrations: write figures, and note which cases ran."""
    names: list[str] = []

    def compare(
        fixed: Path, moving: Path, out: Path, options: RegisterOptions, *, overwrite: bool, **_: Any
    ) -> None:
        names.append(out.name)
        with run_folder.new_run_folder(out, overwrite=overwrite) as folder:
            content = fake(out.name, {"fixed": fixed, "moving": moving}, options)
            run_folder.write_json(folder / run_folder.COMPARISON_JSON, content)
            _fail_as_told(fixed)

    monkeypatch.setattr(compare_cases, "compare", compare)
    return names


def _fail_as_told(fixed: Path) -> None:
    told = fixed.read_text()
    if told == "fails":
        raise ElastixFailed("elastix gave up")
    if told == "interrupted":
        raise KeyboardInterrupt


def fake(name: str, files: dict[str, Path], options: RegisterOptions) -> dict[str, Any]:
    """`comparison.json` of a case."""
    arms = dict(zip(("without", "with"), MEANS[name], strict=True))
    image = {"correlation": 0.9, "folded_share": 0.0, "seconds": 1.0, "verdict": "good"}
    states = {
        state: {"tre_mm": Summary(5, mm, mm, mm, mm, mm)._asdict(), **image}
        for state, mm in {"before": 9.0, "affine": 5.0, **arms}.items()
    }
    return {
        "landmark_dir": compare_cases.version("landmark_dir"),
        "options": options.flat(),
        "inputs": described(files),
        "warnings": [],
        "states": states,
        "with_minus_without": {},
    }


def run(cases: list[Case], out: Path, **how: Any) -> CasesComparison:
    return compare_cases.compare_cases(cases, out, OPTIONS, **how)


def test_the_means_over_cases_and_their_difference(
    cases: list[Case], out: Path, ran: list[str]
) -> None:
    comparison = run(cases, out)
    assert ran == list(MEANS)
    without, with_ = zip(*MEANS.values(), strict=True)
    pooled = comparison.pooled["tre_mm"]
    assert (pooled["without"], pooled["with"]) == (np.mean(without), np.mean(with_))
    assert pooled["with_minus_without"] == paired_difference(with_, without)._asdict()
    assert pooled["with_minus_without"]["lower"] == 6
    assert list(comparison.pooled) == ["tre_mm"]
    written = json.loads((out / run_folder.COMPARISON_JSON).read_text())
    assert written["pooled"] == comparison.pooled
    with (out / "comparison.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["state"] == "with"]
    assert [(r["case"], float(r["tre_mm_mean"])) for r in rows] == list(
        zip(MEANS, with_, strict=True)
    )
    assert {p.name for p in out.iterdir()} == {*MEANS, "comparison.csv", "comparison.json"}


def test_a_case_that_fails_stops_no_other_and_runs_again(
    cases: list[Case], out: Path, ran: list[str]
) -> None:
    cases[2].files["fixed"].write_text("fails")
    comparison = run(cases, out)
    assert comparison.failed == ["c"]
    assert "c failed: elastix gave up" in comparison.table()
    assert comparison.pooled["tre_mm"]["with_minus_without"]["pairs"] == len(MEANS) - 1
    assert not (out / "c").exists()
    cases[2].files["fixed"].write_text("c")
    ran.clear()
    again = run(cases, out, resume=True)
    assert (ran, again.failed) == (["c"], [])
    assert again.pooled["tre_mm"]["with_minus_without"]["pairs"] == len(MEANS)


def test_all_that_failed_is_told_too(cases: list[Case], out: Path, ran: list[str]) -> None:
    cases[0].files["fixed"].write_text("fails")
    comparison = run(cases[:1], out)
    assert comparison.table() == "a failed: elastix gave up"
    assert (out / run_folder.COMPARISON_JSON).is_file()


def test_an_interrupt_leaves_what_is_finished_and_nothing_that_looks_so(
    cases: list[Case], out: Path, ran: list[str]
) -> None:
    run(cases[:1], out)
    cases[2].files["fixed"].write_text("interrupted")
    with pytest.raises(KeyboardInterrupt):
        run(cases, out, resume=True)
    assert sorted(p.name for p in out.iterdir()) == ["a", "b"]
    cases[2].files["fixed"].write_text("c")
    ran.clear()
    run(cases, out, resume=True)
    assert ran == list(MEANS)[2:]


def test_what_is_there_is_refused_kept_or_replaced_as_asked(
    cases: list[Case], out: Path, ran: list[str]
) -> None:
    run(cases[:2], out)
    with pytest.raises(BadRunFolder, match="--resume keeps its finished cases"):
        run(cases[:2], out)
    ran.clear()
    run(cases[:2], out, overwrite=True)
    assert ran == ["a", "b"]


def test_resuming_with_other_options_or_files_is_refused(
    cases: list[Case], out: Path, ran: list[str]
) -> None:
    run(cases[:2], out)
    other = RegisterOptions.of(threads=1, seed=7)
    with pytest.raises(BadRunFolder, match="a was made with another seed; name another folder"):
        compare_cases.compare_cases(cases, out, other, resume=True)
    cases[1].files["moving"].write_text("another scan")
    with pytest.raises(BadRunFolder, match="b was made with another fixed, moving"):
        run(cases, out, resume=True)
    assert (out / run_folder.COMPARISON_JSON).is_file()


def test_folders_of_another_kind_are_left_alone(
    cases: list[Case], out: Path, ran: list[str]
) -> None:
    (out / "a").mkdir(parents=True)
    with pytest.raises(BadRunFolder, match="a is no comparison and is left alone"):
        run(cases, out, overwrite=True)
    shutil.rmtree(out)
    run(cases[:1], out)
    with pytest.raises(BadRunFolder, match="holds one pair, not cases"):
        run(cases, out / "a", overwrite=True)
    out.with_name("file").touch()
    with pytest.raises(BadRunFolder, match="is a file"):
        run(cases, out.with_name("file"))


def test_options_that_leave_no_comparison_are_refused(cases: list[Case], out: Path) -> None:
    with pytest.raises(BadArgument, match="runs both arms itself"):
        compare_cases.compare_cases(cases, out, RegisterOptions.of(landmarks=False))
    with pytest.raises(BadArgument, match="points-only"):
        compare_cases.compare_cases(cases, out, RegisterOptions.of(preset="points-only"))
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "expected FIXED and MOVING, or --cases"),
        (("a.nii", "a.nii", "--resume"), 2, "--cases, which --resume goes with"),
        (("--cases", "cases.csv", "a.nii"), 2, "fixed: belongs to one pair"),
        (("--cases", "cases.csv", "--fixed-series", "1"), 2, "fixed_series: belongs to one pair"),
        (("--cases", "a.nii"), 1, "a.nii, line 1: unknown column"),
    ],
)
def test_wrong_usage_is_one_sentence(
    cases: list[Case], out: Path, arguments: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    paths = [str(tmp_path / a) if a.endswith((".nii", ".csv")) else a for a in arguments]
    result = CliRunner().invoke(main.main, ["compare", *paths, "-o", str(out)])
    assert result.exit_code == code
    assert f"{said}" in result.output
    assert not out.exists()


def test_the_command_ends_with_1_if_a_case_failed(
    cases: list[Case], out: Path, ran: list[str], tmp_path: Path
) -> None:
    cases[1].files["fixed"].write_text("fails")
    command = ["compare", "--cases", str(tmp_path / "cases.csv"), "-o", str(out)]
    result = CliRunner().invoke(main.main, [*command, "--threads", "1"])
    assert result.exit_code == 1
    assert "Error: 1 of 7 cases failed" in result.output
    assert "error: b (2 of 7) failed: elastix gave up" in result.output


def test_the_command_says_what_stays_after_an_interrupt(
    cases: list[Case], out: Path, ran: list[str], tmp_path: Path
) -> None:
    cases[1].files["fixed"].write_text("interrupted")
    command = ["compare", "--cases", str(tmp_path / "cases.csv"), "-o", str(out)]
    result = CliRunner().invoke(main.main, command)
    assert result.exit_code == 130
    assert f"Aborted; --resume keeps the finished cases of {out}" in result.output
    assert [p.name for p in out.iterdir()] == ["a"]


@pytest.mark.engine
@pytest.mark.usefixtures("few_iterations")
def test_real_cases_with_all_that_judges(tmp_path: Path) -> None:
    case = make_case(size_xyz=(104, 80, 24), spacing_mm=(3.0, 3.0, 6.0))
    folder = case.write(tmp_path / "case")
    for side in ("fixed", "moving"):
        labels = getattr(case.phantom, f"{side}_labels")
        write_volume(labels, folder / f"labels_{side}.nii.gz")
    given = ["guides_{}.txt", "labels_{}.nii.gz"]
    cells = [name.format(side) for name in ("{}.nii.gz", *given) for side in ("fixed", "moving")]
    header = "fixed,moving,fixed_points,moving_points,fixed_labels,moving_labels"
    (folder / "cases.csv").write_text(f"{header}\n{','.join(cells)}\n")
    out = tmp_path / "out"
    command = ["compare", "--cases", str(folder / "cases.csv"), "-o", str(out), "--threads", "1"]
    result = CliRunner().invoke(main.main, command)
    assert result.exit_code == 0, result.output
    (one,) = json.loads((out / run_folder.COMPARISON_JSON).read_text())["cases"]
    tre = {state: of["tre_mm"]["mean"] for state, of in one["states"].items()}
    assert tre["before"] > tre["affine"] > tre["without"]
    dice = {state: of["mean_dice"] for state, of in one["states"].items()}
    assert dice["before"] < dice["affine"] < dice["with"]
    assert (out / "case01" / "with" / run_folder.RUN_JSON).is_file()
