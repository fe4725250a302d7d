"""Read DICOM segmentations, by highdicom: binary, fractional, label map; in any order of frames.

References
----------
[DICOM] PS3.3 C.8.20, Segmentation
"""

import logging
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from landmark_dir.errors import BadStructures
from landmark_dir.io.dicom_files import as_text, quiet
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
