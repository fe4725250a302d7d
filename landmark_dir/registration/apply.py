"""What a finished run can do: images and points through its transform, and the transform itself."""

import logging
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from landmark_dir.elastix.engines import find_engine
from landmark_dir.elastix.transform_files import read_chain
from landmark_dir.errors import BadArgument, BadPoints, BadVolume
from landmark_dir.evaluation.metrics import Summary, summarise
from landmark_dir.geometry import Points, as_points, distances_mm, inside, voxel_centres
from landmark_dir.io import run_folder
from landmark_dir.io.outputs import output_place, replacing
from landmark_dir.io.point_files import (
    read_point_list,
    write_point_list,
)
from landmark_dir.io.slicer_points import PointList
from landmark_dir.io.volumes import SUFFIXES, check_labels, read_labels, write_volume
from landmark_dir.points import frame_hint
from landmark_dir.registration.inputs import Volume, as_path, as_volume
from landmark_dir.registration.result import Result, open_run
from landmark_dir.transforms import export as transform_export
from landmark_dir.transforms.chain import Chain
from landmark_dir.transforms.fields import invert, invert_points
from landmark_dir.transforms.warp import warp_image

log = logging.getLogger(__name__)

UNSOLVED_MM = 0.01  # residual of the inverse of a point that is none
UNSOLVED_VOXEL_MM = 0.1  # residual above which a voxel counts as not inverted
RESAMPLE_NOTE = (
    "then clip it to the smallest and the largest value of the moving image, which cubic "
    "interpolation exceeds at edges, and round it if the moving image holds integers"
)
OUTSIDE_STRIDE = 4  # voxels between the samples that tell whether two images meet at all


class Inverse(NamedTuple):
    """Moving -> fixed on a grid, and how far T takes its answers from where they belong."""

    field: sitk.Image  # displacement, mm, LPS; three components
    residual_mm: Summary  # |T(inverse(y)) - y| over voxels whose answer lies in the fixed image
    unsolved: int  # voxels of these that are more than 0.1 mm off


def warp(
    run: str | Path | Result,
    image: Volume,
    out: str | Path | None = None,
    *,
    labels: bool = False,
) -> sitk.Image:
    """Warp an image of the moving side onto the fixed grid of a finished run.

    Parameters
    ----------
    run : path or Result
    image : sitk.Image or path
        The moving image, or anything in its space.
    out : path, optional
        Image file to write.
    labels : bool
        `image` is a label map: nearest neighbour, 0 outside.

    Raises
    ------
    BadArgument, BadRunFolder, BadVolume
    """
    result = opened(run)
    check_output(out, result, SUFFIXES, image)
    moving = _label_map(image) if labels else as_volume(image, "image")
    wanted = result.chain.map_points(voxel_centres(result.grid, OUTSIDE_STRIDE))
    if not inside(moving, wanted).any():
        raise BadVolume(
            f"{image if isinstance(image, str | Path) else 'image'}: lies wholly outside what the "
            "run maps; expected the moving image of that run, or one in its space"
        )
    return _written(warp_image(moving, result.chain, result.grid, labels=labels), out)


def warp_points(
    run: str | Path | Result,
    points: Points | str | Path,
    out: str | Path | None = None,
    *,
    inverse: bool = False,
) -> Points:
    """Map fixed points [N, 3], LPS mm, or a point file, to moving space.

    Point files, by suffix: 3D Slicer's `.mrk.json`, `.json` and `.fcsv`, and tables (`.csv` with
    the columns x, y, z and, if wanted, name), whose labels are kept; every other is an elastix
    point file.

    Parameters
    ----------
    run : path or Result
    inverse : bool
        Map moving points to fixed space instead, by iteration.

    Raises
    ------
    BadArgument, BadRunFolder, BadPoints
    """
    result = opened(run)
    check_output(out, result, given=points)
    given = _as_list(points)
    if inverse:
        mapped = _inverted(result.chain, given.points)
        _warn_outside(result, mapped)
    else:
        _warn_outside(result, given.points)
        mapped = result.chain.map_points(given.points)
    if out is not None:
        with replacing(output_place(Path(out))) as file:
            write_point_list(given._replace(points=mapped), file)
    return mapped


def _as_list(points: Points | str | Path) -> PointList:
    if isinstance(points, str | Path):
        return read_point_list(points)
    try:
        array = as_points(points)
    except (ValueError, TypeError) as error:
        raise BadArgument(
            f"points: expected an array of shape (N, 3) or a file, {error}"
        ) from error
    if not np.isfinite(array).all():
        raise BadPoints("points: NaN or infinite coordinates; drop those points first")
    return PointList(array)


def _inverted(chain: Chain, moving: Points) -> Points:
    fixed = invert_points(chain, moving)
    left = distances_mm(chain.map_points(fixed), moving)
    lost = ~(left <= UNSOLVED_MM)
    if lost.any():
        raise BadPoints(
            f"{int(lost.sum())} of {len(moving)} points have no fixed point within "
            f"{UNSOLVED_MM} mm (worst {left.max():.1f} mm); expected moving points, mm (LPS), "
            "inside what the run maps"
        )
    return fixed


