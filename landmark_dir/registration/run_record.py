"""What is told of a run: `run.json` and what its report shows."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.registration.landmarks import Landmarks
from landmark_dir.registration.session import Stage, laid_on, start_mm
from landmark_dir.transforms.chain import read_transform
from landmark_dir.transforms.fields import coarse_grid, displacement, jacobian

if TYPE_CHECKING:  # torch is slow to load
    from landmark_dir.models.weights import LoadedWeights
    from landmark_dir.report.page import Arm, Table


def run_json(stage: Stage, metrics: dict[str, Any]) -> dict[str, Any]:
    """What a run was made of, with which options, how long it took, and what came out."""
    return {
        "landmark_dir": version("landmark_dir"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": stage.inputs.described,
        "options": asdict(stage.options),
        "versions": {
            "python": platform.python_version(),
            "SimpleITK": sitk.Version.VersionString(),
            stage.backend.name: stage.backend.version(),
            **({"torch": version("torch")} if stage.network else {}),
        },
        "weights": _known_weights(stage.network),
        "metrics": metrics,
        "seconds": stage.seconds,
        "warnings": stage.inputs.warnings,
    }


def _known_weights(loaded: "LoadedWeights | None") -> dict[str, str] | None:
    if loaded is None:
        return None
    return {
        "file": loaded.path.name,
        "sha256": loaded.sha256,
        "network": loaded.metadata["network"],
    }


def arm(
    name: str,
    run: dict[str, Any],
    warped: sitk.Image | None = None,
    transform: Path | None = None,
    distances_mm: Mapping[str, NDArray[np.float64]] = MappingProxyType({}),
) -> "Arm":
    """One registration as the report shows it; without a transform, landmarks alone."""
    from landmark_dir.report.page import Arm  # Pillow is slow to load

    if transform is None or warped is None:
        return Arm(name, None, None, None, distances_mm, run)
    chain, grid = read_transform(transform), coarse_grid(warped)
    bends = sitk.VectorMagnitude(displacement(chain, grid) - displacement(chain.affine(), grid))
    return Arm(name, warped, bends, jacobian(chain, grid), distances_mm, run)


def write_run_report(
    path: Path,
    stage: Stage,
    landmarks: Landmarks,
    arms: "Sequence[Arm]",
    *,
    residual_mm: NDArray[np.float64] | None = None,
    tables: "Sequence[Table]" = (),
) -> None:
    """The page of a run, or of both arms of a comparison."""
    from landmark_dir.report.page import Content, write_report  # as above

    stage.say("report")
    pairs = landmarks.pairs()
    held_back = np.arange(len(pairs)) >= len(landmarks.guiding)
    content = Content(
        title="Landmark-guided registration",
        fixed=stage.inputs.fixed,
        moving=stage.inputs.moving,
        before=laid_on(stage),
        before_shift_mm=start_mm(stage.inputs, stage.options),
        arms=arms,
        pairs=pairs,
        residual_mm=residual_mm,
        held_back=held_back,
        tables=tables,
    )
    write_report(path, content)
