"""The landmarks of a registration: sought by the network or given, and what they are used for.

A part of the network's landmarks is held back: no stage that moves anything sees them, so the
registration can be judged at them.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmark_dir.elastix.transform_files import write_bspline
from landmark_dir.errors import BadPoints, TooFewLandmarks
from landmark_dir.geometry import Points, corners, distances_mm, inside
from landmark_dir.matching.local_affine import scatter
from landmark_dir.matching.outliers import reject_outliers, select_spread
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.preprocessing.body_mask import body_mask
from landmark_dir.registration.session import Stage, outside_mask, warn
from landmark_dir.transforms.bspline_fit import fit_spline
from landmark_dir.transforms.chain import Chain, read_transform
from landmark_dir.transforms.fields import resample

log = logging.getLogger(__name__)

SWAPPED_MM = 10.0  # how much worse than twice the other way round
HELD_BACK = 500  # pairs held back, at most
ENOUGH = 200  # pairs to lay the moving image by; fewer say too little of a volume
LOOK_AGAIN = "check that both images show the same anatomy in HU and overlap after the affine stage"


@dataclass(frozen=True)
class Landmarks:
    """Corresponding points, moving ones in true moving space.

    Attributes
    ----------
    guiding : PointPairs
        What elastix gets, settled on the motion that all say.
    held_back : PointPairs
        What nothing gets but the judgement; may be empty.
    all : PointPairs
        All but those held back, as measured: what that motion is fitted to.
    matched : int
        How many pairs there were before those that contradict their neighbours went.
    agreed : int
        How many did not.
    motion : Path, optional
        Transform file of the smooth motion that all say; None of given or few pairs.
    """

    guiding: PointPairs
    held_back: PointPairs
    all: PointPairs
    matched: int
    agreed: int
    motion: Path | None = None

    @classmethod
    def given(cls, pairs: PointPairs) -> "Landmarks":
        """A user's pairs: all of them guide."""
        return cls(pairs, PointPairs.empty(), pairs, len(pairs), len(pairs))

    @classmethod
    def none(cls) -> "Landmarks":
        """No landmarks."""
        return cls.given(PointPairs.empty())

    def only_held_back(self) -> "Landmarks":
        """Without guides: what the other arm of a comparison is judged at."""
        return replace(self.none(), held_back=self.held_back)

    def pairs(self) -> PointPairs:
        """Guiding, then held back."""
        sides = ("fixed", "moving", "score")
        parts = (self.guiding, self.held_back)
        return PointPairs(*(np.concatenate([getattr(p, s) for p in parts]) for s in sides))


def landmarks_for(stage: Stage, given: PointPairs | None) -> Landmarks:
    """The pairs that will guide the b-spline stage: given ones, the network's, or none."""
    if given is not None:
        if len(given):
            refuse_swapped(stage, given)
            _count_outside_mask(stage, given.moving)
        return Landmarks.given(given)
    if stage.network is None:
        return Landmarks.none()
    found = seek_landmarks(stage)
    short = shortage(found.guiding, stage.options)
    if short is None:
        _count_outside_mask(stage, found.guiding.moving)
        return found
    if stage.options.on_few_landmarks == "fail":
        raise TooFewLandmarks(
            f"{short}; {LOOK_AGAIN}, or go on with --on-few-landmarks register-without"
        )
    warn(stage, f"{short}; registered without landmarks")
    return Landmarks.none()


def refuse_swapped(stage: Stage, given: PointPairs) -> None:
    """Refuse points that fit far better the other way round, once the global motion is gone."""
    there, back = (
        float(np.median(distances_mm(stage.backend.map_points(stage.affine, one), other)))
        for one, other in ((given.fixed, given.moving), (given.moving, given.fixed))
    )
    if there > 2 * back + SWAPPED_MM:
        raise BadPoints(
            f"points: after the affine stage the fixed ones lie {there:.0f} mm from their moving "
            f"ones, the other way round {back:.0f} mm; they look swapped, give FIXED first"
        )


def _count_outside_mask(stage: Stage, moving: Points) -> None:
    outside = len(outside_mask(stage.inputs.moving_mask, moving))
    if outside:
        warn(
            stage,
            f"{outside} of {len(moving)} landmarks lie outside the moving mask; they are kept, and "
            "the mask is opened around them",
        )


