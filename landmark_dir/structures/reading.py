"""The front door: structures of any kind of file, told by its content."""

from pathlib import Path

import SimpleITK as sitk
from pydicom import uid

from landmark_dir.errors import BadStructures
from landmark_dir.io.dicom_files import as_text, is_dicom, quiet, read_header
from landmark_dir.io.dicom_series import files_in
from landmark_dir.structures.dicom_seg import read_seg
from landmark_dir.structures.label_maps import read_label_map
from landmark_dir.structures.rtstruct import read_rtstruct
from landmark_dir.structures.slicer_segments import is_segmentation, read_segments
from landmark_dir.structures.structure import Structure

SEG = (uid.SegmentationStorage, "1.2.840.10008.5.1.4.1.1.66.7")  # the other, of label maps
RTSTRUCT = (uid.RTStructureSetStorage,)


def read_structures(
    path: str | Path, grid: sitk.Image | None = None, frame_of_reference: str | None = None
) -> list[Structure]:
    """Read all structures of a label map, a DICOM SEG or an RTSTRUCT, told by its content.

    Parameters
    ----------
    path : path
        A file, or a folder with one SEG or RTSTRUCT.
    grid : sitk.Image, optional
        The scan they were drawn on, or any image on its grid: contours need it. What lies on
        voxels keeps its own grid.
    frame_of_reference : str, optional
        FrameOfReferenceUID of that scan, if it is known. DICOM objects of another one are refused.

    Returns
    -------
    list of Structure
        In the order of the file; at least one. What was left out is logged.

    Raises
    ------
    BadVolume, BadStructures
        If it cannot be read whole, holds no structure, or needs a grid and there is none.
    """
    path = _object_in(Path(path))
    kind = _kind(path)
    if kind in SEG:
        return read_seg(path, frame_of_reference)
    if kind not in RTSTRUCT:
        content = path.read_bytes() if path.is_file() else b""
        return read_segments(path, content) if is_segmentation(content) else read_label_map(path)
    if grid is None:
        raise BadStructures(
            f"{path}: contours become a mask on the grid of a scan only; give the scan they were "
            "drawn on"
        )
    return read_rtstruct(path, grid, frame_of_reference)


def _object_in(path: Path) -> Path:
    """The only SEG or RTSTRUCT in a folder; the path itself if there is none."""
    if not path.is_dir():
        return path
    found = [file for file in files_in(path) if _kind(file) in (*SEG, *RTSTRUCT)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:3])
        raise BadStructures(f"{path}: {len(found)} SEG or RTSTRUCT files ({names}); name one")
    return found[0] if found else path


def _kind(path: Path) -> str:
    """SOPClassUID of a DICOM file; empty for any other."""
    if not is_dicom(path):
        return ""
    with quiet():
        return as_text(read_header(path, ["SOPClassUID"]).get("SOPClassUID"))
