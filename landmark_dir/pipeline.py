"""The order of events, from two volumes to a result.

read -> body masks -> affine stage -> moving resampled for the network's eyes -> landmarks ->
outliers -> true moving space -> b-spline stage on the original moving image -> run folder.
"""

import logging
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import SimpleITK as sitk

from landmark_dir import rundir
from landmark_dir.backends import (
    Backend,
    Job,
    Progress,
    available,
    find_backend,
    simpleitk_conflict,
)
from landmark_dir.backends.transforms import format_translation, store_transform
from landmark_dir.errors import BadVolume, TooFewLandmarks
from landmark_dir.geometry import Points, centre, inside
from landmark_dir.metrics import correlation, distances_mm, folding, summarise
from landmark_dir.outliers import OutlierOptions, reject_outliers, select_spread, settle
from landmark_dir.parameters import (
    ParameterMap,
    bundled,
    resolutions,
    with_points_metric,
)
from landmark_dir.points import (
    PointPairs,
    check_inside,
    read_elastix_points,
    read_pairs,
    write_csv,
    write_elastix_points,
    write_markups,
)
from landmark_dir.volume import (
    body_mask,
    check_mask,
    check_volume,
    looks_like_ct,
    overlap_fraction,
    read_mask,
    read_volume,
    write_volume,
)

log = logging.getLogger(__name__)

Volume: TypeAlias = sitk.Image | str | Path
Say = Callable[[str], None]  # told what is being done, for a person who waits

MIN_OVERLAP = 0.05  # share of the fixed image; less gives elastix too few samples
PRESETS = {"default": "bspline"}  # name -> file in elastix_params
WEIGHT_FADING = 0.3  # of the points term, from one resolution to the next


@dataclass(frozen=True)
class RegisterOptions:
    """How to register.

    Attributes
    ----------
    landmarks : bool
        Find landmarks and let them guide the b-spline stage.
    affine : bool
        Affine stage first.
    align : 'world' or 'centers'
        Where to start: from the world coordinates as they are, or from the image centres.
    preset : str
        Parameter file of the b-spline stage.
    landmark_weight : tuple of float
        Metric weight of the points, one per resolution, or one for the first resolution that
        then fades by `WEIGHT_FADING`.
    max_landmarks, min_landmarks : int
        Most pairs elastix is given, and least to be worth it.
    on_few_landmarks : 'fail' or 'register-without'
    backend : 'auto', 'itkelastix', 'simpleelastix' or 'executable'
    weights : str
        Shipped name or file.
    device : 'auto', 'cpu' or 'cuda'
    threads : int, optional
        CPU threads of network and engine; None: all.
    seed : int
        elastix `RandomSeed`.
    search_mm, min_score : float
        See `matching.MatchingOptions`.
    """

    landmarks: bool = True
    affine: bool = True
    align: Literal["world", "centers"] = "world"
    preset: str = "default"
    landmark_weight: tuple[float, ...] = (0.1,)
    max_landmarks: int = 2500
    min_landmarks: int = 30
    on_few_landmarks: Literal["fail", "register-without"] = "fail"
    backend: str = "auto"
    weights: str = "paper"
    device: str = "auto"
    threads: int | None = None
    seed: int = 121212
    search_mm: float = 10.0
    min_score: float = 0.5
    outliers: OutlierOptions = field(default_factory=OutlierOptions)

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset}: expected one of {', '.join(PRESETS)}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads: expected 1 or more, found {self.threads}")
        if not 0 < self.seed < 2**31:
            raise ValueError(f"seed: expected 1 to 2147483647, found {self.seed}")
        if not all(0 <= w < float("inf") for w in self.landmark_weight):
            raise ValueError(f"landmark weight: expected 0 or more, found {self.landmark_weight}")


DEFAULTS = RegisterOptions()


