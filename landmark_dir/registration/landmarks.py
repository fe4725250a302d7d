"""The landmarks of a registration: sought by the network or given, and what they are used for.

Some of the matched places are held back, the same in every pass. Nothing that is fitted or moved
after the matching sees them, so the registration can be judged at them.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from landmark_dir.errors import BadPoints, TooFewLandmarks
from landmark_dir.evaluation.verdict import Limits, shared_litres
from landmark_dir.geometry import Points, corners, distances_mm, inside
from landmark_dir.matching.local_affine import scatter
from landmark_dir.matching.outliers import reject_outliers, select_spread
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.preprocessing.body_mask import body_mask
from landmark_dir.preprocessing.slice_profile import as_thick, slice_distances_mm
from landmark_dir.registration.session import Session
from landmark_dir.registration.stages import inside_mask, outside_mask
from landmark_dir.transforms.bspline_fit import fit_spline
from landmark_dir.transforms.chain import Chain, read_transform, write_after
from landmark_dir.transforms.fields import resample

if TYPE_CHECKING:  # torch is slow to load
    from landmark_dir.matching.volumes import FixedVolume

log = logging.getLogger(__name__)

SWAPPED_MM = 10.0  # how much worse than twice the other way round
HELD_BACK = 500  # pairs held back, at most, give or take chance
PLACE_MM = 0.01  # places nearer than this are the same place
ENOUGH = 200  # pairs that a dense motion is fitted to; fewer say too little of a volume
LOOK_AGAIN = "check that both images show the same anatomy and overlap after the affine stage"


@dataclass(frozen=True)
class Landmarks:
    """Corresponding points, moving ones in true moving space.

    Attributes
    ----------
    guiding : PointPairs
        What elastix gets, projected onto the dense landmark motion.
    held_back : PointPairs
        What nothing gets but the verdict, as matched; may be empty.
    measured : PointPairs
        All that agree with their neighbours, as measured: what the dense motion is fitted to.
    matched : int
        How many pairs there were, those held back not counted, before outliers were rejected.
    agreed : int
        How many were left then.
    motion : Path, optional
        Transform file of the dense landmark motion; None for given points or few pairs.
    """

    guiding: PointPairs
    held_back: PointPairs
    measured: PointPairs
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


def landmarks_for(session: Session) -> Landmarks:
    """The pairs that will guide the b-spline stage: given ones, the network's, or none."""
    given = session.inputs.points
    if given is not None:
        refuse_swapped(session, given)
        given = _given_outside_ignored(session, given)
        _count_outside_mask(session, given.moving)
        return Landmarks.given(given)
    if session.network is None:
        return Landmarks.none()
    found = seek_landmarks(session)
    short = shortage(found.guiding, session.options) or _sparse(session, found)
    if short is None:
        _count_outside_mask(session, found.guiding.moving)
        return found
    if session.options.guides.on_few_landmarks == "fail":
        raise TooFewLandmarks(
            f"{short}; {LOOK_AGAIN}, or go on with --on-few-landmarks register-without"
        )
    session.record.warn(f"{short}; registered without landmarks")
    return Landmarks.none()


def refuse_swapped(session: Session, given: PointPairs) -> None:
    """Refuse points that fit far better the other way round, once the global motion is gone."""
    forward, swapped = (
        float(np.median(distances_mm(session.affine_chain.map_points(one), other)))
        for one, other in ((given.fixed, given.moving), (given.moving, given.fixed))
    )
    if forward > 2 * swapped + SWAPPED_MM:
        raise BadPoints(
            f"points: after the affine stage the fixed ones lie {forward:.0f} mm from their moving "
            f"ones, the other way round {swapped:.0f} mm; they look swapped, give FIXED first"
        )


def _given_outside_ignored(session: Session, given: PointPairs) -> PointPairs:
    """A user's pairs without those in tissue that is to be ignored."""
    kept = _outside_ignored(session, given)
    if dropped := len(given) - len(kept):
        session.record.warn(
            f"{dropped} of {len(given)} points lie in tissue that is to be ignored; they are left "
            "out"
        )
    if not len(kept):
        raise BadPoints("points: all lie in tissue that is to be ignored; give others")
    return kept


