"""A case is held by one living process, and by none that is dead."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from landmark_dir.study import claims
from landmark_dir.study.claims import Claims, Heart
from landmark_dir.study.folder import StudyFolder

HOLD = """
import sys
from pathlib import Path
from landmark_dir.study.claims import Claims, Heart
folder = Path(sys.argv[1])
heart = Heart(folder / "hearts")
assert Claims(folder / "claims", heart).take("a")
print(heart.name, flush=True)
sys.stdin.read()
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    """A process that holds `a`; its first line names its heart."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], text=True, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def heart(tmp_path: Path) -> Heart:
    return Heart(tmp_path / "hearts")


@pytest.fixture
def mine(tmp_path: Path, heart: Heart) -> Claims:
    return Claims(tmp_path / "claims", heart)


@pytest.fixture(params=["links", "no links"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with links, and one without."""
    if request.param == "no links":

        def refused(path: Path, to: str) -> None:
            raise PermissionError(f"{path} to {to}")

        monkeypatch.setattr(Path, "symlink_to", refused)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("disk")
def test_a_claim_holds_until_it_is_released(tmp_path: Path, mine: Claims) -> None:
    other = Claims(tmp_path / "claims", Heart(tmp_path / "hearts"))
    assert mine.take("a")
    assert not other.take("a")
    assert other.take("b/c")
    mine.release("a")
    assert other.take("a")
    assert names(tmp_path / "claims") == ["a.1", "b_c.1"]


@pytest.mark.usefixtures("disk")
def test_a_claim_ends_with_its_process(tmp_path: Path, mine: Claims, heart: Heart) -> None:
    process = holder(tmp_path)
    assert not mine.take("a")
    end(process)
    assert mine.take("a")
    assert names(tmp_path / "claims") == ["a.1", "a.2"]  # the dead one's, and the next
    mine.release("a")
    assert names(tmp_path / "claims") == []
    heart.clear()
    assert names(tmp_path / "hearts") == [heart.name]


def test_what_dead_processes_held_is_cleared(tmp_path: Path, mine: Claims) -> None:
    living, dead = Claims(tmp_path / "claims", Heart(tmp_path / "hearts")), holder(tmp_path)
    assert living.take("b")
    end(dead)
    mine.clear()
    assert names(tmp_path / "claims") == ["b.1"]


def test_a_process_of_another_machine_is_told_by_its_beat(tmp_path: Path, heart: Heart) -> None:
    far = tmp_path / "hearts" / "far"
    far.write_text("another machine")
    assert heart.is_alive("far")
    past = time.time() - claims.STALE_S - 1
    os.utime(far, (past, past))
    assert not heart.is_alive("far")
    assert not heart.is_alive("none")


def test_a_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.02)
    heart = Heart(tmp_path)
    path = tmp_path / heart.name
    os.utime(path, (0, 0))
    until = time.monotonic() + 5
    while path.stat().st_mtime == 0 and time.monotonic() < until:
        time.sleep(0.01)
    assert path.stat().st_mtime > 0
    heart.stop()
    assert not path.exists()


def test_what_is_told_in_a_name_ends_with_its_process(tmp_path: Path, heart: Heart) -> None:
    process = holder(tmp_path)
    (dead,) = set(names(tmp_path / "hearts")) - {heart.name}
    living = Heart(tmp_path / "hearts")
    for name in (dead, living.name):
        (tmp_path / "hearts" / f"{name}.stop").touch()
    end(process)
    heart.clear()
    assert names(tmp_path / "hearts") == sorted([heart.name, living.name, f"{living.name}.stop"])


def test_a_heart_that_was_never_whole_is_cleared(tmp_path: Path, heart: Heart) -> None:
    (tmp_path / "hearts" / "1-ab.new").touch()  # killed before it was locked and written
    heart.clear()
    assert names(tmp_path / "hearts") == [heart.name]


def test_a_claim_is_never_half_written(
    tmp_path: Path, mine: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = holder(tmp_path)
    end(process)
    monkeypatch.setattr(Path, "open", None)  # nothing is written into it: a link is whole at once
    monkeypatch.setattr(claims.Heart, "is_alive", lambda *_: False)
    assert mine.take("a")


def test_folders_that_are_tidied_away_meanwhile_come_back(tmp_path: Path) -> None:
    end_s, rounds = time.monotonic() + 0.5, 0
    tidier = StudyFolder(tmp_path, False)
    over = threading.Event()

    def tidy() -> None:
        while not over.is_set():
            tidier.tidy()

    thread = threading.Thread(target=tidy)
    thread.start()
    try:
        while time.monotonic() < end_s:
            heart = Heart(tidier.hearts)
            mine = Claims(tidier.claims, heart)
            assert mine.take("a")
            mine.release("a")
            heart.stop()
            mine.clear()
            rounds += 1
    finally:
        over.set()
        thread.join()
    assert rounds > 10


def test_a_claim_that_was_never_written_whole_gives_way(tmp_path: Path, mine: Claims) -> None:
    half = tmp_path / "claims" / "a.1"
    half.parent.mkdir()
    half.touch()
    assert not mine.take("a")
    past = time.time() - claims.STALE_S - 1
    os.utime(half, (past, past))
    assert mine.take("a")


def _compete(folder: Path, count: int) -> None:
    """Take names in turn; a name that two hold at once is noted."""
    heart = Heart(folder / "hearts")
    mine = Claims(folder / "claims", heart)
    for turn in range(count):
        name = f"n{turn % 3}"
        if mine.take(name):
            held = folder / "held" / name
            try:
                held.open("x").close()
                time.sleep(0.0005)
                held.unlink()
            except FileExistsError:
                (folder / "twice").touch()
            if turn % 7 == 6:
                os._exit(0)  # with the claim in hand
            mine.release(name)


def test_no_two_processes_hold_a_name_though_some_die_with_it(tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    for _ in range(6):
        processes = [context.Process(target=_compete, args=(tmp_path, 60)) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    assert not (tmp_path / "twice").exists()
    heart = Heart(tmp_path / "hearts")
    Claims(tmp_path / "claims", heart).clear()
    heart.clear()
    assert names(tmp_path / "claims") == []
    assert names(tmp_path / "hearts") == [heart.name]
