"""An elastix transform file as numpy and as SimpleITK see it, without an engine.

Fixed points to moving points, LPS mm, as in elastix; agrees with transformix to a micrometre.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from landmark_dir.elastix.parameters import ParameterMap
from landmark_dir.elastix.transform_files import read_chain
from landmark_dir.errors import BadRunFolder
from landmark_dir.geometry import Points, as_points

Floats: TypeAlias = NDArray[np.float64]
SUPPORT = 3  # control points around a place, less one: cubic


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

    def map_points(self, points: Points) -> Points:
        """Points [N, 3], LPS mm, mapped."""
        return as_points((points - self.centre) @ self.matrix.T + self.centre + self.shift)

    def itk(self) -> sitk.Transform:
        """The same for SimpleITK."""
        return sitk.AffineTransform(
            self.matrix.ravel().tolist(), self.shift.tolist(), self.centre.tolist()
        )


@dataclass(frozen=True)
class BSpline:
    """x -> x + a cubic b-spline; none beyond its grid, as in ITK and elastix.

    Attributes
    ----------
    coefficients : ndarray, shape (3, Z, Y, X)
    origin, spacing : ndarray, shape (3,)
    direction : ndarray, shape (3, 3)
    """

    coefficients: Floats
    origin: Floats
    spacing: Floats
    direction: Floats

    def map_points(self, points: Points) -> Points:
        """Points [N, 3], LPS mm, mapped."""
        to_index = np.linalg.inv(self.direction * self.spacing)
        index = (points - self.origin) @ to_index.T
        size = np.array(self.coefficients.shape[:0:-1])
        held = ((index >= 1) & (index < size - SUPPORT + 1)).all(axis=1)
        zyx = index[held, ::-1].T
        mapped = points.copy()
        for axis, values in enumerate(self.coefficients):
            mapped[held, axis] += ndimage.map_coordinates(
                values, zyx, order=3, prefilter=False, mode="nearest"
            )
        return mapped

    def itk(self) -> sitk.Transform:
        """The same for SimpleITK."""
        transform = sitk.BSplineTransform(3, 3)
        size = self.coefficients.shape[:0:-1]
        transform.SetFixedParameters(
            [*map(float, size), *self.origin, *self.spacing, *self.direction.ravel()]
        )
        transform.SetParameters(self.coefficients.ravel().tolist())
        return transform


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

    def itk(self) -> sitk.CompositeTransform:
        """The same for SimpleITK, which applies the last of a list first, too."""
        return sitk.CompositeTransform([step.itk() for step in self.steps])


def read_transform(transform: Path) -> Chain:
    """Read an elastix transform file and the initial transforms it names.

    Raises
    ------
    ElastixFailed
        If a file is missing or damaged.
    BadRunFolder
        If it holds a kind of transform that no run of this package makes.
    """
    return Chain(tuple(_step(parameters, transform) for parameters in read_chain(transform)))


def _step(parameters: ParameterMap, file: Path) -> Step:
    (kind,) = parameters["Transform"]
    values = _floats(parameters, "TransformParameters")
    if kind == "TranslationTransform":
        return Linear(np.eye(3), np.zeros(3), values)
    if kind == "AffineTransform":
        centre = _floats(parameters, "CenterOfRotationPoint")
        return Linear(values[:9].reshape(3, 3), centre, values[9:])
    order = parameters.get("BSplineTransformSplineOrder", ("3",))
    if kind in ("BSplineTransform", "RecursiveBSplineTransform") and order == ("3",):
        x, y, z = (int(float(n)) for n in parameters["GridSize"])
        return BSpline(
            values.reshape(3, z, y, x),
            _floats(parameters, "GridOrigin"),
            _floats(parameters, "GridSpacing"),
            # elastix writes the matrix column by column
            _floats(parameters, "GridDirection").reshape(3, 3).T,
        )
    raise BadRunFolder(
        f"{file}: expected translations, affine maps and cubic b-splines, found {kind}; "
        "use transformix for this one"
    )


def _floats(parameters: ParameterMap, name: str) -> Floats:
    return np.array(parameters[name], dtype=np.float64)