def _outside_ignored(session: Session, pairs: PointPairs) -> PointPairs:
    """The pairs that lie in ignored tissue on neither side."""
    kept = np.ones(len(pairs), dtype=bool)
    for side in ("fixed", "moving"):
        ignored = getattr(session.inputs, f"{side}_ignored")
        if ignored is not None:
            kept &= ~inside_mask(ignored, getattr(pairs, side))
    return pairs.select(kept)


def _count_outside_mask(session: Session, moving: Points) -> None:
    inputs = session.inputs
    outside = len(outside_mask(inputs.moving_mask, moving))
    if outside:
        padding = "" if inputs.moving_padding is None else " or in padding"
        session.record.warn(
            f"{outside} of {len(moving)} landmarks lie outside the moving mask or image{padding}; "
            "they are kept, and the mask is opened around them"
        )


def shortage(pairs: PointPairs, options: RegisterOptions) -> str | None:
    """What to say of too few pairs; None where there are enough."""
    if len(pairs) >= options.guides.min_landmarks:
        return None
    return f"{len(pairs)} landmarks found, expected at least {options.guides.min_landmarks}"


def _sparse(session: Session, found: Landmarks) -> str | None:
    """What to say of few pairs between images that are no CT; None where there are enough.

    In another contrast few landmarks find a partner, and of those that do most are wrong.
    """
    inputs, least = session.inputs, Limits().per_litre[0]
    if inputs.comparable:
        return None
    affine = session.affine_chain
    litres = shared_litres(inputs.fixed_body, inputs.moving, inputs.moving_padding, affine)
    count = found.matched + len(found.held_back)
    if count >= least * litres:
        return None
    return (
        f"{count / litres:.0f} landmarks in a litre of the body found a partner, expected at least "
        f"{least:.0f} to trust them in images that are no CT"
    )


def seek_landmarks(session: Session, fixed: "FixedVolume | None" = None) -> Landmarks:
    """Match, warp the moving image by the dense landmark motion, and match again what is left.

    What a first pass misses by a millimetre, a second one sees nearly undeformed. The guides are
    spread over all pairs and projected onto that motion, which knows more than each of them.
    `fixed` is as `fixed_volume` makes it.
    """
    if fixed is None:
        fixed = fixed_volume(session)
    passes = session.options.match_passes()
    found, share = _match(session, fixed, session.affine_chain, None)
    most = session.options.most_landmarks()
    if len(found.measured) < ENOUGH:
        return replace(found, guiding=select_spread(found.measured, most))
    motion = dense_motion(session, found.measured, "pass1")
    for number in range(2, passes + 1):
        again, _ = _match(session, fixed, read_transform(motion), share, again=True)
        if again.agreed < found.agreed:
            break
        found, motion = again, dense_motion(session, again.measured, f"pass{number}")
    log.info("%d pairs matched, %d agree", found.matched, found.agreed)
    guiding = _usable(session, projected(found.measured, motion, most))
    return replace(found, guiding=guiding, motion=motion)


def projected(pairs: PointPairs, motion: Path, count: int) -> PointPairs:
    """At most `count` of the pairs, well spread, with moving points where `motion` puts them."""
    guides = select_spread(pairs, count)
    return replace(guides, moving=read_transform(motion).map_points(guides.fixed))


def fixed_volume(session: Session, kind: "type[FixedVolume] | None" = None) -> "FixedVolume":
    """The fixed side of all passes; `kind` is a class of it."""
    # torch is slow to load and a run with given points never needs it
    from landmark_dir.matching.volumes import FixedVolume

    assert session.network is not None
    inputs, options = session.inputs, session.options.matching
    fixed = as_thick(inputs.fixed, *slice_distances_mm(inputs.fixed, inputs.moving))
    return (kind or FixedVolume)(session.network.network, fixed, inputs.fixed_body, options)


