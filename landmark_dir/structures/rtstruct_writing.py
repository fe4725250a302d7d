"""Write DICOM RT structure sets: masks as closed planar contours on the images of a series.

References
----------
[DICOM] PS3.3 A.19, C.8.8.5 Structure Set module, C.8.8.6 ROI Contour module
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom import uid
from pydicom.dataset import Dataset

from landmark_dir.geometry import Points, index_to_physical
from landmark_dir.io.dicom_headers import (
    SourceSeries,
    new_object,
    set_frame_of_reference,
    write_object,
)
from landmark_dir.structures.contours import Polygon
from landmark_dir.structures.dicom_texts import DESCRIPTION, in_unicode, label_text
from landmark_dir.structures.layers import on_grid
from landmark_dir.structures.outlines import outlines
from landmark_dir.structures.structure import Structure, numbered

STUDY = "1.2.840.10008.3.1.2.3.1"  # what a study is referred to as, in every structure set
LARGEST_NUMBER = 2**31 - 1  # VR IS
DIGITS = 4  # 0.1 um; as much as 16 characters hold with a metre before them
LABEL = "CARRIED"  # 16 characters at most


def write_rtstruct(
    structures: Sequence[Structure], source: SourceSeries, grid: sitk.Image, out: Path
) -> None:
    """Write structures as the ROIs of an RTSTRUCT of a series.

    Each contour lies on an image, which it names; a hole is drawn through a keyhole. Where the
    images of a series form no even stack, contours lie on the slices of the grid and name none.

    Parameters
    ----------
    grid : sitk.Image
        That of the series.
    """
    structures = numbered(structures, LARGEST_NUMBER)
    made = new_object(source.headers[0], uid.RTStructureSetStorage, "RTSTRUCT", DESCRIPTION)
    # a contour may be longer than the 64 KB that explicit VR has room for
    made.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    made.StructureSetLabel = LABEL
    made.StructureSetDate, made.StructureSetTime = made.ContentDate, made.ContentTime
    del made.ContentDate, made.ContentTime  # of images and reports only
    for keyword in ("BodyPartExamined", "Laterality"):  # of other kinds of series
        if keyword in made:
            del made[keyword]
    made.OperatorsName = ""
    set_frame_of_reference(made, source.headers[0])
    made.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source)]
    made.StructureSetROISequence = [_roi(one, source) for one in structures]
    made.ROIContourSequence = [_drawn(one, source, grid) for one in structures]
    made.RTROIObservationsSequence = [_observation(one) for one in structures]
    made.ApprovalStatus = "UNAPPROVED"
    in_unicode(made, (one.name for one in structures))
    write_object(made, out)


def _frame_of_reference(source: SourceSeries) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = source.headers[0].SeriesInstanceUID
    series.ContourImageSequence = source.references()
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = STUDY, source.study
    study.RTReferencedSeriesSequence = [series]
    frame = Dataset()
    frame.FrameOfReferenceUID = source.frame_of_reference
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(one: Structure, source: SourceSeries) -> Dataset:
    roi = Dataset()
    roi.ROINumber, roi.ROIName = one.number, label_text(one)
    roi.ReferencedFrameOfReferenceUID = source.frame_of_reference
    roi.ROIGenerationAlgorithm = "SEMIAUTOMATIC"
    return roi


def _observation(one: Structure) -> Dataset:
    said = Dataset()
    said.ObservationNumber = said.ReferencedROINumber = one.number
    said.RTROIInterpretedType = said.ROIInterpreter = ""
    return said


def _drawn(one: Structure, source: SourceSeries, grid: sitk.Image) -> Dataset:
    drawn = Dataset()
    if one.colour is not None:
        drawn.ROIDisplayColor = list(one.colour)
    if contours := list(_contours(one, source, grid)):
        drawn.ContourSequence = contours
    drawn.ReferencedROINumber = one.number
    return drawn


def _contours(one: Structure, source: SourceSeries, grid: sitk.Image) -> Iterator[Dataset]:
    (slices, rows, columns), inside = on_grid(one, grid)
    for k, plane in enumerate(inside, slices.start):
        for polygon in outlines(plane):
            contour = Dataset()
            if source.stack.even:
                contour.ContourImageSequence = source.references([source.stack.planes[k]])
            contour.ContourGeometricType = "CLOSED_PLANAR"
            points = _places(polygon + (columns.start, rows.start), k, source, grid)
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [f"{value:.{DIGITS}f}" for value in points.ravel()]
            yield contour


def _places(polygon: Polygon, k: int, source: SourceSeries, grid: sitk.Image) -> Points:
    """Pixels (x, y) of slice k in LPS mm: where the tags of its image say, if it has one."""
    if not source.stack.even:
        return index_to_physical(grid, np.column_stack([polygon, np.full(len(polygon), k)]))
    plane = source.stack.planes[k]
    steps = plane.orientation.reshape(2, 3) * plane.spacing_mm[:, None]
    return np.asarray(plane.position + polygon @ steps)
