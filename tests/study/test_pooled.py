"""What many comparisons say together: each case counts once."""

from typing import Any

import numpy as np
import pytest

from landmark_dir.comparison.tables import cases_table, pooled_page_tables
from landmark_dir.evaluation.metrics import Summary
from landmark_dir.evaluation.statistics import paired_difference
from landmark_dir.study.pooled import has_figures, pooled

MEANS = {  # case -> without, with; mm
    "a": (2.0, 1.0),
    "b": (3.0, 1.5),
    "c": (1.0, 1.25),
    "d": (2.5, 1.0),
    "e": (4.0, 2.0),
    "f": (3.5, 1.75),
    "g": (2.25, 1.5),
}


def states(without: float, with_: float) -> dict[str, Any]:
    image = {"correlation": 0.9, "folded_share": 0.0, "seconds": 1.0, "verdict": "good"}
    means = {"before": 9.0, "affine": 5.0, "without": without, "with": with_}
    return {
        state: {"tre_mm": Summary(5, mm, mm, mm, mm, mm)._asdict(), **image}
        for state, mm in means.items()
    }


@pytest.fixture
def cases() -> list[dict[str, Any]]:
    return [{"case": name, "states": states(*means)} for name, means in MEANS.items()]


def test_the_means_over_cases_and_their_difference(cases: list[dict[str, Any]]) -> None:
    found = pooled([*cases, {"case": "h", "error": "elastix gave up"}])
    without, with_ = zip(*MEANS.values(), strict=True)
    assert list(found) == ["tre_mm"]
    tre = found["tre_mm"]
    assert (tre["without"], tre["with"]) == (np.mean(without), np.mean(with_))
    assert tre["with_minus_without"] == paired_difference(with_, without)._asdict()
    assert tre["with_minus_without"]["lower"] == 6


def test_the_tables_say_it_in_two_decimals(cases: list[dict[str, Any]]) -> None:
    failed = {"case": "h", "error": "elastix gave up"}
    text = cases_table([*cases, failed], pooled(cases))
    assert "h failed: elastix gave up" in text
    assert "2.61" in text
    ((_, head, rows),) = pooled_page_tables(pooled(cases))
    assert dict(zip(head, rows[0], strict=True))["without"] == "2.61"
    assert pooled_page_tables({}) == []


@pytest.mark.parametrize("state", ["before", "with"])
def test_figures_that_no_comparison_writes_are_none(state: str) -> None:
    sound = states(2.0, 1.0)
    assert has_figures(sound)
    assert not has_figures(sound | {state: None})
    assert not has_figures({name: one for name, one in sound.items() if name != state})
    assert not has_figures(sound | {"with": sound["with"] | {"verdict": "fine"}})
    assert not has_figures(sound | {"with": sound["with"] | {"tre_mm": {"mean": "1"}}})
    assert not has_figures(None)
