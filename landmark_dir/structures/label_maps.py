"""Read label maps: NIfTI, NRRD, MHA, and 3D Slicer's `.seg.nrrd` with names, colours, layers.

References
----------
[slicer] 3D Slicer, segmentation file format (.seg.nrrd)
"""

import logging
import re
from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk

from landmark_dir.errors import BadStructures
from landmark_dir.io import nrrd
from landmark_dir.io.volumes import check_labels, read_labels
from landmark_dir.structures.structure import (
    Colour,
    Structure,
    cropped,
    numbered_once,
)

log = logging.getLogger(__name__)

SAID = ("ID", "Name", "Color", "Layer")  # of a segment, beside its label value
SEGMENT = re.compile(r"Segment(\d+)_LabelValue")


def read_label_map(path: Path) -> list[Structure]:
    """Read each label of a file, or of a DICOM series, as a structure.

    Names and colours are those in the header of a `.seg.nrrd`; elsewhere label 3 is `label 3`.
    The segments of such a file may lie in layers, and so overlap; label values that are there
    twice are then numbered anew, from 1.

    Raises
    ------
    BadVolume
        If the file cannot be read whole, or holds no integers.
    BadStructures
        If it has no label.
    """
    content = path.read_bytes() if path.is_file() else b""
    fields = nrrd.own_fields(content) if nrrd.is_header(content) else {}
    if any(SEGMENT.fullmatch(key) for key in fields):
        structures = _segments(path, content, fields)
    else:
        structures = labels_of(read_labels(path))
    if not structures:
        raise BadStructures(f"{path}: expected a label map, every voxel is 0")
    return structures


def labels_of(labels: sitk.Image) -> list[Structure]:
    """Each label but 0 of a label map as a structure."""
    return [
        Structure(f"label {number}", number, None, mask) for number, mask in _masks(labels).items()
    ]


def _masks(labels: sitk.Image) -> dict[int, sitk.Image]:
    """The mask of each label but 0."""
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.ComputePerimeterOff()
    shapes.Execute(labels)
    boxes = {number: shapes.GetBoundingBox(number) for number in shapes.GetLabels()}
    return {
        number: cropped(_widened(labels, box[:3], box[3:]) == number)
        for number, box in boxes.items()
    }


def _widened(image: sitk.Image, first: tuple[int, ...], size: tuple[int, ...]) -> sitk.Image:
    """The part of an image from voxel `first` on, and one voxel more on each side."""
    x, y, z = (slice(max(a - 1, 0), a + n + 1) for a, n in zip(first, size, strict=True))
    return image[x, y, z]


def _segments(path: Path, content: bytes, fields: dict[str, str]) -> list[Structure]:
    """The segments of a `.seg.nrrd`, in the order of its header; empty ones are left out."""
    layers = [check_labels(layer, str(path)) for layer in nrrd.read_layers(path, content)]
    masks = [_masks(layer) for layer in layers]
    found = []
    for key in sorted(filter(None, map(SEGMENT.fullmatch, fields)), key=lambda one: int(one[1])):
        said = {name: fields.get(f"Segment{key[1]}_{name}", "") for name in SAID}
        try:
            number, layer = int(fields[key[0]]), int(said["Layer"] or 0)
            mask = masks[layer].get(number)
            colour = _colour(said["Color"])
        except (ValueError, IndexError) as error:
            raise BadStructures(
                f"{path}: what its header says of segment {key[1]} cannot be read ({error}); save "
                "it again"
            ) from error
        name = said["Name"] or said["ID"] or f"label {number}"
        if mask is None:
            log.warning("%s: left out: %s: no voxel lies in it", path, name)
        else:
            found.append(Structure(name, number, colour, mask))
    if numbered_once(found):
        return found
    return [replace(one, number=number) for number, one in enumerate(found, 1)]


def _colour(text: str) -> Colour | None:
    """Red, green and blue, each 0..1."""
    if not text:
        return None
    red, green, blue = (round(255 * float(part)) for part in text.split())
    return red, green, blue
