"""A linear transform as a DICOM Spatial Registration: PS3.3 A.39.1, C.20.2.

Its matrix registers the source to the frame of reference that the object is in (C.20.2.1.1): it
maps moving points to fixed points and is the inverse of T. PS3.17 O.1 says that the two kinds of
registration objects differ in that.
"""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SpatialRegistrationStorage

from landmark_dir.dicom_export.registration_object import (
    BY_CONTENT,
    matrix_item,
    new_registration,
)
from landmark_dir.io.dicom_headers import SourceSeries, code
from landmark_dir.transforms.chain import Linear

IDENTITY = ("125021", "Frame of Reference Identity")  # CID 7100


def linear_registration(transform: Linear, fixed: SourceSeries, moving: SourceSeries) -> Dataset:
    """Return a Spatial Registration of a linear T.

    Its first item is the fixed image where it is, as planning systems expect; the second is the
    moving image.
    """
    made = new_registration(SpatialRegistrationStorage, "Linear registration", fixed, moving)
    made.RegistrationSequence = [
        _item(fixed, np.eye(4), IDENTITY),
        _item(moving, to_fixed(transform), BY_CONTENT),
    ]
    return made


def to_fixed(transform: Linear) -> NDArray[np.float64]:
    """The inverse of a linear T: a 4 x 4 matrix, moving points to fixed points, LPS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = transform.matrix
    matrix[:3, 3] = transform.map_points(np.zeros((1, 3)))[0]
    return np.asarray(np.linalg.inv(matrix))


def _item(source: SourceSeries, matrix: NDArray[np.float64], kind: tuple[str, str]) -> Dataset:
    registration = Dataset()
    registration.RegistrationTypeCodeSequence = [code(*kind)]
    registration.MatrixSequence = [matrix_item(matrix)]
    item = Dataset()
    item.FrameOfReferenceUID = source.frame_of_reference
    item.ReferencedImageSequence = source.references()  # exams may share a frame of reference
    item.MatrixRegistrationSequence = [registration]
    return item
