"""Shared fixtures: small volumes in a geometry that proves something."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

OBLIQUE = (0.9, -0.3, 0.316, 0.338, 0.938, -0.072, -0.275, 0.172, 0.946)  # orthonormalised below


@pytest.fixture
def oblique_ct() -> sitk.Image:
    """A rotated, anisotropic, off-origin int16 volume of 24 x 20 x 12 voxels."""
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.integers(-1000, 1000, (12, 20, 24)).astype(np.int16))
    u, _, vt = np.linalg.svd(np.reshape(OBLIQUE, (3, 3)))
    image.SetDirection((u @ vt).ravel().tolist())
    image.SetSpacing((1.5, 2.0, 4.0))
    image.SetOrigin((-120.0, 35.0, -410.0))
    return image


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real CT, or skip."""
    folder = Path(os.environ.get("LANDMARK_DIR_DATA", "../shared/data"))
    if not (folder / "ct").is_dir():
        pytest.skip(f"no CT data at {folder}; set LANDMARK_DIR_DATA")
    return folder.resolve()
