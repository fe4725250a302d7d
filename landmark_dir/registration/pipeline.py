"""The order of events, from two volumes to a run folder.

read -> body masks -> affine stage -> landmarks -> b-spline stage on the original moving image ->
verdict -> run folder.
"""

import os
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from landmark_dir.elastix.transform_files import store_transform
from landmark_dir.errors import BadArgument, TooFewLandmarks
from landmark_dir.evaluation.verdict import Finished, judged
from landmark_dir.io import run_folder
from landmark_dir.io.outputs import locked_folder
from landmark_dir.io.point_files import (
    write_csv,
    write_elastix_points,
)
from landmark_dir.io.slicer_points import write_markups
from landmark_dir.io.volumes import write_volume
from landmark_dir.matching.outliers import select_spread
from landmark_dir.options import DEFAULTS, RegisterOptions, changed
from landmark_dir.points import PointPairs
from landmark_dir.progress import Plan, Progress, silent
from landmark_dir.registration import run_record
from landmark_dir.registration.inputs import Points, Volume, as_path, files_of, load_inputs
from landmark_dir.registration.landmarks import (
    LOOK_AGAIN,
    Landmarks,
    dense_motion,
    landmarks_for,
    seek_landmarks,
    shortage,
)
from landmark_dir.registration.result import Result
from landmark_dir.registration.session import (
    Session,
    before_registration,
    expected_stages,
)
from landmark_dir.registration.stages import (
    bspline_stage,
    kept_rigid,
    open_session,
)
from landmark_dir.transforms.chain import read_transform
from landmark_dir.transforms.warp import warp_image


def register(
    fixed: Volume,
    moving: Volume,
    out: str | Path,
    options: RegisterOptions = DEFAULTS,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    rigid: Volume | None = None,
    ignore: Volume | None = None,
    ignore_moving: Volume | None = None,
    points: Points | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    **choices: Any,
) -> Result:
    """Register `moving` to `fixed` and write a run folder.

    Parameters
    ----------
    fixed, moving : sitk.Image or path
        3D CT in HU, or another modality (`modality`).
    out : path
        Run folder to create.
    fixed_mask, moving_mask : sitk.Image or path, optional
        Where voxels count, each on the grid of its image.
    rigid : sitk.Image or path, optional
        Label map on the grid of `fixed` of what must not deform: each connected part of a label
        moves as one rigid body.
    ignore, ignore_moving : sitk.Image or path, optional
        Non-zero where tissue changed, such as a lesion that grew, on the grid of `fixed` and of
        `moving`: no voxel and no landmark there counts.
    points : PointPairs or two paths, optional
        Corresponding points to use instead of the network's, physical mm, LPS.
    overwrite : bool
        Replace an earlier run folder.
    progress : callable, optional
        Told what is being done, and the share of the whole that is done, 0 to 1.
    **choices
        Single options by name, changed from `options`: `preset="fast", threads=2`.

    Raises
    ------
    BadArgument, BadVolume, BadPoints, BadWeights, BadRunFolder, BackendMissing, ElastixFailed
        Each says what was expected, what was found, what to do.
    TooFewLandmarks
        If fewer than `min_landmarks` are found, unless `on_few_landmarks` says to go on.
    """
    options = changed(options, choices)
    if points is not None and not options.landmarks:
        raise BadArgument("--points and --no-landmarks contradict each other; give one of them")
    out = as_path(out, "out", "the path of a run folder")
    what = {"fixed_mask": fixed_mask, "moving_mask": moving_mask, "rigid": rigid}
    what |= {"ignore": ignore, "ignore_moving": ignore_moving}
    read = (fixed, moving, *what.values(), *files_of(points))
    with run_folder.new_run_folder(out, overwrite=overwrite, inputs=read) as folder:
        inputs = load_inputs(fixed, moving, options, points=points, **what)
        seek = options.landmarks and inputs.points is None
        plan = Plan(progress, expected_stages(options, seek=seek))
        with open_session(inputs, folder, options, plan, seek=seek) as session:
            result = deform(session, landmarks_for(session), folder)
    progress("done", 1.0)
    return result.moved_to(out)


def find_landmarks(
    fixed: Volume,
    moving: Volume,
    options: RegisterOptions = DEFAULTS,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    progress: Progress = silent,
    **choices: Any,
) -> PointPairs:
    """Find corresponding points of two CT volumes.

    Parameters
    ----------
    As `register`.

    Returns
    -------
    PointPairs
        `.fixed` and `.moving` [N, 3] LPS mm in their own image's space, `.score` [N] 0..1. Moving
        points are projected onto the dense landmark motion, which is fitted to all pairs found.

    Raises
    ------
    As `register`, but for `TooFewLandmarks`: N may be 0.
    """
    options = changed(options, choices).but(hold_back=0.0)
    inputs = load_inputs(fixed, moving, options, fixed_mask=fixed_mask, moving_mask=moving_mask)
    plan = Plan(progress, expected_stages(options, seek=True, arms=()))
    with (
        locked_folder(Path(gettempdir())) as scratch,
        open_session(inputs, scratch, options, plan) as session,
    ):
        return seek_landmarks(session).guiding


