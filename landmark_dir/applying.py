"""What a finished run is for: images and points through its transform."""

import logging
from contextlib import closing
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from landmark_dir import rundir
from landmark_dir.backends import find_backend
from landmark_dir.errors import BadVolume
from landmark_dir.geometry import Points, inside, voxel_centres
from landmark_dir.inputs import Volume, as_volume
from landmark_dir.points import read_elastix_points, write_elastix_points
from landmark_dir.volume import SUFFIXES, check_labels, read_labels, write_volume

log = logging.getLogger(__name__)

OUTSIDE_STRIDE = 4  # voxels between the samples that tell whether two images meet at all


def warp(
    run: str | Path,
    image: Volume,
    out: str | Path | None = None,
    *,
    labels: bool = False,
    backend: str = "auto",
) -> sitk.Image:
    """Warp an image of the moving side onto the fixed grid of a finished run.

    Parameters
    ----------
    image : sitk.Image or path
        The moving image, or anything in its space.
    out : path, optional
        Image file to write.
    labels : bool
        `image` is a label map: nearest neighbour, 0 outside.

    Raises
    ------
    BadRunFolder, BadVolume, BackendMissing, ElastixFailed
    """
    transform = rundir.run_transform(Path(run))
    _check_output(out, SUFFIXES)
    moving = _label_map(image) if labels else as_volume(image, "image")
    with closing(find_backend(backend)) as engine:
        warped = engine.warp_image(transform, moving, labels=labels)
        wanted = engine.map_points(transform, voxel_centres(warped, OUTSIDE_STRIDE))
    if not inside(moving, wanted).any():
        raise BadVolume(
            f"{image if isinstance(image, str | Path) else 'image'}: lies wholly outside what the "
            "run maps; expected the moving image of that run, or one in its space"
        )
    if out is not None:
        write_volume(warped, Path(out))
    return warped


def warp_points(
    run: str | Path,
    points: Points | str | Path,
    out: str | Path | None = None,
    *,
    backend: str = "auto",
) -> Points:
    """Map fixed points [N, 3], LPS mm, or an elastix point file, to moving space.

    Raises
    ------
    BadRunFolder, BadPoints, BackendMissing, ElastixFailed
    """
    transform = rundir.run_transform(Path(run))
    _check_output(out)
    fixed = read_elastix_points(Path(points)) if isinstance(points, str | Path) else points
    _warn_outside(Path(run), fixed)
    with closing(find_backend(backend)) as engine:
        moving = engine.map_points(transform, fixed)
    if out is not None:
        write_elastix_points(moving, Path(out))
    return moving


def _label_map(image: Volume) -> sitk.Image:
    if isinstance(image, sitk.Image):
        return check_labels(image, "image")
    return read_labels(image)


def _check_output(out: str | Path | None, suffixes: tuple[str, ...] = ("",)) -> None:
    """Refuse an output file that could not be written, before anything slow is done."""
    if out is None:
        return
    path = Path(out)
    if not path.name.lower().endswith(suffixes):
        raise ValueError(f"{path}: unknown suffix, expected one of {', '.join(suffixes)}")
    if path.is_dir():
        raise ValueError(f"{path}: expected the name of a file to write, found a folder")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: its folder does not exist; create {path.parent} first")


def _warn_outside(run: Path, points: Points) -> None:
    outside = int(np.sum(~inside(sitk.ReadImage(str(run / rundir.WARPED)), points)))
    if outside:
        log.warning(
            "%d of %d points lie outside the fixed image, where the transform is a guess; "
            "expected physical mm (LPS) of the fixed image",
            outside,
            len(points),
        )
