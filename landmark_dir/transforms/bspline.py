"""A cubic b-spline transform: what a fit gives, a file holds, and a chain evaluates."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from landmark_dir.geometry import Points

Floats: TypeAlias = NDArray[np.float64]
SUPPORT = 3  # control points around a place, less one: cubic


@dataclass(frozen=True)
class BSpline:
    """x -> x + a cubic b-spline; none beyond its grid, as in ITK and elastix.

    Attributes
    ----------
    coefficients : ndarray, shape (3, Z, Y, X)
        Of the displacement along x, y, z, LPS mm, at the control points.
    origin, spacing : ndarray, shape (3,)
        World place (x, y, z) of the first control point, and the distance of the next, mm.
    direction : ndarray, shape (3, 3)
        Columns: the world directions of the axes x, y, z of the grid.
    """

    coefficients: Floats
    origin: Floats
    spacing: Floats
    direction: Floats

    def displacement(self, points: Points) -> Points:
        """Displacement [N, 3], mm, at points [N, 3], LPS mm."""
        to_index = np.linalg.inv(self.direction * self.spacing)
        index = (points - self.origin) @ to_index.T
        size = np.array(self.coefficients.shape[:0:-1])
        held = ((index >= 1) & (index < size - SUPPORT + 1)).all(axis=1)
        zyx = index[held, ::-1].T
        moved = np.zeros_like(points)
        for axis, values in enumerate(self.coefficients):
            moved[held, axis] = ndimage.map_coordinates(
                values, zyx, order=3, prefilter=False, mode="nearest"
            )
        return moved

    def map_points(self, points: Points) -> Points:
        """Points [N, 3], LPS mm, mapped."""
        return np.asarray(points + self.displacement(points))

    def itk(self) -> sitk.Transform:
        """The same for SimpleITK."""
        transform = sitk.BSplineTransform(3, 3)
        size = self.coefficients.shape[:0:-1]
        transform.SetFixedParameters(
            [*map(float, size), *self.origin, *self.spacing, *self.direction.ravel()]
        )
        transform.SetParameters(self.coefficients.ravel().tolist())
        return transform
