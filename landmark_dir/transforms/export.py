"""A transform as a file that SimpleITK, ITK and 3D Slicer read."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from landmark_dir.elastix.engine import Engine
from landmark_dir.elastix.transformix import map_points
from landmark_dir.errors import BadRunFolder
from landmark_dir.geometry import distances_mm, index_to_physical
from landmark_dir.io.outputs import output_place, replacing
from landmark_dir.transforms.chain import read_transform

SUFFIXES = (".h5", ".tfm")
ALLOWED_MM = 1e-3  # largest difference from transformix
CHECKED_POINTS = 2000


def export_transform(transform: Path, grid: sitk.Image, out: Path, engine: Engine) -> float:
    """Write an elastix transform file as an ITK file, and check it against transformix.

    Parameters
    ----------
    grid : sitk.Image
        On the fixed grid; random places in it are compared.

    Returns
    -------
    float
        Largest difference, mm, between the file read back and transformix.

    Raises
    ------
    BadRunFolder
        If the two differ by more than a micrometre; no file is left then.
    """
    with replacing(output_place(out)) as file:
        sitk.WriteTransform(read_transform(transform).itk(), str(file))
        again = sitk.ReadTransform(str(file))
        places = np.random.default_rng(0).uniform(0, grid.GetSize(), (CHECKED_POINTS, 3))
        points = index_to_physical(grid, places)
        mapped = np.array([again.TransformPoint(point) for point in points.tolist()])
        worst = float(distances_mm(mapped, map_points(engine, transform, points)).max())
        if worst > ALLOWED_MM:
            raise BadRunFolder(
                f"{transform.parent}: the exported transform is {worst:.3g} mm off transformix, "
                f"expected at most {ALLOWED_MM} mm; nothing was written"
            )
    return worst
