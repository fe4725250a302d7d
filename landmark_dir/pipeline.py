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
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir import rundir
from landmark_dir.backends import (
    INSTALL,
    Backend,
    Job,
    Progress,
    available,
    find_backend,
    simpleitk_conflict,
)
from landmark_dir.backends.transforms import format_translation, store_transform
from landmark_dir.errors import (
    BadRunFolder,
    BadVolume,
    ElastixFailed,
    TooFewLandmarks,
)
from landmark_dir.geometry import Points, centre, inside, voxel_centres
from landmark_dir.metrics import correlation, distances_mm, folding, summarise
from landmark_dir.outliers import OutlierOptions, reject_outliers, select_spread, settle
from landmark_dir.parameters import (
    ParameterMap,
    bundled,
    resolutions,
    with_bending_energy,
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
    SUFFIXES,
    body_mask,
    check_mask,
    check_volume,
    looks_like_ct,
    overlap_fraction,
    read_mask,
    read_volume,
    write_volume,
)

if TYPE_CHECKING:  # torch is slow to load
    from landmark_dir.weights import LoadedWeights

log = logging.getLogger(__name__)

Volume: TypeAlias = sitk.Image | str | Path
Say = Callable[[str], None]  # told what is being done, for a person who waits

MIN_OVERLAP = 0.05  # share of the fixed image; less gives elastix too few samples
PRESETS = {"default": "bspline"}  # name -> file in elastix_params
LOOK_AGAIN = "check that both images show the same anatomy in HU and overlap after the affine stage"
OUTSIDE_STRIDE = 4  # voxels between the samples that tell whether two images meet at all
CHOICES = {  # option -> what it may be
    "backend": ("auto", *INSTALL),
    "align": ("world", "centers"),
    "preset": tuple(PRESETS),
    "on_few_landmarks": ("fail", "register-without"),
    "device": ("auto", "cpu", "cuda"),
}
RANGES = {  # option -> least and most
    "min_landmarks": (1, 100_000),
    "max_landmarks": (1, 100_000),
    "threads": (1, 1024),
    "seed": (1, 2**31 - 1),
    "search_mm": (0, 1000),
    "min_score": (0, 1),
}
WEIGHT_FADING = 0.1  # of the points term, from one resolution to the next


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
    bending_energy : float
        Weight of the bending energy penalty of the b-spline; 0 leaves it out.
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
    bending_energy: float = 0.0
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
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                found = getattr(self, name)
                raise ValueError(f"{name}: expected one of {', '.join(allowed)}, found {found!r}")
        for name, (low, high) in RANGES.items():
            found = getattr(self, name)
            if found is not None and not low <= found <= high:
                raise ValueError(f"{name}: expected {low} to {high}, found {found}")
        if self.max_landmarks < self.min_landmarks:
            raise ValueError(
                f"max_landmarks: expected at least min_landmarks ({self.min_landmarks}), "
                f"found {self.max_landmarks}"
            )
        with_points_metric(bundled(PRESETS[self.preset]), self.metric_weights())  # it checks them

    def metric_weights(self) -> tuple[float, ...]:
        """Metric weight of the points at each resolution."""
        if len(self.landmark_weight) > 1:
            return self.landmark_weight
        levels = range(resolutions(bundled(PRESETS[self.preset])))
        return tuple(weight * WEIGHT_FADING**k for weight in self.landmark_weight for k in levels)


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

    def moved_to(self, folder: Path) -> "Result":
        """The same result, its run folder at `folder`."""
        return replace(self, folder=folder, transform=folder.absolute() / rundir.TRANSFORM)

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
    with rundir.new_run_folder(Path(out), overwrite=overwrite) as folder:
        inputs = load_inputs(fixed, moving, fixed_mask, moving_mask, options)
        given = _given_points(points, inputs)
        seek = options.landmarks and given is None
        with pre_aligned(inputs, folder, options, say, seek=seek) as stage:
            pairs = landmarks_for(stage, given)
            result = deform(stage, pairs, folder)
    return result.moved_to(Path(out))


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
    with rundir.new_run_folder(Path(out), overwrite=overwrite) as folder:
        inputs = load_inputs(fixed, moving, fixed_mask, moving_mask, options)
        with pre_aligned(inputs, folder, options, say) as stage:
            pairs = _seek_landmarks(stage)
            if short := _shortage(pairs, options):
                raise TooFewLandmarks(f"{short}; {LOOK_AGAIN}")
            _write_pairs(pairs, folder)
            _store_log(stage, folder)
            run = _run_json(stage, {"landmarks": len(pairs)})
            rundir.write_run_json(folder, run)
            _report(stage, run, pairs, folder, _laid_on(stage))
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
    if masks["fixed"] is not None:
        body = sitk.And(body, masks["fixed"])
    sources = {
        "fixed": fixed,
        "moving": moving,
        "fixed_mask": fixed_mask,
        "moving_mask": moving_mask,
    }
    described = {
        name: {**_source(given), **(_grid(images[name]) if name in images else {})}
        for name, given in sources.items()
        if given is not None
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


def _source(given: object) -> dict[str, Any]:
    """What `run.json` says of where an input came from."""
    if not isinstance(given, str | Path):
        return {"path": None}
    return {"path": str(given), "sha256": rundir.sha256(Path(given))}


def _grid(image: sitk.Image) -> dict[str, Any]:
    return {"size_xyz": image.GetSize(), "spacing_mm": image.GetSpacing()}


def _given_points(
    points: tuple[str | Path, str | Path] | PointPairs | None, inputs: Inputs
) -> PointPairs | None:
    if points is None:
        return None
    pairs = points if isinstance(points, PointPairs) else read_pairs(*map(Path, points))
    check_inside(pairs, inputs.fixed, inputs.moving)
    sources = (None, None) if isinstance(points, PointPairs) else points
    inputs.described.update(fixed_points=_source(sources[0]), moving_points=_source(sources[1]))
    return pairs


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
        return given
    if stage.network is None:
        return PointPairs.empty()
    pairs = _seek_landmarks(stage)
    short = _shortage(pairs, stage.options)
    if short is None:
        return pairs
    if stage.options.on_few_landmarks == "fail":
        raise TooFewLandmarks(
            f"{short}; {LOOK_AGAIN}, or go on with --on-few-landmarks register-without"
        )
    warning = f"{short}; registered without landmarks"
    log.warning(warning)
    stage.inputs.warnings.append(warning)
    return PointPairs.empty()


def _shortage(pairs: PointPairs, options: RegisterOptions) -> str | None:
    if len(pairs) >= options.min_landmarks:
        return None
    return f"{len(pairs)} landmarks found, expected at least {options.min_landmarks}"


def _load_network(options: RegisterOptions) -> "LoadedWeights":
    # torch is slow to load and a run with given points never needs it
    from landmark_dir.matching import choose_device  # noqa: PLC0415
    from landmark_dir.weights import load_weights  # noqa: PLC0415

    return load_weights(options.weights, choose_device(options.device))


def _seek_landmarks(stage: Stage) -> PointPairs:
    """Network, outliers, selection, and back to true moving space."""
    from landmark_dir import matching  # noqa: PLC0415  (as above)

    options, inputs = stage.options, stage.inputs
    assert stage.network is not None
    with stage.timed("pre-align"):
        prealigned = stage.backend.warp_image(stage.affine, inputs.moving)
        body = body_mask(prealigned)
        if inputs.moving_mask is not None:
            mask = stage.backend.warp_image(stage.affine, inputs.moving_mask, labels=True)
            body = sitk.And(body, mask)
    with stage.timed("landmarks"), matching.torch_threads(options.threads):
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


def deform(stage: Stage, pairs: PointPairs, folder: Path) -> Result:
    """B-spline stage, and everything a run folder holds; `folder` exists."""
    parameters = bundled(PRESETS[stage.options.preset])
    if stage.options.bending_energy:
        parameters = with_bending_energy(parameters, stage.options.bending_energy)
    job = _job(stage, "bspline", parameters)
    if len(pairs):
        job = _guided(job, pairs, stage.options)
    transform = _run(stage, job, "b-spline")
    _store_log(stage, folder)
    with stage.timed("warp"):
        warped = stage.backend.warp_image(transform, stage.inputs.moving)
        write_volume(warped, folder / rundir.WARPED)
    store_transform(transform, folder)
    if len(pairs):
        _write_pairs(pairs, folder)
    before = _laid_on(stage)
    with stage.timed("metrics"):
        metrics = _metrics(stage, transform, before, warped, pairs)
    run = _run_json(stage, metrics)
    rundir.write_run_json(folder, run)
    _report(stage, run, pairs, folder, before, warped)
    return Result(folder, folder / rundir.TRANSFORM, warped, pairs, metrics, stage.inputs.warnings)


def _store_log(stage: Stage, folder: Path) -> None:
    """What elastix said in all stages, one after the other."""
    logs = [stage.work / name / rundir.LOG for name in ("affine", "bspline")]
    with (folder / rundir.LOG).open("wb") as out:
        for part in logs:
            if part.is_file():
                out.write(part.read_bytes())


def _report(
    stage: Stage,
    run: dict[str, Any],
    pairs: PointPairs,
    folder: Path,
    before: sitk.Image,
    after: sitk.Image | None = None,
) -> None:
    stage.say("report")
    # matplotlib is slow to load
    from landmark_dir.report import write_report  # noqa: PLC0415

    fixed, moving = stage.inputs.fixed, stage.inputs.moving
    write_report(folder / rundir.REPORT, run, fixed, moving, before, after, pairs)


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


def _write_pairs(pairs: PointPairs, folder: Path) -> None:
    write_elastix_points(pairs.fixed, folder / rundir.FIXED_POINTS)
    write_elastix_points(pairs.moving, folder / rundir.MOVING_POINTS)
    write_csv(pairs, folder / rundir.LANDMARKS_CSV)
    write_markups(pairs.fixed, folder / rundir.FIXED_MARKUPS, pairs.score)
    write_markups(pairs.moving, folder / rundir.MOVING_MARKUPS, pairs.score)


def _metrics(
    stage: Stage, transform: Path, before: sitk.Image, warped: sitk.Image, pairs: PointPairs
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
        "correlation_before": round(correlation(inputs.fixed, before, inputs.fixed_body), 4),
        **folding(mapped, inputs.fixed, inputs.fixed_body)._asdict(),
    }


def _laid_on(stage: Stage) -> sitk.Image:
    """The moving image on the fixed grid before any registration."""
    moving = stage.inputs.moving
    air = float(sitk.GetArrayViewFromImage(moving).min())
    start = sitk.TranslationTransform(3, _start_mm(stage.inputs, stage.options).tolist())
    return sitk.Resample(moving, stage.inputs.fixed, start, sitk.sitkLinear, air)


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
            **({"torch": version("torch")} if stage.network else {}),
        },
        "weights": _known_weights(stage.network),
        "metrics": metrics,
        "seconds": stage.seconds,
        "warnings": stage.inputs.warnings,
    }


