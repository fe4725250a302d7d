"""Structures drawn for tests, and files of them written apart from the package."""

from pathlib import Path

import highdicom
import made_dicom as made
import nrrd
import numpy as np
import SimpleITK as sitk
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes

from landmark_dir.geometry import index_to_physical
from landmark_dir.io.dicom import choose_series
from landmark_dir.io.dicom_headers import SourceSeries, read_source
from landmark_dir.structures.structure import Structure, cropped, resampled

FRAME = f"{made.SERIES}.8"  # of reference


def inside(mask: sitk.Image, grid: sitk.Image) -> np.ndarray:
    """The mask on all of the grid [z, y, x]."""
    return sitk.GetArrayFromImage(resampled(mask, grid)) > 0


def circle(radius: float, centre: tuple[float, float] = (0.0, 0.0), count: int = 200) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.array(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def on_slice(grid: sitk.Image, points_mm: np.ndarray, k: float) -> np.ndarray:
    """Points (x, y) in mm along the rows and columns of slice k, as LPS."""
    x_mm, y_mm, _ = grid.GetSpacing()
    index = np.column_stack([points_mm / (x_mm, y_mm), np.full(len(points_mm), k)])
    return index_to_physical(grid, index)


def balls(grid: sitk.Image) -> list[np.ndarray]:
    """Two balls that overlap, and a small one on its own [z, y, x]."""
    x, y, z = grid.GetSize()
    index = np.moveaxis(np.indices((z, y, x)), 0, -1)[..., ::-1] * np.array(grid.GetSpacing())
    places = ((14, 18, 20, 11), (20, 20, 24, 9), (28, 8, 34, 6))
    return [np.linalg.norm(index - place, axis=-1) < radius for *place, radius in places]


def image_of(values: np.ndarray, grid: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(values.astype(np.uint8))
    image.CopyInformation(grid)
    return image


def write_rtstruct(file: Path, rois: list[tuple[str, list[Dataset]]], frame: str = FRAME) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"{made.SERIES}.77"
    dataset.Modality = "RTSTRUCT"
    dataset.StructureSetROISequence = [
        made.item(ROINumber=5 + n, ROIName=name, ReferencedFrameOfReferenceUID=frame)
        for n, (name, _) in enumerate(rois)
    ]
    dataset.ROIContourSequence = [
        made.item(ReferencedROINumber=5 + n, ROIDisplayColor=[255, 9 * n, 0], ContourSequence=some)
        for n, (_, some) in enumerate(rois)
    ][::-1]
    dataset.save_as(file, enforce_file_format=True)
    return file


def contour(points: np.ndarray, kind: str = "CLOSED_PLANAR") -> Dataset:
    return made.item(
        ContourGeometricType=kind,
        NumberOfContourPoints=len(points),
        ContourData=[f"{value:.4f}" for value in points.ravel()],
    )


def write_seg(
    file: Path,
    masks: np.ndarray,
    grid: sitk.Image,
    kind: str = "BINARY",
    **more: object,
) -> Path:
    """Masks [z, y, x, segment] as a DICOM SEG of the series of `grid`."""
    headers = [made.plane(grid, k) for k in range(grid.GetDepth())]
    for header in headers:
        header.PatientBirthDate = header.PatientSex = header.AccessionNumber = ""
        header.StudyID = header.StudyTime = ""
        header.SliceThickness = grid.GetSpacing()[2]
    descriptions = [
        highdicom.seg.SegmentDescription(
            n + 1,
            f"ball {n}",
            codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.Lesion,
            "MANUAL",
            display_color=highdicom.color.CIELabColor.from_rgb(255, 60 * n, 0),
        )
        for n in range(masks.shape[-1])
    ]
    segmentation = highdicom.seg.Segmentation(
        headers,
        masks,
        kind,
        descriptions,
        uid.generate_uid(),
        *(1, uid.generate_uid(), 1, "maker", "model", "1", "none"),
        **more,
    )
    segmentation.save_as(file)
    return file


def write_slicer(file: Path, layers: np.ndarray, grid: sitk.Image, **fields: str) -> Path:
    """Write as 3D Slicer does: [x, y, z] or [layer, x, y, z], names and colours in the header."""
    steps = np.reshape(grid.GetDirection(), (3, 3)).T * np.array(grid.GetSpacing())[:, None]
    several = layers.ndim == 4
    header = {
        "space": "left-posterior-superior",
        "kinds": ["list"] * several + ["domain"] * 3,
        "space directions": np.vstack([np.full((int(several), 3), np.nan), steps]),
        "space origin": grid.GetOrigin(),
        "encoding": "gzip",
        **fields,
    }
    nrrd.write(str(file), layers.astype(np.uint8), header)
    text, voxels = file.read_bytes().split(b"\n\n", 1)  # Slicer writes UTF-8, pynrrd ASCII only
    file.write_bytes(text.replace(b"ae", "ä".encode()) + b"\n\n" + voxels)
    return file


def series(grid: sitk.Image, folder: Path) -> SourceSeries:
    made.write_series(grid, folder)
    return read_source(choose_series(folder, None), str(folder))


def holed(grid: sitk.Image) -> np.ndarray:
    """A box with a hole through it, and two islands on some of its slices."""
    box = np.zeros(grid.GetSize()[::-1], bool)
    box[3:9, 3:15, 2:14] = True
    box[3:9, 6:10, 5:9] = False
    box[5:7, 17:19, 16:22] = True
    box[4:8, 2:6, 18:22] = True
    return box


def structures(grid: sitk.Image) -> list[Structure]:
    """Overlapping ones, one with holes and islands, one at the border, one of a single voxel."""
    one, two, _ = balls(grid)
    border = np.zeros_like(one)
    border[:2, :4, :] = border[-1, -3:, -5:] = True
    voxel = np.zeros_like(one)
    voxel[6, 7, 8] = True
    masks = {"GTV Läsion 1": one, "liver": two, "tube": holed(grid), "rim": border, "1": voxel}
    return [
        Structure(name, number, (255, 40 * number, 0), cropped(image_of(mask, grid)))
        for number, (name, mask) in enumerate(masks.items(), 1)
    ]
