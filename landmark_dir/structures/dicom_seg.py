"""DICOM segmentations, by highdicom; read: binary, fractional, label map; written: binary.

References
----------
[DICOM] PS3.3 C.8.20, Segmentation
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import uid
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from landmark_dir.errors import BadStructures
from landmark_dir.geometry import index_to_mm, shape_zyx
from landmark_dir.io.dicom_files import as_text, quiet
from landmark_dir.io.dicom_headers import (
    REQUIRED,
    SourceSeries,
    new_object,
    set_frame_of_reference,
    write_object,
)
from landmark_dir.structures.dicom_texts import DESCRIPTION, in_unicode, label_text
from landmark_dir.structures.layers import layered, on_grid, smallest
from landmark_dir.structures.structure import Colour, Structure, cropped

log = logging.getLogger(__name__)

IS_INSIDE = 0.5  # of a fractional segmentation


def read_seg(path: Path, frame_of_reference: str | None = None) -> list[Structure]:
    """Read the segments of a DICOM SEG file; empty ones are left out, which is logged.

    Parameters
    ----------
    frame_of_reference : str, optional
        FrameOfReferenceUID of the scan that the segments are to be of, if it is known.

    Raises
    ------
    BadStructures
        If it is damaged, no even stack, empty, or of another frame of reference.
    """
    import highdicom  # loads for a third of a second what only SEG needs

    try:
        with quiet():
            segmentation = highdicom.seg.segread(path)
            own = as_text(segmentation.get("FrameOfReferenceUID"))
            numbers = list(segmentation.segment_numbers)
    except Exception as error:  # it raises nearly anything on damaged data
        raise BadStructures(f"{path}: not a whole DICOM SEG ({error}); export it again") from error
    if own and frame_of_reference and own != frame_of_reference:
        raise BadStructures(
            f"{path}: expected segments in frame of reference {frame_of_reference}, found {own}"
            "; give the structures that were drawn on this scan"
        )
    structures = []
    for number in numbers:
        said = segmentation.get_segment_description(number)
        mask = _mask(segmentation, number, path)
        name = as_text(said.get("SegmentLabel")) or f"segment {number}"
        if sitk.GetArrayViewFromImage(mask).any():
            structures.append(Structure(name, number, _colour(said), mask))
        else:
            log.warning("%s: left out: %s: no voxel lies in it", path, name)
    if not structures:
        raise BadStructures(f"{path}: every segment is empty")
    return structures


def _mask(segmentation: Any, number: int, path: Path) -> sitk.Image:
    try:
        with quiet():
            volume = segmentation.get_volume(
                segment_numbers=[number], combine_segments=False
            ).squeeze_channel()
    except Exception as error:  # it raises nearly anything on damaged data
        raise BadStructures(
            f"{path}: its frames cannot be read as one even stack of slices ({error}); export it "
            "again, or save it as .nrrd"
        ) from error
    inside = volume.with_array((volume.array >= IS_INSIDE).astype("uint8"))
    column_first = inside.permute_spatial_axes([2, 1, 0]).ensure_handedness(
        "RIGHT_HANDED", flip_axis=2
    )
    return cropped(column_first.to_simpleitk())


def _colour(said: Any) -> Colour | None:
    from highdicom.color import CIELabColor  # see `read_seg`

    value = said.get("RecommendedDisplayCIELabValue")
    if value is None:
        return None
    red, green, blue = CIELabColor.from_dicom_value(list(value)).to_rgb(clip=True)
    return red, green, blue


def write_seg(
    structures: Sequence[Structure], source: SourceSeries, grid: sitk.Image, out: Path
) -> None:
    """Write structures as the segments of a binary DICOM SEG of a series.

    Segments are numbered from 1, as the standard asks. Slices without a voxel are left out.

    Parameters
    ----------
    grid : sitk.Image
        That of the series.

    Raises
    ------
    BadStructures
        If no structure has a voxel.
    """
    import highdicom  # see `read_seg`

    structures = [replace(one, number=n) for n, one in enumerate(structures, 1)]
    own = new_object(source.headers[0], uid.SegmentationStorage, "SEG", DESCRIPTION)
    if own.get("Laterality") == "":  # unknown, which only a paired part of the body may be
        del own.Laterality
    set_frame_of_reference(own, source.headers[0])
    x_step, y_step, z_step = index_to_mm(grid).T
    affine = np.eye(4)
    affine[:3] = np.column_stack([z_step, y_step, x_step, grid.GetOrigin()])
    voxels = _voxels(structures, grid)
    if not voxels.any():
        raise BadStructures(f"{out}: no voxel of the series lies in a structure")
    channels: Any = {"SegmentNumber": [one.number for one in structures]}
    with quiet():
        made = highdicom.seg.Segmentation(
            source_images=[_bare(header, grid) for header in source.headers],
            pixel_array=highdicom.Volume(
                voxels,
                affine,
                "PATIENT",
                as_text(own.FrameOfReferenceUID),
                channels if voxels.ndim == 4 else None,
            ),
            segmentation_type="BINARY",
            segment_descriptions=[_description(one, own) for one in structures],
            series_instance_uid=own.SeriesInstanceUID,
            series_number=own.SeriesNumber,
            sop_instance_uid=own.SOPInstanceUID,
            instance_number=1,
            manufacturer=own.Manufacturer,
            manufacturer_model_name=own.ManufacturerModelName,
            software_versions=own.SoftwareVersions,
            device_serial_number=own.DeviceSerialNumber,
            content_label="SEGMENTATION",
            content_description=DESCRIPTION,
        )
    made.update(own)
    in_unicode(made, (one.name for one in structures))
    write_object(made, out)


def _voxels(structures: Sequence[Structure], grid: sitk.Image) -> NDArray[Any]:
    """Numbers [z, y, x], or 0 and 1 [z, y, x, structure] where structures overlap."""
    found = layered(structures, grid)
    if found.overlap is None:
        return smallest(found.labels[0])
    stacked = np.zeros((*shape_zyx(grid), len(structures)), np.uint8)
    for n, one in enumerate(structures):
        box, inside = on_grid(one, grid)
        stacked[(*box, n)] = inside
    return stacked


def _bare(header: Dataset, grid: sitk.Image) -> Dataset:
    """A header without what highdicom is strict about: `new_object` copies what is of the patient.

    Elements are replaced, not changed, as the header is not ours. A thickness of the slices is
    asked for, and not used where there is a volume.
    """
    bare = Dataset()
    bare.update(header)
    for keyword in REQUIRED:
        if keyword != "StudyInstanceUID":
            bare[keyword] = DataElement(keyword, dictionary_VR(keyword), "")
    bare["SliceThickness"] = DataElement("SliceThickness", "DS", grid.GetSpacing()[2])
    return bare


def _description(one: Structure, own: Dataset) -> Any:
    """One segment; what kind of tissue it is, is not known."""
    import highdicom  # see `read_seg`
    from pydicom.sr.codedict import codes

    method = highdicom.AlgorithmIdentificationSequence(
        own.ManufacturerModelName, codes.cid7162.DeformableModels, own.SoftwareVersions
    )
    colour = one.colour and highdicom.color.CIELabColor.from_rgb(*one.colour)
    said = highdicom.seg.SegmentDescription(
        *(one.number, label_text(one), codes.SCT.Tissue, codes.SCT.Tissue, "SEMIAUTOMATIC"),
        algorithm_identification=method,
        display_color=colour,
    )
    return said
