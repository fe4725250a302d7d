"""What a page of a run or a comparison is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.geometry import Points
from landmark_dir.points import PointPairs

Table: TypeAlias = tuple[str, Sequence[str], Sequence[Sequence[object]]]  # title, header, rows


class Answer(NamedTuple):
    """Whether landmarks helped: the answer, the figures behind it, and what they are worth."""

    headline: str
    figures: Sequence[str]
    caveats: Sequence[str]


@dataclass(frozen=True)
class Arm:
    """One registration, as the page shows it.

    Attributes
    ----------
    name : str
    warped : sitk.Image or None
        Moving image on the fixed grid; None for a run that ends with its landmarks.
    bends : sitk.Image or None
        What the b-spline adds to the affine map: vectors, mm, LPS, on any grid.
    jacobian : sitk.Image or None
        The determinant of dT/dx, on any grid.
    distances_mm : mapping
        Title -> distances [N], mm.
    run : mapping
        Content of `run.json`.
    """

    name: str
    warped: sitk.Image | None
    bends: sitk.Image | None
    jacobian: sitk.Image | None
    distances_mm: Mapping[str, NDArray[np.float64]]
    run: Mapping[str, Any]


@dataclass(frozen=True)
class Content:
    """Everything a page shows.

    Attributes
    ----------
    body : sitk.Image
        Where the body is in the fixed image, 0 / 1.
    before : sitk.Image
        The moving image on the fixed grid before any registration.
    affine : sitk.Image or None
        The moving image on the fixed grid after the affine stage; None where there was none.
    arms : sequence of Arm
        One, or two of a comparison.
    pairs : PointPairs
        Landmarks, held back ones included.
    moving_before : ndarray, shape (N, 3)
        Where their moving points are seen in `before`, LPS mm.
    residual_mm : ndarray, shape (N,), or None
    held_back : ndarray of bool, shape (N,)
    tables : sequence of Table
        Shown below the images.
    start : str
        How the registration started, in a sentence.
    answer : Answer or None
        What a comparison says; None for a single run.
    """

    fixed: sitk.Image
    body: sitk.Image
    before: sitk.Image
    affine: sitk.Image | None
    arms: Sequence[Arm]
    pairs: PointPairs
    moving_before: Points
    residual_mm: NDArray[np.float64] | None
    held_back: NDArray[np.bool_]
    tables: Sequence[Table] = ()
    start: str = ""
    answer: Answer | None = None
