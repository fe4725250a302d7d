"""The verdict: what it takes to be good, doubtful, failed."""

import re

import numpy as np
import pytest

from landmark_dir.evaluation.metrics import summarise
from landmark_dir.evaluation.statistics import paired_difference
from landmark_dir.evaluation.verdict import CLUSTER, ENOUGH, Cluster, Evidence, judge, worst_cluster

RNG = np.random.default_rng(0)
NOW, BEFORE = RNG.exponential(0.5, 500), RNG.exponential(5.0, 500)
GOOD = Evidence(
    held_back=summarise(NOW),
    held_back_affine=summarise(BEFORE),
    gained=paired_difference(NOW, BEFORE),
    matched=5000,
    cluster=Cluster(1.0, "(1, 2, 3)"),
    disagreeing=0.01,
    per_litre=900.0,
    folded=0.0,
    correlation=0.95,
    correlation_affine=0.85,
)


def test_a_good_one_says_what_was_checked() -> None:
    verdict = judge(GOOD)
    assert verdict.verdict == "good"
    assert "500 held-back landmarks: median 0." in verdict.reasons[0]
    assert verdict.described() == {"verdict": "good", "reasons": verdict.reasons}


@pytest.mark.parametrize(
    ("change", "word", "said"),
    [
        ({"held_back": summarise(np.full(500, 3.0))}, "doubtful", "median residual .* 3.0 mm"),
        ({"held_back": summarise(np.full(500, 30.0))}, "failed", "30.0 mm"),
        (
            {"held_back": summarise(np.where(np.arange(500) % 5, 0.5, 40.0))},
            "doubtful",
            "5 % of the held-back landmarks are more than 40.0 mm off",
        ),
        ({"held_back": summarise(np.full(9, 0.5))}, "doubtful", "only 9 landmarks were held back"),
        ({"held_back": summarise(np.zeros(0))}, "not checked", "--expert"),
        (
            {"held_back": summarise(np.zeros(0)), "folded": 0.01},
            "doubtful",
            "folds 1.00% of the body",
        ),
        (
            {"gained": paired_difference(NOW, 0.5 * NOW)},
            "doubtful",
            "farther off .* than after the affine",
        ),
        (
            {"cluster": Cluster(7.0, "(10, -20, 30)")},
            "doubtful",
            r"a group of neighbouring landmarks is 7.0 mm away .*; look at \(10, -20, 30\) mm, LPS",
        ),
        ({"disagreeing": 0.2}, "doubtful", "20% of the matched pairs contradicted"),
        ({"disagreeing": 0.5}, "failed", "50% of the matched pairs"),
        ({"per_litre": 200.0}, "doubtful", "200 landmarks in a litre .* two scans of one patient"),
        ({"per_litre": 40.0}, "failed", "40 landmarks in a litre"),
        ({"folded": 0.01}, "doubtful", "folds 1.00% of the body"),
        ({"folded": 0.1}, "failed", "folds 10.00%"),
        ({"correlation": 0.8}, "doubtful", "correlation 0.800, before 0.850"),
        ({"correlation": 0.1}, "failed", "grey values agree less"),
    ],
)
def test_one_bad_figure_is_enough(change: dict[str, object], word: str, said: str) -> None:
    verdict = judge(GOOD._replace(**change))  # type: ignore[arg-type]
    assert verdict.verdict == word
    assert len(verdict.reasons) >= 1
    assert any(re.search(said, reason) for reason in verdict.reasons)


def test_the_worst_decides_and_is_what_is_told() -> None:
    verdict = judge(GOOD._replace(folded=0.1, disagreeing=0.2))
    assert verdict.verdict == "failed"
    assert verdict.reasons == ["the transform folds 10.00% of the body"]


@pytest.mark.parametrize(("share", "word"), [(0.02, "doubtful"), (0.2, "failed")])
def test_few_that_agree_among_many_that_do_not_are_chance(share: float, word: str) -> None:
    """Two halves of a chest that share nothing still match here and there."""
    few = GOOD._replace(held_back=summarise(np.full(8, 0.5)), disagreeing=share)
    verdict = judge(few)
    assert verdict.verdict == word
    said = {"doubtful": "only 8 landmarks were held back", "failed": "contradict each other"}
    assert any(said[word] in reason for reason in verdict.reasons)


def test_nothing_gained_or_lost_is_seldom_doubtful() -> None:
    """A registration that changes nothing but noise is no loss; one of half a millimetre is."""
    doubtful, lost = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        before = rng.exponential(1.0, 500)
        same, worse = (
            GOOD._replace(
                held_back=summarise(now),
                held_back_affine=summarise(before),
                gained=paired_difference(now, before),
            )
            for now in (rng.exponential(1.0, 500), rng.exponential(1.5, 500))
        )
        doubtful += judge(same).verdict != "good"
        lost += judge(worse).verdict == "doubtful"
    assert doubtful <= 4
    assert lost >= 190


def test_a_figure_that_is_not_known_counts_as_good() -> None:
    nan = float("nan")
    assert judge(GOOD._replace(cluster=Cluster(nan, ""), disagreeing=nan)).verdict == "good"
    assert judge(GOOD._replace(per_litre=nan)).verdict == "good"
    given = GOOD._replace(held_back=summarise(np.zeros(0)), per_litre=1.0)
    assert judge(given).verdict == "not checked"
    assert ENOUGH <= GOOD.held_back.points


def test_worst_cluster_finds_a_group_and_not_a_single_point() -> None:
    fixed = RNG.uniform(0, 200, (400, 3))
    residual = RNG.exponential(0.5, 400)
    lone = residual.copy()
    lone[7] = 40.0
    assert worst_cluster(fixed, lone).residual_mm < 3.0
    near = np.argsort(np.linalg.norm(fixed - fixed[0], axis=1))[:CLUSTER]
    residual[near] = 15.0
    worst = worst_cluster(fixed, residual)
    assert worst.residual_mm == pytest.approx(15.0)
    place = np.array([float(mm) for mm in worst.place.strip("()").split(",")])
    assert np.linalg.norm(place - np.median(fixed[near], axis=0)) < 25  # mm, a group's width
    assert np.isnan(worst_cluster(fixed[:3], residual[:3]).residual_mm)
