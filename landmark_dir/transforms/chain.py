"""A chain of transforms: the one way in which points and images are mapped.

Read from an elastix transform file, evaluated with numpy and SimpleITK. Fixed points to moving
points, LPS mm, as in elastix; agrees with transformix to a micrometre.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import SimpleITK as sitk

from landmark_dir.elastix.parameters import ParameterMap
from landmark_dir.elastix.transform_files import numbers, read_chain, write_bspline
from landmark_dir.errors import BadRunFolder, ElastixFailed
from landmark_dir.geometry import Points, as_points
from landmark_dir.transforms.bspline import SUPPORT, BSpline, Floats

SINGULAR = 1e-3  # determinant of directions below which they are none


class Step(Protocol):
    """One transform of a chain."""

    def map_points(self, points: Points) -> Points:
        """Points [N, 3], LPS mm, mapped."""

    def itk(self) -> sitk.Transform:
        """The same for SimpleITK."""


@dataclass(frozen=True)
class Linear:
    """x -> matrix (x - centre) + centre + shift."""

    matrix: Floats
    centre: Floats
    shift: Floats

    def after(self, first: "Linear") -> "Linear":
        """One map that does `first`, then this."""
        constant = first.map_points(np.zeros((1, 3)))
        shift = self.map_points(constant)[0]
        return Linear(self.matrix @ first.matrix, np.zeros(3), shift)

    def map_points(self, points: Points) -> Points:
        """Points [N, 3], LPS mm, mapped."""
        return as_points((points - self.centre) @ self.matrix.T + self.centre + self.shift)

    def itk(self) -> sitk.Transform:
        """The same for SimpleITK."""
        return sitk.AffineTransform(
            self.matrix.ravel().tolist(), self.shift.tolist(), self.centre.tolist()
        )


IDENTITY = Linear(np.eye(3), np.zeros(3), np.zeros(3))


@dataclass(frozen=True)
class Chain:
    """Transforms one after the other; the last of the list is applied first."""

    steps: tuple[Step, ...]

    def map_points(self, points: Points) -> Points:
        """Fixed points [N, 3], LPS mm, to moving points; N may be 0."""
        mapped = as_points(points)
        for step in reversed(self.steps):
            mapped = step.map_points(mapped)
        return mapped

    def affine(self) -> "Chain":
        """Its affine steps; all others come after them."""
        return Chain(tuple(step for step in self.steps if isinstance(step, Linear)))

    def as_linear(self) -> Linear | None:
        """The one linear map that it is; None if it bends."""
        found = IDENTITY
        for step in reversed(self.steps):
            if not isinstance(step, Linear):
                return None
            found = step.after(found)
        return found

    def then(self, step: Step) -> "Chain":
        """The chain with one more step, which is applied last."""
        return Chain((step, *self.steps))

    def itk(self) -> sitk.CompositeTransform:
        """The same for SimpleITK, which applies the last of a list first, too."""
        return sitk.CompositeTransform([step.itk() for step in _merged(self.steps)])


def _merged(steps: Sequence[Step]) -> list[Step]:
    """The same steps with linear ones that follow each other made one: SimpleITK is quicker so."""
    merged: list[Step] = []
    for step in steps:
        if merged and isinstance(step, Linear) and isinstance(merged[-1], Linear):
            merged[-1] = merged[-1].after(step)
        else:
            merged.append(step)
    return merged


def read_transform(transform: Path, *, inside: Path | None = None) -> Chain:
    """Read an elastix transform file and the initial transforms it names; see `read_chain`.

    Raises
    ------
    ElastixFailed
        If a file is missing or damaged.
    BadRunFolder
        If it holds a kind of transform that no run of this package makes.
    """
    return Chain(
        tuple(_step(parameters, transform) for parameters in read_chain(transform, inside=inside))
    )


def write_after(step: BSpline, initial: Path, file: Path) -> Path:
    """Write a b-spline that comes after the transform file `initial`, as elastix transform file."""
    return write_bspline(
        step.coefficients, step.origin, step.spacing, step.direction, initial, file
    )


def _step(parameters: ParameterMap, file: Path) -> Step:
    (kind,) = parameters["Transform"]
    said = parameters.get("NumberOfParameters", (str(len(parameters["TransformParameters"])),))
    values = numbers(parameters, "TransformParameters", _count(said, file), file)
    if kind == "TranslationTransform" and len(values) == 3:
        return Linear(np.eye(3), np.zeros(3), values)
    if kind == "AffineTransform" and len(values) == 12:
        centre = numbers(parameters, "CenterOfRotationPoint", 3, file)
        return Linear(values[:9].reshape(3, 3), centre, values[9:])
    order = parameters.get("BSplineTransformSplineOrder", ("3",))
    if kind in ("BSplineTransform", "RecursiveBSplineTransform") and order == ("3",):
        return _bspline(parameters, values, file)
    raise BadRunFolder(
        f"{file}: expected translations, affine maps and cubic b-splines in 3D, found {kind} of "
        f"{len(values)} parameters; use transformix for this one"
    )


def _count(said: tuple[str, ...], file: Path) -> int:
    if len(said) != 1 or not re.fullmatch("[0-9]{1,18}", said[0]):
        raise ElastixFailed(f"{file}: expected one whole number for NumberOfParameters")
    return int(said[0])


def _bspline(parameters: ParameterMap, values: Floats, file: Path) -> BSpline:
    size = numbers(parameters, "GridSize", 3, file)
    spacing = numbers(parameters, "GridSpacing", 3, file)
    # elastix writes the matrix column by column
    direction = numbers(parameters, "GridDirection", 9, file).reshape(3, 3).T
    fits = (size > SUPPORT).all() and (size % 1 == 0).all() and 3 * size.prod() == len(values)
    if not fits or spacing.min() <= 0 or abs(np.linalg.det(direction)) < SINGULAR:
        raise ElastixFailed(
            f"{file}: its b-spline has no grid that fits its {len(values)} parameters"
            " (GridSize, GridSpacing, GridDirection); copy it again"
        )
    index, cyclic = parameters.get("GridIndex", ("0",) * 3), parameters.get("UseCyclicTransform")
    if index != ("0",) * 3 or cyclic not in (None, ("false",)):
        raise ElastixFailed(
            f"{file}: expected a b-spline with GridIndex 0 0 0 that is not cyclic"
            "; use transformix for this one"
        )
    x, y, z = size.astype(int)
    origin = numbers(parameters, "GridOrigin", 3, file)
    return BSpline(values.reshape(3, z, y, x), origin, spacing, direction)
