"""What is recorded of a run: `run.json`, and what its report shows."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.evaluation.verdict import Finished
from landmark_dir.registration.landmarks import Landmarks
from landmark_dir.registration.session import (
    Session,
    before_registration,
)
from landmark_dir.registration.start import told
from landmark_dir.transforms.chain import Chain
from landmark_dir.transforms.fields import coarse_grid, displacement, jacobian

if TYPE_CHECKING:  # torch is slow to load
    from landmark_dir.models.weights import LoadedWeights
    from landmark_dir.report.content import Answer, Arm, Table


def run_json(session: Session, metrics: dict[str, Any]) -> dict[str, Any]:
    """What a run was made of, with which options, how long it took, and what came out."""
    return {
        "landmark_dir": version("landmark_dir"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": dict(session.inputs.sources),
        "start": session.start.described(),
        "options": session.options.flat(),
        "versions": {
            "python": platform.python_version(),
            "SimpleITK": sitk.Version.VersionString(),
            session.engine.name: session.engine.version(),
            **({"torch": version("torch")} if session.network else {}),
        },
        "weights": _known_weights(session.network),
        "metrics": metrics,
        "seconds": session.record.seconds,
        "cpu_seconds": session.record.cpu_seconds,
        "warnings": session.record.warnings,
    }


def _known_weights(loaded: "LoadedWeights | None") -> dict[str, str] | None:
    if loaded is None:
        return None
    return {
        "file": loaded.path.name,
        "sha256": loaded.sha256,
        "network": loaded.metadata["network"],
        "input_scale": loaded.network.scale.name,
    }


def arm(
    name: str,
    run: dict[str, Any],
    warped: sitk.Image | None = None,
    chain: Chain | None = None,
    distances_mm: Mapping[str, NDArray[np.float64]] = MappingProxyType({}),
) -> "Arm":
    """One registration as the report shows it; without a transform, landmarks alone."""
    from landmark_dir.report.content import Arm  # Pillow is slow to load

    if chain is None or warped is None:
        return Arm(name, None, None, None, distances_mm, run)
    grid = coarse_grid(warped)
    bends = displacement(chain, grid) - displacement(chain.affine(), grid)
    return Arm(name, warped, bends, jacobian(chain, grid), distances_mm, run)


def write_run_report(
    path: Path,
    session: Session,
    landmarks: Landmarks,
    arms: "Sequence[Arm]",
    *,
    residual_mm: NDArray[np.float64] | None = None,
    tables: "Sequence[Table]" = (),
    answer: "Answer | None" = None,
) -> None:
    """The page of a run, or of both arms of a comparison."""
    from landmark_dir.report.content import Content  # as above
    from landmark_dir.report.page import write_report

    pairs = landmarks.pairs()
    held_back = np.arange(len(pairs)) >= len(landmarks.guiding)
    content = Content(
        fixed=session.inputs.fixed,
        body=session.inputs.fixed_body,
        before=before_registration(session),
        affine=_after_affine(session) if any(arm.warped is not None for arm in arms) else None,
        arms=arms,
        pairs=pairs,
        moving_before=session.start.rigid.inverse().map_points(pairs.moving),
        residual_mm=residual_mm,
        held_back=held_back,
        tables=tables,
        start=_sentence(told(session.start.described())),
        answer=answer,
    )
    write_report(path, content)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _after_affine(session: Session) -> sitk.Image | None:
    """The moving image on the fixed grid after the affine stage; None where there was none."""
    if not session.options.affine:
        return None
    inputs, affine = session.inputs, session.affine_chain.itk()
    outside = inputs.outside_hu()
    return sitk.Resample(inputs.moving, inputs.fixed, affine, sitk.sitkLinear, outside)


def write_run_preview(path: Path, finished: Finished) -> None:
    """One small picture: fixed, moving before and after, at the middle of the fixed body."""
    from landmark_dir.report.volumes import write_preview  # as above

    write_preview(path, (finished.fixed, finished.before, finished.warped), finished.body)
