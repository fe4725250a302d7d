"""Label maps: NIfTI, NRRD, MHA. Structures have numbers there, and neither names nor overlaps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from landmark_dir.errors import BadStructures
from landmark_dir.io.volumes import read_labels, write_volume
from landmark_dir.structures.layers import LARGEST, layered, smallest
from landmark_dir.structures.structure import Structure, cropped, numbered

MOST_LABELS = 1000  # of a label map; grey values have more


def read_label_map(path: Path) -> list[Structure]:
    """Read each label but 0 of a file, or of a DICOM series, as a structure: `label 3`.

    Raises
    ------
    BadVolume
        If the file cannot be read whole, or holds no integers.
    BadStructures
        If it has no label, or what it has are grey values.
    """
    labels = read_labels(path)
    values = np.unique(sitk.GetArrayViewFromImage(labels))
    if values[0] < 0 or len(values) > MOST_LABELS:
        raise BadStructures(
            f"{path}: expected a label map, found {len(values)} values from {values[0]} to "
            f"{values[-1]}; is this an image?"
        )
    found = masks(labels)
    if not found:
        raise BadStructures(f"{path}: expected a label map, every voxel is 0")
    return [Structure(f"label {number}", number, None, mask) for number, mask in found.items()]


def write_label_map(structures: Sequence[Structure], grid: sitk.Image, out: Path) -> None:
    """Write structures as one label map on a grid; their numbers are the labels.

    Where two have the same number, or one has none that is a label, they are numbered from 1.

    Raises
    ------
    BadStructures
        If two overlap.
    """
    found = layered(numbered(structures, LARGEST), grid)
    if found.overlap is not None:
        one, other = found.overlap
        raise BadStructures(
            f"{out}: {one} and {other} overlap, and a label map has room for one a voxel; write "
            "them as .seg.nrrd, DICOM SEG or RTSTRUCT"
        )
    image = sitk.GetImageFromArray(smallest(found.labels[0]))
    image.CopyInformation(grid)
    write_volume(image, out)


def masks(labels: sitk.Image) -> dict[int, sitk.Image]:
    """The mask of each label but 0, cut to it."""
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