def _match(
    session: Session,
    fixed: "FixedVolume",
    chain: Chain,
    share: float | None,
    *,
    again: bool = False,
) -> tuple[Landmarks, float]:
    """Match the moving image as `chain` warps it; hold places back, reject outliers.

    Parameters
    ----------
    share : float, optional
        Share of the places to hold back; None: as the options say, and `HELD_BACK` at most.

    Returns
    -------
    landmarks : Landmarks, without guides
    share : float
        That was held back: the same in a later pass holds back the same places.
    """
    from landmark_dir.matching.seek_volume import LEFT, WIDE  # as above
    from landmark_dir.matching.volumes import grid_to_match
    from landmark_dir.models import device

    options, inputs = session.options, session.inputs
    assert session.network is not None
    with session.stage("pre-align"):
        grid = grid_to_match(session.network.network, inputs.fixed, inputs.moving)
        # a first look need not be sharp
        linear = not again and options.match_passes() > 1
        prealigned = resample(inputs.moving, chain, grid, inputs.outside_hu(), linear=linear)
        body = body_mask(prealigned)
        fixed_mm, moving_mm = slice_distances_mm(inputs.fixed, inputs.moving)
        prealigned = as_thick(prealigned, moving_mm, fixed_mm)
    with session.stage("landmarks") as progress, device.torch_threads(options.compute.threads):
        look = LEFT if again else WIDE
        pairs = fixed.match(prealigned, body, look, progress)
    with session.stage("outliers"):
        if share is None:
            share = min(options.guides.hold_back, HELD_BACK / max(1, len(pairs)))
        held, shown = (  # a later pass may match more: then it takes some of the held-back only
            held_back_places(pairs.fixed, part, options.compute.seed)
            for part in (share, min(share, HELD_BACK / max(1, len(pairs))))
        )
        rest = pairs.select(~held)
        agreed = reject_outliers(rest, options.outliers)
        measured, held_back = (
            _truly_moving(session, chain, part) for part in (agreed, pairs.select(shown))
        )
    return Landmarks(PointPairs.empty(), held_back, measured, len(rest), len(agreed)), share


def held_back_places(fixed: Points, share: float, seed: int) -> NDArray[np.bool_]:
    """Which of the places [N, 3], LPS mm, are held back: about `share` of them.

    A number is drawn from each place itself and the seed, so a place that is held back in one
    matching pass is held back in all of them, whatever else is matched.
    """
    steps = np.round(fixed / PLACE_MM).astype(np.int64).astype(np.uint64)  # wraps where negative
    key = np.full(len(fixed), seed, np.uint64)
    for column in steps.T:
        key = _mixed(key ^ column)
    return np.asarray(key < share * 2.0**64)


def _mixed(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread integers evenly over 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    key = key + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def _truly_moving(session: Session, chain: Chain, pairs: PointPairs) -> PointPairs:
    """The pairs with their moving points in the moving image's own space."""
    moving = chain.map_points(pairs.moving)
    kept = inside(session.inputs.moving, moving)  # the pre-aligned grid may reach beyond it
    return _usable(session, replace(pairs, moving=moving).select(kept))


def _usable(session: Session, pairs: PointPairs) -> PointPairs:
    """The pairs that elastix can do something with: neither in padding nor in ignored tissue."""
    padding = session.inputs.moving_padding
    if padding is not None:
        pairs = pairs.select(~inside_mask(padding, pairs.moving))
    return _outside_ignored(session, pairs)


def dense_motion(session: Session, pairs: PointPairs, name: str) -> Path:
    """The affine map, and after it a smooth b-spline fitted to pairs, as a transform file."""
    with session.stage("dense motion"):
        affine = session.affine_chain
        fixed, box = (affine.map_points(p) for p in (pairs.fixed, corners(session.inputs.fixed)))
        uncertain = scatter(fixed, pairs.moving)
        spline = fit_spline(fixed, pairs.moving - fixed, box, scatter_mm=uncertain)
        return write_after(spline, session.affine, session.work / f"{name}.txt")