def shortage(pairs: PointPairs, options: RegisterOptions) -> str | None:
    """What to say of too few pairs; None where there are enough."""
    if len(pairs) >= options.min_landmarks:
        return None
    return f"{len(pairs)} landmarks found, expected at least {options.min_landmarks}"


def seek_landmarks(stage: Stage) -> Landmarks:
    """Match, lay the moving image where the pairs say, and match again what is left.

    What a first pass misses by a millimetre, a second one sees nearly undeformed. The guides are
    spread over all pairs and settled on the spline through them, which knows more than each.
    """
    found, most = _match(stage, stage.affine), stage.options.most_landmarks()
    if len(found.all) < ENOUGH:
        return replace(found, guiding=select_spread(found.all, most))
    motion = landmark_motion(stage, found.all, "pass1")
    for number in range(2, stage.options.match_passes() + 1):
        again = _match(stage, motion)
        if again.agreed < found.agreed:
            break
        found, motion = again, landmark_motion(stage, again.all, f"pass{number}")
    log.info("%d pairs matched, %d agree", found.matched, found.agreed)
    return replace(found, guiding=settled(found.all, motion, most), motion=motion)


def settled(pairs: PointPairs, motion: Path, count: int) -> PointPairs:
    """At most `count` of the pairs, well spread, with moving points where `motion` puts them."""
    guides = select_spread(pairs, count)
    return replace(guides, moving=read_transform(motion).map_points(guides.fixed))


def _match(stage: Stage, transform: Path) -> Landmarks:
    """Network, outliers and selection on the moving image as `transform` lays it."""
    # torch is slow to load and a run with given points never needs it
    from landmark_dir.matching import volumes
    from landmark_dir.models import device

    options, inputs = stage.options, stage.inputs
    assert stage.network is not None
    with stage.timed("pre-align"):
        grid = volumes.grid_to_match(stage.network.network, inputs.fixed, inputs.moving)
        chain = read_transform(transform)
        prealigned = resample(inputs.moving, chain, grid, inputs.outside_hu())
        body = body_mask(prealigned)
    with stage.timed("landmarks"), device.torch_threads(options.threads):
        pairs = volumes.match_volumes(
            inputs.fixed,
            prealigned,
            inputs.fixed_body,
            body,
            stage.network.network,
            volumes.MatchingOptions(min_score=options.min_score, search_mm=options.search_mm),
            lambda what, share: stage.say(f"landmarks: {what} {share:.0%}"),
        )
    with stage.timed("outliers"):
        agreed = reject_outliers(pairs, options.outliers)
        held = _held_back_rows(len(agreed), options)
        rest, kept_back = (
            _truly_moving(stage, chain, agreed.select(part)) for part in (~held, held)
        )
    return Landmarks(PointPairs.empty(), kept_back, rest, len(pairs), len(agreed))


def _held_back_rows(count: int, options: RegisterOptions) -> NDArray[np.bool_]:
    held = np.zeros(count, dtype=bool)
    size = min(HELD_BACK, int(options.hold_back * count))
    held[np.random.default_rng(options.seed).permutation(count)[:size]] = True
    return held


def _truly_moving(stage: Stage, chain: Chain, pairs: PointPairs) -> PointPairs:
    """The pairs with their moving points in the moving image's own space."""
    moving = chain.map_points(pairs.moving)
    kept = inside(stage.inputs.moving, moving)  # the pre-aligned grid may reach beyond it
    return replace(pairs, moving=moving).select(kept)


def landmark_motion(stage: Stage, pairs: PointPairs, name: str) -> Path:
    """The affine map and a smooth b-spline that follows pairs after it, as a transform file."""
    with stage.timed("landmark spline"):
        affine = read_transform(stage.affine)
        fixed, box = (affine.map_points(p) for p in (pairs.fixed, corners(stage.inputs.fixed)))
        uncertain = scatter(fixed, pairs.moving)
        spline = fit_spline(fixed, pairs.moving - fixed, box, scatter_mm=uncertain)
        file = stage.work / f"{name}.txt"
        return write_bspline(
            spline.coefficients, spline.origin, spline.spacing_mm, stage.affine, file
        )