def _known_weights(loaded: "LoadedWeights | None") -> dict[str, str] | None:
    if loaded is None:
        return None
    return {
        "file": loaded.path.name,
        "sha256": loaded.sha256,
        "network": loaded.metadata["network"],
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
    _check_output(out, SUFFIXES)
    moving = _volume(image, "image")
    with closing(find_backend(backend)) as engine:
        warped = engine.warp_image(transform, moving, labels=labels)
        wanted = engine.map_points(transform, voxel_centres(warped, OUTSIDE_STRIDE))
    if not inside(moving, wanted).any():
        raise BadVolume(
            f"{image if isinstance(image, str | Path) else 'image'}: lies wholly outside what the "
            "run maps; expected the moving image of that run, or one in its space"
        )
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
    _check_output(out)
    fixed = read_elastix_points(Path(points)) if isinstance(points, str | Path) else points
    _warn_outside(Path(run), fixed)
    with closing(find_backend(backend)) as engine:
        moving = engine.map_points(transform, fixed)
    if out is not None:
        write_elastix_points(moving, Path(out))
    return moving


def _check_output(out: str | Path | None, suffixes: tuple[str, ...] = ("",)) -> None:
    """Refuse an output file that could not be written, before anything slow is done."""
    if out is None:
        return
    path = Path(out)
    if not path.name.lower().endswith(suffixes):
        raise ValueError(f"{path}: unknown suffix, expected one of {', '.join(suffixes)}")
    if path.is_dir():
        raise ValueError(f"{path}: expected the name of a file to write, found a folder")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: its folder does not exist; create {path.parent} first")


def _warn_outside(run: Path, points: Points) -> None:
    outside = int(np.sum(~inside(sitk.ReadImage(str(run / rundir.WARPED)), points)))
    if outside:
        log.warning(
            "%d of %d points lie outside the fixed image, where the transform is a guess; "
            "expected physical mm (LPS) of the fixed image",
            outside,
            len(points),
        )


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
