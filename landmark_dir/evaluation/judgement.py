"""What a finished transform is worth, as far as it can be told without independent points."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.evaluation.metrics import (
    Summary,
    correlation,
    folding,
    summarise,
)
from landmark_dir.evaluation.verdict import Evidence, Verdict, judge, worst_cluster
from landmark_dir.geometry import Points, distances_mm
from landmark_dir.matching.outliers import select_spread
from landmark_dir.points import PointPairs
from landmark_dir.registration.inputs import Inputs
from landmark_dir.registration.landmarks import Landmarks
from landmark_dir.registration.session import Stage, laid_on
from landmark_dir.transforms.chain import read_transform
from landmark_dir.transforms.fields import resample


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


def judged(stage: Stage, transform: Path, warped: sitk.Image, landmarks: Landmarks) -> Judgement:
    """Measure a transform without independent points, and weigh it."""
    inputs, backend = stage.inputs, stage.backend

    def mapped(points: Points) -> Points:
        return backend.map_points(transform, points)

    def residual(through: Path, pairs: PointPairs) -> NDArray[np.float64]:
        return distances_mm(backend.map_points(through, pairs.fixed), pairs.moving)

    guiding, held_back = landmarks.guiding, landmarks.held_back
    at_guides = residual(transform, guiding)
    at_held_back = residual(transform, held_back)
    measured = select_spread(landmarks.all, len(guiding))  # the guides are settled
    held, held_affine = summarise(at_held_back), summarise(residual(stage.affine, held_back))
    folds = folding(mapped, inputs.fixed, inputs.fixed_body)
    affine = read_transform(stage.affine)
    after_affine = resample(inputs.moving, affine, inputs.fixed, inputs.outside_hu())
    agreement = landmarks.agreed / landmarks.matched if landmarks.matched else float("nan")
    evidence = Evidence(
        held,
        held_affine,
        worst_cluster(measured.fixed, residual(transform, measured)),
        1 - agreement,
        folds.folded_share,
        _correlation(inputs, warped),
        _correlation(inputs, after_affine),
    )
    metrics = {
        "landmarks": len(guiding),
        "matched": landmarks.matched,
        "agreed": landmarks.agreed,
        "residual_mm": _known(summarise(at_guides)),
        "held_back": len(held_back),
        "held_back_mm": _known(held),
        "held_back_affine_mm": _known(held_affine),
        "worst_cluster_mm": round(evidence.cluster.residual_mm, 3),
        "correlation": round(evidence.correlation, 4),
        "correlation_affine": round(evidence.correlation_affine, 4),
        "correlation_before": round(_correlation(inputs, laid_on(stage)), 4),
        **folds._asdict(),
    }
    return Judgement(metrics, judge(evidence), at_guides, at_held_back)


def _known(summary: Summary) -> dict[str, Any] | None:
    return summary._asdict() if summary.points else None


def _correlation(inputs: Inputs, image: sitk.Image) -> float:
    """Correlation with the fixed image in its body, where the moving image has data.

    Beyond it stands its smallest value; a true voxel as dark as that is left out, too.
    """
    has_data = sitk.Cast(image, sitk.sitkFloat64) > inputs.outside_hu()
    return correlation(inputs.fixed, image, sitk.And(inputs.fixed_body, has_data))
