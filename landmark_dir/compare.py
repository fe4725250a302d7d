"""The same registration with and without landmarks."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from landmark_dir import rundir
from landmark_dir.inputs import Inputs, Volume, load_inputs
from landmark_dir.metrics import Summary, distances_mm, summarise
from landmark_dir.options import RegisterOptions
from landmark_dir.phantom import PhantomOptions, make_phantom
from landmark_dir.pipeline import Result, deform
from landmark_dir.points import PointPairs, write_elastix_points
from landmark_dir.stages import Say, Stage, landmarks_for, pre_aligned
from landmark_dir.volume import write_volume

DEFAULTS = RegisterOptions()
ARMS = ("without", "with")  # landmarks; each names a run folder
DEMO_POINTS = 2000  # of known truth, never shown to the registration


@dataclass(frozen=True)
class Comparison:
    """Both arms of one pair, and how far each leaves the expert points."""

    tre_mm: dict[str, Summary]  # before, affine, without, with
    results: dict[str, Result]

    def moved_to(self, folder: Path) -> "Comparison":
        """The same comparison, its run folders in `folder`."""
        moved = {arm: result.moved_to(folder / arm) for arm, result in self.results.items()}
        return replace(self, results=moved)

    def table(self) -> str:
        """A table for people: TRE in mm, folding, landmarks."""
        columns = ("mean", "median", "p95", "max")
        head = "".join(f"{name:>8}" for name in columns)
        lines = [f"{'TRE (mm)':<12}{head}{'folded':>9}{'landmarks':>11}"]
        for name, tre in self.tre_mm.items():
            line = f"{name:<12}{tre.mean:8.2f}{tre.median:8.2f}{tre.p95:8.2f}{tre.max:8.2f}"
            if name in self.results:
                metrics = self.results[name].metrics
                line += f"{metrics['folded_share']:9.2%}{metrics['landmarks']:11d}"
            lines.append(line)
        return "\n".join(lines)


def compare(
    fixed: Volume,
    moving: Volume,
    out: str | Path,
    expert: PointPairs,
    options: RegisterOptions = DEFAULTS,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    overwrite: bool = False,
    say: Say = lambda text: None,
) -> Comparison:
    """Register a pair with and without landmarks, on one affine stage and one parameter file.

    Parameters
    ----------
    expert : PointPairs
        Corresponding points to measure with; they never guide.
    out : path
        Folder to create; each arm is a run folder in it, beside `comparison.json`.

    Raises
    ------
    As `pipeline.register`.
    """
    with rundir.new_run_folder(Path(out), overwrite=overwrite) as folder:
        inputs = load_inputs(fixed, moving, fixed_mask, moving_mask, options)
        comparison = _compare(inputs, folder, expert, options, say)
    return comparison.moved_to(Path(out))


def _compare(
    inputs: Inputs, folder: Path, expert: PointPairs, options: RegisterOptions, say: Say
) -> Comparison:
    with pre_aligned(inputs, folder, options, say) as stage:
        comparison = _both_arms(stage, expert, folder)
    rundir.write_json(folder / rundir.COMPARISON_JSON, _content(comparison))
    return comparison


def _both_arms(stage: Stage, expert: PointPairs, folder: Path) -> Comparison:
    tre = {"before": summarise(distances_mm(expert.fixed, expert.moving))}
    tre["affine"] = _tre(stage, stage.affine, expert)
    results = {}
    arms = {"without": _without_landmarks(stage)}  # its seconds are taken before they are sought
    arms["with"], pairs = stage, landmarks_for(stage, None)
    for arm in ARMS:
        (folder / arm).mkdir()
        guides = pairs if arm == "with" else PointPairs.empty()
        results[arm] = deform(_telling(arms[arm], arm), guides, folder / arm)
        tre[arm] = _tre(stage, results[arm].transform, expert)
    return Comparison(tre, results)


def _without_landmarks(stage: Stage) -> Stage:
    options = replace(stage.options, landmarks=False)
    inputs = replace(stage.inputs, warnings=list(stage.inputs.warnings))
    return replace(stage, inputs=inputs, options=options, seconds=dict(stage.seconds), network=None)


def _telling(stage: Stage, arm: str) -> Stage:
    """The same stage, with progress that names its arm."""
    return replace(stage, say=lambda text: stage.say(f"{arm} landmarks, {text}"))


def _tre(stage: Stage, transform: Path, expert: PointPairs) -> Summary:
    mapped = stage.backend.map_points(transform, expert.fixed)
    return summarise(distances_mm(mapped, expert.moving))


def _content(comparison: Comparison) -> dict[str, Any]:
    return {
        "tre_mm": {name: tre._asdict() for name, tre in comparison.tre_mm.items()},
        "metrics": {arm: result.metrics for arm, result in comparison.results.items()},
    }


def demo(
    out: Path,
    options: RegisterOptions = DEFAULTS,
    *,
    phantom_options: PhantomOptions | None = None,
    overwrite: bool = False,
    say: Say = lambda text: None,
) -> Comparison:
    """Compare both arms on the phantom pair; its files stay in `out` to be tried further."""
    with rundir.new_run_folder(out, overwrite=overwrite) as folder:
        say("make phantom")
        phantom = make_phantom(phantom_options)
        inputs = load_inputs(phantom.fixed, phantom.moving, None, None, options)
        fixed, moving = phantom.truth_points(DEMO_POINTS, np.random.default_rng(0))
        write_volume(phantom.fixed, folder / "fixed.nii.gz")
        write_volume(phantom.moving, folder / "moving.nii.gz")
        write_elastix_points(fixed, folder / "truth_fixed.txt")
        write_elastix_points(moving, folder / "truth_moving.txt")
        truth = PointPairs(fixed, moving, np.ones(len(fixed)))
        comparison = _compare(inputs, folder, truth, options, say)
    return comparison.moved_to(out)
