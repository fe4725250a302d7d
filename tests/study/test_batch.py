"""Many cases: one that fails stops no other, what is done stays, and what differs is done again."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import stand_in
from benchmarks.faults import MARK, living
from landmark_dir.errors import BadArgument, BadRunFolder, LandmarkDirError
from landmark_dir.io import run_folder
from landmark_dir.study.batch import batch
from landmark_dir.study.gather import Study, gather
from landmark_dir.study.how import How

NAMES = ("a", "b c", "Ä/1", "d")
FAST = How(worker=stand_in.NAME)
BACK_S = 20.0  # patience
CLAIMS = ".work/claims/*"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A file of cases whose fixed files are `FOLDER/k.txt`."""
    rows = ["case,fixed,moving,site"]
    (tmp_path / "moving.txt").write_text("moving")
    for k, name in enumerate(NAMES):
        (tmp_path / f"{k}.txt").write_text(f"scan {k}")
        rows.append(f"{name},{k}.txt,moving.txt,site {k}")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def run(pairs: Path, how: How = FAST, **given: Any) -> Study:
    return batch(pairs, pairs.parent / "study", how=how, **given)


def tell(pairs: Path, k: int, what: str) -> None:
    (pairs.parent / f"{k}.txt").write_text(what)


def finished(study: Study) -> dict[str, float]:
    """When the record of each case was written."""
    records = study.folder.glob("cases/[!.]*/*.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in records}


def rows(folder: Path, name: str = "results.csv") -> list[dict[str, str]]:
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_case_has_a_folder_and_a_row(pairs: Path) -> None:
    study = run(pairs)
    found = rows(study.folder)
    assert [row["case"] for row in found] == list(NAMES)
    assert [row["site"] for row in found] == [f"site {k}" for k in range(4)]
    assert {row["verdict"] for row in found} == {"good"}
    for row in found:
        assert (study.folder / row["folder"] / "run.json").is_file()
        assert len(row["fixed_sha256"]) == 64
    made = {"cases", "cases.csv", "study.json", "study.html", "results.csv", "failures.csv"}
    assert {path.name for path in study.folder.iterdir()} == made
    assert study.summary() == "4 of 4 cases have a result, judged 4 good"
    content = json.loads((study.folder / "study.json").read_text())
    assert content["counts"]["done"] == 4
    assert "b c" in (study.folder / "study.html").read_text()


def test_the_same_call_again_keeps_everything(pairs: Path) -> None:
    before = finished(run(pairs))
    again = run(pairs)
    assert finished(again) == before
    run(pairs, threads=1)  # changes no result
    assert finished(again) == before


def test_a_record_without_an_option_that_is_new_is_kept(pairs: Path) -> None:
    study = run(pairs)
    for file in study.folder.glob("cases/[!.]*/run.json"):
        content = json.loads(file.read_text("utf-8"))
        del content["options"]["modality"]
        file.write_text(json.dumps(content), "utf-8")
    before = finished(study)
    assert finished(run(pairs)) == before
    after = finished(run(pairs, modality="other"))
    assert all(after[name] != before[name] for name in before)


def test_a_case_that_fails_stops_no_other_and_runs_again(pairs: Path) -> None:
    tell(pairs, 1, "refused")
    study = run(pairs)
    assert study.failed == ["b c"]
    assert study.summary().endswith("; 1 ended in an error")
    (failure,) = rows(study.folder, "failures.csv")
    assert (failure["case"], failure["error"], failure["attempts"]) == (
        "b c",
        "elastix gave up",
        "1",
    )
    before = finished(study)
    tell(pairs, 1, "a scan")
    study = run(pairs)
    assert study.failed == []
    assert rows(study.folder, "failures.csv") == []
    assert not (study.folder / "failures").exists()
    after = finished(study)
    assert len(after) == 4
    assert before.items() <= after.items()


@pytest.mark.parametrize("compare", [False, True])
def test_other_options_other_files_and_damage_are_done_again(pairs: Path, compare: bool) -> None:
    study = run(pairs, compare=compare)
    before = finished(study)
    tell(pairs, 0, "another scan")
    name = run_folder.COMPARISON_JSON if compare else run_folder.RUN_JSON
    (study.folder / "cases" / "d" / name).write_text("{")
    after = finished(run(pairs, compare=compare))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"a", "d"}
    final = finished(run(pairs, compare=compare, seed=7))
    assert all(final[name] != after[name] for name in after)


