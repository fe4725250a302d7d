"""3D Slicer's segmentations, `.seg.nrrd`: label maps in layers, names and colours in the header.

References
----------
[slicer] 3D Slicer, vtkMRMLSegmentationStorageNode; its documentation, Segmentations
"""

import gzip
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from landmark_dir.errors import BadStructures
from landmark_dir.geometry import index_to_mm
from landmark_dir.io import nrrd
from landmark_dir.io.outputs import output_place, replacing
from landmark_dir.io.volumes import check_labels
from landmark_dir.structures.label_maps import masks
from landmark_dir.structures.layers import LARGEST, layered, smallest
from landmark_dir.structures.structure import Colour, Structure, numbered

log = logging.getLogger(__name__)

SAID = ("ID", "Name", "Color", "Layer")  # of a segment, beside its label value
SEGMENT = re.compile(r"Segment(\d+)_LabelValue")


def is_segmentation(content: bytes) -> bool:
    """Tell whether a file is one: NRRD that says which label is which segment."""
    return nrrd.is_header(content) and any(map(SEGMENT.fullmatch, nrrd.own_fields(content)))


def read_segments(path: Path, content: bytes) -> list[Structure]:
    """Read the segments in the order of the header; empty ones are left out, which is logged.

    Label values that are there in two layers are numbered anew, from 1.

    Raises
    ------
    BadVolume, BadStructures
        If the file cannot be read whole, or no segment has a voxel.
    """
    fields = nrrd.own_fields(content)
    layers = [masks(check_labels(one, str(path))) for one in nrrd.read_layers(path, content)]
    found = []
    for key in sorted(filter(None, map(SEGMENT.fullmatch, fields)), key=lambda one: int(one[1])):
        said = {name: fields.get(f"Segment{key[1]}_{name}", "") for name in SAID}
        try:
            number = int(fields[key[0]])
            mask = layers[int(said["Layer"] or 0)].get(number)
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
    if not found:
        raise BadStructures(f"{path}: every segment is empty")
    return numbered(found, LARGEST)


def _colour(text: str) -> Colour | None:
    """Red, green and blue, each 0..1."""
    if not text:
        return None
    red, green, blue = (round(255 * float(part)) for part in text.split())
    return red, green, blue


def write_segments(structures: Sequence[Structure], grid: sitk.Image, out: Path) -> None:
    """Write structures as a `.seg.nrrd` on a grid; those that overlap in layers."""
    structures = numbered(structures, LARGEST)
    found = layered(structures, grid)
    voxels = smallest(np.stack(found.labels, axis=-1))  # [z, y, x, layer]
    said = [
        f"Segment{n}_{key}:={value}"
        for n, (one, layer) in enumerate(zip(structures, found.of, strict=True))
        for key, value in _said(one, layer).items()
    ]
    header = [*_header(grid, len(found.labels), voxels.dtype.name), *said, "", ""]
    with replacing(output_place(out)) as file, file.open("wb") as opened:
        opened.write("\n".join(header).encode())
        opened.write(gzip.compress(voxels.tobytes(), 6))


def _header(grid: sitk.Image, layers: int, kind: str) -> list[str]:
    several = layers > 1  # one layer is a label map that any reader of NRRD takes
    return [
        "NRRD0004",
        f"type: {kind}",
        f"dimension: {3 + several}",
        "space: left-posterior-superior",
        f"sizes: {f'{layers} ' * several}{' '.join(str(n) for n in grid.GetSize())}",
        f"space directions: {'none ' * several}{' '.join(map(_vector, index_to_mm(grid).T))}",
        f"kinds: {'list ' * several}domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(grid.GetOrigin())}",
    ]


def _vector(values: Iterable[float]) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"


def _said(one: Structure, layer: int) -> dict[str, str]:
    said = {"ID": f"Segment_{one.number}", "Name": " ".join(one.name.split())}
    said |= {"LabelValue": str(one.number), "Layer": str(layer)}
    if one.colour is not None:
        said["Color"] = " ".join(f"{part / 255:.6g}" for part in one.colour)
    return said
