"""Where a registration starts: how the moving image lies to the fixed one, roughly."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadPoints, NoCommonAnatomy
from landmark_dir.evaluation.metrics import correlation
from landmark_dir.geometry import centre, corners, distances_mm
from landmark_dir.io.volumes import overlap_fraction
from landmark_dir.matching.rigid_fit import Rigid, find_rigid
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.preprocessing.intensity import looks_like_ct
from landmark_dir.progress import Progress, silent
from landmark_dir.registration.inputs import MIN_OVERLAP, Inputs, check_overlap

if TYPE_CHECKING:  # torch is slow to load
    from landmark_dir.matching.coarse_start import Found
    from landmark_dir.models.default import SeekNetwork
    from landmark_dir.models.weights import LoadedWeights

log = logging.getLogger(__name__)

NEAR_MM, NEAR_DEGREES = 25.0, 20.0  # from the world, of a start that the affine stage bridges
NEAR_SHARE = 0.25  # of the thinner image: a few slices are soon missed altogether
POINTS_MM = 40.0  # the same for the median of given points
LITTLE = 80  # landmarks, fewer of which refute no world in which the check saw too few
LEAST_POINTS = 4  # that a turn is fitted to
SWAPPED_BY = 0.2  # of correlation, by which swapped points lay the images better
COARSE_MM, NO_DATA = 6.0, -1e6
SAME = Rigid(np.eye(3), np.zeros(3))
ANYWAY = (
    "--align world goes on from the headers all the same, --align centers from the image centres"
)


@dataclass(frozen=True)
class Start:
    """How the moving image lies to the fixed one, roughly, and how that is known.

    Attributes
    ----------
    kind : str
        world, centers, landmarks, points.
    rigid : Rigid
        Fixed to moving points, LPS mm.
    agreeing, of : int or None
        Landmarks or points that agree with it, of how many; None: nobody looked.
    """

    kind: str
    rigid: Rigid = SAME
    agreeing: int | None = None
    of: int | None = None

    def described(self) -> dict[str, Any]:
        """As in `run.json`."""
        return {
            "from": self.kind,
            "turn_degrees": round(self.rigid.degrees(), 2),
            "matrix": self.rigid.turn.ravel().tolist(),
            "shift_mm": self.rigid.shift.tolist(),
            "agreeing": self.agreeing,
            "of": self.of,
        }


def told(described: dict[str, Any]) -> str:
    """What `run.json` says of a start, for people."""
    kind = {"centers": "image centres", "world": "headers"}.get(
        described["from"], described["from"]
    )
    text = f"start from the {kind}" if described["from"] != "landmarks" else "start from landmarks"
    if described["turn_degrees"] >= 1:
        text += f", turned by {described['turn_degrees']:.0f} degrees"
    if described["agreeing"] is None:
        return f"{text}, not checked"
    return f"{text}, {described['agreeing']} of {described['of']} pairs agree"


def find_start(
    inputs: Inputs,
    options: RegisterOptions,
    loaded: "LoadedWeights | None",
    progress: Progress = silent,
) -> Start:
    """The start that the options ask for.

    `auto` keeps to the world where landmarks of a few slices say it is about right, and else
    searches. Given points take the place of landmarks. Where too few landmarks can tell (almost
    nothing in an image, no CT) the world is taken if the images overlap there.

    Raises
    ------
    BadPoints
        If given points fit the other way round only.
    NoCommonAnatomy
        If landmarks contradict the world and agree on no other start.
    BadVolume
        If the images do not overlap and nothing else can be told.
    """
    if options.align == "world":
        return Start("world")
    if options.align == "centers":
        return Start("centers", _shift(centre(inputs.moving) - centre(inputs.fixed)))
    if inputs.points is not None:
        start = from_points(inputs.points)
        if start.kind == "points" and inputs.comparable:
            _refuse_swapped(inputs, start.rigid)
        return start
    as_hu = (inputs.fixed, inputs.fixed_scale), (inputs.moving, inputs.moving_scale)
    if any(scale is None and looks_like_ct(image) for image, scale in as_hu):
        return _unchecked(inputs)
    return _from_landmarks(inputs, options, loaded, progress)


def from_points(points: PointPairs) -> Start:
    """The world if it brings most points near their partners, else a motion fitted to them."""
    off = distances_mm(points.fixed, points.moving)
    if np.median(off) <= POINTS_MM:
        return Start("world", SAME, int((off <= POINTS_MM).sum()), len(points))
    fit = None
    if len(points) >= LEAST_POINTS:
        fit = find_rigid(points.fixed, points.moving, np.random.default_rng(0))
    if fit is None:
        shift = np.median(points.moving - points.fixed, axis=0)
        near = distances_mm(points.fixed + shift, points.moving) <= POINTS_MM
        return Start("points", _shift(shift), int(near.sum()), len(points))
    return Start("points", fit[0], int(fit[1].sum()), len(points))


def _refuse_swapped(inputs: Inputs, rigid: Rigid) -> None:
    """Refuse points that bring the images together the other way round only."""
    given, other = (_likeness(inputs, one) for one in (rigid, rigid.inverse()))
    if other > given + SWAPPED_BY:
        raise BadPoints(
            "points: brought together as the points say the images hardly agree (correlation "
            f"{given:.2f}), the other way round they do ({other:.2f}); they look swapped, give "
            "FIXED first"
        )


def _likeness(inputs: Inputs, rigid: Rigid) -> float:
    """Correlation inside the fixed body of coarse images laid over each other; -1: nothing is."""
    spacing, size = inputs.fixed.GetSpacing(), inputs.fixed.GetSize()
    shrink = [max(1, min(round(COARSE_MM / mm), n)) for mm, n in zip(spacing, size, strict=True)]
    fixed, body = (sitk.Shrink(one, shrink) for one in (inputs.fixed, inputs.fixed_body))
    there = sitk.AffineTransform(rigid.turn.ravel().tolist(), rigid.shift.tolist())
    moving = sitk.Resample(inputs.moving, fixed, there, sitk.sitkLinear, NO_DATA, sitk.sitkFloat32)
    alike = correlation(fixed, moving, sitk.And(body, moving > NO_DATA / 2))
    return -1.0 if np.isnan(alike) else alike


def _from_landmarks(
    inputs: Inputs,
    options: RegisterOptions,
    loaded: "LoadedWeights | None",
    progress: Progress,
) -> Start:
    # torch is slow to load and a run with given points never needs it
    from landmark_dir.matching.coarse_start import check_start, seek_start
    from landmark_dir.models.device import torch_threads

    network = _network(options, loaded)
    overlap = overlap_fraction(inputs.fixed, inputs.moving)
    with torch_threads(options.compute.threads):
        little = False
        if overlap >= MIN_OVERLAP:
            checked = check_start(network, inputs.fixed, inputs.moving)
            if checked.sure and not checked.mirrored and _is_near(checked, inputs):
                return Start("world", SAME, checked.agreeing, checked.of)
            little = not checked.judged
        found = seek_start(network, inputs.fixed, inputs.moving, progress)
    unsure = found.rigid is None or not found.sure
    little = little and not found.sure and found.tried < LITTLE
    if little or not found.judged:
        return _unchecked(inputs)
    if unsure and not inputs.comparable:  # in another contrast few landmarks find a partner
        return _unchecked(inputs)
    _refuse_mirrored(found)
    if found.rigid is None or unsure:
        raise NoCommonAnatomy(
            "these two do not show the same part of a body: expected landmarks that agree on how "
            f"moving lies to fixed, found {found.agreeing} of {found.of} that do, as chance has "
            f"it (by their headers they overlap in {overlap:.0%}); check the files; {ANYWAY}"
        )
    return Start("landmarks", found.rigid, found.agreeing, found.of)


def _refuse_mirrored(found: "Found") -> None:
    if found.mirrored:
        raise NoCommonAnatomy(
            "one of these two is mirrored: far more landmarks agree once left and right, or head "
            f"and feet, of one image are exchanged; mend its file; {ANYWAY}"
        )


def _network(options: RegisterOptions, loaded: "LoadedWeights | None") -> "SeekNetwork":
    """The run's own network, if it can seek, else the shipped one that can."""
    from landmark_dir.models.default import SeekNetwork
    from landmark_dir.models.device import choose_device
    from landmark_dir.models.weights import load_weights

    if loaded is not None and isinstance(loaded.network, SeekNetwork):
        return loaded.network
    network = load_weights("default", choose_device(options.compute.device)).network
    assert isinstance(network, SeekNetwork)
    return network


def _is_near(found: "Found", inputs: Inputs) -> bool:
    assert found.rigid is not None
    places = np.concatenate([corners(inputs.fixed), centre(inputs.fixed)])
    moved = np.median(distances_mm(found.rigid.map_points(places), places))
    images = inputs.fixed, inputs.moving
    thin_mm = min(np.multiply(image.GetSize(), image.GetSpacing()).min() for image in images)
    near_mm = min(NEAR_MM, NEAR_SHARE * thin_mm)
    return bool(moved <= near_mm and found.rigid.degrees() <= NEAR_DEGREES)


def _unchecked(inputs: Inputs) -> Start:
    check_overlap(inputs.fixed, inputs.moving)
    return Start("world")


def _shift(shift_mm: NDArray[np.float64]) -> Rigid:
    return Rigid(np.eye(3), np.ravel(shift_mm))
