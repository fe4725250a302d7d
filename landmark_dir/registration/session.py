"""The stages of one registration, each a call of the engine or the network.

start -> affine -> b-spline, on the original moving image. Where landmarks come from, and what they
are used for, is `guidance`.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.elastix.engines import Backend, Job, Progress, find_backend
from landmark_dir.elastix.parameters import (
    ParameterMap,
    bundled,
    last_resolution,
    resolutions,
    with_bending_energy,
    with_points_metric,
)
from landmark_dir.elastix.transform_files import format_translation
from landmark_dir.errors import BadRunFolder, ElastixFailed
from landmark_dir.geometry import Points, as_points, centre, inside, physical_to_index
from landmark_dir.io import run_folder
from landmark_dir.io.point_files import write_elastix_points
from landmark_dir.options import PRESETS, RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.registration.inputs import Inputs

if TYPE_CHECKING:  # torch is slow to load
    from landmark_dir.models.weights import LoadedWeights

log = logging.getLogger(__name__)

Say = Callable[[str], None]  # told what is being done, for a person who waits

OPENED_MM = 10.0  # around landmarks outside the moving mask


@dataclass(frozen=True)
class Stage:
    """What both arms of a comparison share: the inputs as files and the affine motion."""

    inputs: Inputs
    backend: Backend
    work: Path  # scratch folder
    affine: Path  # transform file; the identity or a shift where there is no affine stage
    options: RegisterOptions
    say: Say
    seconds: dict[str, float]
    network: "LoadedWeights | None"  # None: no landmarks are sought

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Say what is being done and add its seconds."""
        self.say(name)
        started = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 2)

    def file(self, name: str) -> Path:
        """An image file of the scratch folder."""
        return self.work / f"{name}.mha"


@contextmanager
def pre_aligned(
    inputs: Inputs, folder: Path, options: RegisterOptions, say: Say, *, seek: bool = True
) -> Iterator[Stage]:
    """Start the engine and run everything up to the affine stage; scratch files go at the end.

    `seek` loads the network, too: bad weights are told before anything slow is done.
    """
    work = folder / "work"
    work.mkdir()
    with closing(find_backend(options.backend, options.threads)) as backend:
        network = _load_network(options) if seek else None
        stage = Stage(inputs, backend, work, work / "initial.txt", options, say, {}, network)
        _write_inputs(stage)
        _write_start(stage)
        if options.affine:
            stage = replace(stage, affine=_affine_stage(stage))
        yield stage
    shutil.rmtree(work)


def _write_inputs(stage: Stage) -> None:
    """The images as files every engine reads."""
    with stage.timed("write images"):
        for name in ("fixed", "moving", "fixed_mask", "moving_mask"):
            image = getattr(stage.inputs, name)
            if image is not None:
                _write_scratch(image, stage.file(name))


def _write_scratch(image: sitk.Image, path: Path) -> None:
    try:
        sitk.WriteImage(image, str(path))
    except RuntimeError as error:
        raise BadRunFolder(
            f"{path.parents[2]}: the images cannot be written there; check the free space"
        ) from error


def _write_start(stage: Stage) -> None:
    """A transform file for the start."""
    shift = start_mm(stage.inputs, stage.options)
    stage.affine.write_text(format_translation(shift, stage.inputs.fixed))


def start_mm(inputs: Inputs, options: RegisterOptions) -> NDArray[np.float64]:
    """The motion to start from: none, or the shift of the image centres (x, y, z)."""
    if options.align == "world":
        return np.zeros(3)
    shift: NDArray[np.float64] = (centre(inputs.moving) - centre(inputs.fixed))[0]
    return shift


def _job(stage: Stage, name: str, parameters: ParameterMap, start: Path | None = None) -> Job:
    folder = stage.work / name
    folder.mkdir(exist_ok=True)
    inputs = stage.inputs
    return Job(
        folder=folder,
        fixed=stage.file("fixed"),
        moving=stage.file("moving"),
        parameters={**parameters, "RandomSeed": (str(stage.options.seed),)},
        fixed_mask=stage.file("fixed_mask") if inputs.fixed_mask is not None else None,
        moving_mask=stage.file("moving_mask") if inputs.moving_mask is not None else None,
        initial_transform=start or stage.affine,
    )


def _run(stage: Stage, job: Job, name: str) -> Path:
    levels = resolutions(job.parameters)

    def progress(at: Progress) -> None:
        stage.say(f"{name}: resolution {at.resolution + 1} of {levels}, iteration {at.iteration}")

    with stage.timed(name):
        try:
            return stage.backend.register(job, progress)
        except ElastixFailed as error:
            raise ElastixFailed(_keep_log(str(error), job.folder / run_folder.LOG)) from error


