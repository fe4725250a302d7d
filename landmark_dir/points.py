"""Corresponding points of two volumes."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadArgument, BadPoints
from landmark_dir.geometry import (
    Points,
    as_points,
    distances_mm,
    index_to_physical,
    inside,
    physical_to_index,
)

FAR_MM = 100.0  # farther outside its image no point is a place of the body in it
RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, repr=False)
class PointPairs:
    """Corresponding points: row i of `fixed` is the same spot of the body as row i of `moving`.

    Attributes
    ----------
    fixed, moving : ndarray, shape (N, 3), float64
        LPS mm, each in the space of its own image; N may be 0.
    score : ndarray, shape (N,), float64
        Trust in each pair, 0..1; 1 if it is not given.

    Raises
    ------
    BadArgument
        If a shape is not as expected, the lengths differ, a coordinate is not finite, or a score is
        outside 0..1.
    """

    fixed: Points
    moving: Points
    score: NDArray[np.float64] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for side in ("fixed", "moving"):
            object.__setattr__(self, side, _checked_points(getattr(self, side), side))
        score = np.ones(len(self.fixed)) if self.score is None else self.score
        object.__setattr__(self, "score", np.asarray(score, dtype=np.float64))
        counts = len(self.fixed), len(self.moving)
        if counts[0] != counts[1] or self.score.shape != counts[:1]:
            raise BadArgument(
                f"{counts[0]} fixed points, {counts[1]} moving points and scores of shape"
                f" {self.score.shape}; expected one of each per pair"
            )
        if not ((self.score >= 0) & (self.score <= 1)).all():
            raise BadArgument("score: expected numbers of 0 to 1, found some outside")

    def __repr__(self) -> str:
        if not len(self):
            return "<PointPairs: none>"
        return f"<PointPairs: {len(self)}, score {self.score.min():.2f} to {self.score.max():.2f}>"

    @classmethod
    def empty(cls) -> "PointPairs":
        """Return no pairs."""
        return cls(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))

    def __len__(self) -> int:
        return len(self.fixed)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "PointPairs":
        """Return the pairs that a mask [N] or an array of row numbers chooses."""
        return PointPairs(self.fixed[rows], self.moving[rows], self.score[rows])


def _checked_points(values: object, side: str) -> Points:
    try:
        points = as_points(values)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise BadArgument(f"{side}: {error}") from error
    if not np.isfinite(points).all():
        raise BadArgument(f"{side}: NaN or infinite coordinates; drop those pairs first")
    return points


def check_inside(pairs: PointPairs, fixed_image: sitk.Image, moving_image: sitk.Image) -> None:
    """Refuse pairs of which most lie outside their images, and say what would fit.

    Two images that share one region of space cannot tell swapped sets by position.

    Raises
    ------
    BadPoints
        If at least half of the fixed or of the moving points are outside, or one is more than
        `FAR_MM` outside.
    """
    images = fixed_image, moving_image

    def fits(fixed: Points, moving: Points) -> bool:
        return bool(min(inside(images[0], fixed).mean(), inside(images[1], moving).mean()) > 0.5)

    fixed, moving = pairs.fixed, pairs.moving
    if not len(pairs):
        return
    if fits(fixed, moving):
        _refuse_far(fixed, images[0], "fixed")
        _refuse_far(moving, images[1], "moving")
        return
    guesses: dict[str, tuple[Points, Points]] = {
        "the two sets are swapped": (moving, fixed),
        "the points are RAS, not LPS": (fixed * RAS_TO_LPS, moving * RAS_TO_LPS),
        "the coordinates are in z, y, x order": (fixed[:, ::-1], moving[:, ::-1]),
        "the points are voxel indices, not mm": (
            index_to_physical(images[0], fixed),
            index_to_physical(images[1], moving),
        ),
    }
    likely = [guess for guess, changed in guesses.items() if fits(*changed)]
    raise BadPoints(
        f"{np.sum(~inside(images[0], fixed))} of {len(pairs)} fixed points lie outside the fixed"
        f" image, {np.sum(~inside(images[1], moving))} moving points outside the moving image; "
        + (" or ".join(likely) if likely else "expected physical mm (LPS) of these two images")
    )


def frame_hint(points: Points, image: sitk.Image) -> str:
    """What to say of points [N, 3] that lie outside an image but inside it as RAS; else nothing."""
    if not len(points) or inside(image, points).mean() > 0.5:
        return ""
    as_lps = inside(image, points * RAS_TO_LPS).mean() > 0.5
    return "; most lie inside if they are RAS: then change the signs of x and y" if as_lps else ""


def _refuse_far(points: Points, image: sitk.Image, side: str) -> None:
    last = np.asarray(image.GetSize()) - 1
    nearest = index_to_physical(image, np.clip(physical_to_index(image, points), 0, last))
    far_mm = distances_mm(points, nearest)
    row = int(far_mm.argmax())
    if far_mm[row] > FAR_MM:
        raise BadPoints(
            f"{side} point {row + 1} of {len(points)} lies {far_mm[row]:.0f} mm outside the {side} "
            f"image, expected at most {FAR_MM:.0f} mm; correct or remove that pair"
        )
