"""The stages of one registration, each a call of the engine or the network.

affine -> moving resampled for the network's eyes -> landmarks -> outliers -> true moving space ->
b-spline on the original moving image.
"""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir import rundir
from landmark_dir.backends import Backend, Job, Progress, find_backend
from landmark_dir.backends.transforms import format_translation, on_grid
from landmark_dir.body import body_mask
from landmark_dir.errors import BadPoints, BadRunFolder, ElastixFailed, TooFewLandmarks
from landmark_dir.geometry import centre, inside
from landmark_dir.inputs import Inputs
from landmark_dir.metrics import distances_mm
from landmark_dir.options import PRESETS, RegisterOptions
from landmark_dir.outliers import reject_outliers, select_spread, settle
from landmark_dir.parameters import (
    ParameterMap,
    bundled,
    resolutions,
    with_bending_energy,
    with_points_metric,
)
from landmark_dir.points import PointPairs, write_elastix_points

if TYPE_CHECKING:  # torch is slow to load
    from landmark_dir.weights import LoadedWeights

log = logging.getLogger(__name__)

Say = Callable[[str], None]  # told what is being done, for a person who waits

SWAPPED_MM = 10.0  # how much worse than twice the other way round
LOOK_AGAIN = "check that both images show the same anatomy in HU and overlap after the affine stage"


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
        self.seconds[name] = round(time.monotonic() - started, 2)

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
    shift = _start_mm(stage.inputs, stage.options)
    stage.affine.write_text(format_translation(shift, stage.inputs.fixed))


def _start_mm(inputs: Inputs, options: RegisterOptions) -> NDArray[np.float64]:
    """The motion to start from: none, or the shift of the image centres (x, y, z)."""
    if options.align == "world":
        return np.zeros(3)
    shift: NDArray[np.float64] = (centre(inputs.moving) - centre(inputs.fixed))[0]
    return shift


def _job(stage: Stage, name: str, parameters: ParameterMap) -> Job:
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
        initial_transform=stage.affine,
    )


def _run(stage: Stage, job: Job, name: str) -> Path:
    levels = resolutions(job.parameters)

    def progress(at: Progress) -> None:
        stage.say(f"{name}: resolution {at.resolution + 1} of {levels}, iteration {at.iteration}")

    with stage.timed(name):
        try:
            return stage.backend.register(job, progress)
        except ElastixFailed as error:
            raise ElastixFailed(_keep_log(str(error), job.folder / rundir.LOG)) from error


def _keep_log(message: str, log_file: Path) -> str:
    """Save the log that `message` names from the scratch folder, and name its new place."""
    if not log_file.is_file():
        return message
    kept = Path(tempfile.mkdtemp(prefix="landmark-dir-failed-"), rundir.LOG)
    try:
        shutil.copy(log_file, kept)
    except OSError:
        shutil.rmtree(kept.parent, ignore_errors=True)
        raise
    return message.replace(str(log_file.resolve()), str(kept))


def _affine_stage(stage: Stage) -> Path:
    return _run(stage, _job(stage, "affine", bundled("affine")), "affine")


def landmarks_for(stage: Stage, given: PointPairs | None) -> PointPairs:
    """The pairs that will guide the b-spline stage: given ones, the network's, or none."""
    if given is not None:
        if len(given):
            _refuse_swapped(stage, given)
        return given
    if stage.network is None:
        return PointPairs.empty()
    pairs = seek_landmarks(stage)
    short = shortage(pairs, stage.options)
    if short is None:
        return pairs
    if stage.options.on_few_landmarks == "fail":
        raise TooFewLandmarks(
            f"{short}; {LOOK_AGAIN}, or go on with --on-few-landmarks register-without"
        )
    warn(stage, f"{short}; registered without landmarks")
    return PointPairs.empty()


def warn(stage: Stage, warning: str) -> None:
    """Say it in the log, in `run.json` and at the end."""
    log.warning(warning)
    stage.inputs.warnings.append(warning)


