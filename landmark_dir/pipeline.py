"""The order of events, from two volumes to a run folder.

read -> body masks -> affine stage -> landmarks -> b-spline stage on the original moving image ->
judgement -> run folder.
"""

import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir import rundir
from landmark_dir.backends.transforms import store_transform
from landmark_dir.errors import TooFewLandmarks
from landmark_dir.geometry import Points
from landmark_dir.guidance import (
    LOOK_AGAIN,
    Landmarks,
    landmark_spline,
    landmarks_for,
    seek_landmarks,
    shortage,
)
from landmark_dir.inputs import Inputs, Volume, given_points, load_inputs
from landmark_dir.metrics import Summary, correlation, distances_mm, folding, summarise
from landmark_dir.options import DEFAULTS, PRESETS, RegisterOptions
from landmark_dir.points import PointPairs, write_csv, write_elastix_points, write_markups
from landmark_dir.stages import Say, Stage, bspline_stage, laid_on, pre_aligned
from landmark_dir.verdict import Evidence, Verdict, judge, worst_cluster
from landmark_dir.volume import write_volume

if TYPE_CHECKING:  # torch is slow to load
    from landmark_dir.weights import LoadedWeights


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
    verdict : Verdict
        `.verdict` is good, doubtful or failed, `.reasons` why.
    """

    folder: Path
    transform: Path
    warped: sitk.Image
    landmarks: PointPairs
    metrics: dict[str, Any]
    warnings: list[str]
    verdict: Verdict

    def moved_to(self, folder: Path) -> "Result":
        """The same result, its run folder at `folder`."""
        return replace(self, folder=folder, transform=folder.absolute() / rundir.TRANSFORM)

    def summary(self) -> str:
        """One line for people."""
        text = f"correlation {self.metrics['correlation']:.3f}"
        if len(self.landmarks):
            residual = self.metrics["residual_mm"]
            text = f"{len(self.landmarks)} landmarks, residual {residual['median']:.2f} mm, {text}"
        text = f"{text}, {self.metrics['folded_share']:.2%} folded"
        return f"{self.verdict.verdict} ({'; '.join(self.verdict.reasons)}); {text}"


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
    if points is not None and not options.landmarks:
        raise ValueError("--points and --no-landmarks contradict each other; give one of them")
    with rundir.new_run_folder(Path(out), overwrite=overwrite) as folder:
        inputs = load_inputs(fixed, moving, fixed_mask, moving_mask, options)
        given = given_points(points, inputs)
        seek = options.landmarks and given is None
        with pre_aligned(inputs, folder, options, say, seek=seek) as stage:
            landmarks = landmarks_for(stage, given)
            arms = robust_arms(stage, landmarks) if options.robust else [landmarks]
            result = _better(stage, arms, folder)
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
    options = replace(options, hold_back=0.0, robust=False)
    inputs = load_inputs(fixed, moving, fixed_mask, moving_mask, options)
    with (
        tempfile.TemporaryDirectory() as scratch,
        pre_aligned(inputs, Path(scratch), options, say) as stage,
    ):
        return seek_landmarks(stage).guiding


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
    options = replace(options, hold_back=0.0, robust=False)
    with rundir.new_run_folder(Path(out), overwrite=overwrite) as folder:
        inputs = load_inputs(fixed, moving, fixed_mask, moving_mask, options)
        with pre_aligned(inputs, folder, options, say) as stage:
            pairs = seek_landmarks(stage).guiding
            if short := shortage(pairs, options):
                raise TooFewLandmarks(f"{short}; {LOOK_AGAIN}")
            _write_pairs(pairs, folder)
            _store_log(stage, folder)
            run = _run_json(stage, {"landmarks": len(pairs)})
            rundir.write_run_json(folder, run)
            _report(stage, run, pairs, folder, laid_on(stage))
    return pairs


def robust_arms(stage: Stage, landmarks: Landmarks) -> list[Landmarks]:
    """With and without guides, to be judged at the same held-back landmarks."""
    if not len(landmarks.guiding):
        return [landmarks]
    return [landmarks, landmarks.only_held_back()]


def _better(stage: Stage, arms: list[Landmarks], folder: Path) -> Result:
    """Run each arm and keep, in `folder`, the one nearest to the held-back landmarks."""
    if len(arms) == 1:
        return deform(stage, arms[0], folder)
    results = []
    for number, landmarks in enumerate(arms):
        sub = folder / f"arm{number}"
        sub.mkdir()
        results.append(deform(stage, landmarks, sub))
    chosen = min(results, key=lambda result: _doubt(result.metrics))
    rejected = next(result for result in results if result is not chosen)
    for file in chosen.folder.iterdir():
        file.rename(folder / file.name)
    run = rundir.read_run_json(folder)
    kept = "with landmarks" if chosen is results[0] else "without landmarks"
    run["robust"] = {"kept": kept, "other": rejected.metrics}
    rundir.write_run_json(folder, run)
    for result in results:
        shutil.rmtree(result.folder)
    return chosen.moved_to(folder)


def _doubt(metrics: dict[str, Any]) -> float:
    """What speaks against a registration: mm at the held-back landmarks, far more if it folds."""
    return float(metrics["held_back_mm"]["mean"] + 100 * metrics["folded_share"])


def deform(stage: Stage, landmarks: Landmarks, folder: Path) -> Result:
    """B-spline stage, and everything a run folder holds; `folder` exists."""
    pairs = landmarks.guiding
    transform = _deformed(stage, landmarks)
    _store_log(stage, folder)
    with stage.timed("warp"):
        warped = stage.backend.warp_image(transform, stage.inputs.moving)
        write_volume(warped, folder / rundir.WARPED)
    store_transform(transform, folder, outside=stage.inputs.outside_hu())
    if len(pairs):
        _write_pairs(pairs, folder)
    with stage.timed("metrics"):
        metrics, verdict = _judged(stage, transform, warped, landmarks)
    run = _run_json(stage, metrics) | {"verdict": verdict.described()}
    rundir.write_run_json(folder, run)
    _report(stage, run, pairs, folder, laid_on(stage), warped)
    warnings = stage.inputs.warnings
    return Result(folder, folder / rundir.TRANSFORM, warped, pairs, metrics, warnings, verdict)


def _deformed(stage: Stage, landmarks: Landmarks) -> Path:
    """The final transform: elastix, or a spline through the landmarks alone."""
    if PRESETS[stage.options.preset].parameters is None:
        return landmark_spline(stage, landmarks, "points-only")
    return bspline_stage(stage, landmarks.guiding)


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
    from landmark_dir.report import write_report

    fixed, moving = stage.inputs.fixed, stage.inputs.moving
    write_report(folder / rundir.REPORT, run, fixed, moving, before, after, pairs)


def _write_pairs(pairs: PointPairs, folder: Path) -> None:
    write_elastix_points(pairs.fixed, folder / rundir.FIXED_POINTS)
    write_elastix_points(pairs.moving, folder / rundir.MOVING_POINTS)
    write_csv(pairs, folder / rundir.LANDMARKS_CSV)
    write_markups(pairs.fixed, folder / rundir.FIXED_MARKUPS, pairs.score)
    write_markups(pairs.moving, folder / rundir.MOVING_MARKUPS, pairs.score)


def _judged(
    stage: Stage, transform: Path, warped: sitk.Image, landmarks: Landmarks
) -> tuple[dict[str, Any], Verdict]:
    """What can be said without independent points, and what it amounts to."""
    inputs, backend = stage.inputs, stage.backend

    def mapped(points: Points) -> Points:
        return backend.map_points(transform, points)

    def residual(through: Path, pairs: PointPairs) -> NDArray[np.float64]:
        return distances_mm(backend.map_points(through, pairs.fixed), pairs.moving)

    guiding, held_back = landmarks.guiding, landmarks.held_back
    at_guides = residual(transform, guiding)
    held, held_affine = (
        summarise(residual(through, held_back)) for through in (transform, stage.affine)
    )
    folds = folding(mapped, inputs.fixed, inputs.fixed_body)
    after_affine = backend.warp_image(stage.affine, inputs.moving)
    agreement = landmarks.agreed / landmarks.matched if landmarks.matched else float("nan")
    evidence = Evidence(
        held,
        held_affine,
        worst_cluster(guiding.fixed, at_guides),
        1 - agreement,
        folds.folded_share,
        _correlation(inputs, warped),
        _correlation(inputs, after_affine),
    )
    metrics = {
        "landmarks": len(guiding),
        "matched": landmarks.matched,
        "agreed": landmarks.agreed,
        "residual_mm": _known(summarise(at_guides)),
        "held_back": len(held_back),
        "held_back_mm": _known(held),
        "held_back_affine_mm": _known(held_affine),
        "worst_cluster_mm": round(evidence.cluster_mm, 3),
        "correlation": round(evidence.correlation, 4),
        "correlation_affine": round(evidence.correlation_affine, 4),
        "correlation_before": round(_correlation(inputs, laid_on(stage)), 4),
        **folds._asdict(),
    }
    return metrics, judge(evidence)


def _known(summary: Summary) -> dict[str, Any] | None:
    return summary._asdict() if summary.points else None


def _correlation(inputs: Inputs, image: sitk.Image) -> float:
    """Correlation with the fixed image in its body, where the moving image has data.

    Beyond it stands its smallest value; a true voxel as dark as that is left out, too.
    """
    has_data = sitk.Cast(image, sitk.sitkFloat64) > inputs.outside_hu()
    return correlation(inputs.fixed, image, sitk.And(inputs.fixed_body, has_data))


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
