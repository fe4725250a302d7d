"""DICOM files made from a volume, and what their tags say, worked out apart from the reader."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

SERIES = "1.2.826.0.1.3680043.2.1125.1.11"
INTERCEPT = -1024  # HU

Change = Callable[[int, Dataset], None]


def unchanged(k: int, dataset: Dataset) -> None:
    """Leave slice or frame `k` as it is."""


def write_series(
    image: sitk.Image,
    folder: Path,
    change: Change = unchanged,
    series: str = SERIES,
    name: str = "{:03d}.dcm",
    slices: Iterable[int] | None = None,
) -> list[Path]:
    """Write one CT file a slice, stored as HU + 1024; `change` may alter its tags before."""
    folder.mkdir(exist_ok=True, parents=True)
    files = []
    for k in range(image.GetDepth()) if slices is None else slices:
        dataset = plane(image, k, series)
        change(k, dataset)
        files.append(folder / name.format(k))
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def plane(image: sitk.Image, k: int, series: str = SERIES) -> Dataset:
    """Return slice `k` as a CT image that may be written."""
    dataset = base(image, uid.CTImageStorage, f"{series}.{k + 1}", series)
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = k + 1
    dataset.ImagePositionPatient = position(image, k)
    dataset.ImageOrientationPatient = orientation(image)
    dataset.PixelSpacing = pixel_spacing(image)
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, INTERCEPT
    set_stored(dataset, sitk.GetArrayFromImage(image)[k].astype(np.int64) - INTERCEPT)
    return dataset


def write_enhanced(
    image: sitk.Image,
    file: Path,
    order: Iterable[int] | None = None,
    change: Change = unchanged,
    change_file: Callable[[Dataset], None] = lambda dataset: None,
    series: str = SERIES,
) -> Path:
    """Write an enhanced CT, slice `order[n]` as frame n; `change` may alter the groups of each."""
    chosen = list(range(image.GetDepth()) if order is None else order)
    dataset = base(
        image, uid.EnhancedCTImageStorage, f"{series}.{len(file.stem)}{ord(file.stem[0])}", series
    )
    dataset.NumberOfFrames = len(chosen)
    shared = Dataset()
    shared.PlaneOrientationSequence = [item(ImageOrientationPatient=orientation(image))]
    shared.PixelMeasuresSequence = [item(PixelSpacing=pixel_spacing(image), SliceThickness=9)]
    shared.PixelValueTransformationSequence = [item(RescaleSlope=1, RescaleIntercept=INTERCEPT)]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for n, k in enumerate(chosen):
        frame = Dataset()
        frame.PlanePositionSequence = [item(ImagePositionPatient=position(image, k))]
        frame.FrameContentSequence = [item(StackID="1", FrameAcquisitionNumber=1)]
        change(n, frame)
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    set_stored(dataset, sitk.GetArrayFromImage(image)[chosen].astype(np.int64) - INTERCEPT)
    change_file(dataset)
    file.parent.mkdir(exist_ok=True, parents=True)
    dataset.save_as(file, enforce_file_format=True)
    return file


def write_directory(folder: Path) -> None:
    """Write a DICOMDIR that lists all files below `folder`."""
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = uid.MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = f"{SERIES}.5"
    records: list[Dataset] = []
    series = ""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        if header.SeriesInstanceUID != series:
            series = header.SeriesInstanceUID
            records.append(item(DirectoryRecordType="SERIES", SeriesInstanceUID=series))
        parts = list(file.relative_to(folder).parts)
        records.append(item(DirectoryRecordType="IMAGE", ReferencedFileID=parts))
    directory.DirectoryRecordSequence = records
    directory.save_as(folder / "DICOMDIR", enforce_file_format=True)


def base(image: sitk.Image, kind: str, instance: str, series: str) -> Dataset:
    """Return what every image has."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = instance
    dataset.Modality = "CT"
    dataset.SeriesDescription = f"series {series[-2:]}"
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "D0E"
    dataset.StudyDate = "20200228"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{series}.9", series
    dataset.FrameOfReferenceUID = f"{series}.8"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    return dataset


def item(**tags: object) -> Dataset:
    """Return an item of a sequence."""
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def position(image: sitk.Image, k: float) -> list[str]:
    """ImagePositionPatient of slice `k`."""
    place = image.TransformContinuousIndexToPhysicalPoint((0.0, 0.0, float(k)))
    return [f"{value:.6f}" for value in place]


def orientation(image: sitk.Image) -> list[str]:
    """ImageOrientationPatient."""
    direction = np.reshape(image.GetDirection(), (3, 3))
    return [f"{value:.9f}" for value in direction[:, :2].T.ravel()]


def pixel_spacing(image: sitk.Image) -> list[float]:
    """PixelSpacing: the distance of rows comes first."""
    x_mm, y_mm, _ = image.GetSpacing()
    return [y_mm, x_mm]


def set_stored(dataset: Dataset, stored: NDArray[np.int64], dtype: str = "<u2", bits: int = 0):
    """Set the pixels, and the tags that tell how they are stored."""
    kind = np.dtype(dtype)
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.BitsAllocated = 8 * kind.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(kind.kind == "i")
    data = stored.astype(kind).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW"


def moved(dataset: Dataset, mm: Iterable[float]) -> None:
    """Move a slice by `mm`, LPS."""
    place = np.array([float(value) for value in dataset.ImagePositionPatient]) + list(mm)
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in place]


def assert_as_tagged(image: sitk.Image, files: Iterable[Path], mm: float = 1e-3) -> None:
    """Check HU and place of every slice against the tags: DICOM PS3.3 C.7.6.2.1.1, by hand."""
    values = sitk.GetArrayFromImage(image)
    seen = set()
    for file in files:
        dataset = pydicom.dcmread(file)
        pixels = dataset.pixel_array
        for frame, stored in enumerate(pixels if pixels.ndim == 3 else pixels[None]):
            place, row, column, spacing, slope, intercept = _tags(dataset, frame)
            hu = stored.astype(np.float64) * slope + intercept
            for y, x in ((0, 0), (stored.shape[0] - 1, 0), (3, stored.shape[1] - 1)):
                point = place + row * spacing[1] * x + column * spacing[0] * y
                index = image.TransformPhysicalPointToContinuousIndex(point.tolist())
                off = (np.array(index) - np.rint(index)) * image.GetSpacing()
                assert np.abs(off).max() < mm
                assert np.rint(index).astype(int).tolist()[:2] == [x, y]
            k = round(index[2])
            seen.add(k)
            assert_allclose(values[k], hu, rtol=1e-6, atol=1e-3)  # HU, float32
    assert seen == set(range(image.GetDepth()))


def _tags(dataset: Dataset, frame: int) -> tuple:
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        merged = dataset
    else:
        merged = Dataset()
        shared = dataset.SharedFunctionalGroupsSequence[0]
        for group in (shared, dataset.PerFrameFunctionalGroupsSequence[frame]):
            for element in group:
                merged.update(element.value[0])

    direction = np.array(merged.ImageOrientationPatient, float)
    return (
        np.array(merged.ImagePositionPatient, float),
        direction[:3],
        direction[3:],
        np.array(merged.PixelSpacing, float),
        float(merged.RescaleSlope),
        float(merged.RescaleIntercept),
    )
