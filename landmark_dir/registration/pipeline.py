"""The order of events, from two volumes to a run folder.

read -> body masks -> affine stage -> landmarks -> b-spline stage on the original moving image ->
judgement -> run folder.
"""

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from landmark_dir.elastix.transform_files import store_transform
from landmark_dir.errors import TooFewLandmarks
from landmark_dir.evaluation.judgement import judged
from landmark_dir.evaluation.verdict import Verdict
from landmark_dir.io import run_folder
from landmark_dir.io.point_files import (
    write_csv,
    write_elastix_points,
    write_markups,
)
from landmark_dir.io.volumes import write_volume
from landmark_dir.options import DEFAULTS, PRESETS, RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.registration import run_record
from landmark_dir.registration.inputs import Volume, given_points, load_inputs
from landmark_dir.registration.landmarks import (
    LOOK_AGAIN,
    Landmarks,
    landmark_motion,
    landmarks_for,
    seek_landmarks,
    shortage,
)
from landmark_dir.registration.session import Say, Stage, bspline_stage, pre_aligned


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
        return replace(self, folder=folder, transform=folder.absolute() / run_folder.TRANSFORM)

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
    with run_folder.new_run_folder(Path(out), overwrite=overwrite) as folder:
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
        `.fixed` and `.moving` [N, 3] LPS mm in their own image's space, `.score` [N] 0..1. Moving
        points are settled on the smooth motion that all pairs found say together.

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
    with run_folder.new_run_folder(Path(out), overwrite=overwrite) as folder:
        inputs = load_inputs(fixed, moving, fixed_mask, moving_mask, options)
        with pre_aligned(inputs, folder, options, say) as stage:
            landmarks = seek_landmarks(stage)
            pairs = landmarks.guiding
            if short := shortage(pairs, options):
                raise TooFewLandmarks(f"{short}; {LOOK_AGAIN}")
            _write_pairs(pairs, folder)
            _store_log(stage, folder)
            run = run_record.run_json(stage, {"landmarks": len(pairs)})
            run_folder.write_run_json(folder, run)
            arm = run_record.arm("landmarks", run)
            run_record.write_run_report(folder / run_folder.REPORT, stage, landmarks, [arm])
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
    run = run_folder.read_run_json(folder)
    kept = "with landmarks" if chosen is results[0] else "without landmarks"
    run["robust"] = {"kept": kept, "other": rejected.metrics}
    run_folder.write_run_json(folder, run)
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
        write_volume(warped, folder / run_folder.WARPED)
    store_transform(transform, folder, outside=stage.inputs.outside_hu())
    if len(pairs):
        _write_pairs(pairs, folder)
    with stage.timed("metrics"):
        found = judged(stage, transform, warped, landmarks)
    run = run_record.run_json(stage, found.metrics) | {"verdict": found.verdict.described()}
    run_folder.write_run_json(folder, run)
    final = folder / run_folder.TRANSFORM
    name = "with landmarks" if len(pairs) else "without landmarks"
    arm = run_record.arm(name, run, warped, final, found.distances_mm())
    run_record.write_run_report(
        folder / run_folder.REPORT, stage, landmarks, [arm], residual_mm=found.residual_mm()
    )
    warnings = stage.inputs.warnings
    return Result(folder, final, warped, pairs, found.metrics, warnings, found.verdict)


def _deformed(stage: Stage, landmarks: Landmarks) -> Path:
    """The final transform: elastix, or a spline through the landmarks alone."""
    if PRESETS[stage.options.preset].parameters is None:
        if not len(landmarks.all):
            raise TooFewLandmarks(
                f"preset {stage.options.preset}: expected landmarks, found none; take another "
                "preset or give points"
            )
        return landmarks.motion or landmark_motion(stage, landmarks.all, "points-only")
    start = landmarks.motion if stage.options.start == "landmarks" else None
    return bspline_stage(stage, landmarks.guiding, start)


def _store_log(stage: Stage, folder: Path) -> None:
    """What elastix said in all stages, one after the other."""
    logs = [stage.work / name / run_folder.LOG for name in ("affine", "bspline")]
    with (folder / run_folder.LOG).open("wb") as out:
        for part in logs:
            if part.is_file():
                out.write(part.read_bytes())


def _write_pairs(pairs: PointPairs, folder: Path) -> None:
    write_elastix_points(pairs.fixed, folder / run_folder.FIXED_POINTS)
    write_elastix_points(pairs.moving, folder / run_folder.MOVING_POINTS)
    write_csv(pairs, folder / run_folder.LANDMARKS_CSV)
    write_markups(pairs.fixed, folder / run_folder.FIXED_MARKUPS, pairs.score)
    write_markups(pairs.moving, folder / run_folder.MOVING_MARKUPS, pairs.score)
