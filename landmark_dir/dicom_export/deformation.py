"""A transform as a DICOM Deformable Spatial Registration: PS3.3 A.39.2, C.20.3.

C.20.3.1.1 has it map the frame of reference that the object is in, the registered one, to that of
the source: x_source = post (pre x + offset(x)). With the fixed image as the registered one and the
moving image as the source, that is T, and nothing is inverted.
"""

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import DeformableSpatialRegistrationStorage
from scipy import ndimage

from landmark_dir.dicom_export.registration_object import (
    BY_CONTENT,
    matrix_item,
    new_registration,
)
from landmark_dir.errors import BadArgument
from landmark_dir.evaluation.metrics import Summary, summarise
from landmark_dir.geometry import Points, distances_mm, index_to_physical
from landmark_dir.io.dicom_headers import SourceSeries, code, decimals
from landmark_dir.transforms.chain import Chain
from landmark_dir.transforms.fields import displacement

MOST_BYTES = 2**32 - 2  # of one DICOM value
VECTOR = np.dtype("<f4")  # of VectorGridData: VR OF
ROUNDED_MM = 0.01  # the first node lies on a multiple of it: short numbers are exact
CHECKED_POINTS = 200_000


def deformable_registration(
    chain: Chain, grid: sitk.Image, fixed: SourceSeries, moving: SourceSeries, grid_mm: float
) -> Dataset:
    """Return a Deformable Spatial Registration of T.

    Its grid lies along the axes of the patient and covers the fixed image to the edges of its
    voxels. Pre and post matrix are the identity. SlicerRT takes the axes of other grids by rows,
    the third as (0, 0, 1), and leaves the post matrix aside.

    Parameters
    ----------
    grid : sitk.Image
        Any image on the fixed grid.
    grid_mm : float
        Distance of the nodes along each axis.

    Raises
    ------
    BadArgument
        If there are more nodes than a DICOM value can hold.
    """
    nodes = node_grid(grid, grid_mm)
    vectors = sitk.GetArrayFromImage(displacement(chain, nodes))  # [z, y, x, 3]
    lattice = Dataset()
    lattice.ImagePositionPatient = decimals(nodes.GetOrigin())
    lattice.ImageOrientationPatient = decimals((1, 0, 0, 0, 1, 0))
    lattice.GridDimensions = list(nodes.GetSize())
    lattice.GridResolution = list(nodes.GetSpacing())
    lattice.VectorGridData = vectors.astype(VECTOR, copy=False).tobytes()  # x fastest: C.20.3.1.3

    item = Dataset()
    item.SourceFrameOfReferenceUID = moving.frame_of_reference
    item.ReferencedImageSequence = moving.references()  # exams may share a frame of reference
    item.RegistrationTypeCodeSequence = [code(*BY_CONTENT)]
    item.PreDeformationMatrixRegistrationSequence = [matrix_item(np.eye(4))]
    item.PostDeformationMatrixRegistrationSequence = [matrix_item(np.eye(4))]
    item.DeformableRegistrationGridSequence = [lattice]
    kind = DeformableSpatialRegistrationStorage
    made = new_registration(kind, "Deformable registration", fixed, moving)
    made.DeformableRegistrationSequence = [item]
    return made


def node_grid(grid: sitk.Image, spacing_mm: float) -> sitk.Image:
    """An image whose voxels are nodes along the patient's axes that enclose another image."""
    cube = np.array(list(np.ndindex(2, 2, 2)))
    edges = index_to_physical(grid, cube * np.array(grid.GetSize()) - 0.5)
    first = np.floor(edges.min(axis=0) / ROUNDED_MM) * ROUNDED_MM
    size = np.ceil((edges.max(axis=0) - first) / spacing_mm).astype(int) + 1
    if 3 * VECTOR.itemsize * np.prod(size, dtype=np.int64) > MOST_BYTES:
        raise BadArgument(
            f"grid_mm: a grid of {spacing_mm:g} mm has {' x '.join(map(str, size))} vectors, more "
            f"than the {MOST_BYTES / 1e9:.1f} GB that a DICOM value holds; take a coarser one"
        )
    nodes = sitk.Image(size.tolist(), sitk.sitkUInt8)
    nodes.SetOrigin(np.round(first, 2).tolist())
    nodes.SetSpacing([spacing_mm] * 3)
    return nodes


def interpolation_error(made: Dataset, chain: Chain, grid: sitk.Image) -> Summary:
    """How far the object, read linearly between its nodes, is from T, mm.

    At random places between the outermost voxel centres of the fixed image, the same for each call:
    b-splines of elastix end some way beyond them, and end with a jump.

    Parameters
    ----------
    grid : sitk.Image
        Any image on the fixed grid.
    """
    last = np.array(grid.GetSize()) - 1
    places = np.random.default_rng(0).uniform(0, last, (CHECKED_POINTS, 3))
    points = index_to_physical(grid, places)
    return summarise(distances_mm(mapped(made, points), chain.map_points(points)))


def mapped(made: Dataset, points: Points) -> Points:
    """Fixed points [N, 3], LPS mm, mapped by an object of this module: linear between nodes."""
    (item,) = made.DeformableRegistrationSequence
    (lattice,) = item.DeformableRegistrationGridSequence
    x, y, z = lattice.GridDimensions
    vectors = np.frombuffer(lattice.VectorGridData, VECTOR).reshape(z, y, x, 3)
    first = np.array(lattice.ImagePositionPatient, dtype=np.float64)
    index = (points - first) / np.array(lattice.GridResolution, dtype=np.float64)
    offsets = [
        ndimage.map_coordinates(vectors[..., axis], index[:, ::-1].T, np.float64, order=1)
        for axis in range(3)
    ]
    return np.asarray(points + np.stack(offsets, axis=1))