def field(run: str | Path | Result, out: str | Path | None = None) -> sitk.Image:
    """Displacement T(x) - x, mm, LPS, at each voxel of the fixed grid; three components, float32.

    Raises
    ------
    BadArgument, BadRunFolder, BadVolume
    """
    result = opened(run)
    check_output(out, result, SUFFIXES)
    return _written(result.displacement, out)


def jacobian(run: str | Path | Result, out: str | Path | None = None) -> sitk.Image:
    """Determinant of dT/dx at each voxel of the fixed grid; float32, 0 and below: folded.

    Raises
    ------
    BadArgument, BadRunFolder, BadVolume
    """
    result = opened(run)
    check_output(out, result, SUFFIXES)
    return _written(result.jacobian, out)


def inverse(
    run: str | Path | Result, out: str | Path | None = None, *, like: Volume | None = None
) -> Inverse:
    """Moving -> fixed as a displacement field on the moving grid, with its residual.

    Parameters
    ----------
    like : sitk.Image or path, optional
        Image whose grid to take; that of the moving image, as `run.json` has it, if none.

    Raises
    ------
    BadRunFolder
        If `run.json` does not say where that lies, and `like` is not given.
    """
    result = opened(run)
    check_output(out, result, SUFFIXES, like)
    grid = result.moving_grid if like is None else as_volume(like, "like")
    found, left = invert(result.chain, grid, result.grid)
    _written(found, out)
    return Inverse(found, summarise(left.astype(np.float64)), int((left > UNSOLVED_VOXEL_MM).sum()))


def export(run: str | Path | Result, out: str | Path) -> float:
    """Write the transform as an ITK file that SimpleITK and 3D Slicer read.

    Both take it as a map from fixed to moving points. In 3D Slicer, put it on the *moving* volume:
    what is read from such files is the transform from parent. What makes `warped.nii.gz` of it says
    `resample_call`.

    Parameters
    ----------
    out : path
        `.h5` or `.tfm`.

    Returns
    -------
    float
        Largest difference, mm, between the file read back and transformix.

    Raises
    ------
    BadArgument, BadRunFolder
        Also if the two differ by more than a micrometre; no file is left then.
    """
    result = opened(run)
    check_output(out, result, transform_export.SUFFIXES)
    with closing(find_engine()) as engine:
        return transform_export.export_transform(
            result.transform_file, result.grid, Path(out), engine
        )


def resample_call(run: str | Path | Result, exported: str | Path) -> str:
    """The SimpleITK call that makes `warped.nii.gz` from both images and an exported file.

    What it gives still has to be clipped and rounded, as `RESAMPLE_NOTE` says.
    """
    outside = outside_value(opened(run))
    transform = f"sitk.ReadTransform({str(exported)!r})"
    how = f"sitk.sitkBSpline, {outside:g}, sitk.sitkFloat32"
    return f"sitk.Resample(moving, fixed, {transform}, {how})"


def outside_value(run: Result) -> float:
    """What stands in the warped image where the moving image has no data."""
    return float(read_chain(run.transform_file)[0]["DefaultPixelValue"][0])


def opened(run: str | Path | Result) -> Result:
    """A finished run, from its folder if need be."""
    return run if isinstance(run, Result) else open_run(run)


def _written(image: sitk.Image, out: str | Path | None) -> sitk.Image:
    if out is not None:
        write_volume(image, Path(out))
    return image


def _label_map(image: Volume) -> sitk.Image:
    if isinstance(image, sitk.Image):
        return check_labels(image, "image")
    return read_labels(as_path(image, "image", "a SimpleITK image or a path"))


def check_output(
    out: str | Path | None, run: Result, suffixes: tuple[str, ...] = ("",), given: object = None
) -> None:
    """Refuse an output file that cannot be written or must be kept, before anything slow is done.

    Kept are `given`, what the run was made from, and what any run has written.
    """
    if out is None:
        return
    path = as_path(out, "out", "the path of a file to write")
    if not path.name.lower().endswith(suffixes):
        raise BadArgument(f"{path}: unknown suffix, expected one of {', '.join(suffixes)}")
    place = output_place(path)
    if place.is_dir():
        raise BadArgument(f"{path}: expected the name of a file to write, found a folder")
    if run_folder.is_of_a_run(place):
        raise BadArgument(f"{path}: belongs to the run in {path.parent}; name another file")
    named = run_folder.read_run_json(run.folder)["inputs"].values()
    for kept in (given, *(one.get("path") for one in named)):
        if isinstance(kept, str | Path) and Path(kept).resolve() == place:
            raise BadArgument(f"{path}: is read, and would be lost; name another file")


def _warn_outside(result: Result, points: Points) -> None:
    outside = int(np.sum(~inside(result.grid, points)))
    if outside:
        log.warning(
            "%d of %d points lie outside the fixed image, where the transform is a guess; "
            "expected physical mm (LPS) of the fixed image%s",
            outside,
            len(points),
            frame_hint(points, result.grid),
        )
