"""One verdict on a finished registration, with its reasons; a screen, not a proof of accuracy."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from landmark_dir.evaluation.metrics import Summary
from landmark_dir.geometry import Points

WORDS = ("good", "doubtful", "failed")
ENOUGH = 50  # held-back pairs that make a judgement
CLUSTER = 8  # neighbours whose median residual speaks for a place
CHANCE = 0.1  # share of contradictions from where on a handful of pairs that agree is chance


@dataclass(frozen=True)
class Limits:
    """From where on a figure is doubtful, and from where on the registration has failed.

    Attributes
    ----------
    median_mm, p95_mm : (float, float)
        Residual at held-back landmarks.
    cluster_mm : (float, float)
        Largest median residual of `CLUSTER` neighbours of the landmarks as they were measured: a
        group that was not followed.
    disagreeing : (float, float)
        Share of the matched pairs that contradict their neighbours.
    folded : (float, float)
        Share of the body with a Jacobian determinant <= 0.
    correlation_loss : (float, float)
        By how much the grey values correlate less than after the affine stage.
    """

    median_mm: tuple[float, float] = (2.0, 5.0)
    p95_mm: tuple[float, float] = (8.0, 20.0)
    cluster_mm: tuple[float, float] = (5.0, 15.0)
    disagreeing: tuple[float, float] = (0.04, 0.3)
    folded: tuple[float, float] = (0.001, 0.02)
    correlation_loss: tuple[float, float] = (0.02, 0.2)


class Verdict(NamedTuple):
    """`good`, `doubtful` or `failed`, and why; the reasons of a good one say what was checked."""

    verdict: str
    reasons: list[str]

    def described(self) -> dict[str, Any]:
        """As in `run.json`."""
        return self._asdict()


class Cluster(NamedTuple):
    """Neighbouring landmarks that lie elsewhere than the registration puts them."""

    residual_mm: float  # their median; NaN: not known
    place: str  # their middle in the fixed image, LPS mm, to be read


class Evidence(NamedTuple):
    """What a registration is judged by."""

    held_back: Summary  # residual at landmarks that nothing but this saw
    held_back_affine: Summary  # the same after the affine stage
    cluster: Cluster  # the worst; see `worst_cluster`
    disagreeing: float  # share of the matched pairs; NaN without landmarks
    folded: float
    correlation: float
    correlation_affine: float


def worst_cluster(fixed: Points, residual_mm: NDArray[np.float64]) -> Cluster:
    """The neighbouring points with the largest median residual; NaN if there are too few."""
    if len(fixed) <= CLUSTER:
        return Cluster(float("nan"), "")
    _, rows = cKDTree(fixed).query(fixed, k=CLUSTER)
    medians = np.median(residual_mm[rows], axis=1)
    worst = int(medians.argmax())
    place = ", ".join(f"{mm:.0f}" for mm in np.median(fixed[rows[worst]], axis=0))
    return Cluster(float(medians[worst]), f"({place})")


def judge(evidence: Evidence, limits: Limits = Limits()) -> Verdict:
    """Weigh all evidence; the worst of it decides."""
    held = evidence.held_back
    loss = evidence.correlation_affine - evidence.correlation
    figures = [
        (
            held.median,
            limits.median_mm,
            f"median residual at held-back landmarks {held.median:.1f} mm",
        ),
        (
            held.p95,
            limits.p95_mm,
            f"5 % of the held-back landmarks are more than {held.p95:.1f} mm off",
        ),
        (
            evidence.cluster.residual_mm,
            limits.cluster_mm,
            f"a group of neighbouring landmarks is {evidence.cluster.residual_mm:.1f} mm away from "
            f"where the registration puts it; look at {evidence.cluster.place} mm, LPS",
        ),
        (
            evidence.disagreeing,
            limits.disagreeing,
            f"{evidence.disagreeing:.0%} of the matched pairs contradicted their neighbours",
        ),
        (evidence.folded, limits.folded, f"the transform folds {evidence.folded:.2%} of the body"),
        (
            loss,
            limits.correlation_loss,
            "grey values agree less than after the affine stage: correlation "
            f"{evidence.correlation:.3f}, before {evidence.correlation_affine:.3f}",
        ),
    ]
    found = [(_level(value, limit), text) for value, limit, text in figures]
    if held.points < ENOUGH:
        by_chance = evidence.disagreeing > CHANCE
        found.append((2 if by_chance else 1, _too_few(held.points, by_chance)))
    elif held.mean > evidence.held_back_affine.mean:
        text = (
            f"held-back landmarks are farther off ({held.mean:.1f} mm) than after the affine stage "
            f"({evidence.held_back_affine.mean:.1f} mm)"
        )
        found.append((2 if held.mean > 1.5 * evidence.held_back_affine.mean + 1.0 else 1, text))
    worst = max(level for level, _ in found)
    reasons = [text for level, text in found if level == worst] if worst else _checked(evidence)
    return Verdict(WORDS[worst], reasons)


def _level(value: float, limit: tuple[float, float]) -> int:
    """0, 1 or 2; what is not known is not held against anyone."""
    return int(value > limit[0]) + int(value > limit[1])


def _too_few(points: int, by_chance: bool) -> str:
    what = f"only {points} landmarks were" if points else "no landmarks were"
    if by_chance:
        return (
            f"{what} held back, so few agree, and many more contradict them than in images of the "
            "same anatomy"
        )
    return f"{what} held back, so only similarity and folding could be checked"


def _checked(evidence: Evidence) -> list[str]:
    held, before = evidence.held_back, evidence.held_back_affine
    return [
        f"{held.points} held-back landmarks: median {held.median:.2f} mm, 95 % within "
        f"{held.p95:.1f} mm; after the affine stage median {before.median:.2f} mm",
        f"{evidence.folded:.2%} folded, correlation {evidence.correlation:.3f} after "
        f"{evidence.correlation_affine:.3f}",
    ]
