"""Read DICOM RT structure sets: closed planar contours as masks on the grid of a scan.

References
----------
[DICOM] PS3.3 C.8.8.5 Structure Set module, C.8.8.6 ROI Contour module
"""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from landmark_dir.errors import BadStructures
from landmark_dir.geometry import Points
from landmark_dir.io.dicom_files import as_text, quiet, read_header
from landmark_dir.structures.contours import mask_of
from landmark_dir.structures.structure import Colour, Structure

log = logging.getLogger(__name__)

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
FEWEST = 3  # points of a contour that holds an area


def read_rtstruct(
    path: Path, grid: sitk.Image, frame_of_reference: str | None = None
) -> list[Structure]:
    """Read the structures of an RTSTRUCT file; what is left out is logged.

    Parameters
    ----------
    grid : sitk.Image
        The grid of the masks; structures are cut to it.
    frame_of_reference : str, optional
        FrameOfReferenceUID of the scan that the grid is of, if it is known.

    Raises
    ------
    BadStructures
        If it is damaged, no structure holds a volume on the grid, or all are drawn in another
        frame of reference.
    """
    dataset = read_header(path)
    found: list[Structure] = []
    left_out: list[str] = []
    try:
        with quiet():
            for roi, drawn in _rois(dataset):
                try:
                    found.append(_structure(roi, drawn, grid, frame_of_reference))
                except BadStructures as why:
                    left_out.append(str(why))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadStructures(
            f"{path}: damaged, not a whole RTSTRUCT ({error}); export it again"
        ) from error
    if not found:
        listing = "".join(f"\n  {said}" for said in left_out)
        raise BadStructures(f"{path}: no structure with a volume on this scan{listing}")
    for said in left_out:
        log.warning("%s: left out: %s", path, said)
    return found


def _rois(dataset: Dataset) -> Iterator[tuple[Dataset, Dataset]]:
    """Each structure, with the item that holds its contours and its colour; empty if none does."""
    drawn = {int(one.ReferencedROINumber): one for one in dataset.get("ROIContourSequence") or []}
    for roi in dataset.get("StructureSetROISequence") or []:
        yield roi, drawn.get(int(roi.ROINumber), Dataset())


def _structure(
    roi: Dataset, drawn: Dataset, grid: sitk.Image, frame_of_reference: str | None
) -> Structure:
    number = int(roi.ROINumber)
    name = as_text(roi.get("ROIName")) or f"ROI {number}"
    own = as_text(roi.get("ReferencedFrameOfReferenceUID"))
    if own and frame_of_reference and own != frame_of_reference:
        raise BadStructures(
            f"{name}: expected contours in frame of reference {frame_of_reference}, found {own}"
            "; give the structures that were drawn on this scan"
        )
    contours, slab_mm = _contours(drawn, name)
    mask = mask_of(contours, grid, name, slab_mm)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise BadStructures(f"{name}: no voxel of the scan lies in it")
    return Structure(name, number, _colour(drawn), mask)


def _contours(drawn: Dataset, name: str) -> tuple[list[Points], float | None]:
    """The closed contours, LPS mm, and the thickness of their planes, if it is said."""
    contours = []
    others: Counter[str] = Counter()
    slab_mm = None
    for one in drawn.get("ContourSequence") or []:
        points = np.array(one.get("ContourData") or [], float).reshape(-1, 3)
        kind = as_text(one.get("ContourGeometricType"))
        if kind in CLOSED and len(points) >= FEWEST:
            contours.append(points)
            slab_mm = float(one.get("ContourSlabThickness") or 0) or slab_mm
        else:
            others[kind if kind not in CLOSED else f"{kind} of less than {FEWEST} points"] += 1
    said = ", ".join(f"{count} {kind}" for kind, count in others.items())
    if not contours:
        raise BadStructures(f"{name}: no closed contour{f', only {said}' if said else ''}")
    if said:
        log.warning("%s: contours that hold no area are left out: %s", name, said)
    if any(not np.isfinite(points).all() for points in contours):
        raise BadStructures(f"{name}: places that are no numbers; export it again")
    return contours, slab_mm


def _colour(drawn: Dataset) -> Colour | None:
    colour = drawn.get("ROIDisplayColor")
    if colour is None or len(colour) != 3:
        return None
    red, green, blue = (int(value) for value in colour)
    return red, green, blue
