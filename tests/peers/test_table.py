"""What is kept of the peers, and how it is shown."""

from pathlib import Path

import pytest

from benchmarks.peers import kept, table

PAIRS = ["lung", "large/a", "large/b"]


def row(peer: str, pair: str, mean: float, quiet: bool = False) -> kept.Row:
    return {
        "peer": peer, "pair": pair, "version": "1", "mean": mean, "median": mean, "p95": mean,
        "mean_of_all": mean, "folded": 0.001, "wall_s": 20.0, "cpu_s": 10.0 * mean,
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


def test_the_nearest_comes_first_and_means_are_over_all_pairs() -> None:
    rows = [row("far", pair, 3.0) for pair in PAIRS] + [
        row("near", "large/a", 1.0),
        row("near", "large/b", 2.0),
    ]
    lines = table.table(rows, ["far", "near"], "large").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| near", "| far"]
    assert lines[2] == "| near | 1.50 | 1.50 | 1.50 | 0.10 | 15 | - | 2.0 |"


def test_what_is_measured_in_part_is_not_averaged() -> None:
    rows = [row("whole", pair, 3.0) for pair in PAIRS] + [row("part", "large/a", 1.0)]
    assert "part" not in table.table(rows, ["whole", "part"], "large")
    assert "Not measured on all of them: part." in table.tables(rows, ["whole", "part"])


@pytest.mark.parametrize(("quiet", "shown"), [(True, "20"), (False, "-")])
def test_wall_seconds_are_shown_where_nothing_else_ran(quiet: bool, shown: str) -> None:
    line = table.table([row("a", "lung", 1.0, quiet)], ["a"], "lung").splitlines()[2]
    assert line == f"| a | 1.00 | 1.00 | 1.00 | 0.10 | 10 | {shown} | 1.0 |"
