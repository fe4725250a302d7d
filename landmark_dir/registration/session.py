"""What the stages of one registration share, and what is taken down of them."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import SimpleITK as sitk

from landmark_dir.elastix.engine import Engine
from landmark_dir.options import RegisterOptions
from landmark_dir.progress import Plan, Progress
from landmark_dir.registration.clock import Clock, Spent
from landmark_dir.registration.inputs import Inputs
from landmark_dir.registration.start import Start
from landmark_dir.transforms.chain import Chain, read_transform

if TYPE_CHECKING:  # torch is slow to load
    from landmark_dir.models.weights import LoadedWeights

log = logging.getLogger(__name__)

EXPECTED_S = {  # of a pair of 400 x 330 x 140 voxels; the proportions make the share done
    "start": 1.0,
    "write images": 1.0,
    "affine": 5.0,
    "pre-align": 3.0,
    "landmarks": 9.0,
    "outliers": 1.0,
    "dense motion": 2.0,
    "b-spline": 7.0,
    "rigid parts": 2.0,
    "warp": 8.0,
    "metrics": 3.0,
    "report": 3.0,
}
SHARED = ("start", "write images", "affine")
OF_A_PASS = ("pre-align", "landmarks", "outliers", "dense motion")
OF_AN_ARM = ("b-spline", "warp", "metrics", "report")


class Record:
    """What is taken down while a run goes on: seconds of each stage, warnings.

    Each arm of a comparison has one of its own, which starts as a copy of what both share.

    Attributes
    ----------
    seconds, cpu_seconds : dict
        Stage -> seconds on the wall, and of all processors together.
    """

    def __init__(self, warnings: Sequence[str] = ()) -> None:
        self.warnings = list(warnings)
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    def copy(self) -> "Record":
        """The same so far, to be gone on with apart."""
        other = Record(self.warnings)
        other.seconds, other.cpu_seconds = dict(self.seconds), dict(self.cpu_seconds)
        return other

    def warn(self, warning: str) -> None:
        """Say it in the log, in `run.json` and at the end."""
        log.warning(warning)
        self.warnings.append(warning)

    def took(self, stage: str, spent: Spent) -> None:
        """Add to the seconds of a stage."""
        for seconds, more in ((self.seconds, spent.wall_s), (self.cpu_seconds, spent.cpu_s)):
            seconds[stage] = round(seconds.get(stage, 0.0) + more, 2)


@dataclass(frozen=True)
class Session:
    """One registration under way: the inputs as files, the engine, the affine motion.

    Attributes
    ----------
    work : Path
        Scratch folder.
    start : Start
        How the moving image lies to the fixed one, roughly.
    affine : Path
        Transform file; that of the start where there is no affine stage.
    network : LoadedWeights or None
        None: no landmarks are sought.
    arm : str
        Which arm of a comparison; empty: a run of its own.
    grid_points : int or None
        Of the grid that elastix sizes its steps on, where a usual one would miss the mask.
    """

    inputs: Inputs
    engine: Engine
    work: Path
    start: Start
    affine: Path
    options: RegisterOptions
    network: "LoadedWeights | None"
    record: Record
    plan: Plan
    arm: str = ""
    grid_points: int | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Say what is being done and take down its seconds; gives the progress within it."""
        progress = self.plan.begin(self.arm + name)
        clock = Clock(lambda: self.engine.cpu_s)
        yield progress
        self.record.took(name, clock.spent())

    def file(self, name: str) -> Path:
        """An image file of the scratch folder."""
        return self.work / f"{name}.mha"

    @property
    def start_file(self) -> Path:
        """Transform file of the start."""
        return self.work / "initial.txt"

    @cached_property
    def affine_chain(self) -> Chain:
        """The affine motion, and the start before it."""
        return read_transform(self.affine)


def expected_stages(
    options: RegisterOptions, *, seek: bool, arms: Sequence[str] = ("",)
) -> list[tuple[str, float]]:
    """The stages of a registration in their order, with the seconds they may take."""
    passes = options.match_passes() if seek else 0
    names = [*SHARED, *(OF_A_PASS * passes), *(arm + name for arm in arms for name in OF_AN_ARM)]
    return [(name, EXPECTED_S[name.split(", ")[-1]]) for name in names]


def before_registration(session: Session) -> sitk.Image:
    """The moving image on the fixed grid before any registration."""
    inputs = session.inputs
    start = read_transform(session.start_file).itk()
    return sitk.Resample(inputs.moving, inputs.fixed, start, sitk.sitkLinear, inputs.outside_hu())
