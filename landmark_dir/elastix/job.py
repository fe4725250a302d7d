"""What an engine is: three calls, and files as the common language."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import SimpleITK as sitk

from landmark_dir.elastix.parameters import POINTS_METRIC, ParameterMap, uses_points
from landmark_dir.geometry import Points


class Progress(NamedTuple):
    """Where a registration is; counted from 0, read from the growing elastix log."""

    resolution: int
    iteration: int


ProgressCallback = Callable[[Progress], None]


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


class Backend(Protocol):
    """A registration engine. Transforms are elastix text files; one call at a time.

    Every engine runs in a process of its own, so that a run can be interrupted and the calling
    process keeps its thread defaults. `ElastixFailed` carries the log's own words and its path.
    """

    name: str

    def version(self) -> str:
        """Version of the engine and of elastix inside it, for people and `run.json`."""

    def register(self, job: Job, progress: ProgressCallback | None = None) -> Path:
        """Run elastix; return the transform file inside `job.folder`."""

    def warp_image(
        self, transform: Path, moving: sitk.Image, *, labels: bool = False
    ) -> sitk.Image:
        """Resample `moving` onto the fixed grid stored in `transform`; the pixel type is kept.

        `labels` asks for nearest-neighbour interpolation and 0 outside; else cubic b-spline
        and air (the image's smallest value) outside.
        """

    def map_points(self, transform: Path, fixed_points: Points) -> Points:
        """Map fixed points [N, 3] to moving points, LPS mm; N may be 0."""

    def close(self) -> None:
        """End the engine's process, if one is running."""
