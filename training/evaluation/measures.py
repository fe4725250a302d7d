"""How right the matches of a pair are, and all matchers measured on all pairs of a set.

Where the truth is known a match has an error; on real follow-up pairs it is judged by how well it
agrees with its neighbours.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from tqdm import tqdm

from training.data import pack
from training.evaluation import testsets
from training.evaluation.figures import Example
from training.evaluation.matchers import Array, Matcher, answer

CORRECT_MM = 2.0  # a match closer than this is correct; also [paper] thresh_pixels
COVER_MM = 10.0  # a correct match covers the body around it
AGREE_MM, NEIGHBOURS = 5.0, 12  # real follow-up: from the affine motion of the nearest others
EXAMPLES = 2  # pairs drawn of each set
FOLLOWUP = "followup-slices"


@dataclass(frozen=True)
class PairResult:
    """One matcher on one pair.

    Attributes
    ----------
    error_mm, rounded_mm : ndarray, shape (N,)
        Of each match: as it is, and with all points rounded to whole pixels as in the paper.
        Empty without truth.
    agrees : ndarray, shape (N,)
        Without truth: which matches agree with their neighbours. Else which are correct.
    covered : float
        Share of the body within `COVER_MM` of a correct match; NaN without truth.
    score : ndarray, shape (N,), optional
        What the matcher says of each match, where it says anything.
    """

    set: str
    matcher: str
    pair: int
    patient: str
    error_mm: Array
    rounded_mm: Array
    agrees: NDArray[np.bool_]
    covered: float
    ms: float
    score: Array | None = None


def errors(xy_1: Array, xy_2: Array, project: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Errors of matches, mm: continuous, and of points rounded to whole pixels as in the paper.

    Parameters
    ----------
    project : callable
        Image 2 -> image 1, px [N, 2].
    """
    if not len(xy_1):
        return np.zeros(0), np.zeros(0)
    error = np.linalg.norm(xy_1 - project(xy_2), axis=1)
    rounded = np.linalg.norm(np.rint(xy_1) - np.rint(project(np.rint(xy_2))), axis=1)
    return error, rounded


def covered_share(body: NDArray[np.bool_], xy: Array) -> float:
    """Share of the body's pixels within `COVER_MM` of any of xy [N, 2] px."""
    pixels = np.argwhere(body)[:, ::-1]
    if not len(pixels) or not len(xy):
        return 0.0
    away, _ = cKDTree(xy).query(pixels)
    return float(np.mean(away <= COVER_MM))


def agreement(xy_1: Array, xy_2: Array) -> NDArray[np.bool_]:
    """Tell which matches [N] are within `AGREE_MM` of where the nearest others point.

    These point with the affine motion that most of `NEIGHBOURS` other matches, near in slice 1,
    share. A match found several times has one vote; fewer matches than that agree with nobody.
    """
    rows, once = np.unique(np.hstack([xy_1, xy_2]), axis=0, return_inverse=True)
    if len(rows) <= NEIGHBOURS:
        return np.zeros(len(xy_1), dtype=bool)
    one, two = rows[:, :2], rows[:, 2:]
    away = np.linalg.norm(two - _shared_motion(one, two), axis=1)
    return np.asarray((away <= AGREE_MM)[once])