@dataclass(frozen=True)
class Result:
    """A finished registration.

    Attributes
    ----------
    folder : Path
        The run folder.
    transform : Path
        Final elastix transform file, fixed points to moving points.
    warped : sitk.Image
        Moving image on the fixed grid.
    landmarks : PointPairs
        What guided the registration; empty without landmarks.
    metrics : dict
        As in `run.json`.
    warnings : list of str
        What a person should know of this run.
    """

    folder: Path
    transform: Path
    warped: sitk.Image
    landmarks: PointPairs
    metrics: dict[str, Any]
    warnings: list[str]

    def summary(self) -> str:
        """One line for people."""
        text = f"correlation {self.metrics['correlation']:.3f}"
        if len(self.landmarks):
            residual = self.metrics["residual_mm"]
            text = f"{len(self.landmarks)} landmarks, residual {residual['median']:.2f} mm, {text}"
        return f"{text}, {self.metrics['folded_share']:.2%} folded"


@dataclass(frozen=True)
class Inputs:
    """Two checked volumes and what is known of them."""

    fixed: sitk.Image
    moving: sitk.Image
    fixed_body: sitk.Image
    fixed_mask: sitk.Image | None
    moving_mask: sitk.Image | None
    described: dict[str, Any]
    warnings: list[str]


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
    weights: dict[str, str]  # of the network that ran, empty without one

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


def _silent(_: str) -> None:
    pass


def register(
    fixed: Volume,
    moving: Volume,
    out: str | Path,
    options: RegisterOptions = DEFAULTS,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    points: tuple[str | Path, str | Path] | PointPairs | None = None,
    overwrite: bool = False,
    say: Say = _silent,
) -> Result:
    """Register `moving` to `fixed` and write a run folder.

    Parameters
    ----------
    fixed, moving : sitk.Image or path
        3D CT in HU.
    out : path
        Run folder to create.
    fixed_mask, moving_mask : sitk.Image or path, optional
        Where voxels count, each on the grid of its image.
    points : two paths or PointPairs, optional
        Corresponding points to use instead of the network's, physical mm, LPS.
    overwrite : bool
        Replace an earlier run folder.
    say : callable, optional
        Told what is being done.

    Raises
    ------
    BadVolume, BadPoints, BadWeights, BadRunFolder, BackendMissing, ElastixFailed
        Each says what was expected, what was found, what to do.
    TooFewLandmarks
        If fewer than `options.min_landmarks` are found, unless `options.on_few_landmarks`.
    """
    inputs = load_inputs(fixed, moving, fixed_mask, moving_mask, options)
    given = _given_points(points, inputs)
    with rundir.new_run_folder(Path(out), overwrite=overwrite) as folder:
        with pre_aligned(inputs, folder, options, say) as stage:
            pairs = landmarks_for(stage, given)
            result = deform(stage, pairs, folder)
    return replace(result, folder=Path(out), transform=Path(out).absolute() / rundir.TRANSFORM)


def find_landmarks(
    fixed: Volume,
    moving: Volume,
    options: RegisterOptions = DEFAULTS,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    say: Say = _silent,
) -> PointPairs:
    """Find corresponding points of two CT volumes.

    Returns
    -------
    PointPairs
        `.fixed` and `.moving` [N, 3] LPS mm in their own image's space, `.score` [N] 0..1.

    Raises
    ------
    As `register`, but for `TooFewLandmarks`: N may be 0.
    """
    inputs = load_inputs(fixed, moving, fixed_mask, moving_mask, options)
    with (
        tempfile.TemporaryDirectory() as scratch,
        pre_aligned(inputs, Path(scratch), options, say) as stage,
    ):
        return _seek_landmarks(stage)


def write_landmarks(
    fixed: Volume,
    moving: Volume,
    out: str | Path,
    options: RegisterOptions = DEFAULTS,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    overwrite: bool = False,
    say: Say = _silent,
) -> PointPairs:
    """`find_landmarks`, written to a run folder as elastix point files, CSV and Slicer markups."""
    inputs = load_inputs(fixed, moving, fixed_mask, moving_mask, options)
    with rundir.new_run_folder(Path(out), overwrite=overwrite) as folder:
        with pre_aligned(inputs, folder, options, say) as stage:
            pairs = _enough(_seek_landmarks(stage), stage)
            _write_pairs(pairs, folder)
            rundir.write_run_json(folder, _run_json(stage, {"landmarks": len(pairs)}))
    return pairs


