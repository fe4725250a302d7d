"""Children of the Slicer extension: heard while they work, and ended with all they started."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from LandmarkDirLib import registration
from LandmarkDirLib.child import Child
from LandmarkDirLib.command import environment
from LandmarkDirLib.problem import Problem
from LandmarkDirLib.work import Step, Told, Work

HERE = {**environment(os.environ), "PYTHONPATH": str(Path(__file__).parents[2])}
WITH_A_CHILD = """
import subprocess, sys
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(sleeper.pid, flush=True)
sleeper.wait()
"""
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on'); time.sleep(60)"
PROGRESS = """
from landmark_dir.cli.shared import errors_as_sentences
with errors_as_sentences() as progress:
    progress("reading", 0.0)
    progress("matching landmarks", 0.25)
    progress("b-spline: level 1", 0.5)
    progress("writing", 1.0)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def finished(work: Work, within_s: float = 20.0) -> list[Told]:
    told, end = [], time.monotonic() + within_s
    while (now := work.poll()) is not None:
        assert time.monotonic() < end
        told.append(now)
        time.sleep(0.02)
    return told


def wait_for_line(child: Child) -> str:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if lines := child.lines():
            return lines[0]
        time.sleep(0.02)
    raise AssertionError("said nothing")


def gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(pid: int) -> bool:
    end = time.monotonic() + 15
    while not gone(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return gone(pid)


def test_progress_of_the_commands_is_understood() -> None:
    steps = [Step("first", python(PROGRESS), 0.5), Step("second", python(PROGRESS), 0.5)]
    work = Work(steps, HERE)
    told = finished(work)
    assert [one.fraction for one in told] == sorted(one.fraction for one in told)
    assert sum("100%" in line for line in work.log) == 2
    assert {"first", "second"} <= {one.stage for one in told}


def test_each_line_moves_the_share_of_its_step() -> None:
    code = "print('    3 s  40%  matching: pass 2, about 5 s left', flush=True); sleep(1)"
    one, two = python("pass"), python(f"from time import sleep; {code}")
    told = finished(Work([Step("one", one, 0.5), Step("two", two, 0.5)], HERE))
    assert told[-1] == Told(0.7, "matching: pass 2, about 5 s left")


def test_the_sentence_of_an_error_is_passed_on() -> None:
    code = "import sys; print('Usage: x'); print('Error: fixed: no such file'); sys.exit(1)"
    with pytest.raises(Problem, match="^registration failed: fixed: no such file$"):
        finished(Work([Step("registration", python(code), 1.0)], HERE))


def test_a_step_after_a_failed_one_is_not_begun(tmp_path: Path) -> None:
    touch = f"open({str(tmp_path / 'begun')!r}, 'w')"
    steps = [
        Step("one", python("raise SystemExit(3)"), 0.5),
        Step("two", python(touch), 0.5),
    ]
    with pytest.raises(Problem, match="one failed: exit code 3"):
        finished(Work(steps, HERE))
    assert not (tmp_path / "begun").exists()


def test_what_cannot_be_started_is_said(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="cannot be started .*choose another command"):
        Work([Step("one", [str(tmp_path / "none")], 1.0)], HERE)


def test_cancelling_ends_the_tree() -> None:
    child = Child(python(WITH_A_CHILD), HERE)
    below = int(wait_for_line(child))
    assert not gone(below)
    child.end()
    assert wait_until_gone(child.pid)
    assert wait_until_gone(below)


def test_a_deaf_child_is_killed() -> None:
    child = Child(python(DEAF), HERE)
    assert wait_for_line(child) == "on"
    child.end(patience_s=0.3)
    assert wait_until_gone(child.pid)


@pytest.mark.engine
@pytest.mark.usefixtures("heard_signals")
def test_a_cancelled_registration_leaves_nothing(case_files: Path, tmp_path: Path) -> None:
    at = registration.places(tmp_path)._replace(
        fixed=case_files / "fixed.nii.gz", moving=case_files / "moving.nii.gz"
    )
    (begun, export) = registration.steps(Path("landmark-dir"), at, "fine", "--threads 1")
    call = [sys.executable, "-m", "landmark_dir", *begun.command[1:]]
    others = {one.pid for one in psutil.Process().children(recursive=True)}  # of other tests
    work = Work([begun._replace(command=call), export], HERE)
    end = time.monotonic() + 60
    while (told := work.poll()) is not None and told.fraction < 0.05:
        assert time.monotonic() < end, work.log
        time.sleep(0.05)
    children = psutil.Process().children(recursive=True)
    mine = [one for one in children if one.pid not in others]
    assert len(mine) >= 2  # the command, and the engine in a session of its own
    work.cancel()
    with pytest.raises(Problem, match="cancelled"):
        finished(work)
    assert all(wait_until_gone(process.pid) for process in mine)
    assert list(tmp_path.iterdir()) == []
