"""The warped image as a CT series in the exam of the fixed image: PS3.3 A.3."""

from collections.abc import Iterator
from copy import deepcopy
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import index_to_physical, voxel_centres
from landmark_dir.io.dicom_files import as_text
from landmark_dir.io.dicom_headers import (
    SourceSeries,
    code,
    decimals,
    new_object,
    set_frame_of_reference,
    set_instance,
)
from landmark_dir.io.dicom_planes import Plane
from landmark_dir.transforms.chain import Chain

STORED = np.iinfo(np.int16)
SAME_ANATOMY = ("122401", "Same Anatomy")  # CID 7210
SOURCE_IMAGE = ("121322", "Source image for image processing operation")  # CID 7202
RESAMPLING = ("113085", "Spatial resampling")  # CID 7203
DERIVATION = (
    "Moving image resampled onto the grid of the fixed series by landmark-guided deformable "
    "registration, landmark_dir {}. For research use."
)
OF_THE_MOVING = (
    "AcquisitionDate",
    "ContrastBolusAgent",
    "ContrastBolusRoute",
    "ConvolutionKernel",
    "WindowCenter",
    "WindowWidth",
    "LossyImageCompression",  # once lossy, always lossy: C.7.6.1.1.5
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
MOST_DESCRIPTION = 64  # characters of an LO
LATTICE = 24  # places along a side of a slice that tell which moving slices it is made from
SPLINE_REACH = 3  # slices to either side that count in cubic interpolation


class Stored(NamedTuple):
    """Voxels as DICOM stores them: HU = stored + intercept."""

    values: NDArray[np.int16]  # [z, y, x]
    intercept: int
    rounding_hu: float  # largest change of a voxel; 0 where all were whole


def stored(image: sitk.Image) -> Stored:
    """Voxels as 16-bit numbers; whole HU stay what they are, others are rounded to whole ones.

    Raises
    ------
    BadVolume
        If the values span more than 16 bits.
    """
    values = sitk.GetArrayViewFromImage(image)
    fractions = np.issubdtype(values.dtype, np.floating)
    whole = np.rint(values) if fractions else values
    low, high = int(whole.min()), int(whole.max())
    intercept = 0 if low >= STORED.min and high <= STORED.max else low - STORED.min
    if high - intercept > STORED.max:
        raise BadVolume(
            f"warped image: values from {low} to {high} do not fit the 16 bits of a CT series; "
            "register a moving image in HU"
        )
    rounding = float(np.abs(values - whole).max()) if fractions else 0.0
    if intercept:
        whole = whole.astype(np.int64) - intercept
    return Stored(whole.astype(np.int16), intercept, rounding)


def warped_slices(
    warped: sitk.Image,
    pixels: Stored,
    chain: Chain,
    outside: float,
    fixed: SourceSeries,
    moving: SourceSeries,
) -> Iterator[Dataset]:
    """Return the slices of a new CT series, in the order of the voxels.

    Patient, study and frame of reference are those of the fixed exam, so that viewers load both
    together; what says how the voxels came to be is that of the moving series.

    Parameters
    ----------
    warped : sitk.Image
        The moving image on the fixed grid.
    pixels : Stored
        Its voxels.
    outside : float
        What stands where the moving image has no data.
    """
    common = _common(warped, pixels, outside, fixed, moving)
    for k in range(warped.GetDepth()):
        made = deepcopy(common)
        set_instance(made)
        made.InstanceNumber = k + 1
        made.ImagePositionPatient = decimals(index_to_physical(warped, [(0, 0, k)])[0])
        if behind := _planes_behind(warped[:, :, k : k + 1], chain, moving):
            made.SourceImageSequence = _sources(moving, behind)
        if fixed.stack.even:
            made.ReferencedImageSequence = fixed.references([_same_place(made, fixed)])
        made.PixelData = pixels.values[k].astype("<i2").tobytes()
        made["PixelData"].VR = "OW"
        yield made


def _common(
    warped: sitk.Image, pixels: Stored, outside: float, fixed: SourceSeries, moving: SourceSeries
) -> Dataset:
    """Everything that all slices of the series share."""
    first, source = fixed.headers[0], moving.headers[len(moving.headers) // 2]
    made = new_object(first, CTImageStorage, "CT", _description(moving))
    set_frame_of_reference(made, first)
    made.PatientPosition = first.get("PatientPosition", "")
    for keyword in OF_THE_MOVING:
        if keyword in source:
            made[keyword] = deepcopy(source[keyword])
    made.RelatedSeriesSequence = [_related(one) for one in (moving, fixed)]
    made.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    made.DerivationDescription = DERIVATION.format(version("landmark_dir"))
    made.DerivationCodeSequence = [code(*RESAMPLING)]
    made.KVP, made.AcquisitionNumber = source.get("KVP"), None  # type 2

    x_mm, y_mm, z_mm = warped.GetSpacing()
    direction = np.reshape(warped.GetDirection(), (3, 3))
    made.PixelSpacing = decimals((y_mm, x_mm))  # the distance of rows comes first
    made.ImageOrientationPatient = decimals(direction[:, :2].T.ravel())
    made.SliceThickness = made.SpacingBetweenSlices = decimals([z_mm])[0]

    made.Rows, made.Columns = pixels.values.shape[1:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 1
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType = 1, pixels.intercept, "HU"
    padding = round(outside) - pixels.intercept
    if (pixels.values == padding).any():
        made.add_new("PixelPaddingValue", "SS", padding)
    return made


def _description(moving: SourceSeries) -> str:
    said = as_text(moving.headers[0].get("SeriesDescription"))
    when = as_text(moving.headers[0].get("StudyDate"))
    return " ".join(filter(None, ("warped", when, said)))[:MOST_DESCRIPTION]


def _related(source: SourceSeries) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = source.headers[0].StudyInstanceUID
    item.SeriesInstanceUID = source.headers[0].SeriesInstanceUID
    item.PurposeOfReferenceCodeSequence = [code(*SAME_ANATOMY)]
    return item


def _planes_behind(grid: sitk.Image, chain: Chain, moving: SourceSeries) -> list[Plane]:
    """The planes of the moving series that one slice is interpolated from; none outside it."""
    stride = max(1, min(grid.GetSize()[:2]) // LATTICE)
    normal, step_mm = moving.stack.direction[:, 2], moving.stack.spacing_mm[2]
    heights = chain.map_points(voxel_centres(grid, stride)) @ normal
    reach = SPLINE_REACH * step_mm
    low, high = heights.min() - reach, heights.max() + reach
    return [plane for plane in moving.stack.planes if low <= plane.position @ normal <= high]


def _sources(moving: SourceSeries, planes: list[Plane]) -> list[Dataset]:
    items = moving.references(planes)
    for item in items:
        item.PurposeOfReferenceCodeSequence = [code(*SOURCE_IMAGE)]
        item.SpatialLocationsPreserved = "NO"
    return items


def _same_place(made: Dataset, fixed: SourceSeries) -> Plane:
    """The plane of the fixed series that a slice lies on."""
    place = np.array(made.ImagePositionPatient, dtype=np.float64)
    normal = fixed.stack.direction[:, 2]
    return min(fixed.stack.planes, key=lambda plane: abs((plane.position - place) @ normal))
