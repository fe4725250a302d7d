"""What a person reads of a comparison, and the CSV."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from landmark_dir.comparison.tables import (
    aligned,
    cases_table,
    p_value,
    page_answer,
    page_tables,
    pair_table,
    write_figures,
)
from landmark_dir.evaluation.metrics import Summary
from landmark_dir.evaluation.statistics import paired_difference

STATES = {"before": 9.0, "affine": 5.0, "without": 2.0, "with": 1.5}
NAN = float("nan")


def figures(*kinds: str) -> dict[str, Any]:
    """Of a pair whose points of each kind are 9, 5, 2, 1.5 mm off."""
    states: dict[str, Any] = {}
    for state, mm in STATES.items():
        at = {kind: Summary(7, mm, mm, mm, mm, mm)._asdict() for kind in kinds}
        states[state] = {**at, "correlation": 0.9}
    for arm in ("without", "with"):
        more = {"folded_share": 0.0123, "sd_log_jacobian": NAN, "landmarks": 0, "seconds": 8.0}
        states[arm] |= {**more, "verdict": "good"}
    difference = paired_difference([1.5] * 7, [2.0] * 7)._asdict()
    return {"states": states, "with_minus_without": dict.fromkeys(kinds, difference)}


def test_columns_are_aligned() -> None:
    assert (
        aligned([["", "mm"], ["before", "12.00"], ["x", ""]]) == "           mm\nbefore  12.00\nx"
    )


def test_a_pair_with_expert_points_says_what_they_are_worth() -> None:
    table = pair_table(figures("tre_mm", "held_back_mm"))
    assert table.splitlines()[0].split()[:3] == ["TRE", "(mm)", "mean"]
    assert "with - without -0.50 mm, 95 % interval -0.50 to -0.50, Wilcoxon p = 0.016" in table
    assert "nearer at 7 of 7 points" in table
    assert "not independent" in table
    assert "no independent truth" in table


def test_a_pair_without_judges_has_images_alone() -> None:
    table = pair_table(figures())
    assert "1.23 %" in table
    assert "mm" not in table
    assert "truth" not in table
    assert table.splitlines()[-1].split() == ["with", "0.900", "1.23", "%", "-", "0", "8", "good"]


def test_the_page_has_the_tables_of_the_terminal() -> None:
    of = figures("tre_mm", "held_back_mm")
    told = pair_table(of)
    for _, _, rows in page_tables(of):
        for row in rows:
            assert all(str(cell) in told for cell in row)
    assert [title for title, _, _ in page_tables(of)][-1] == "Images, transform and time"


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.6, -0.4, "Landmarks helped: 0.50 mm nearer on average"),
        (0.4, 0.6, "Landmarks did harm: 0.50 mm farther off on average"),
        (-0.6, 0.6, "No difference that is sure"),
        (NAN, NAN, "Too few points to say"),
    ],
)
def test_the_answer_follows_the_interval(low: float, high: float, words: str) -> None:
    of = figures("tre_mm", "held_back_mm")
    of["with_minus_without"]["tre_mm"] |= {"low": low, "high": high}
    answer = page_answer(of)
    assert answer.headline.startswith(words)
    assert "mean 2.00 without, 1.50 with landmarks" in answer.figures[0]
    assert len(answer.caveats) == 2


def test_an_answer_says_what_it_rests_on() -> None:
    assert page_answer(figures("held_back_mm")).headline.endswith("held-back landmarks tell")
    nothing = page_answer(figures())
    assert "not measured" in nothing.headline
    assert "--expert" in nothing.figures[0]


def test_each_label_has_its_row_and_several_a_mean() -> None:
    of = figures()
    label = {"dice": 0.5, "hd95_mm": NAN, "fixed_ml": 10.0, "warped_ml": 9.0}
    for state in of["states"].values():
        state |= {"mean_dice": 0.5, "labels": {"3": label}}
    rows = [line.split() for line in pair_table(of).splitlines()]
    want = [*["0.500"] * 4, *["-"] * 4, "10.0", *["9.0"] * 3]
    assert ["3", *want] in rows
    assert not [row for row in rows if row[:1] == ["mean"]]
    for state in of["states"].values():
        state["labels"] = {"3": label, "4": label}
    assert "\nmean " in pair_table(of)


@pytest.mark.parametrize(
    ("p", "said"),
    [(0.0004, "p < 0.001"), (0.0313, "p = 0.031"), (NAN, "too few cases"), (None, "too few cases")],
)
def test_a_p_that_cannot_be_is_not_printed(p: float | None, said: str) -> None:
    assert p_value({"p": p}, "cases") == said


def test_better_is_lower_for_mm_and_higher_for_dice() -> None:
    difference = paired_difference([1.0, 2.0, 3.0], [2.0, 3.0, 2.5])._asdict()
    found = {"without": 2.5, "with": 2.0, "with_minus_without": difference}
    rows = cases_table([], {"tre_mm": found, "mean_dice": found}).splitlines()
    assert rows[1].split()[-2:] == ["2", "1"]
    assert rows[2].split()[-2:] == ["1", "2"]
    assert "too few cases" in rows[1]


def test_failed_cases_are_told_below_the_others() -> None:
    one = {"case": "one", **figures("tre_mm")}
    table = cases_table([one, {"case": "two", "error": "no such file"}], {})
    assert table.splitlines()[-1] == "two failed: no such file"
    assert [line.split()[0] for line in table.splitlines()[1:3]] == ["case", "one"]


def test_csv_has_a_row_for_each_state_and_the_failed(tmp_path: Path) -> None:
    one = {"case": "one", **figures("tre_mm")}
    write_figures([one, {"case": "two", "error": "no, such file"}], tmp_path / "c.csv")
    with (tmp_path / "c.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["state"]) for row in rows] == [
        *(("one", state) for state in STATES),
        ("two", ""),
    ]
    assert [float(row["tre_mm_worst30"]) for row in rows[:4]] == list(STATES.values())
    assert (rows[0]["seconds"], rows[3]["sd_log_jacobian"]) == ("", "")
    assert rows[4]["error"] == "no, such file"
    assert not math.isnan(float(rows[3]["folded_share"]))
