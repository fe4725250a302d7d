"""What both kinds of DICOM registration objects have in common."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from landmark_dir.io.dicom_headers import (
    SourceSeries,
    decimals,
    new_object,
    refer_to,
    set_frame_of_reference,
)

BY_CONTENT = ("125024", "Image Content-based Alignment")  # CID 7100
LABEL = "REGISTRATION"  # a CS: 16 characters at most
RIGID = 1e-9  # how far a matrix times its transpose may be from the identity


def new_registration(
    sop_class: str, description: str, fixed: SourceSeries, moving: SourceSeries
) -> Dataset:
    """Begin a registration object in the exam and the frame of reference of `fixed`."""
    made = new_object(fixed.headers[0], sop_class, "REG", description)
    set_frame_of_reference(made, fixed.headers[0])
    made.InstanceNumber = 1  # table 10-12
    made.ContentLabel = LABEL
    made.ContentDescription = f"{description}, moving image to fixed image"
    made.ContentCreatorName = ""
    refer_to(made, [fixed, moving])
    return made


def matrix_item(matrix: NDArray[np.float64]) -> Dataset:
    """An item with a 4 x 4 matrix, mm, and its kind: C.20.2.1.1, C.20.2.1.2."""
    item = Dataset()
    item.FrameOfReferenceTransformationMatrixType = "RIGID" if _is_rigid(matrix) else "AFFINE"
    item.FrameOfReferenceTransformationMatrix = decimals(matrix.ravel())
    return item


def _is_rigid(matrix: NDArray[np.float64]) -> bool:
    turn = matrix[:3, :3]
    return bool(np.abs(turn @ turn.T - np.eye(3)).max() <= RIGID and np.linalg.det(turn) > 0)