def test_a_file_that_was_only_touched_changes_nothing(pairs: Path) -> None:
    before = finished(run(pairs))
    os.utime(pairs.parent / "0.txt", (1, 1))
    assert finished(run(pairs)) == before


def test_another_row_or_another_way_to_start_is_done_again(pairs: Path) -> None:
    before = finished(run(pairs))
    text = pairs.read_text("utf-8").splitlines()
    text = [
        f"{line},{'align' if k == 0 else 'centers' if k == 1 else ''}"
        for k, line in enumerate(text)
    ]
    pairs.write_text("\n".join([*text, "new,0.txt,moving.txt,x,"]), encoding="utf-8")
    after = finished(run(pairs))
    assert set(after) - set(before) == {"new"}
    assert {name for name in before if before[name] != after[name]} == {"a"}


def test_a_case_that_crashes_is_tried_again(pairs: Path) -> None:
    tell(pairs, 0, "crashes once")
    tell(pairs, 1, "crashes")
    tell(pairs, 2, "fails")
    study = run(pairs)
    assert study.failed == ["b c", "Ä/1"]
    failures = {row["case"]: row for row in rows(study.folder, "failures.csv")}
    assert failures["b c"]["error"] == "its process ended: signal SIGSEGV"
    assert [failures[name]["attempts"] for name in study.failed] == ["2", "2"]
    study = run(pairs, dataclasses.replace(FAST, retries=0))
    assert rows(study.folder, "failures.csv")[0]["attempts"] == "1"


@pytest.mark.parametrize(
    ("what", "limit", "said"),
    [
        ("slow", {"timeout_min": 0.02}, "took longer than 0.02 min (--timeout) and was ended"),
        ("large", {"memory_gb": 0.3}, "of memory, more than 0.3 GB (--memory), and was ended"),
    ],
)
def test_a_case_beyond_a_limit_is_ended(
    pairs: Path, what: str, limit: dict[str, Any], said: str
) -> None:
    tell(pairs, 3, what)
    study = run(pairs, dataclasses.replace(FAST, retries=0, **limit))
    assert study.failed == ["d"]
    assert said in rows(study.folder, "failures.csv")[0]["error"]


def test_shards_and_gather_give_the_same_table(pairs: Path, tmp_path: Path) -> None:
    tell(pairs, 2, "refused")
    whole = rows(run(pairs).folder)
    for which in (1, 2, 3):
        shard = dataclasses.replace(FAST, shard=(which, 3))
        study = batch(pairs, tmp_path / "shards", how=shard)
        assert study.rows == []
        assert not (study.folder / "results.csv").exists()
    assert study.counts == {"cases": 1, "done": 0, "failed": 1, "left": 0}
    assert gather(tmp_path / "shards").failed == ["Ä/1"]
    assert [_settled(row) for row in rows(tmp_path / "shards")] == [_settled(row) for row in whole]


def _settled(row: dict[str, str]) -> dict[str, str]:
    """A row without what differs from run to run."""
    return {name: cell for name, cell in row.items() if name not in ("seconds", "finished")}


def test_gather_tells_what_is_left(pairs: Path) -> None:
    study = run(pairs, dataclasses.replace(FAST, shard=(1, 4)))
    found = gather(study.folder)
    assert found.summary() == "1 of 4 cases have a result, judged 1 good; 3 left"
    assert [row["state"] for row in found.rows] == ["done", "left", "left", "left"]
    with pytest.raises(BadRunFolder, match=r"found no study\.json"):
        gather(pairs.parent)


