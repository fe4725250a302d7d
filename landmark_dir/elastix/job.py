"""One elastix registration: everything it needs, as files, the common language of all engines."""

from dataclasses import dataclass
from pathlib import Path

from landmark_dir.elastix.parameters import POINTS_METRIC, ParameterMap, uses_points


@dataclass(frozen=True)
class Job:
    """One elastix registration: everything it needs, as files.

    Attributes
    ----------
    folder : Path
        Existing folder for the engine's output: `TransformParameters.0.txt`, `elastix.log`.
    fixed, moving : Path
        Image files of a kind every engine reads (.mha).
    parameters : ParameterMap
        One parameter map (one stage).
    fixed_mask, moving_mask : Path or None
        uint8 image files, on the grid of their image.
    initial_transform : Path or None
        elastix transform file, applied first (`HowToCombineTransforms Compose`).
    fixed_points, moving_points : Path or None
        elastix point files, `point` kind, physical mm; both or neither.
    """

    folder: Path
    fixed: Path
    moving: Path
    parameters: ParameterMap
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    initial_transform: Path | None = None
    fixed_points: Path | None = None
    moving_points: Path | None = None

    def __post_init__(self) -> None:
        if (self.fixed_points is None) != (self.moving_points is None):
            raise ValueError("a job has both point files or neither")
        if (self.fixed_points is not None) != uses_points(self.parameters):
            raise ValueError(f"point files and {POINTS_METRIC} have no effect without each other")
