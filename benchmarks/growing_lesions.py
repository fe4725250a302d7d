"""Volume change of growing lesions: `python -m benchmarks.growing_lesions`.

Simulated follow-ups (`training.followups`) in which each of six lesions grew by 30 or by 100 % in
volume, registered without and with landmarks. The lesion of the fixed image is carried to the
moving one by the transform, and the lesion there compared with it: measured against true change.
Regions are the label maps of the lesions. TRE is taken outside of lesions, at points of known
truth: all over the body, and those within `NEAR_MM` of a lesion. Of volume i, in the order given,
seed i.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from benchmarks.common import data_folder, markdown, session, volumes
from landmark_dir.geometry import Points, distances_mm
from landmark_dir.io.volumes import read_volume
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import landmarks_for
from landmark_dir.registration.stages import bspline_stage, kept_rigid
from landmark_dir.transforms.chain import read_transform
from training.followups.lesions import SIDES, Lesion, Mapping
from training.followups.pair import FollowUp, make_follow_up, truth_points

VOLUMES = ("crlm-1004", "sts-044")
MOTION, LESIONS = "small", 6
TRUTHS = 20_000  # points, few of which are near a lesion
NEAR_MM = 15.0
SPREAD = 4000  # points tried within a lesion, for the volume it is carried to
GROWTHS = (1.3, 2.0)
IGNORED = {"": False, "ignore, ignore-moving": True}


class Row(NamedTuple):
    """A way to register, and what it does to one pair."""

    transform: str
    growth: float
    way: str
    change: list[float]  # measured, of each lesion
    centre_mm: list[float]  # between its carried and its true centre
    tre_mm: list[float]
    near_mm: list[float]


@dataclass(frozen=True)
class Truth:
    """Points of a pair outside of its lesions."""

    fixed: Points
    moving: Points
    near: np.ndarray

    @classmethod
    def of(cls, pair: FollowUp, seed: int) -> "Truth":
        """Spread over the body."""
        fixed, moving = truth_points(pair, TRUTHS, 1000 + seed)
        beyond = [lesion.outside_mm(fixed, "fixed") for lesion in pair.lesions]
        return cls(fixed, moving, np.min(beyond, axis=0) < NEAR_MM)


def carried_volume(transform: Mapping, lesion: Lesion) -> float:
    """Volume, mm^3, that a transform carries the lesion of the fixed image to."""
    reach = lesion.reach_mm("fixed")
    offsets = np.random.default_rng(0).uniform(-reach, reach, (SPREAD, 3))
    points = lesion.centre_fixed + offsets
    within = points[lesion.outside_mm(points, "fixed") < 0]
    return float(lesion.volume_fixed * volumes(transform, within).mean())


def measured(transform: Mapping, pair: FollowUp, truth: Truth) -> tuple[list[float], ...]:
    """Change and centre of each lesion, and TRE outside of them, far and near."""
    change = [one.volume_moving / carried_volume(transform, one) for one in pair.lesions]
    fixed, moving = (np.array([one.centre(s) for one in pair.lesions]) for s in SIDES)
    off = distances_mm(transform(fixed), moving)
    tre = distances_mm(transform(truth.fixed), truth.moving)
    return change, off.tolist(), tre.tolist(), tre[truth.near].tolist()


def rows(pair: FollowUp, seed: int, growth: float, options: RegisterOptions) -> Iterator[Row]:
    """All ways on one pair."""
    truth = Truth.of(pair, seed)
    yield Row("true motion", growth, "nothing", *measured(pair.to_moving, pair, truth))
    labels = {side: pair.lesion_labels(side) for side in SIDES}
    stiff = sitk.Cast(labels["fixed"], sitk.sitkUInt16)
    for name, left_out in IGNORED.items():
        regions = {"ignore": labels["fixed"], "ignore_moving": labels["moving"]}
        inputs = load_inputs(pair.fixed, pair.moving, options, **(regions if left_out else {}))
        with session(inputs, options) as opened:
            found = landmarks_for(opened)
            rigid = replace(opened, inputs=replace(inputs, rigid=stiff))
            for given in (found.only_held_back(), found):
                transform = bspline_stage(opened, given.guiding, given.motion)
                arm = "with landmarks" if len(given.guiding) else "without landmarks", growth
                free = measured(read_transform(transform).map_points, pair, truth)
                yield Row(*arm, name or "nothing", *free)
                kept_file = kept_rigid(rigid, transform)
                kept = measured(read_transform(kept_file).map_points, pair, truth)
                yield Row(*arm, ", ".join(filter(None, [name, "rigid"])), *kept)


def table(found: Sequence[Row]) -> str:
    """Each way over all pairs."""
    groups: dict[tuple[str, float, str], list[Row]] = {}
    for row in found:
        groups.setdefault(row[:3], []).append(row)
    lines: list[list[object]] = []
    for (transform, growth, way), members in sorted(groups.items()):
        change, centre, tre, near = (
            np.concatenate([row[i] for row in members]) for i in range(3, 7)
        )
        error = 100 * np.abs(change / growth - 1)
        lines.append([
            transform,
            f"{growth:.1f}",
            way,
            f"{np.median(change):.2f} ({change.min():.2f} to {change.max():.2f})",
            f"{np.median(error):.1f}",
            f"{np.median(centre):.2f}",
            f"{near.mean():.2f}",
            f"{tre.mean():.2f}",
        ])  # fmt: skip
    header = ["transform", "true change", "regions", "measured: median (range)"]
    header += ["median error, %", "centre, mm", "TRE near, mm", "TRE, mm"]
    return markdown(header, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", nargs="+", default=list(VOLUMES), metavar="NAME")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    options = RegisterOptions.of(threads=args.threads)
    found: list[Row] = []
    for seed, name in enumerate(args.volumes):
        volume = read_volume(data_folder() / "ct" / "validation" / f"{name}.nii.gz")
        for growth in GROWTHS:
            pair = make_follow_up(volume, MOTION, seed, lesions=LESIONS, growth=growth)
            found += rows(pair, seed, growth, options)
    print(table(found))


if __name__ == "__main__":
    main()
