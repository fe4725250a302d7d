"""The same registration with and without landmarks."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import SimpleITK as sitk

from landmark_dir import compare_tables, rundir
from landmark_dir.guidance import Landmarks, _refuse_swapped, landmarks_for
from landmark_dir.inputs import Inputs, Volume, load_inputs
from landmark_dir.metrics import Summary, distances_mm, summarise
from landmark_dir.options import RegisterOptions
from landmark_dir.overlap import Overlap, check_label_map, overlaps, present
from landmark_dir.phantom import PhantomOptions, make_phantom
from landmark_dir.pipeline import Result, deform
from landmark_dir.points import PointPairs, check_inside, read_pairs, write_elastix_points
from landmark_dir.stages import Say, Stage, pre_aligned, warn
from landmark_dir.statistics import Difference, paired_difference
from landmark_dir.volume import check_labels, read_labels, write_volume

DEFAULTS = RegisterOptions()
ARMS = ("without", "with")  # landmarks; each names a run folder
DEMO_POINTS = 2000  # of known truth, never shown to the registration

PointFiles: TypeAlias = tuple[str | Path, str | Path]  # fixed, moving


@dataclass(frozen=True)
class AtPoints:
    """Distances at points that guided neither arm, and what the landmarks change there."""

    summaries: dict[str, Summary]  # mm; before, affine, without, with
    difference: Difference  # with - without, mm, over the points


@dataclass(frozen=True)
class Comparison:
    """Both arms of one pair, and all that judges them.

    Attributes
    ----------
    expert : AtPoints or None
        At independent points; None if there are none.
    held_back : AtPoints or None
        At the network's landmarks that guided neither arm: from the network that guided one arm,
        and so no independent truth. None if none were held back.
    labels : dict
        Overlap of each label before, affine, without, with; empty without label maps.
    results : dict
        The arms: without, with.
    seconds : dict
        What each arm takes alone, the affine stage included.
    """

    expert: AtPoints | None
    held_back: AtPoints | None
    labels: dict[str, dict[int, Overlap]]
    results: dict[str, Result]
    seconds: dict[str, float]

    @property
    def tre_mm(self) -> dict[str, Summary]:
        """TRE at the expert points: before, affine, without, with; empty if there are none."""
        return self.expert.summaries if self.expert else {}

    def moved_to(self, folder: Path) -> "Comparison":
        """The same comparison, its run folders in `folder`."""
        moved = {arm: result.moved_to(folder / arm) for arm, result in self.results.items()}
        return replace(self, results=moved)

    def content(self) -> dict[str, Any]:
        """The figures as `comparison.json` has them."""
        points = {"tre_mm": self.expert, "held_back_mm": self.held_back}
        known = {name: at for name, at in points.items() if at}
        states = {
            state: {
                **{name: at.summaries[state]._asdict() for name, at in known.items()},
                **self._image_figures(state),
            }
            for state in ("before", "affine", *ARMS)
        }
        differences = {name: at.difference._asdict() for name, at in known.items()}
        return {"states": states, "with_minus_without": differences}

    def _image_figures(self, state: str) -> dict[str, Any]:
        """What needs no points: overlap, similarity, folding, time."""
        found: dict[str, Any] = {}
        if self.labels:
            each = self.labels[state]
            found["mean_dice"] = float(np.mean([label.dice for label in each.values()]))
            found["labels"] = {str(label): overlap._asdict() for label, overlap in each.items()}
        if state not in ARMS:
            return {**found, "correlation": self.results["with"].metrics[f"correlation_{state}"]}
        metrics = self.results[state].metrics
        names = ("correlation", "folded_share", "sd_log_jacobian", "landmarks")
        found.update({name: metrics[name] for name in names})
        return {**found, "seconds": self.seconds[state], "verdict": self.results[state].verdict[0]}

    def table(self) -> str:
        """All figures for people."""
        return compare_tables.pair_table(self.content())


def compare(
    fixed: Volume,
    moving: Volume,
    out: str | Path,
    options: RegisterOptions = DEFAULTS,
    *,
    expert: PointFiles | PointPairs | None = None,
    labels: tuple[Volume, Volume] | None = None,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    overwrite: bool = False,
    say: Say = lambda text: None,
) -> Comparison:
    """Register a pair with and without landmarks, on one affine stage and one parameter file.

    Parameters
    ----------
    out : path
        Folder to create; each arm is a run folder in it, beside `comparison.json` and `.csv`.
    options : RegisterOptions
        Of both arms. `landmarks` and `robust` are not for a comparison.
    expert : two paths or PointPairs, optional
        Corresponding points to measure with, LPS mm; they never guide.
    labels : two label maps, optional
        Fixed and moving, each on the grid of its image.

    Raises
    ------
    ValueError
        If the options cannot do without landmarks, or with.
    BadVolume, BadPoints, BadWeights, BadRunFolder, BackendMissing, ElastixFailed, TooFewLandmarks
        As `pipeline.register`.
    """
    _without_landmarks(options)
    with rundir.new_run_folder(Path(out), overwrite=overwrite) as folder:
        inputs = load_inputs(fixed, moving, fixed_mask, moving_mask, options)
        judges = _judges(expert, labels, inputs)
        comparison = _compare(inputs, judges, folder, options, say)
    return comparison.moved_to(Path(out))


def _without_landmarks(options: RegisterOptions) -> RegisterOptions:
    if not options.landmarks or options.robust:
        raise ValueError("a comparison runs both arms itself; leave landmarks on and robust off")
    return replace(options, landmarks=False)


class _Judges(NamedTuple):
    """What is known of a pair and never guides; points may be none."""

    expert: PointPairs
    labels: tuple[sitk.Image, sitk.Image] | None
    described: dict[str, Any]  # for `comparison.json`


def _judges(
    expert: PointFiles | PointPairs | None, labels: tuple[Volume, Volume] | None, inputs: Inputs
) -> _Judges:
    """Read and check what judges, before anything slow is done."""
    points = expert if isinstance(expert, PointPairs) else _read_expert(expert)
    check_inside(points, inputs.fixed, inputs.moving)
    maps = None
    if labels is not None:
        fixed, moving = (
            check_label_map(_read_labels(given, name), image, _name(given, name))
            for given, name, image in zip(
                labels,
                ("fixed labels", "moving labels"),
                (inputs.fixed, inputs.moving),
                strict=True,
            )
        )
        maps = fixed, moving
    given = {"points": () if isinstance(expert, PointPairs) else expert, "labels": labels}
    return _Judges(points, maps, dict(_described(given)))


def _read_expert(files: PointFiles | None) -> PointPairs:
    return PointPairs.empty() if files is None else read_pairs(*files)


def _name(given: Volume, name: str) -> str:
    return name if isinstance(given, sitk.Image) else f"{name} {given}"


def _read_labels(given: Volume, name: str) -> sitk.Image:
    return check_labels(given, name) if isinstance(given, sitk.Image) else read_labels(given)