def _keep_log(message: str, log_file: Path) -> str:
    """Save the log that `message` names from the scratch folder, and name its new place."""
    if not log_file.is_file():
        return message
    kept = Path(tempfile.mkdtemp(prefix="landmark-dir-failed-"), run_folder.LOG)
    try:
        shutil.copy(log_file, kept)
    except OSError:
        shutil.rmtree(kept.parent, ignore_errors=True)
        raise
    return message.replace(str(log_file.resolve()), str(kept))


def _affine_stage(stage: Stage) -> Path:
    return _run(stage, _job(stage, "affine", bundled("affine")), "affine")


def warn(stage: Stage, warning: str) -> None:
    """Say it in the log, in `run.json` and at the end."""
    log.warning(warning)
    stage.inputs.warnings.append(warning)


def _load_network(options: RegisterOptions) -> "LoadedWeights":
    # torch is slow to load and a run with given points never needs it
    from landmark_dir.models.device import choose_device
    from landmark_dir.models.weights import load_weights

    return load_weights(options.weights, choose_device(options.device))


def bspline_stage(stage: Stage, guiding: PointPairs, start: Path | None = None) -> Path:
    """The deformable stage, guided by pairs where there are any; the transform file.

    Parameters
    ----------
    start : Path, optional
        Transform file of a motion that is known to all but the finest level, which alone is run
        then; without it the stage starts from the affine map and runs all levels.
    """
    preset = PRESETS[stage.options.preset]
    assert preset.parameters is not None
    parameters = bundled(preset.parameters)
    if stage.options.bending_energy:
        parameters = with_bending_energy(parameters, stage.options.bending_energy)
    weights = stage.options.metric_weights()
    if start is not None:
        parameters, weights = last_resolution(parameters), weights[-1:]
    job = _job(stage, "bspline", parameters, start)
    if len(guiding):
        job = _guided(stage, job, guiding, weights)
    return _run(stage, job, "b-spline")


def _guided(stage: Stage, job: Job, pairs: PointPairs, weights: Sequence[float]) -> Job:
    """The same job with the points term, its two files, and a moving mask that holds them."""
    files = job.folder / run_folder.FIXED_POINTS, job.folder / run_folder.MOVING_POINTS
    write_elastix_points(pairs.fixed, files[0])
    write_elastix_points(pairs.moving, files[1])
    return replace(
        job,
        parameters=with_points_metric(job.parameters, weights),
        fixed_points=files[0],
        moving_points=files[1],
        moving_mask=_opened_mask(stage, pairs.moving),
    )


def _opened_mask(stage: Stage, moving: Points) -> Path | None:
    """The moving mask, opened around points outside it: elastix would drop those in silence."""
    mask = stage.inputs.moving_mask
    outside = outside_mask(mask, moving)
    if mask is None or not len(outside):
        return stage.file("moving_mask") if mask is not None else None
    seeds = sitk.Image(mask.GetSize(), sitk.sitkUInt8)
    seeds.CopyInformation(mask)
    for index in physical_to_index(mask, outside[inside(mask, outside)]):
        seeds[[int(i) for i in np.round(index)]] = 1
    distance = sitk.SignedMaurerDistanceMap(seeds, squaredDistance=False, useImageSpacing=True)
    opened = sitk.Or(sitk.Cast(mask != 0, sitk.sitkUInt8), distance <= OPENED_MM)
    path = stage.file("opened_mask")
    _write_scratch(opened, path)
    return path


def outside_mask(mask: sitk.Image | None, points: Points) -> Points:
    """Those of the points [N, 3] that lie outside a mask; none where there is no mask."""
    if mask is None or not len(points):
        return points[:0]
    index = np.round(physical_to_index(mask, points)).astype(int)
    x, y, z = np.clip(index, 0, np.array(mask.GetSize()) - 1).T
    counts = sitk.GetArrayViewFromImage(mask)[z, y, x] != 0
    return as_points(points[~(counts & inside(mask, points))])


def laid_on(stage: Stage) -> sitk.Image:
    """The moving image on the fixed grid before any registration."""
    moving = stage.inputs.moving
    start = sitk.TranslationTransform(3, start_mm(stage.inputs, stage.options).tolist())
    return sitk.Resample(
        moving, stage.inputs.fixed, start, sitk.sitkLinear, stage.inputs.outside_hu()
    )
