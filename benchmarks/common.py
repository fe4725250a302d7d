"""What the benchmarks share: the data, tables in Markdown, a session to measure in."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from training.followups.pair import FollowUp

__all__ = [
    "arm",
    "data_folder",
    "machine",
    "markdown",
    "session",
    "sources",
    "swept",
    "volumes",
]

CHOOSING = (("lidc-0314", 51), ("cptac-c3n-00247", 53))  # training volume, seed
STEP_MM = 0.5  # either side of a point, for the volume there


def sources(*, choosing: bool) -> list[tuple[Path, int]]:
    """Volumes and seeds: those of the validation, or those that settings are chosen on."""
    folder = data_folder() / "ct"
    if choosing:
        return [(folder / "training" / f"{name}.nii.gz", seed) for name, seed in CHOOSING]
    files = sorted((folder / "validation").glob("*.nii.gz"))
    return [(path, seed) for seed, path in enumerate(files)]


def swept(
    volumes: Sequence[tuple[Path, int]],
    motions: Sequence[str],
    kinds: Sequence[str],
    called: str,
    make: Callable[[Path, str, int], FollowUp],
    measure: Callable[[FollowUp, str, int], dict[str, Any]],
    keep: Path | None,
) -> list[dict[str, Any]]:
    """Measure each volume in each motion and of each kind, and go on from what `keep` holds.

    Parameters
    ----------
    called : str
        What a kind is called in a case.
    make : callable
        The pair of a volume, a motion and a seed.
    measure : callable
        What is found of a pair, a kind and a seed.
    keep : Path, optional
        JSON file of the cases measured so far, and from now on.
    """
    cases: list[dict[str, Any]] = []
    if keep is not None and keep.is_file():
        cases = json.loads(keep.read_text())
    done = {(case["name"], case["motion"], case[called]) for case in cases}
    for path, seed in volumes:
        name = path.name.split(".")[0]
        for motion in motions:
            wanted = [kind for kind in kinds if (name, motion, kind) not in done]
            if not wanted:
                continue
            pair = make(path, motion, seed)
            for kind in wanted:
                about = {"name": name, "motion": motion, called: kind}
                cases.append(about | measure(pair, kind, seed))
                if keep is not None:
                    keep.write_text(json.dumps(cases))
    return cases


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
