"""The tables on cases done by hand, and the paper's numbers in them."""

from typing import Any

import numpy as np

from training.evaluation.measures import PairResult, SetRun
from training.evaluation.tables import followup_table, main_table, paper_table, report


def result(matcher: str, error: list[float], **changed: Any) -> PairResult:
    found = np.array(error)
    values = {"set": "elastic", "pair": 0, "patient": "a", "covered": 0.5, "ms": 12.0, **changed}
    return PairResult(
        matcher=matcher, error_mm=found, rounded_mm=found.round(), agrees=found < 2, **values
    )


def test_the_table_by_hand() -> None:
    results = [
        result("mine", [0.5, 1.5, 3.0, 100.0], covered=0.5, ms=10.0),
        result("mine", [0.5, 20.0], covered=0.7, ms=30.0, pair=1),
    ]
    cells = [cell.strip() for cell in main_table(results).splitlines()[-1].strip("|").split("|")]
    assert cells[:4] == ["elastic", "mine", "2", "3 (2 - 4)"]
    assert cells[4] == "2.25 (0.75 - 15.75)"
    assert cells[6:12] == ["33.3", "50.0", "66.7", "66.7", "33.33", "16.67"]
    assert cells[12:] == ["2", "0.60", "20"]  # 2 and 1 correct: 1.5, rounded to even


def test_a_matcher_that_finds_nothing_has_a_row() -> None:
    row = main_table([result("blind", [])]).splitlines()[-1]
    assert "| blind | 1 | 0 (0 - 0) | - | - | - |" in row
    assert "here: blind, continuous | - | - | 0 (0 - 0) | - | - | - |" in paper_table(
        [result("blind", [])]
    )
    assert "| blind | 1 | 0 (0 - 0) | 0 (0 - 0) | - |" in followup_table([result("blind", [])])


def test_the_papers_table_1_stands_above_ours() -> None:
    lines = paper_table([result("mine", [0.4, 1.0, 1.4])]).splitlines()
    assert (
        "published: proposed approach | 639 (547 - 729) | 466 (391 - 555) | 370 (293 - 452) "
        "| 0.0 (0.0 - 0.0) | 1.0 (0.0 - 1.4) | 1.0 (1.0 - 1.4)"
    ) in lines[2]
    assert "711 (594 - 862) | 610 (509 - 749) | 542 (450 - 670)" in lines[3]
    assert "698 (578 - 849) | 520 (426 - 663) | 418 (330 - 541)" in lines[4]
    assert "here: mine, continuous | - | - | 3 (3 - 3) | - | - | 1.00 (0.70 - 1.20)" in lines[5]
    assert "here: mine, rounded" in lines[6]


def test_the_report_says_who_chose_the_checkpoint() -> None:
    run = SetRun([result("mine", [0.4])], [], np.array([12.0]))
    assert "validation figures, not test figures" in report({"elastic": run})