def _shared_motion(one: Array, two: Array) -> Array:
    """Where the neighbours of each of `one` [N, 2] say it goes, [N, 2].

    Every triple of neighbours is tried, as half of them may be wrong and reweighting from a common
    fit (`landmark_dir.matching.outliers`) then loses the right ones; the winner's followers are
    fitted.
    """
    _, near = cKDTree(one).query(one, k=NEIGHBOURS + 1)
    itself = near == np.arange(len(one))[:, None]  # not always first: places may coincide
    near = np.take_along_axis(near, np.argsort(itself, axis=1, kind="stable"), 1)[:, :NEIGHBOURS]
    offset = one[near] - one[:, None]
    design = np.concatenate([np.ones((*near.shape, 1)), offset], axis=2)  # [N, 12, 3]
    triples = np.array(list(combinations(range(NEIGHBOURS), 3)))  # [220, 3]
    tiny = 1e-6 * np.eye(3)  # three in a row give a motion that nobody shares, not an error
    tried = design[:, triples]  # [N, 220, 3, 3]
    across = tried.swapaxes(2, 3)
    motions = np.linalg.solve(across @ tried + tiny, across @ two[near][:, triples])
    away = np.linalg.norm(design[:, None] @ motions - two[near][:, None], axis=3)  # [N, 220, 12]
    best = np.minimum(away, AGREE_MM).sum(axis=2).argmin(axis=1)
    follows = (away[np.arange(len(one)), best] <= AGREE_MM)[..., None]
    weighted = (follows * design).transpose(0, 2, 1)  # [N, 3, 12]
    fit = np.linalg.solve(weighted @ design + tiny, weighted @ two[near])  # [N, 3, 2]
    return np.asarray(fit[:, 0])


@dataclass(frozen=True)
class SetRun:
    """All matchers on all pairs of one set.

    Attributes
    ----------
    examples : list of Example
        What figure 3 shows of it.
    moved_mm : ndarray, shape (N,)
        How far body pixels lie from their place in image 2; empty without truth.
    """

    results: list[PairResult]
    examples: list[Example]
    moved_mm: Array


def evaluate_set(
    kind: str,
    slices: list[pack.Slice],
    chosen: Sequence[int],
    matchers: Mapping[str, Matcher],
    seed: int,
) -> SetRun:
    """Measure all matchers on the pairs of one made set."""
    results, examples, moved = [], [], []
    drawn = set(np.linspace(0, len(chosen) - 1, EXAMPLES + 2).round().astype(int)[1:-1])
    for number, i in enumerate(tqdm(chosen, desc=kind)):
        pair = testsets.make_pair(kind, slices, i, seed)
        moved.append(testsets.displacements([pair]))
        shown = {}
        for name, matcher in matchers.items():
            if not number:  # the first call of a library is slow
                matcher(pair.hu_1, pair.hu_2)
            xy_1, xy_2, ms, score = answer(name, matcher, pair.hu_1, pair.hu_2)
            error, rounded = errors(xy_1, xy_2, pair.project_2_to_1)
            right = error < CORRECT_MM
            share = covered_share(pair.body_1, xy_1[right])
            results.append(
                PairResult(kind, name, i, pair.patient, error, rounded, right, share, ms, score)
            )
            shown[name] = (xy_1, xy_2, right)
        if number in drawn:
            examples.append(Example(pair.patient, pair.hu_1, pair.hu_2, shown))
    return SetRun(results, examples, np.concatenate(moved))


def evaluate_followup(file: Path, matchers: Mapping[str, Matcher]) -> SetRun:
    """Try all matchers on real pairs: an .npz with keys `<patient>_prior`, `<patient>_current`."""
    results, examples = [], []
    with np.load(file) as arrays:
        patients = [key.removesuffix("_prior") for key in arrays.files if key.endswith("_prior")]
        for number, patient in enumerate(tqdm(patients, desc=FOLLOWUP)):
            hu_1, hu_2 = (
                arrays[f"{patient}_{side}"].astype(np.float32) for side in ("prior", "current")
            )
            shown = {}
            for name, matcher in matchers.items():
                xy_1, xy_2, ms, _ = answer(name, matcher, hu_1, hu_2)
                agrees, none = agreement(xy_1, xy_2), np.zeros(0)
                results.append(
                    PairResult(FOLLOWUP, name, number, patient, none, none, agrees, np.nan, ms)
                )
                shown[name] = (xy_1, xy_2, agrees)
            if number <= EXAMPLES:  # one more than of a made set
                examples.append(Example(patient, hu_1, hu_2, shown))
    return SetRun(results, examples, np.zeros(0))


def pooled(results: Iterable[PairResult], what: str = "error_mm") -> Array:
    """The errors of all matches of all pairs."""
    return np.concatenate([np.zeros(0), *(getattr(result, what) for result in results)])
