"""CT exams of made patients, as DICOM series below a folder, each in a place of its own."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import made_dicom as made
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

ROOT = "1.2.826.0.1.3680043.2.1125.7"
NAME, PATIENT, BORN = "Sorrowful^Annabel", "PID-4711", "19480312"
SECRETS = ("Sorrowful", "Annabel", "4711", "19480312", "1948", "202401", "202406", "202503")
DAYS = ("20240110", "20240612", "20250307")
NUMBERS: Iterator[int] = count(1)
OBLIQUE = (0.9, -0.3, 0.316, 0.338, 0.938, -0.072, -0.275, 0.172, 0.946)  # orthonormalised below


def scan(
    slices: int = 40, slice_mm: float = 5.0, z_mm: float = -310.0, turned: bool = False
) -> sitk.Image:
    """A small volume whose first slice lies at `z_mm`, off-origin; 36 x 30 mm in the plane."""
    rng = np.random.default_rng(slices)
    image = sitk.GetImageFromArray(rng.integers(-900, 900, (slices, 10, 12)).astype(np.int16))
    image.SetSpacing((3.0, 3.0, slice_mm))
    image.SetOrigin((-120.0, 35.0, z_mm))
    if turned:
        u, _, vt = np.linalg.svd(np.reshape(OBLIQUE, (3, 3)))
        image.SetDirection((u @ vt).ravel().tolist())
    return image


def write(
    folder: Path,
    image: sitk.Image | None = None,
    *,
    study: int = 1,
    series: int | None = None,
    **tags: str | list[str] | None,
) -> str:
    """Write one series of a study; the same numbers give the same UIDs. Return its UID."""
    said = {
        "PatientID": PATIENT,
        "PatientName": NAME,
        "PatientBirthDate": BORN,
        "StudyDate": DAYS[(study - 1) % len(DAYS)],
        "SeriesDescription": "Thorax 5.0 B30f",
        "ConvolutionKernel": "B30f",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "StudyInstanceUID": f"{ROOT}.1.{study}",
        "FrameOfReferenceUID": f"{ROOT}.2.{study}",
    } | tags

    def change(_: int, dataset: Dataset) -> None:
        for keyword, value in said.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)

    uid = f"{ROOT}.3.{next(NUMBERS) + 1000 if series is None else series}"
    made.write_series(scan() if image is None else image, folder, change, uid)
    return uid