def test_parquet_holds_the_same_rows(pairs: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    study = run(pairs, parquet=True)
    table = parquet.read_table(study.folder / "results.parquet").to_pylist()
    assert [row["case"] for row in table] == list(NAMES)


def test_only_the_parts_asked_for_may_be_named(pairs: Path) -> None:
    with pytest.raises(BadArgument, match="keep: expected some of all, transform, points"):
        dataclasses.replace(FAST, keep=("everything",))
    with pytest.raises(BadArgument, match="workers: expected 1 or more, found 0"):
        dataclasses.replace(FAST, workers=0)
    with pytest.raises(BadArgument, match="shard: expected I/N with I from 1 to N, found 4/3"):
        dataclasses.replace(FAST, shard=(4, 3))
    with pytest.raises(BadArgument, match="contradict each other"):
        dataclasses.replace(FAST, workers=2, scheduler="tcp://somewhere:1")


def test_folders_of_another_kind_are_left_alone(pairs: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "mine.txt").touch()
    with pytest.raises(BadRunFolder, match="is no study"):
        run(pairs)
    (study / "mine.txt").rename(study / "run.json")
    with pytest.raises(BadRunFolder, match="holds one pair, not cases"):
        run(pairs)
    assert [path.name for path in study.iterdir()] == ["run.json"]
    foreign = tmp_path / "other" / "cases" / "a"
    foreign.mkdir(parents=True)
    (foreign / "mine.txt").touch()
    (tmp_path / "other" / "study.json").write_text("{}")
    done = batch(pairs, tmp_path / "other", how=FAST)
    assert done.failed == ["a"]
    assert [path.name for path in foreign.iterdir()] == ["mine.txt"]


def test_no_scheduler_is_one_sentence(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landmark_dir.study.hands.GONE_S", 0.5)
    with pytest.raises(LandmarkDirError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        run(pairs, dataclasses.replace(FAST, scheduler="tcp://127.0.0.1:9"))


# --- processes of their own -----------------------------------------------------------------------

RUN = """
import sys
from benchmarks import stand_in
from landmark_dir.study.batch import batch
from landmark_dir.study.how import How
if __name__ == "__main__":
    how = How(workers=int(sys.argv[2]) or None, worker=stand_in.NAME)
    try:
        batch("pairs.csv", "study", how=how)
    except KeyboardInterrupt as interrupt:
        raise SystemExit(str(interrupt))
"""


@pytest.fixture
def started(pairs: Path) -> Callable[[int], "subprocess.Popen[str]"]:
    """Start a run of so many workers in a process of its own; 0: without Dask."""
    script = pairs.parent / "run.py"
    script.write_text(RUN)

    def start(workers: int) -> "subprocess.Popen[str]":
        root = Path(__file__).parents[2]
        mark = {"PYTHONPATH": str(root), MARK: str(pairs.parent)}
        return subprocess.Popen(
            [sys.executable, str(script), "run", str(workers)],
            cwd=pairs.parent,
            env={**os.environ, **mark},
            text=True,
            stderr=subprocess.PIPE,
        )

    return start


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + BACK_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.usefixtures("heard_signals")
def test_an_interrupt_leaves_what_is_done_and_the_same_call_goes_on(
    pairs: Path, started: Callable[..., Any], workers: int, number: signal.Signals
) -> None:
    tell(pairs, 2, "slow")
    process, study = started(workers), pairs.parent / "study"
    until(lambda: len(finished(Study(study, False))) >= 2 and bool(list(study.glob(CLAIMS))))
    done = finished(Study(study, False))
    process.send_signal(number)
    said = process.communicate(timeout=BACK_S)[1]
    until(lambda: not living(pairs.parent))
    if number == signal.SIGINT:
        assert "the same command goes on with the others" in said
        assert not (study / ".work").exists()
    tell(pairs, 2, "quick now")
    after = finished(run(pairs))
    assert len(after) == 4
    assert done.items() <= after.items()
    hidden = [path for path in study.rglob(".*")]
    assert hidden == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_two_runners_share_the_work(pairs: Path, started: Callable[..., Any]) -> None:
    text = pairs.read_text("utf-8").splitlines()
    many = [f"n{k},0.txt,moving.txt,x" for k in range(60)]
    pairs.write_text("\n".join([text[0], *many]), encoding="utf-8")
    processes = [started(0), started(0)]
    seen: dict[str, int] = {}
    while any(process.poll() is None for process in processes):
        now = finished(Study(pairs.parent / "study", False))
        assert seen.items() <= now.items()  # nothing that was done is done again
        seen.update(now)  # type: ignore[arg-type]
        time.sleep(0.02)
    assert [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(finished(Study(pairs.parent / "study", False))) == 60
    assert not (pairs.parent / "study" / ".work").exists()


def test_a_client_of_ones_own(pairs: Path) -> None:
    distributed = pytest.importorskip("distributed")
    tell(pairs, 1, "crashes once")
    quiet = {"dashboard_address": None, "silence_logs": 60}
    with (
        distributed.LocalCluster(2, threads_per_worker=3, processes=False, **quiet) as cluster,
        distributed.Client(cluster) as client,
    ):
        study = run(pairs, client=client)
    assert study.summary() == "4 of 4 cases have a result, judged 4 good"
