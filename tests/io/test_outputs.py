"""An output stands whole in its place or not at all, and nothing of anyone else's is lost."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from landmark_dir.errors import BadArgument, BadRunFolder
from landmark_dir.io.outputs import (
    EARLIER,
    LOCK,
    NEW_LOCK,
    PREFIX,
    clear_left,
    output_place,
    readable,
    replacing,
)

KILLED = """
import os, signal, sys
from pathlib import Path
from landmark_dir.io.outputs import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write_text("half")
    {then}
"""


def started(place: Path, then: str) -> "subprocess.Popen[str]":
    """A process that is busy with an output, or dies at it."""
    return subprocess.Popen(
        [sys.executable, "-c", KILLED.format(then=then), str(place)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_an_output_and_the_folders_above_it_appear_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "a" / "b" / "points.txt"
    with replacing(place) as file:
        file.write_text("whole")
        assert not place.exists()
    assert place.read_text() == "whole"
    assert os.listdir(place.parent) == ["points.txt"]


def test_what_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "points.txt").write_text("old")
    for name in ("points.txt", "new/points.txt"):
        with pytest.raises(ZeroDivisionError), replacing(tmp_path / name) as file:
            1 / file.write_text("")
    assert os.listdir(tmp_path) == ["points.txt"]
    assert (tmp_path / "points.txt").read_text() == "old"


def test_what_a_killed_process_left_goes_with_the_next_output(tmp_path: Path) -> None:
    dead = started(tmp_path / "one.txt", "os.kill(os.getpid(), signal.SIGKILL)")
    dead.communicate()
    (hidden,) = tmp_path.iterdir()
    assert hidden.name.startswith(PREFIX)
    with replacing(tmp_path / "other.txt") as file:
        file.write_text("whole")
    assert os.listdir(tmp_path) == ["other.txt"]


def test_what_a_living_process_is_busy_with_is_left_alone(tmp_path: Path) -> None:
    busy = started(tmp_path / "one.txt", "print('busy', flush=True); import time; time.sleep(60)")
    assert busy.stdout is not None
    assert busy.stdout.readline() == "busy\n"
    with replacing(tmp_path / "other.txt") as file:
        file.write_text("whole")
    assert len(os.listdir(tmp_path)) == 2
    busy.kill()
    busy.communicate()


def test_who_is_killed_while_it_tidies_up_leaves_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[list[str]] = []
    rmtree = shutil.rmtree

    def noted(path: Path, **given: bool) -> None:
        removed.append(sorted(os.listdir(tmp_path / hidden_name)))
        rmtree(path, **given)

    with replacing(tmp_path / "run") as folder:
        folder.mkdir()
        hidden_name = folder.parents[1].name
        monkeypatch.setattr(shutil, "rmtree", noted)
    assert removed == [[LOCK, "new"], [LOCK]]
    assert os.listdir(tmp_path) == ["run"]


def test_what_never_had_its_lock_goes_and_what_cannot_be_told_stays(tmp_path: Path) -> None:
    for name, inside in (("bare", ()), ("dead", (NEW_LOCK,)), ("unlocked", (NEW_LOCK, "new"))):
        hidden = tmp_path / f"{PREFIX}{name}"
        hidden.mkdir()
        for one in inside:
            (hidden / one).touch()
    clear_left(tmp_path)
    assert os.listdir(tmp_path) == [f"{PREFIX}unlocked"]


def test_who_is_taken_for_dead_at_its_begin_begins_anew(tmp_path: Path) -> None:
    over = threading.Event()

    def clear() -> None:
        while not over.is_set():
            clear_left(tmp_path)

    threads = [threading.Thread(target=clear) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            with replacing(tmp_path / "one.txt") as file:
                file.write_text("whole")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert os.listdir(tmp_path) == ["one.txt"]


def test_an_earlier_run_comes_back_if_its_successor_did_not(tmp_path: Path) -> None:
    moved = tmp_path / f"{PREFIX}dead" / EARLIER / "run"  # killed between two renames
    moved.mkdir(parents=True)
    (moved / "run.json").write_text("{}")
    (tmp_path / f"{PREFIX}dead" / LOCK).touch()
    with replacing(tmp_path / "other.txt") as file:
        file.write_text("")
    assert (tmp_path / "run" / "run.json").is_file()
    assert not (tmp_path / f"{PREFIX}dead").exists()


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with replacing(tmp_path / "run") as folder:
            folder.mkdir()
            (folder / text).touch()
    assert os.listdir(tmp_path / "run") == ["new"]
    assert os.listdir(tmp_path) == ["run"]


def test_rights_are_those_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "run") as folder:
            folder.mkdir()
            (folder / "file").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "run" / "file").stat().st_mode & 0o777 == 0o640


def test_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "disk" / "points.txt")  # leads to nothing yet
    with replacing(output_place(tmp_path / "link.txt")) as file:
        file.write_text("whole")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "disk" / "points.txt").read_text() == "whole"


def test_no_place_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadRunFolder, match="file is a file"):
        output_place(tmp_path / "file" / "run")
    for name, said in (("loop", "leads nowhere"), ("pipe", "neither a file nor a folder")):
        with pytest.raises(BadArgument, match=said):
            output_place(tmp_path / name)
    with pytest.raises(BadArgument, match=r"no UTF-8 text.*LC_ALL"):
        output_place(tmp_path / os.fsdecode(b"\xff"))


def test_a_name_of_any_bytes_can_be_written_down() -> None:
    assert readable(os.fsdecode(b"f\xff/\xc3\xbc")) == "f\ufffd/\u00fc"
