"""transformix, elastix's own way to apply a transform: the reference that ours is checked against.

Points and images of a run go through `transforms.chain` in this process, which gives the same and
is many times as quick. Tests and `export` compare the two.
"""

import re
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import SimpleITK as sitk

from landmark_dir.elastix.engine import Engine
from landmark_dir.elastix.transform_files import read_chain, resampling, write_chain
from landmark_dir.errors import ElastixFailed
from landmark_dir.geometry import Points, as_points
from landmark_dir.io.outputs import locked_folder
from landmark_dir.io.point_files import write_elastix_points

MAX_LABEL = 2**24  # larger integers are not all exact in elastix's float images
_OUTPUT_POINT = re.compile(r"OutputPoint = \[ (\S+) (\S+) (\S+) \]")


def warp_image(
    engine: Engine, transform: Path, moving: sitk.Image, *, labels: bool = False
) -> sitk.Image:
    """Resample `moving` onto the fixed grid stored in `transform`; the pixel type is kept."""
    array = sitk.GetArrayViewFromImage(moving)
    lowest, highest = array.min(), array.max()
    if labels and max(abs(int(lowest)), abs(int(highest))) > MAX_LABEL:
        raise ValueError(f"expected labels up to {MAX_LABEL}, found {lowest} to {highest}")
    with locked_folder(Path(gettempdir())) as folder:
        files = {"moving": folder / "moving.mha"}
        sitk.WriteImage(sitk.Cast(moving, sitk.sitkFloat32), str(files["moving"]))
        chain = read_chain(transform)
        chain[0] |= resampling(labels=labels, outside=0.0 if labels else float(lowest))
        files["transform"] = write_chain(chain, folder, "transform")
        engine.ask("warp_image", folder, folder / "transformix.log", files)
        warped = sitk.ReadImage(str(folder / "result.mha"))
    # cubic splines overshoot beside edges; no voxel may leave the range of the image
    values = sitk.GetArrayFromImage(warped).clip(min(lowest, 0) if labels else lowest, highest)
    if np.issubdtype(array.dtype, np.integer):
        values = np.rint(values)
    result = sitk.GetImageFromArray(values.astype(array.dtype))
    result.CopyInformation(warped)
    return result


def map_points(engine: Engine, transform: Path, fixed_points: Points) -> Points:
    """Map fixed points [N, 3] to moving points, LPS mm, to the nanometre; N may be 0."""
    points = as_points(fixed_points)
    if not len(points):
        return points
    with locked_folder(Path(gettempdir())) as folder:
        files = {"points": folder / "points.txt"}
        write_elastix_points(points, files["points"])
        chain = read_chain(transform)
        chain[0]["Size"] = ("1", "1", "1")  # some engines resample an image on the side
        files["transform"] = write_chain(chain, folder, "transform")
        engine.ask("map_points", folder, folder / "transformix.log", files)
        mapped = _read_output_points(folder / "outputpoints.txt")
    if mapped.shape != points.shape:
        raise ElastixFailed(f"transformix mapped {len(mapped)} of {len(points)} points")
    return mapped


def _read_output_points(path: Path) -> Points:
    return as_points([match.groups() for match in _OUTPUT_POINT.finditer(path.read_text("utf-8"))])
