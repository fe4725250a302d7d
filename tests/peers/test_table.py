"""What is kept of the peers, and how it is shown."""

from pathlib import Path

import pytest

from benchmarks.peers import kept, table
from benchmarks.peers.__main__ import PEERS, valid

PAIRS = ["lung", "large/a", "large/b"]


def row(peer: str, pair: str, mean: float, quiet: bool = False) -> kept.Row:
    return {
        "peer": peer, "pair": pair, "settings": "", "version": "1",
        "mean": mean, "median": mean, "p95": mean, "mean_of_all": mean,
        "folded": 0.001, "wall_s": 20.0, "cpu_s": 10.0 * mean,
        "peak_gib": mean, "threads": 1, "date": "", "quiet": quiet,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "names", lambda: PAIRS)


def test_a_row_takes_the_place_of_its_like(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    assert kept.read(file) == []
    for one in (row("b", "lung", 1.0), row("a", "lung", 2.0), row("b", "lung", 3.0)):
        kept.add(file, one)
    assert [(*kept.key(one), one["mean"]) for one in kept.read(file)] == [
        ("a", "lung", 2.0),
        ("b", "lung", 3.0),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["measured.json"]


def test_a_row_of_other_settings_is_measured_anew(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    now = row("deeds", "lung", 1.0) | {"settings": PEERS["deeds"].settings}
    for one in (now, row("deeds", "null", 1.0), row("not there any more", "lung", 1.0)):
        kept.add(file, one)
    assert valid(file) == [now]


def test_the_nearest_comes_first_and_means_are_over_all_pairs() -> None:
    rows = [row("far", pair, 3.0) for pair in PAIRS] + [
        row("landmark-dir", "large/a", 1.0),
        row("landmark-dir", "large/b", 2.0),
    ]
    lines = table.table(rows, ["far", "landmark-dir"], "large").splitlines()
    assert lines[2:] == [
        "| landmark-dir | 1.50 | 1.50 | 1.50 | 0.10 | 15 | - | 2.0 | 1.50 |",
        "| far | 3.00 | 3.00 | 3.00 | 0.10 | 30 | - | 3.0 | 1.50 |",
    ]


def test_a_part_of_the_pairs_says_so_and_is_set_against_ours_there() -> None:
    rows = [row("landmark-dir", "large/a", 2.0), row("landmark-dir", "large/b", 4.0)]
    rows.append(row("part", "large/b", 1.0))
    lines = table.table(rows, ["part", "landmark-dir"], "large").splitlines()
    assert lines[3] == "| part (1 of 2) | 1.00 | 1.00 | 1.00 | 0.10 | 10 | - | 1.0 | 4.00 |"
    assert "Not measured: none." in table.tables(rows, ["part", "landmark-dir", "none"])


@pytest.mark.parametrize(("quiet", "shown"), [(True, "20"), (False, "-")])
def test_wall_seconds_are_shown_where_nothing_else_ran(quiet: bool, shown: str) -> None:
    line = table.table([row("a", "lung", 1.0, quiet)], ["a"], "lung").splitlines()[2]
    assert line == f"| a | 1.00 | 1.00 | 1.00 | 0.10 | 10 | {shown} | 1.0 | - |"
