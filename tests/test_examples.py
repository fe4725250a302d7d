"""The examples run as they stand, in an empty folder, and leave what they promise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
WRITTEN = {  # example -> what it leaves
    "register_pair": ["register_pair/transform.txt", "register_pair/landmarks_fixed.txt"],
    "own_points": ["own_points/transform.txt", "clicked_fixed.txt", "clicked_moving.txt"],
    "match_two_slices": ["match_two_slices.png"],
    "compare_arms": ["compare_arms/comparison.json", "compare_arms/with/report.html"],
}

QUEUE = "cohort_on_a_queue"


def test_every_example_is_run() -> None:
    assert {file.stem for file in (REPOSITORY / "examples").glob("*.py")} == {*WRITTEN, QUEUE}


@pytest.mark.engine
@pytest.mark.parametrize("example", WRITTEN)
def test_example(example: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "examples" / f"{example}.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "mm" in done.stdout
    assert [name for name in WRITTEN[example] if not (tmp_path / name).is_file()] == []


@pytest.mark.engine
def test_the_example_for_a_queue_on_this_machine(case_files: Path, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    images = ",".join(str(case_files / f"{side}.nii.gz") for side in ("fixed", "moving"))
    (tmp_path / "pairs.csv").write_text(f"case,fixed,moving\none,{images}\n")
    words = ["pairs.csv", "study", "--queue", "local", "--jobs", "1"]
    done = subprocess.run(
        [sys.executable, REPOSITORY / "examples" / f"{QUEUE}.py", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 cases" in done.stdout
    assert (tmp_path / "study" / "failures.csv").is_file()
