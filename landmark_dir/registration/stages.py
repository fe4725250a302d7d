"""The stages that elastix runs: start -> affine -> b-spline, on the original moving image.

Where landmarks come from, and what they are used for, is `landmarks`.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.elastix.engines import find_engine
from landmark_dir.elastix.job import Job
from landmark_dir.elastix.parameters import (
    ParameterMap,
    bundled,
    last_resolution,
    with_bending_energy,
    with_grid_points,
    with_points_metric,
)
from landmark_dir.elastix.transform_files import format_affine
from landmark_dir.errors import BadRunFolder, BadVolume, ElastixFailed
from landmark_dir.geometry import Points, as_points, inside, physical_to_index
from landmark_dir.io import run_folder
from landmark_dir.io.point_files import write_elastix_points
from landmark_dir.options import RegisterOptions
from landmark_dir.parallel import use_threads
from landmark_dir.points import PointPairs
from landmark_dir.progress import Plan
from landmark_dir.registration.inputs import Inputs
from landmark_dir.registration.session import Record, Session
from landmark_dir.registration.start import Start, find_start
from landmark_dir.transforms.chain import read_transform, write_after
from landmark_dir.transforms.rigid import keep_rigid

if TYPE_CHECKING:  # torch is slow to load
    from landmark_dir.models.weights import LoadedWeights

OPENED_MM = 10.0  # around landmarks outside the moving mask
MOSTLY_SHARED = 0.5  # of the fixed image, that lies in the moving one at the start
FEWEST_LAYERS = 2.0  # slices of the fixed image that both show; elastix needs a depth
COARSE_GRID = 1000  # points; elastix itself takes more in a mask
FINE_GRID = 20_000  # points, at least, where it has to be told
BENT_MM = 0.5  # of a rigid part, that is worth a warning


@contextmanager
def open_session(
    inputs: Inputs, folder: Path, options: RegisterOptions, plan: Plan, *, seek: bool = True
) -> Iterator[Session]:
    """Start the engine and run everything up to the affine stage; scratch files go at the end.

    `seek` loads the network, too: bad weights are told before anything slow is done.
    """
    work = folder / "work"
    work.mkdir()
    compute = options.compute
    with (
        closing(find_engine(compute.backend, compute.threads)) as engine,
        _threads(compute.threads),
    ):
        record, file = Record(inputs.warnings), work / "initial.txt"
        record.took("read", inputs.spent)
        session = Session(inputs, engine, work, Start("world"), file, options, None, record, plan)
        if seek:
            with session.stage("load network"):
                session = replace(session, network=_load_network(options))
        with session.stage("start") as told:
            session = replace(session, start=find_start(inputs, options, session.network, told))
        rigid = session.start.rigid
        file.write_text(format_affine(rigid.turn, rigid.shift, inputs.fixed), "utf-8")
        session = replace(session, grid_points=_write_inputs(session))
        if options.affine:
            session = replace(session, affine=_affine_stage(session))
        yield session
    shutil.rmtree(work)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let SimpleITK and our own work use `count` CPU threads, then put SimpleITK's number back."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count or before)
        with use_threads(count):
            yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _write_inputs(session: Session) -> int | None:
    """The images as files every engine reads; see `Session.grid_points`."""
    with session.stage("write images"):
        for name in ("fixed", "moving", "moving_mask"):
            image = getattr(session.inputs, name)
            if image is not None:
                _write_scratch(image, session.file(name))
        mask = _sampled(session)
        if mask is None:
            return None
        _write_scratch(mask, session.file("fixed_mask"))
        return _grid_points(mask)


def _sampled(session: Session) -> sitk.Image | None:
    """Where elastix takes samples: the fixed mask, and where little is shared what is shared.

    It gives up where most samples lie outside the moving image.
    """
    inputs, start = session.inputs, read_transform(session.start_file).itk()
    whole = sitk.Image(inputs.moving.GetSize(), sitk.sitkUInt8) + 1
    whole.CopyInformation(inputs.moving)
    shared = sitk.Resample(whole, inputs.fixed, start, sitk.sitkNearestNeighbor, 0)
    there = sitk.GetArrayViewFromImage(shared) != 0
    if not there.any() or there.mean() >= MOSTLY_SHARED:
        return inputs.fixed_mask
    if (layers := _layers(there)) < FEWEST_LAYERS:
        raise BadVolume(
            f"fixed and moving share {layers:.1f} slices of the fixed image, expected at least "
            f"{FEWEST_LAYERS:.0f}; give the image with the thinner slices as FIXED, or more slices"
        )
    if inputs.fixed_mask is None:
        return shared
    both = sitk.And(shared, sitk.Cast(inputs.fixed_mask != 0, sitk.sitkUInt8))
    return both if sitk.GetArrayViewFromImage(both).any() else inputs.fixed_mask


def _grid_points(mask: sitk.Image) -> int | None:
    """How many points a grid over the box of a mask needs to meet it; None: a usual grid does.

    Layers that are `layers` voxels thick are met by a grid that is not wider than that.
    """
    counts = sitk.GetArrayViewFromImage(mask) != 0
    layers = _layers(counts)
    box = [np.flatnonzero(counts.any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    voxels = np.prod([float(np.ptp(side)) + 3 for side in box])  # elastix takes one more each side
    needed = int(np.ceil(voxels / max(1, int(layers)) ** 3))
    return max(needed, FINE_GRID) if needed > COARSE_GRID else None


def _layers(counts: NDArray[np.bool_]) -> float:
    """Mean number of voxels of a mask one behind the other, along the axis where they are few."""
    return float(min(counts.sum() / max(1, counts.any(axis).sum()) for axis in range(3)))


def _write_scratch(image: sitk.Image, path: Path) -> None:
    try:
        sitk.WriteImage(image, str(path))
    except RuntimeError as error:
        raise BadRunFolder(
            f"{path.parents[2]}: the images cannot be written there; check the free space"
        ) from error


def _job(session: Session, name: str, parameters: ParameterMap, start: Path | None = None) -> Job:
    folder = session.work / name
    folder.mkdir(exist_ok=True)
    inputs = session.inputs
    return Job(
        folder=folder,
        fixed=session.file("fixed"),
        moving=session.file("moving"),
        parameters={
            **with_grid_points(parameters, session.grid_points),
            "RandomSeed": (str(session.options.compute.seed),),
        },
        fixed_mask=session.file("fixed_mask") if session.file("fixed_mask").is_file() else None,
        moving_mask=session.file("moving_mask") if inputs.moving_mask is not None else None,
        initial_transform=start or session.affine,
    )


def _run(session: Session, job: Job, name: str) -> Path:
    with session.stage(name) as progress:
        try:
            return session.engine.register(job, progress)
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


def _affine_stage(session: Session) -> Path:
    return _run(session, _job(session, "affine", bundled("affine")), "affine")


def _load_network(options: RegisterOptions) -> "LoadedWeights":
    # torch is slow to load and a run with given points never needs it
    from landmark_dir.models.device import choose_device
    from landmark_dir.models.weights import load_weights

    return load_weights(options.network.weights, choose_device(options.compute.device))


def bspline_stage(session: Session, guiding: PointPairs, start: Path | None = None) -> Path:
    """The deformable stage, guided by pairs where there are any; the transform file.

    Parameters
    ----------
    start : Path, optional
        Transform file of a motion that is known to all but the finest level, which alone is run
        then; without it the stage starts from the affine map and runs all levels.
    """
    preset = session.options.preset()
    assert preset.parameters is not None
    parameters = bundled(preset.parameters)
    if session.options.deformable.bending_energy:
        parameters = with_bending_energy(parameters, session.options.deformable.bending_energy)
    weights = session.options.metric_weights()
    if start is not None:
        parameters, weights = last_resolution(parameters), weights[-1:]
    job = _job(session, "bspline", parameters, start)
    if len(guiding):
        job = _guided(session, job, guiding, weights)
    return _run(session, job, "b-spline")


def _guided(session: Session, job: Job, pairs: PointPairs, weights: Sequence[float]) -> Job:
    """The same job with the points term, its two files, and a moving mask that holds them."""
    files = job.folder / run_folder.FIXED_POINTS, job.folder / run_folder.MOVING_POINTS
    write_elastix_points(pairs.fixed, files[0])
    write_elastix_points(pairs.moving, files[1])
    return replace(
        job,
        parameters=with_points_metric(job.parameters, weights),
        fixed_points=files[0],
        moving_points=files[1],
        moving_mask=_opened_mask(session, pairs.moving),
    )


def kept_rigid(session: Session, transform: Path) -> Path:
    """The transform, and after it what keeps those parts rigid that must not deform."""
    labels = session.inputs.rigid
    if labels is None:
        return transform
    with session.stage("rigid parts"):
        kept = keep_rigid(read_transform(transform), labels)
        for number, step in enumerate(kept.steps):
            transform = write_after(step, transform, session.work / f"rigid{number}.txt")
    if kept.left_mm > BENT_MM:
        session.record.warn(
            f"a part that was to be rigid still bends by up to {kept.left_mm:.2f} mm; parts that "
            "touch hinder each other: join them, or leave a gap"
        )
    return transform


def _opened_mask(session: Session, moving: Points) -> Path | None:
    """The moving mask, opened around points outside it: elastix would drop those in silence."""
    mask = session.inputs.moving_mask
    outside = outside_mask(mask, moving)
    if mask is None or not len(outside):
        return session.file("moving_mask") if mask is not None else None
    seeds = sitk.Image(mask.GetSize(), sitk.sitkUInt8)
    seeds.CopyInformation(mask)
    for index in physical_to_index(mask, outside[inside(mask, outside)]):
        seeds[[int(i) for i in np.round(index)]] = 1
    distance = sitk.SignedMaurerDistanceMap(seeds, squaredDistance=False, useImageSpacing=True)
    opened = sitk.Or(sitk.Cast(mask != 0, sitk.sitkUInt8), distance <= OPENED_MM)
    if session.inputs.moving_ignored is not None:
        opened = sitk.And(opened, session.inputs.moving_ignored == 0)
    path = session.file("opened_mask")
    _write_scratch(opened, path)
    return path


def outside_mask(mask: sitk.Image | None, points: Points) -> Points:
    """Those of the points [N, 3] that lie outside a mask; none where there is no mask."""
    if mask is None or not len(points):
        return points[:0]
    return as_points(points[~inside_mask(mask, points)])


def inside_mask(mask: sitk.Image, points: Points) -> NDArray[np.bool_]:
    """Which of the points [N, 3] lie in a voxel of a mask."""
    index = np.round(physical_to_index(mask, points)).astype(int)
    x, y, z = np.clip(index, 0, np.array(mask.GetSize()) - 1).T
    counts = sitk.GetArrayViewFromImage(mask)[z, y, x] != 0
    return np.asarray(counts & inside(mask, points))
