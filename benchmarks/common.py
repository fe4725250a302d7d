"""What the benchmarks share: the data, tables in Markdown, a session to measure in."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmark_dir.geometry import Points
from landmark_dir.options import RegisterOptions
from landmark_dir.progress import Plan, silent
from landmark_dir.registration.inputs import Inputs
from landmark_dir.registration.landmarks import Landmarks
from landmark_dir.registration.pipeline import deform
from landmark_dir.registration.result import Result
from landmark_dir.registration.session import Session
from landmark_dir.registration.stages import open_session
from training.data.dataset import data_folder
from training.evaluation.tables import machine, markdown

__all__ = ["arm", "data_folder", "machine", "markdown", "session", "volumes"]

STEP_MM = 0.5  # either side of a point, for the volume there


@contextmanager
def session(inputs: Inputs, options: RegisterOptions) -> Iterator[Session]:
    """A registration up to its affine stage; `.work` is a scratch folder."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_session(inputs, Path(scratch), options, Plan(silent, [])) as opened,
    ):
        yield opened


def volumes(transform: Callable[[Points], Points], points: Points) -> NDArray[np.float64]:
    """How many times its volume tissue at points [N, 3] has after a transform, [N]."""
    slopes = [
        (transform(points + STEP_MM * axis) - transform(points - STEP_MM * axis)) / (2 * STEP_MM)
        for axis in np.eye(3)
    ]
    return np.asarray(np.linalg.det(np.stack(slopes, axis=-1)))


def arm(opened: Session, name: str, landmarks: Landmarks) -> Result:
    """The b-spline stage with these landmarks, in a folder of its own."""
    folder = opened.work / name
    folder.mkdir()
    return deform(opened, landmarks, folder)