def load_inputs(
    fixed: Volume,
    moving: Volume,
    fixed_mask: Volume | None,
    moving_mask: Volume | None,
    options: RegisterOptions,
) -> Inputs:
    """Read and check everything before anything slow or lasting is done."""
    images = {"fixed": _volume(fixed, "fixed"), "moving": _volume(moving, "moving")}
    masks = {
        "fixed": _mask(fixed_mask, images["fixed"], "fixed mask"),
        "moving": _mask(moving_mask, images["moving"], "moving mask"),
    }
    overlap = overlap_fraction(images["fixed"], images["moving"])
    if options.align == "world" and overlap < MIN_OVERLAP:
        distance = float(distances_mm(centre(images["fixed"]), centre(images["moving"]))[0])
        raise BadVolume(
            f"fixed and moving overlap in {overlap:.0%} of the fixed image (their centres are "
            f"{distance:.0f} mm apart), expected at least {MIN_OVERLAP:.0%}; --align centers "
            "starts from the image centres"
        )
    doubts = {name: looks_like_ct(image) for name, image in images.items()}
    warnings = [f"{name}: {doubt}" for name, doubt in doubts.items() if doubt]
    for warning in warnings:
        log.warning(warning)
    body = body_mask(images["fixed"])
    described = {
        name: _described(source, images[name])
        for name, source in (("fixed", fixed), ("moving", moving))
    }
    return Inputs(
        images["fixed"],
        images["moving"],
        body,
        masks["fixed"],
        masks["moving"],
        described,
        warnings,
    )


def _volume(volume: Volume, name: str) -> sitk.Image:
    if isinstance(volume, sitk.Image):
        return check_volume(volume, name)
    return read_volume(Path(volume))


def _mask(mask: Volume | None, image: sitk.Image, name: str) -> sitk.Image | None:
    if mask is None:
        return None
    if isinstance(mask, sitk.Image):
        return check_mask(mask, image, name)
    return read_mask(Path(mask), image, name)


def _described(source: Volume, image: sitk.Image) -> dict[str, Any]:
    """What `run.json` says of an input."""
    known: dict[str, Any] = {"size_xyz": image.GetSize(), "spacing_mm": image.GetSpacing()}
    if isinstance(source, sitk.Image):
        return {"path": None, **known}
    return {"path": str(source), "sha256": rundir.sha256(Path(source)), **known}


def _given_points(
    points: tuple[str | Path, str | Path] | PointPairs | None, inputs: Inputs
) -> PointPairs | None:
    if points is None:
        return None
    pairs = points if isinstance(points, PointPairs) else read_pairs(*map(Path, points))
    check_inside(pairs, inputs.fixed, inputs.moving)
    return pairs


@contextmanager
def pre_aligned(
    inputs: Inputs, folder: Path, options: RegisterOptions, say: Say
) -> Iterator[Stage]:
    """Start the engine and run everything up to the affine stage; scratch files go at the end."""
    work = folder / "work"
    work.mkdir()
    with closing(find_backend(options.backend, options.threads)) as backend:
        stage = Stage(inputs, backend, work, work / "initial.txt", options, say, {}, {})
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
                sitk.WriteImage(image, str(stage.file(name)))


def _write_start(stage: Stage) -> None:
    """A transform file for the start: nothing, or the shift of the image centres."""
    shift = np.zeros(3)
    if stage.options.align == "centers":
        shift = (centre(stage.inputs.moving) - centre(stage.inputs.fixed))[0]
    stage.affine.write_text(format_translation(shift, stage.inputs.fixed))


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
        return stage.backend.register(job, progress)


def _affine_stage(stage: Stage) -> Path:
    return _run(stage, _job(stage, "affine", bundled("affine")), "affine")


