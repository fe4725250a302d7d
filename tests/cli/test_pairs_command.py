"""`landmark-dir pairs`: a table, two lists, and one sentence where there is nothing."""

from pathlib import Path

import made_exams
from click.testing import CliRunner, Result
from made_exams import SECRETS, scan, write

from landmark_dir.cli import main
from landmark_dir.io.volumes import read_volume
from landmark_dir.study.cases import read_cases


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main.main, ["pairs", *map(str, arguments)])


def test_a_table_and_two_lists(tmp_path: Path) -> None:
    for study in (1, 2, 3):
        said = f"{made_exams.NAME} 1.0 B30f"
        write(tmp_path / "in" / f"{study}", scan(), study=study, SeriesDescription=said)
    write(tmp_path / "in" / "few", scan(5), SeriesDescription="few")
    out = tmp_path / "pairs.csv"
    done = run(tmp_path / "in", "-o", out)
    assert done.exit_code == 0, done.output
    assert "7f46721c-2-3   268  world       100%  1.0 B30f  40 x 5 mm" in done.stdout
    assert "7f46721c, exam 1, few: 5 slices, expected at least 16" in done.stdout
    assert done.stdout.splitlines()[-1] == f"{out}: pairs: 2, of patients: 1, left out: 1"
    assert "reading headers" in done.stderr
    told = done.output + "".join(file.read_text("utf-8") for file in tmp_path.glob("*.csv"))
    assert not [secret for secret in SECRETS if secret in told]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("in", "pairs.csv", "pairs.left-out.csv"),
    ]
    again = run(tmp_path / "in", "-o", out)
    assert again.exit_code == 1
    assert "exists already; name another, or add --overwrite" in again.output
    assert run(tmp_path / "in", "-o", out, "--overwrite", "-q", "--which", "all").exit_code == 0
    assert len(out.read_text("utf-8").splitlines()) == 4
    cases = read_cases(out)  # as `batch` does
    assert [case.name for case in cases] == ["7f46721c-1-2", "7f46721c-1-3", "7f46721c-2-3"]
    for case in cases:
        image = read_volume(case.files["fixed"], case.series.get("fixed_series"))
        assert image.GetSize() == (12, 10, 40)
        assert case.align == "world"
        assert case.extra["patient"] == "7f46721c"


def test_no_pair_is_one_sentence_and_a_list(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a")
    done = run(tmp_path / "in", "-o", tmp_path / "pairs.csv")
    assert done.exit_code == 1
    assert "7f46721c, exam 1: the patient's only exam" in done.stdout
    assert "Error: " in done.stderr
    assert "no pair found; pairs.left-out.csv says why" in done.stderr
    assert "only exam" in (tmp_path / "pairs.left-out.csv").read_text("utf-8")


def test_bad_arguments_are_one_sentence(tmp_path: Path) -> None:
    for arguments, code, said in (
        ((tmp_path, "-o", tmp_path / "pairs"), 2, "ends in .csv"),
        ((tmp_path, "-o", tmp_path / "a.csv", "--pattern", "x.nii"), 2, "{patient}"),
        ((tmp_path, "-o", tmp_path / "a.csv"), 1, "no DICOM images"),
        ((tmp_path / "none", "-o", tmp_path / "a.csv"), 1, "expected a folder"),
    ):
        done = run(*arguments)
        assert done.exit_code == code, done.output
        assert said in " ".join(done.output.split())
        assert not list(tmp_path.iterdir())
