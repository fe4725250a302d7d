"""The same registration with and without landmarks."""

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landmark_dir.comparison.references import (
    AtPoints,
    References,
    at_labels,
    at_points,
    load_references,
    warn_of_single_labels,
)
from landmark_dir.comparison.tables import (
    ARMS,
    STATES,
    page_answer,
    page_tables,
    pair_table,
    write_figures,
)
from landmark_dir.errors import BadArgument
from landmark_dir.evaluation.metrics import Summary
from landmark_dir.evaluation.overlap import Overlap
from landmark_dir.evaluation.verdict import residual_mm
from landmark_dir.io import run_folder
from landmark_dir.io.point_files import write_elastix_points
from landmark_dir.io.volumes import write_volume
from landmark_dir.options import DEFAULTS, RegisterOptions, changed
from landmark_dir.phantom.scanner import PhantomOptions, make_phantom
from landmark_dir.points import PointPairs
from landmark_dir.progress import Plan, Progress, silent
from landmark_dir.registration import run_record
from landmark_dir.registration.inputs import (
    Inputs,
    Points,
    Volume,
    as_path,
    files_of,
    load_inputs,
)
from landmark_dir.registration.landmarks import Landmarks, landmarks_for, refuse_swapped
from landmark_dir.registration.pipeline import deform
from landmark_dir.registration.result import Result
from landmark_dir.registration.session import (
    Session,
    expected_stages,
)
from landmark_dir.registration.stages import open_session
from landmark_dir.transforms.chain import read_transform

if TYPE_CHECKING:  # Pillow is slow to load
    from landmark_dir.report.content import Arm

MEASURED, MEASURED_S = "comparison", 3.0  # the last stage, and the seconds it may take
DEMO_POINTS = 2000  # of known truth, never shown to the registration


@dataclass(frozen=True, repr=False)
class Comparison:
    """Both arms of one pair, measured in four states.

    The states are before (where the registration starts: world coordinates or image centres),
    affine, without, with.

    Attributes
    ----------
    expert : AtPoints or None
        At independent points; None if there are none.
    held_back : AtPoints or None
        At landmarks that guided neither arm. They come from the network that guided one arm, and
        so are no independent truth. None if none were held back.
    labels : dict
        For each state the overlap of each label; empty without label maps.
    results : dict
        The arms: without, with.
    seconds : dict
        What each arm takes, each with the affine stage.
    """

    expert: AtPoints | None
    held_back: AtPoints | None
    labels: dict[str, dict[int, Overlap]]
    results: dict[str, Result]
    seconds: dict[str, float]

    @property
    def tre_mm(self) -> dict[str, Summary]:
        """TRE at the expert points for each state; empty if there are none."""
        return self.expert.summaries if self.expert else {}

    def __repr__(self) -> str:
        verdicts = (f"{arm} {of.verdict.verdict}" for arm, of in self.results.items())
        return f"<Comparison: {', '.join(verdicts)}>"

    def moved_to(self, folder: Path) -> "Comparison":
        """The same comparison, its run folders in `folder`."""
        moved = {arm: result.moved_to(folder / arm) for arm, result in self.results.items()}
        return replace(self, results=moved)

    def figures(self) -> dict[str, Any]:
        """All figures, as `comparison.json` has them."""
        points = {"tre_mm": self.expert, "held_back_mm": self.held_back}
        known = {name: at for name, at in points.items() if at}
        states = {
            state: {name: at.summaries[state]._asdict() for name, at in known.items()}
            | self._of_labels(state)
            | self._of_images(state)
            for state in STATES
        }
        differences = {name: at.difference._asdict() for name, at in known.items()}
        return {"states": states, "with_minus_without": differences}

    def _of_labels(self, state: str) -> dict[str, Any]:
        if not self.labels:
            return {}
        each = self.labels[state]
        return {
            "mean_dice": float(np.mean([overlap.dice for overlap in each.values()])),
            "labels": {str(label): overlap._asdict() for label, overlap in each.items()},
        }

    def _of_images(self, state: str) -> dict[str, Any]:
        if state not in ARMS:
            return {"correlation": self.results["with"].metrics[f"correlation_{state}"]}
        result = self.results[state]
        names = ("correlation", "folded_share", "sd_log_jacobian", "landmarks")
        found = {name: result.metrics[name] for name in names}
        return {**found, "seconds": self.seconds[state], **result.verdict.described()}

    def table(self) -> str:
        """All figures for people."""
        return pair_table(self.figures())


def compare(
    fixed: Volume,
    moving: Volume,
    out: str | Path,
    options: RegisterOptions = DEFAULTS,
    *,
    expert: Points | None = None,
    labels: tuple[Volume, Volume] | None = None,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    rigid: Volume | None = None,
    ignore: Volume | None = None,
    ignore_moving: Volume | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    **choices: Any,
) -> Comparison:
    """Register a pair with and without landmarks, on one affine stage and one parameter file.

    Parameters
    ----------
    out : path
        Folder to create; each arm is a run folder in it, beside `comparison.json` and `.csv`.
    expert : two paths or PointPairs, optional
        Corresponding points to measure with, LPS mm; they never guide.
    labels : two label maps, optional
        Fixed and moving, each on the grid of its image.
    fixed_mask, moving_mask, rigid, ignore, ignore_moving : sitk.Image or path, optional
        As `pipeline.register`, for both arms.
    progress : callable, optional
        Told what is being done, and the share of the whole that is done, 0 to 1.
    **choices
        Single options by name, changed from `options`.

    Raises
    ------
    BadArgument
        If the options cannot do without landmarks.
    BadVolume, BadPoints, BadWeights, BadRunFolder, BackendMissing, ElastixFailed, TooFewLandmarks
        As `pipeline.register`.
    """
    options = changed(options, choices)
    check_options(options)
    out = as_path(out, "out", "the path of a folder to create")
    what = {"fixed_mask": fixed_mask, "moving_mask": moving_mask, "rigid": rigid}
    what |= {"ignore": ignore, "ignore_moving": ignore_moving}
    read = (fixed, moving, *what.values(), *files_of(expert), *files_of(labels))
    with run_folder.new_run_folder(out, overwrite=overwrite, inputs=read) as folder:
        inputs = load_inputs(fixed, moving, options, points=None, **what)
        references = load_references(expert, labels, inputs)
        comparison = _compare(inputs, references, folder, options, progress)
    return comparison.moved_to(out)