def write_landmarks(
    fixed: Volume,
    moving: Volume,
    out: str | Path,
    options: RegisterOptions = DEFAULTS,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> PointPairs:
    """`find_landmarks`, written to a run folder as elastix point files, CSV and Slicer markups."""
    options = options.but(hold_back=0.0)
    read = (fixed, moving, fixed_mask, moving_mask)
    with run_folder.new_run_folder(Path(out), overwrite=overwrite, inputs=read) as folder:
        inputs = load_inputs(fixed, moving, options, fixed_mask=fixed_mask, moving_mask=moving_mask)
        plan = Plan(progress, expected_stages(options, seek=True, arms=()))
        with open_session(inputs, folder, options, plan) as session:
            landmarks = seek_landmarks(session)
            pairs = landmarks.guiding
            if short := shortage(pairs, options):
                raise TooFewLandmarks(f"{short}; {LOOK_AGAIN}")
            _write_pairs(pairs, folder)
            _store_log(session, folder)
            run = run_record.run_json(session, {"landmarks": len(pairs)})
            run_folder.write_run_json(folder, run)
            arm = run_record.arm("landmarks", run)
            with session.stage("report"):
                report = folder / run_folder.REPORT
                run_record.write_run_report(report, session, landmarks, [arm])
    return pairs


def deform(session: Session, landmarks: Landmarks, folder: Path) -> Result:
    """B-spline stage, and everything a run folder holds; `folder` exists."""
    inputs, pairs = session.inputs, landmarks.guiding
    transform = _deformed(session, landmarks)
    _store_log(session, folder)
    chain = read_transform(transform)
    with session.stage("warp"):
        warped = warp_image(inputs.original_moving, chain, inputs.fixed)
        write_volume(warped, folder / run_folder.WARPED)
        seen = inputs.as_seen(warped)
    store_transform(transform, folder, outside=inputs.outside_original())
    if len(pairs):
        _write_pairs(pairs, folder)
    if len(landmarks.held_back):
        write_csv(landmarks.held_back, folder / run_folder.HELD_BACK_CSV)
    with session.stage("metrics"):
        finished = Finished(
            inputs.fixed,
            inputs.fixed_body,
            inputs.moving,
            inputs.moving_padding,
            before_registration(session),
            seen,
            session.affine_chain,
            chain,
            pairs,
            landmarks.held_back,
            select_spread(landmarks.measured, len(pairs)),  # the guides are projected
            landmarks.matched,
            landmarks.agreed,
            inputs.comparable,
        )
        found = judged(finished)
    name = "with landmarks" if len(pairs) else "without landmarks"
    with session.stage("report"):
        metrics = run_folder.plain(found.metrics)
        run = run_record.run_json(session, metrics) | {"verdict": found.verdict.described()}
        run_folder.write_run_json(folder, run)
        arm = run_record.arm(name, run, seen, chain, found.distances_mm())
        report, residual = folder / run_folder.REPORT, found.residual_mm()
        run_record.write_run_report(report, session, landmarks, [arm], residual_mm=residual)
        run_record.write_run_preview(folder / run_folder.PREVIEW, finished)
    warnings = list(session.record.warnings)
    return Result(
        folder,
        chain,
        warped,
        pairs,
        landmarks.held_back,
        metrics,
        warnings,
        found.verdict,
        inputs.original_fixed,
        warped,
        session.start.described(),
    )


def _deformed(session: Session, landmarks: Landmarks) -> Path:
    """The final transform: elastix, or a dense motion of the landmarks; rigid where it must be."""
    options = session.options
    if options.preset().parameters is None:
        if not len(landmarks.measured):
            raise TooFewLandmarks(
                f"preset {options.deformable.preset}: expected landmarks, found none; take another "
                "preset or give points"
            )
        bent = landmarks.motion or dense_motion(session, landmarks.measured, "points-only")
    else:
        start = landmarks.motion if options.guides.start == "landmarks" else None
        bent = bspline_stage(session, landmarks.guiding, start)
    return kept_rigid(session, bent)


def _store_log(session: Session, folder: Path) -> None:
    """What elastix said in all stages, one after the other, without the path of the scratch folder.

    That path may name the user.
    """
    logs = [session.work / name / run_folder.LOG for name in ("affine", "bspline")]
    scratch = os.fsencode(session.work.resolve())
    with (folder / run_folder.LOG).open("wb") as out:
        for part in logs:
            if part.is_file():
                out.write(part.read_bytes().replace(scratch, b"work"))


def _write_pairs(pairs: PointPairs, folder: Path) -> None:
    write_elastix_points(pairs.fixed, folder / run_folder.FIXED_POINTS)
    write_elastix_points(pairs.moving, folder / run_folder.MOVING_POINTS)
    write_csv(pairs, folder / run_folder.LANDMARKS_CSV)
    write_markups(pairs.fixed, folder / run_folder.FIXED_MARKUPS, pairs.score)
    write_markups(pairs.moving, folder / run_folder.MOVING_MARKUPS, pairs.score)
