"""The examples run as they stand, and leave what they promise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
WRITTEN = {  # example -> what it leaves
    "register_pair": ["register_pair/transform.txt", "register_pair/landmarks_fixed.txt"],
    "follow_lesions": ["followed.csv", "followed.html"],  # of the run of `register_pair`
    "other_programs": ["transform.h5"],  # the same
    "cohort": ["cohort/results.csv", "cohort/study.html"],
    "own_points": ["own_points/transform.txt", "clicked_fixed.txt", "clicked_moving.txt"],
    "match_two_slices": ["match_two_slices.png"],
    "compare_arms": ["compare_arms/comparison.json", "compare_arms/with/report.html"],
}

QUEUE = "cohort_on_a_queue"
NOTEBOOK = "first_registration"


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples run, one after the other, as a reader would."""
    return tmp_path_factory.mktemp("examples")


def test_every_example_is_run() -> None:
    files = {file.stem for file in (REPOSITORY / "examples").iterdir() if file.is_file()}
    assert files == {*WRITTEN, QUEUE, NOTEBOOK}


@pytest.mark.engine
@pytest.mark.parametrize("example", WRITTEN)
def test_example(example: str, folder: Path) -> None:
    done = run(REPOSITORY / "examples" / f"{example}.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "mm" in done.stdout or "HU" in done.stdout
    assert [name for name in WRITTEN[example] if not (folder / name).is_file()] == []


@pytest.mark.engine
def test_the_notebook(folder: Path) -> None:
    notebook = REPOSITORY / "examples" / f"{NOTEBOOK}.ipynb"
    assert '"outputs": []' in notebook.read_text()  # none are stored
    done = run(REPOSITORY / "tests" / "run_notebook.py", notebook, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "mean distance from the truth" in done.stdout
    assert (folder / "notebook_run" / "report.html").is_file()


@pytest.mark.engine
def test_the_example_for_a_queue_on_this_machine(case_files: Path, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    images = ",".join(str(case_files / f"{side}.nii.gz") for side in ("fixed", "moving"))
    (tmp_path / "pairs.csv").write_text(f"case,fixed,moving\none,{images}\n")
    words = ["pairs.csv", "study", "--queue", "local", "--jobs", "1"]
    done = run(REPOSITORY / "examples" / f"{QUEUE}.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 cases" in done.stdout
    assert (tmp_path / "study" / "failures.csv").is_file()
