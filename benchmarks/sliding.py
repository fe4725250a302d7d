"""What a sliding surface costs, and what knowing it would bring: `python -m benchmarks.sliding`.

Simulated follow-ups of training volumes in large motion (`training.followups.pair`; seeds that
serve for choosing only), whose inner organs slide along a surface that is known. The dense landmark
motion is fitted to the landmarks as measured, by one spline as in use, or by one for either side of
the true surface; and again to true places instead of measured ones, which tells what the landmarks
cost and what the splines cost. TRE in mm at 4,000 other points.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import data_folder, markdown, session
from benchmarks.followups import TRUTHS, truth
from landmark_dir.geometry import Points, corners, distances_mm
from landmark_dir.io.volumes import read_volume
from landmark_dir.matching.local_affine import scatter
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import landmarks_for
from landmark_dir.transforms.bspline_fit import fit_spline
from training.followups.pair import FollowUp, make_follow_up

PAIRS = (("cptac-c3l-00189", 51), ("acrin-flt-breast-001-b", 52), ("covidctmd-p002", 54))
NEAR_MM = 6.0  # of the surface, either way
Sides: TypeAlias = tuple[NDArray[np.bool_], NDArray[np.bool_]]  # of landmarks; of test points


class Pair(NamedTuple):
    """One pair: landmarks and test points, fixed ones where the affine map takes them."""

    name: str
    measured: PointPairs
    true_moving: Points
    inside_mm: NDArray[np.float64]  # of the landmarks
    tested: PointPairs
    tested_inside_mm: NDArray[np.float64]
    box: Points


def prepared(name: str, seed: int, threads: int) -> Pair:
    """Find the landmarks of a pair as a registration does."""
    path = data_folder() / "ct" / "training" / f"{name}.nii.gz"
    pair: FollowUp = make_follow_up(read_volume(path), "large", seed)
    options = RegisterOptions.of(threads=threads)
    tested = truth(pair, TRUTHS, 1000 + seed)
    with session(load_inputs(pair.fixed, pair.moving, options), options) as opened:
        found = landmarks_for(opened).measured
        affine = opened.affine_chain.map_points
        return Pair(
            name,
            PointPairs(affine(found.fixed), found.moving, found.score),
            pair.to_moving(found.fixed),
            pair.motion.inside_mm(found.fixed),
            PointPairs(affine(tested.fixed), tested.moving, tested.score),
            pair.motion.inside_mm(tested.fixed),
            affine(corners(pair.fixed)),
        )


def whole(pair: Pair) -> Iterator[Sides]:
    """One spline for all."""
    yield np.ones(len(pair.measured), bool), np.ones(len(pair.tested), bool)


def sides(margin_mm: float = 0.0, off_mm: float = 0.0) -> Callable[[Pair], Iterator[Sides]]:
    """One spline for either side of the surface.

    Parameters
    ----------
    margin_mm : float
        Landmarks nearer to it belong to neither.
    off_mm : float
        How far the surface is thought to lie outside its place.
    """

    def of(pair: Pair) -> Iterator[Sides]:
        for sign in (1, -1):
            landmarks = sign * (pair.inside_mm + off_mm) > margin_mm
            yield landmarks, sign * (pair.tested_inside_mm + off_mm) > 0

    return of


def errors(
    pair: Pair, moving: Points, of: Callable[[Pair], Iterator[Sides]], grid_mm: float
) -> NDArray[np.float64]:
    """TRE [N] of the dense motion fitted to these moving points of the landmarks."""
    found = np.full(len(pair.tested), np.nan)
    for landmarks, tested in of(pair):
        fixed, there = pair.measured.fixed[landmarks], moving[landmarks]
        uncertain = scatter(fixed, there)
        spline = fit_spline(fixed, there - fixed, pair.box, grid_mm, scatter_mm=uncertain)
        mapped = spline.map_points(pair.tested.fixed[tested])
        found[tested] = distances_mm(mapped, pair.tested.moving[tested])
    return found


WAYS: dict[str, tuple[Callable[[Pair], Iterator[Sides]], float]] = {
    "one spline, control points 10 mm apart": (whole, 10.0),
    "one spline, 5 mm": (whole, 5.0),
    "one for each side": (sides(), 10.0),
    "one for each side, no landmarks within 4 mm of the surface": (sides(4.0), 10.0),
    "one for each side of a surface 3 mm beside its place": (sides(off_mm=3.0), 10.0),
}


def rows(pairs: Sequence[Pair]) -> Iterator[list[object]]:
    """A row for each way, its figures pooled over each pair."""
    for readings in ("measured", "true"):
        for name, (of, grid_mm) in WAYS.items():
            cells: list[object] = [readings, name]
            for pair in pairs:
                moving = pair.measured.moving if readings == "measured" else pair.true_moving
                error = errors(pair, moving, of, grid_mm)
                near = np.abs(pair.tested_inside_mm) < NEAR_MM
                cells += [f"{error.mean():.2f}", f"{error[near].mean():.2f}"]
                cells += [f"{error[~near].mean():.2f}"]
            yield cells


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    pairs = [prepared(name, seed, args.threads) for name, seed in PAIRS]
    header = ["places of landmarks", "dense landmark motion"]
    for pair in pairs:
        header += [f"{pair.name}: mean", f"within {NEAR_MM:g} mm", "elsewhere"]
    print(markdown(header, list(rows(pairs))))
    for pair in pairs:
        off = distances_mm(pair.measured.moving, pair.true_moving)
        near = np.abs(pair.inside_mm) < NEAR_MM
        print(
            f"\n{pair.name}: {len(off)} landmarks, off by {np.median(off):.2f} mm in the median; "
            f"{near.sum()} near the surface, by {np.median(off[near]):.2f}"
        )


if __name__ == "__main__":
    main()