def check_options(options: RegisterOptions) -> None:
    """Refuse options that one of the arms cannot have."""
    if not options.landmarks:
        raise BadArgument("a comparison runs both arms itself; leave landmarks on")
    options.but(landmarks=False)  # checks itself


def _compare(
    inputs: Inputs,
    references: References,
    folder: Path,
    options: RegisterOptions,
    progress: Progress,
) -> Comparison:
    arms = [f"{arm} landmarks, " for arm in ARMS]
    stages = [*expected_stages(options, seek=True, arms=arms), (MEASURED, MEASURED_S)]
    with open_session(inputs, folder, options, Plan(progress, stages)) as session:
        if len(references.expert):
            refuse_swapped(session, references.expert)
        warn_of_single_labels(session, references.labels)
        without = replace(  # what it has taken so far is copied before landmarks are sought
            session,
            options=options.but(landmarks=False),
            record=session.record.copy(),
            network=None,
        )
        landmarks = landmarks_for(session)
        given = {"without": (without, landmarks.only_held_back()), "with": (session, landmarks)}
        results = {arm: _arm(arm, *what, folder) for arm, what in given.items()}
        chains = {
            "before": read_transform(session.start_file),
            "affine": session.affine_chain,
            **{arm: result.chain for arm, result in results.items()},
        }
        session.plan.begin(MEASURED)
        comparison = Comparison(
            at_points(chains, references.expert),
            at_points(chains, landmarks.held_back),
            at_labels(chains, references.labels),
            results,
            {arm: round(sum(of.record.seconds.values()), 2) for arm, (of, _) in given.items()},
        )
        _report(comparison, session, landmarks, references, folder)
    progress("done", 1.0)
    return comparison


def _arm(arm: str, session: Session, landmarks: Landmarks, folder: Path) -> Result:
    """Run one arm, with progress that names it."""
    (folder / arm).mkdir()
    return deform(replace(session, arm=f"{arm} landmarks, "), landmarks, folder / arm)


def _report(
    comparison: Comparison,
    session: Session,
    landmarks: Landmarks,
    references: References,
    folder: Path,
) -> None:
    """Write what a comparison leaves beside its run folders."""
    figures = comparison.figures()
    write_figures([figures], folder / run_folder.COMPARISON_CSV)
    described = {name: run_folder.describe_file(file) for name, file in references.files.items()}
    content = {
        "landmark_dir": version("landmark_dir"),
        "options": session.options.flat(),
        "inputs": dict(session.inputs.sources) | described,
        "warnings": session.record.warnings,
        **figures,
    }
    run_folder.write_json(folder / run_folder.COMPARISON_JSON, content)
    arms = [_told(comparison, arm) for arm in ARMS]
    residual = residual_mm(comparison.results["with"].chain, landmarks.pairs())
    run_record.write_run_report(
        folder / run_folder.REPORT,
        session,
        landmarks,
        arms,
        residual_mm=residual,
        tables=page_tables(figures),
        answer=page_answer(figures),
    )


def _told(comparison: Comparison, arm: str) -> "Arm":
    """One arm for the page."""
    result = comparison.results[arm]
    references = {
        "TRE at expert points": comparison.expert,
        "distance at held-back landmarks": comparison.held_back,
    }
    distances = {name: at.distances_mm[arm] for name, at in references.items() if at}
    run = run_folder.read_run_json(result.folder)
    seen = result.on_ct_scale(result.warped, "moving")
    return run_record.arm(f"{arm} landmarks", run, seen, result.chain, distances)


def demo(
    out: Path,
    options: RegisterOptions = DEFAULTS,
    *,
    phantom_options: PhantomOptions | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Compare both arms on the phantom pair; its files stay in `out` to be tried further."""
    with run_folder.new_run_folder(out, overwrite=overwrite) as folder:
        progress("make phantom", 0.0)
        phantom = make_phantom(phantom_options)
        inputs = load_inputs(phantom.fixed, phantom.moving, options)
        fixed, moving = phantom.truth_points(DEMO_POINTS, np.random.default_rng(0))
        write_volume(phantom.fixed, folder / run_folder.PHANTOM_FIXED)
        write_volume(phantom.moving, folder / run_folder.PHANTOM_MOVING)
        write_elastix_points(fixed, folder / run_folder.TRUTH_FIXED)
        write_elastix_points(moving, folder / run_folder.TRUTH_MOVING)
        truth = PointPairs(fixed, moving, np.ones(len(fixed)))
        comparison = _compare(inputs, References(truth, None, {}), folder, options, progress)
    return comparison.moved_to(out)