def _refuse_swapped(stage: Stage, given: PointPairs) -> None:
    """Refuse points that fit far better the other way round, once the global motion is gone."""
    there, back = (
        float(np.median(distances_mm(stage.backend.map_points(stage.affine, one), other)))
        for one, other in ((given.fixed, given.moving), (given.moving, given.fixed))
    )
    if there > 2 * back + SWAPPED_MM:
        raise BadPoints(
            f"points: after the affine stage the fixed ones lie {there:.0f} mm from their moving "
            f"ones, the other way round {back:.0f} mm; they look swapped, give FIXED first"
        )


def shortage(pairs: PointPairs, options: RegisterOptions) -> str | None:
    """What to say of too few pairs; None where there are enough."""
    if len(pairs) >= options.min_landmarks:
        return None
    return f"{len(pairs)} landmarks found, expected at least {options.min_landmarks}"


def _load_network(options: RegisterOptions) -> "LoadedWeights":
    # torch is slow to load and a run with given points never needs it
    from landmark_dir.devices import choose_device
    from landmark_dir.weights import load_weights

    return load_weights(options.weights, choose_device(options.device))


def seek_landmarks(stage: Stage) -> PointPairs:
    """Network, outliers, selection, and back to true moving space."""
    from landmark_dir import devices, matching  # as above

    options, inputs = stage.options, stage.inputs
    assert stage.network is not None
    with stage.timed("pre-align"):
        grid = matching.grid_to_match(stage.network.network, inputs.fixed, inputs.moving)
        onto = on_grid(stage.affine, grid, stage.work, "prealign")
        prealigned = stage.backend.warp_image(onto, inputs.moving)
        body = body_mask(prealigned)
        if inputs.moving_mask is not None:
            mask = stage.backend.warp_image(onto, inputs.moving_mask, labels=True)
            body = sitk.And(body, mask)
    with stage.timed("landmarks"), devices.torch_threads(options.threads):
        pairs = matching.match_volumes(
            inputs.fixed,
            prealigned,
            inputs.fixed_body,
            body,
            stage.network.network,
            matching.MatchingOptions(min_score=options.min_score, search_mm=options.search_mm),
            lambda what, share: stage.say(f"landmarks: {what} {share:.0%}"),
        )
    with stage.timed("outliers"):
        agreed = reject_outliers(pairs, options.outliers)
        chosen = select_spread(settle(agreed, options.outliers), options.max_landmarks)
    log.info("%d pairs matched, %d agree, %d chosen", len(pairs), len(agreed), len(chosen))
    moving = stage.backend.map_points(stage.affine, chosen.moving)
    kept = inside(inputs.moving, moving)  # the pre-aligned grid may reach beyond the moving image
    return replace(chosen, moving=moving).select(kept)


def bspline_stage(stage: Stage, pairs: PointPairs) -> Path:
    """The deformable stage, guided by `pairs` where there are any; the transform file."""
    parameters = bundled(PRESETS[stage.options.preset])
    if stage.options.bending_energy:
        parameters = with_bending_energy(parameters, stage.options.bending_energy)
    job = _job(stage, "bspline", parameters)
    if len(pairs):
        job = _guided(job, pairs, stage.options)
    return _run(stage, job, "b-spline")


def _guided(job: Job, pairs: PointPairs, options: RegisterOptions) -> Job:
    """The same job with the points term and its two files."""
    files = job.folder / rundir.FIXED_POINTS, job.folder / rundir.MOVING_POINTS
    write_elastix_points(pairs.fixed, files[0])
    write_elastix_points(pairs.moving, files[1])
    return replace(
        job,
        parameters=with_points_metric(job.parameters, options.metric_weights()),
        fixed_points=files[0],
        moving_points=files[1],
    )


def laid_on(stage: Stage) -> sitk.Image:
    """The moving image on the fixed grid before any registration."""
    moving = stage.inputs.moving
    start = sitk.TranslationTransform(3, _start_mm(stage.inputs, stage.options).tolist())
    return sitk.Resample(
        moving, stage.inputs.fixed, start, sitk.sitkLinear, stage.inputs.outside_hu()
    )
