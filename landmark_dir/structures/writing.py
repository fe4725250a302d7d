"""The way out: structures as a label map, a DICOM SEG or an RTSTRUCT."""

from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk

from landmark_dir.errors import BadArgument, BadStructures
from landmark_dir.io.dicom_headers import SourceSeries
from landmark_dir.io.volumes import SUFFIXES
from landmark_dir.structures.dicom_seg import write_seg
from landmark_dir.structures.label_maps import write_label_map
from landmark_dir.structures.rtstruct_writing import write_rtstruct
from landmark_dir.structures.slicer_segments import write_segments
from landmark_dir.structures.structure import Structure

DICOM = (".dcm",)
SEGMENTS = (".seg.nrrd",)
IN_DICOM = {"seg": write_seg, "rtstruct": write_rtstruct}
ON_A_GRID = {"segments": write_segments, "labels": write_label_map}
KINDS = ("labels", "seg", "rtstruct")


def kind_of(out: Path, wanted: str | None = None) -> str:
    """What is to be written: `labels`, `segments` (of 3D Slicer), `seg` or `rtstruct`.

    Parameters
    ----------
    wanted : str, optional
        One of `KINDS`; needed for `.dcm`.

    Raises
    ------
    BadArgument
        If the suffix is none of a label map or of DICOM, or another one than `wanted` has.
    """
    name = out.name.lower()
    if name.endswith(DICOM):
        if wanted not in IN_DICOM:
            raise BadArgument(f"{out}: say what it is to be with --as: {' or '.join(IN_DICOM)}")
        return wanted
    if not name.endswith(SUFFIXES):
        known = ", ".join((*SUFFIXES, *DICOM))
        raise BadArgument(f"{out}: unknown suffix, expected one of {known}")
    if wanted in IN_DICOM:
        raise BadArgument(f"{out}: expected a name that ends in .dcm for --as {wanted}")
    return "segments" if name.endswith(SEGMENTS) else "labels"


def write_structures(
    structures: Sequence[Structure],
    out: Path,
    onto: sitk.Image | SourceSeries,
    kind: str | None = None,
) -> None:
    """Write structures on the grid of a scan: whole, or not at all.

    A label map keeps their numbers, and refuses those that overlap. A `.seg.nrrd`, a DICOM SEG and
    an RTSTRUCT keep names and colours, too, and overlaps.

    Parameters
    ----------
    onto : sitk.Image or SourceSeries
        The scan they lie on now, or any image on its grid; for DICOM its series.
    kind : str, optional
        See `kind_of`.

    Raises
    ------
    BadArgument, BadRunFolder, BadStructures
    """
    kind = kind_of(out, kind)
    grid = onto if isinstance(onto, sitk.Image) else grid_of(onto)
    if kind in ON_A_GRID:
        ON_A_GRID[kind](structures, grid, out)
    elif isinstance(onto, SourceSeries):
        IN_DICOM[kind](structures, onto, grid, out)
    else:
        raise BadStructures(f"{out}: a DICOM object needs the DICOM series that it is of")


def grid_of(source: SourceSeries) -> sitk.Image:
    """An image on the grid of a series; its values say nothing."""
    stack = source.stack
    grid = sitk.Image(list(stack.size_xyz), sitk.sitkUInt8)
    grid.SetSpacing(stack.spacing_mm)
    grid.SetOrigin(stack.origin.tolist())
    grid.SetDirection(stack.direction.ravel().tolist())
    return grid
