"""Displacement fields and matrices of other programs, as maps of LPS points.

Nothing here trusts a reader to turn vectors: NIfTI files are read as they lie (nibabel), for
programs that use ITK write LPS vectors into files whose grid is said in RAS.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from benchmarks.peers.contract import Map
from landmark_dir.geometry import Points, as_points, index_to_mm

Floats = NDArray[np.float64]
LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Field:
    """Three values at each voxel.

    Attributes
    ----------
    values : ndarray
        [x, y, z, 3].
    to_lps : ndarray
        4 x 4, voxel index (x, y, z) to LPS mm.
    """

    values: NDArray[Any]
    to_lps: Floats

    def index(self, points: Points) -> Points:
        """LPS points [N, 3] as voxel indices (x, y, z)."""
        return apply(np.asarray(np.linalg.inv(self.to_lps), np.float64), points)

    def at_index(self, index: Points) -> Floats:
        """Values between the voxels [N, 3]; beyond the edge those of the edge."""
        columns = [
            map_coordinates(self.values[..., k], index.T, np.float64, order=1, mode="nearest")
            for k in range(3)
        ]
        return np.stack(columns, axis=-1)

    def at(self, points: Points) -> Floats:
        """Values at LPS points [N, 3]."""
        return self.at_index(self.index(points))


def apply(matrix: Floats, points: Points) -> Points:
    """Points [N, 3] through a 4 x 4 matrix."""
    return as_points(points @ matrix[:3, :3].T + matrix[:3, 3])


def displaced(vectors: Field) -> Map:
    """A map by vectors in LPS mm."""
    return lambda points: as_points(points + vectors.at(points))


def displaced_voxels(shifts: Field) -> Map:
    """A map by vectors in voxels of the field's own grid, along its axes."""

    def mapped(points: Points) -> Points:
        index = shifts.index(points)
        return apply(shifts.to_lps, index + shifts.at_index(index))

    return mapped


def placed(places: Field) -> Map:
    """A map by a field that holds the LPS mm to which each voxel goes.

    Such a field is exact where it is linear, so what lies beyond its edge is displaced like it.
    """
    shape = places.values.shape[:3]
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
    still = apply(places.to_lps, grid.astype(float)).reshape(*shape, 3)
    return displaced(Field(places.values - still, places.to_lps))


def ras_matrix(matrix: Floats) -> Map:
    """A map by a 4 x 4 matrix from RAS to RAS mm."""
    turned = LPS_OF_RAS @ matrix @ LPS_OF_RAS
    return lambda points: apply(turned, points)


def itk_affine(file: Path) -> Map:
    """A map by an affine transform in ITK's format, which is LPS."""
    transform = sitk.ReadTransform(str(file))
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(axis)) - origin for axis in np.eye(3).tolist()]
    matrix = np.column_stack([*columns, origin])
    return lambda points: apply(matrix, points)


def after(first: Map, *others: Map) -> Map:
    """One map after the other."""

    def mapped(points: Points) -> Points:
        for one in (first, *others):
            points = one(points)
        return points

    return mapped


def read_nifti(file: Path) -> Field:
    """A NIfTI file of three values a voxel, as they are written."""
    image: Any = nib.load(file)
    values = np.asarray(image.dataobj)
    if values.ndim < 4 or values.shape[-1] != 3:
        raise ValueError(f"{file}: expected 3 values a voxel, found a shape of {values.shape}")
    return Field(values.reshape(*values.shape[:3], 3), LPS_OF_RAS @ image.affine)  # ITK: 5D


def read_nifti_parts(files: list[Path]) -> Field:
    """Three NIfTI files of one value a voxel, on one grid."""
    images: list[Any] = [nib.load(file) for file in files]
    values = np.stack([np.asarray(image.dataobj) for image in images], axis=-1)
    return Field(values, LPS_OF_RAS @ images[0].affine)


def read_itk(file: Path) -> Field:
    """A vector image in MetaImage or NRRD format, whose grid and vectors are LPS."""
    image = sitk.ReadImage(str(file))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = index_to_mm(image), image.GetOrigin()
    return Field(sitk.GetArrayFromImage(image).transpose(2, 1, 0, 3), matrix)
