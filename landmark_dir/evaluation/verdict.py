"""One verdict on a finished registration, with its reasons; a screen, not a proof of accuracy."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from landmark_dir.evaluation.metrics import Summary, correlation, folding, summarise
from landmark_dir.evaluation.statistics import Difference, paired_difference
from landmark_dir.geometry import Points, distances_mm
from landmark_dir.points import PointPairs
from landmark_dir.transforms.chain import Chain

WORDS = ("good", "doubtful", "failed", "not checked")
ENOUGH = 50  # held-back pairs that make a judgement
CLUSTER = 8  # neighbours whose median residual speaks for a place
CHANCE = 0.05  # share of contradictions from where on a handful of pairs that agree is chance
LOSS_MM = 0.1  # how much farther off than after the affine stage is no loss
HOW_TO_CHECK = (
    "no landmarks were held back, so nothing independent was checked; to check more, "
    "`landmark-dir compare` holds landmarks back and measures at expert points (--expert) or label "
    "maps (--labels); after --points, measure at points that did not guide"
)


@dataclass(frozen=True)
class Limits:
    """From where on a figure is doubtful, and from where on the registration has failed.

    Attributes
    ----------
    median_mm, p95_mm : (float, float)
        Residual at held-back landmarks. They are as matched, wrong ones among them, so their p95
        alone never fails a registration.
    cluster_mm : (float, float)
        Largest median residual of `CLUSTER` neighbours of the landmarks as they were measured: a
        group that was not followed.
    disagreeing : (float, float)
        Share of the matched pairs that contradict their neighbours.
    per_litre : (float, float)
        Matched pairs in a litre of the body that both images show, fewer of which are doubtful,
        and have failed: landmarks of two patients find few partners, and those agree.
    folded : (float, float)
        Share of the body with a Jacobian determinant <= 0.
    correlation_loss : (float, float)
        By how much the grey values correlate less than after the affine stage.
    """

    median_mm: tuple[float, float] = (2.0, 5.0)
    p95_mm: tuple[float, float] = (8.0, float("inf"))
    cluster_mm: tuple[float, float] = (5.0, 15.0)
    disagreeing: tuple[float, float] = (0.04, 0.3)
    per_litre: tuple[float, float] = (300.0, 150.0)
    folded: tuple[float, float] = (0.001, 0.02)
    correlation_loss: tuple[float, float] = (0.02, 0.2)


class Verdict(NamedTuple):
    """`good`, `doubtful`, `failed` or `not checked`, and why.

    The reasons of a good one say what was checked, those of one not checked what would check it.
    """

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
    gained: Difference  # residual now - after the affine stage, over these landmarks
    cluster: Cluster  # the worst; see `worst_cluster`
    matched: int  # pairs, before outliers were rejected; 0: no landmarks were sought
    disagreeing: float  # share of them; NaN where there are none
    per_litre: float  # pairs matched in each litre of the body that both show; NaN: not known
    folded: float
    correlation: float
    correlation_affine: float


@dataclass(frozen=True)
class Finished:
    """A finished registration, as far as it is judged.

    Attributes
    ----------
    fixed, body : sitk.Image
        The fixed image, and where it counts.
    moving : sitk.Image
        As the registration saw it.
    padding : sitk.Image or None
        Voxels of it that hold no data, 0 / 1; there stands its smallest value.
    before, warped : sitk.Image
        The moving image on the fixed grid, before and after.
    affine, transform : Chain
        Fixed to moving points, after the affine stage and at the end.
    guiding, held_back, measured : PointPairs
        The guides, what was held back, and pairs as they were measured.
    matched, agreed : int
        Pairs before and after outliers were rejected.
    comparable : bool
        Whether grey values of both images mean the same; if not, their correlation says nothing.
    """

    fixed: sitk.Image
    body: sitk.Image
    moving: sitk.Image
    padding: sitk.Image | None
    before: sitk.Image
    warped: sitk.Image
    affine: Chain
    transform: Chain
    guiding: PointPairs
    held_back: PointPairs
    measured: PointPairs
    matched: int
    agreed: int
    comparable: bool = True


@dataclass(frozen=True)
class Judgement:
    """What was measured, what it amounts to, and the residuals behind it, mm."""

    metrics: dict[str, Any]
    verdict: Verdict
    at_guides: NDArray[np.float64]
    at_held_back: NDArray[np.float64]

    def distances_mm(self) -> dict[str, NDArray[np.float64]]:
        """The residuals by name, where there are any."""
        named = {
            "residual at held-back landmarks": self.at_held_back,
            "residual at guiding landmarks": self.at_guides,
        }
        return {name: values for name, values in named.items() if len(values)}

    def residual_mm(self) -> NDArray[np.float64]:
        """At guiding, then at held-back landmarks [N]."""
        return np.concatenate([self.at_guides, self.at_held_back])


def residual_mm(chain: Chain, pairs: PointPairs) -> NDArray[np.float64]:
    """How far a transform leaves each pair, mm [N]."""
    return distances_mm(chain.map_points(pairs.fixed), pairs.moving)


def judged(run: Finished) -> Judgement:
    """Measure a finished registration without independent points, and weigh it."""
    at_guides = residual_mm(run.transform, run.guiding)
    at_held_back = residual_mm(run.transform, run.held_back)
    after_affine = residual_mm(run.affine, run.held_back)
    values = sitk.GetArrayViewFromImage(run.moving)
    outside, highest = float(values.min()), float(values.max())
    warped = sitk.Clamp(run.warped, run.warped.GetPixelID(), outside, highest)
    affine_image = _affine_image(run, outside)
    folds = folding(run.transform.map_points, run.fixed, run.body)
    agreement = run.agreed / run.matched if run.matched else float("nan")
    litres = shared_litres(run.body, run.moving, run.padding, run.affine) if run.matched else 0.0
    per_litre = (run.matched + len(run.held_back)) / litres if litres else float("nan")
    evidence = Evidence(
        held_back=summarise(at_held_back),
        held_back_affine=summarise(after_affine),
        gained=paired_difference(at_held_back, after_affine),
        cluster=worst_cluster(run.measured.fixed, residual_mm(run.transform, run.measured)),
        matched=run.matched,
        disagreeing=1 - agreement,
        per_litre=per_litre,
        folded=folds.folded_share,
        correlation=_correlation(run, warped, outside),
        correlation_affine=_correlation(run, affine_image, outside),
    )
    metrics = {
        "landmarks": len(run.guiding),
        "matched": run.matched,
        "agreed": run.agreed,
        "matched_per_litre": round(per_litre, 1),
        "residual_mm": _known(summarise(at_guides)),
        "held_back": len(run.held_back),
        "held_back_mm": _known(evidence.held_back),
        "held_back_affine_mm": _known(evidence.held_back_affine),
        "worst_cluster_mm": round(evidence.cluster.residual_mm, 3),
        "correlation": round(evidence.correlation, 4),
        "correlation_affine": round(evidence.correlation_affine, 4),
        "correlation_before": round(_correlation(run, run.before, outside), 4),
        **folds._asdict(),
    }
    return Judgement(metrics, judge(evidence), at_guides, at_held_back)


def _affine_image(run: Finished, outside: float) -> sitk.Image:
    """The moving image on the fixed grid after the affine stage."""
    affine, kind = run.affine.itk(), sitk.sitkFloat32
    image = sitk.Resample(run.moving, run.fixed, affine, sitk.sitkBSpline, outside, kind)
    if run.padding is None:
        return image
    padded = sitk.Resample(run.padding, run.fixed, affine, sitk.sitkNearestNeighbor, 0)
    return sitk.Mask(image, padded, outside, 1)


def shared_litres(
    body: sitk.Image, moving: sitk.Image, padding: sitk.Image | None, affine: Chain
) -> float:
    """How much of the fixed body the moving image shows as well, after the affine stage.

    Parameters
    ----------
    body : sitk.Image
        0 / 1 on the fixed grid.
    padding : sitk.Image or None
        0 / 1 on the moving grid: what it does not show.
    affine : Chain
        Fixed to moving points.
    """
    shown = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    shown.CopyInformation(moving)
    if padding is not None:
        shown = sitk.And(shown, padding == 0)
    there = sitk.Resample(shown, body, affine.itk(), sitk.sitkNearestNeighbor, 0)
    both = sitk.And(body, there)
    voxels = np.count_nonzero(sitk.GetArrayViewFromImage(both))
    return float(voxels * np.prod(body.GetSpacing()) / 1e6)


def _known(summary: Summary) -> dict[str, Any] | None:
    return summary._asdict() if summary.points else None


def _correlation(run: Finished, image: sitk.Image, outside: float) -> float:
    """Correlation with the fixed image in its body, where the moving image has data; or NaN.

    Beyond it stands its smallest value; a true voxel as dark as that is left out, too.
    """
    if not run.comparable:
        return float("nan")
    return correlation(run.fixed, image, sitk.And(run.body, image > outside))


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
    found = [
        *_against_limits(evidence, limits),
        *_few_partners(evidence, limits),
        *_held_back(evidence),
    ]
    worst = max((level for level, _ in found), default=0)
    if worst:
        return Verdict(WORDS[worst], [text for level, text in found if level == worst])
    if not evidence.held_back.points:
        return Verdict("not checked", [HOW_TO_CHECK])
    return Verdict("good", _checked(evidence))


def _against_limits(evidence: Evidence, limits: Limits) -> list[tuple[int, str]]:
    """Level and text of each figure: 0 good, 1 doubtful, 2 failed."""
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
    return [(_level(value, limit), text) for value, limit, text in figures]


def _level(value: float, limit: tuple[float, float]) -> int:
    """0, 1 or 2; a figure that is not known counts as good."""
    return int(value > limit[0]) + int(value > limit[1])


def _few_partners(evidence: Evidence, limits: Limits) -> list[tuple[int, str]]:
    """What the number of landmarks says that found a partner; of given points it says nothing."""
    if evidence.held_back.points == 0:
        return []
    fewest = (-limits.per_litre[0], -limits.per_litre[1])
    text = (
        f"{evidence.per_litre:.0f} landmarks in a litre of the body found a partner, expected at "
        f"least {limits.per_litre[0]:.0f} in two scans of one patient"
    )
    return [(_level(-evidence.per_litre, fewest), text)]


def _held_back(evidence: Evidence) -> list[tuple[int, str]]:
    """What the number of held-back landmarks, and the way they went, say."""
    held, before = evidence.held_back, evidence.held_back_affine
    if held.points == 0:
        return []
    if held.points < ENOUGH:
        if evidence.disagreeing > CHANCE:
            text = "few landmarks were found, and many of them contradict each other: more than in "
            return [(2, text + "images of the same anatomy")]
        text = f"only {held.points} landmarks were held back, too few to judge by"
        return [(1, text)]
    if not evidence.gained.low > LOSS_MM:  # of the interval of the mean difference
        return []
    text = (
        f"held-back landmarks are farther off ({held.mean:.1f} mm) than after the affine stage "
        f"({before.mean:.1f} mm)"
    )
    return [(2 if held.mean > 1.5 * before.mean + 1.0 else 1, text)]


def _checked(evidence: Evidence) -> list[str]:
    held, before = evidence.held_back, evidence.held_back_affine
    compared = "grey values without a common scale, not compared"
    if not np.isnan(evidence.correlation):
        compared = f"correlation {evidence.correlation:.3f} after {evidence.correlation_affine:.3f}"
    return [
        f"{held.points} held-back landmarks: median {held.median:.2f} mm, 95 % within "
        f"{held.p95:.1f} mm; after the affine stage median {before.median:.2f} mm",
        f"{evidence.folded:.2%} folded, {compared}",
    ]