def landmarks_for(stage: Stage, given: PointPairs | None) -> PointPairs:
    """The pairs that will guide the b-spline stage: given ones, the network's, or none."""
    if given is not None:
        return given
    if not stage.options.landmarks:
        return PointPairs.empty()
    return _enough(_seek_landmarks(stage), stage)


def _seek_landmarks(stage: Stage) -> PointPairs:
    """Network, outliers, selection, and back to true moving space."""
    # torch is slow to load and a run with given points never needs it
    from landmark_dir import matching  # noqa: PLC0415
    from landmark_dir.weights import load_weights  # noqa: PLC0415

    options, inputs = stage.options, stage.inputs
    device = matching.choose_device(options.device)
    loaded = load_weights(options.weights, device)
    stage.weights.update(network=loaded.metadata["network"], sha256=loaded.sha256)
    with stage.timed("pre-align"):
        prealigned = stage.backend.warp_image(stage.affine, inputs.moving)
    with stage.timed("landmarks"), matching.torch_threads(options.threads):
        pairs = matching.match_volumes(
            inputs.fixed,
            prealigned,
            inputs.fixed_body,
            body_mask(prealigned),
            loaded.network,
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


def _enough(pairs: PointPairs, stage: Stage) -> PointPairs:
    if len(pairs) >= stage.options.min_landmarks:
        return pairs
    message = f"{len(pairs)} landmarks found, expected at least {stage.options.min_landmarks}"
    if stage.options.on_few_landmarks == "fail":
        raise TooFewLandmarks(
            f"{message}; check that both images show the same anatomy and overlap after the affine "
            "stage, or go on with --on-few-landmarks register-without"
        )
    warning = f"{message}; registered without landmarks"
    log.warning(warning)
    stage.inputs.warnings.append(warning)
    return PointPairs.empty()


def deform(stage: Stage, pairs: PointPairs, folder: Path) -> Result:
    """B-spline stage, and everything a run folder holds; `folder` exists."""
    job = _job(stage, "bspline", bundled(PRESETS[stage.options.preset]))
    if len(pairs):
        job = _guided(job, pairs, stage.options)
    transform = _run(stage, job, "b-spline")
    shutil.copy(job.folder / rundir.LOG, folder / rundir.LOG)
    with stage.timed("warp"):
        warped = stage.backend.warp_image(transform, stage.inputs.moving)
        write_volume(warped, folder / rundir.WARPED)
    store_transform(transform, folder)
    if len(pairs):
        _write_pairs(pairs, folder)
    with stage.timed("metrics"):
        metrics = _metrics(stage, transform, warped, pairs)
    run = _run_json(stage, metrics)
    rundir.write_run_json(folder, run)
    # matplotlib is slow to load
    from landmark_dir.report import write_report  # noqa: PLC0415

    images = stage.inputs.fixed, stage.inputs.moving, warped
    write_report(folder / rundir.REPORT, run, *images, pairs)
    return Result(folder, folder / rundir.TRANSFORM, warped, pairs, metrics, stage.inputs.warnings)


def _guided(job: Job, pairs: PointPairs, options: RegisterOptions) -> Job:
    """The same job with the points term and its two files."""
    weights = options.landmark_weight
    if len(weights) == 1:
        levels = range(resolutions(job.parameters))
        weights = tuple(weights[0] * WEIGHT_FADING**level for level in levels)
    files = job.folder / rundir.FIXED_POINTS, job.folder / rundir.MOVING_POINTS
    write_elastix_points(pairs.fixed, files[0])
    write_elastix_points(pairs.moving, files[1])
    return replace(
        job,
        parameters=with_points_metric(job.parameters, weights),
        fixed_points=files[0],
        moving_points=files[1],
    )


def _write_pairs(pairs: PointPairs, folder: Path) -> None:
    write_elastix_points(pairs.fixed, folder / rundir.FIXED_POINTS)
    write_elastix_points(pairs.moving, folder / rundir.MOVING_POINTS)
    write_csv(pairs, folder / rundir.LANDMARKS_CSV)
    write_markups(pairs.fixed, folder / rundir.FIXED_MARKUPS, pairs.score)
    write_markups(pairs.moving, folder / rundir.MOVING_MARKUPS, pairs.score)


def _metrics(
    stage: Stage, transform: Path, warped: sitk.Image, pairs: PointPairs
) -> dict[str, Any]:
    """What can be said without independent points."""
    inputs, backend = stage.inputs, stage.backend

    def mapped(points: Points) -> Points:
        return backend.map_points(transform, points)

    residual = distances_mm(mapped(pairs.fixed), pairs.moving)
    return {
        "landmarks": len(pairs),
        "residual_mm": summarise(residual)._asdict() if len(pairs) else None,
        "correlation": round(correlation(inputs.fixed, warped, inputs.fixed_body), 4),
        "correlation_before": round(
            correlation(inputs.fixed, _laid_on(inputs), inputs.fixed_body), 4
        ),
        **folding(mapped, inputs.fixed, inputs.fixed_body)._asdict(),
    }


def _laid_on(inputs: Inputs) -> sitk.Image:
    """The moving image on the fixed grid by its world coordinates alone."""
    air = float(sitk.GetArrayViewFromImage(inputs.moving).min())
    return sitk.Resample(inputs.moving, inputs.fixed, sitk.Transform(), sitk.sitkLinear, air)


def _run_json(stage: Stage, metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        "landmark_dir": version("landmark_dir"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": stage.inputs.described,
        "options": asdict(stage.options),
        "versions": {
            "python": platform.python_version(),
            "SimpleITK": sitk.Version.VersionString(),
            stage.backend.name: stage.backend.version(),
        },
        "weights": stage.weights,
        "metrics": metrics,
        "seconds": stage.seconds,
        "warnings": stage.inputs.warnings,
    }


def warp(
    run: str | Path,
    image: Volume,
    out: str | Path | None = None,
    *,
    labels: bool = False,
    backend: str = "auto",
) -> sitk.Image:
    """Warp an image of the moving side onto the fixed grid of a finished run.

    Parameters
    ----------
    image : sitk.Image or path
        The moving image, or anything in its space.
    out : path, optional
        Image file to write.
    labels : bool
        `image` is a label map: nearest neighbour, 0 outside.

    Raises
    ------
    BadRunFolder, BadVolume, BackendMissing, ElastixFailed
    """
    transform = rundir.run_transform(Path(run))
    moving = _volume(image, "image")
    with closing(find_backend(backend)) as engine:
        warped = engine.warp_image(transform, moving, labels=labels)
    if out is not None:
        write_volume(warped, Path(out))
    return warped


def warp_points(
    run: str | Path,
    points: Points | str | Path,
    out: str | Path | None = None,
    *,
    backend: str = "auto",
) -> Points:
    """Map fixed points [N, 3], LPS mm, or an elastix point file, to moving space.

    Raises
    ------
    BadRunFolder, BadPoints, BackendMissing, ElastixFailed
    """
    transform = rundir.run_transform(Path(run))
    fixed = read_elastix_points(Path(points)) if isinstance(points, str | Path) else points
    with closing(find_backend(backend)) as engine:
        moving = engine.map_points(transform, fixed)
    if out is not None:
        write_elastix_points(moving, Path(out))
    return moving


def describe_installation() -> str:
    """Versions, engines, weights and device, for people and for bug reports."""
    # torch is slow to load
    from landmark_dir import matching  # noqa: PLC0415
    from landmark_dir.weights import shipped_weights  # noqa: PLC0415

    lines = [
        f"landmark_dir {version('landmark_dir')}",
        f"python {platform.python_version()}, SimpleITK {sitk.Version.VersionString()}, "
        f"torch {version('torch')}",
        f"device {matching.choose_device('auto')}",
        f"weights {', '.join(shipped_weights()) or 'none'}",
    ]
    lines += [f"engine {name}: {text}" for name, text in available().items()] or ["engine: none"]
    conflict = simpleitk_conflict()
    return "\n".join([*lines, f"warning: {conflict}"] if conflict else lines)
