"""What the benchmarks share: the data, tables in Markdown, a session to measure in."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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

__all__ = ["arm", "data_folder", "machine", "markdown", "session"]


@contextmanager
def session(inputs: Inputs, options: RegisterOptions) -> Iterator[Session]:
    """A registration up to its affine stage; `.work` is a scratch folder."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        open_session(inputs, Path(scratch), options, Plan(silent, [])) as opened,
    ):
        yield opened


def arm(opened: Session, name: str, landmarks: Landmarks) -> Result:
    """The b-spline stage with these landmarks, in a folder of its own."""
    folder = opened.work / name
    folder.mkdir()
    return deform(opened, landmarks, folder)
