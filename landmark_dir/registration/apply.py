"""What a finished run is for: images and points through its transform, and the transform itself."""

import logging
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from landmark_dir.elastix.engines import find_backend
from landmark_dir.errors import BadPoints, BadRunFolder, BadVolume
from landmark_dir.geometry import Points, distances_mm, index_to_physical, inside, voxel_centres
from landmark_dir.io import run_folder
from landmark_dir.io.point_files import (
    read_elastix_points,
    read_markups,
    write_elastix_points,
    write_markups,
)
from landmark_dir.io.volumes import SUFFIXES, check_labels, read_labels, write_volume
from landmark_dir.registration.inputs import Volume, as_volume
from landmark_dir.transforms.chain import Chain, read_transform
from landmark_dir.transforms.fields import Inverse, displacement, invert, invert_points
from landmark_dir.transforms.fields import jacobian as jacobian_determinant

log = logging.getLogger(__name__)

MARKUPS = ".mrk.json"
TRANSFORM_SUFFIXES = (".h5", ".tfm")
EXPORT_MM = 1e-3
EXPORT_POINTS = 2000
UNSOLVED_MM = 0.01  # residual of an inverse that is none
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
    transform = run_folder.run_transform(Path(run))
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
    inverse: bool = False,
    backend: str = "auto",
) -> Points:
    """Map fixed points [N, 3], LPS mm, or a point file, to moving space.

    Point files: elastix (`.txt`) and 3D Slicer markups (`.mrk.json`), by suffix.

    Parameters
    ----------
    inverse : bool
        Map moving points to fixed space instead, by iteration.

    Raises
    ------
    BadRunFolder, BadPoints, BackendMissing, ElastixFailed
    """
    transform = run_folder.run_transform(Path(run))
    _check_output(out)
    given = _read_points(points)
    if inverse:
        mapped = _inverted(transform, given)
        _warn_outside(Path(run), mapped)
    else:
        _warn_outside(Path(run), given)
        with closing(find_backend(backend)) as engine:
            mapped = engine.map_points(transform, given)
    if out is not None:
        _write_points(mapped, Path(out))
    return mapped


def _inverted(transform: Path, moving: Points) -> Points:
    chain = read_transform(transform)
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


def _read_points(points: Points | str | Path) -> Points:
    if not isinstance(points, str | Path):
        return points
    read = read_markups if str(points).endswith(MARKUPS) else read_elastix_points
    return read(Path(points))


def _write_points(points: Points, out: Path) -> None:
    write = write_markups if out.name.endswith(MARKUPS) else write_elastix_points
    write(points, out)


def field(run: str | Path, out: str | Path | None = None) -> sitk.Image:
    """Displacement T(x) - x, mm, LPS, at each voxel of the fixed grid; three components, float32.

    Raises
    ------
    BadRunFolder, BadVolume
    """
    chain, grid = _chain_and_grid(run, out)
    return _written(displacement(chain, grid), out)


def jacobian(run: str | Path, out: str | Path | None = None) -> sitk.Image:
    """Determinant of dT/dx at each voxel of the fixed grid; float32, 0 and below: folded.

    Raises
    ------
    BadRunFolder, BadVolume
    """
    chain, grid = _chain_and_grid(run, out)
    return _written(jacobian_determinant(chain, grid), out)


def inverse(
    run: str | Path, out: str | Path | None = None, *, like: Volume | None = None
) -> Inverse:
    """Moving -> fixed as a displacement field on the moving grid, with its residual.

    Parameters
    ----------
    like : sitk.Image or path, optional
        Image whose grid to take; the moving image that `run.json` names, if none.

    Raises
    ------
    BadRunFolder
        If the moving image is not where it was, and `like` is not given.
    """
    chain, grid = _chain_and_grid(run, out)
    found = invert(
        chain, _moving_grid(Path(run)) if like is None else as_volume(like, "like"), grid
    )
    _written(found.field, out)
    return found


def _moving_grid(run: Path) -> sitk.Image:
    named = run_folder.read_run_json(run)["inputs"]["moving"]
    path = Path(named["path"]) if named["path"] else None
    if path is None or not path.exists() or run_folder.sha256(path) != named["sha256"]:
        raise BadRunFolder(
            f"{run}: its moving image is not at {path or 'any path'} as it was; give an image on "
            "the grid you want with --like"
        )
    return as_volume(path, "moving")


def export(run: str | Path, out: str | Path) -> float:
    """Write the transform as an ITK file that SimpleITK and 3D Slicer read.

    Both take it as a map from fixed to moving points. In 3D Slicer, put it on the *moving* volume:
    what is read from such files is the transform from parent.

    Returns
    -------
    float
        Largest difference, mm, between the file read back and transformix.

    Raises
    ------
    BadRunFolder
        If the two differ by more than a micrometre; no file is left then.
    """
    transform = run_folder.run_transform(Path(run))
    _check_output(out, TRANSFORM_SUFFIXES)
    warped = sitk.ReadImage(str(Path(run) / run_folder.WARPED))
    with tempfile.TemporaryDirectory(dir=Path(out).parent) as scratch:
        file = Path(scratch) / Path(out).name
        sitk.WriteTransform(read_transform(transform).itk(), str(file))
        again = sitk.ReadTransform(str(file))
        points = index_to_physical(
            warped, np.random.default_rng(0).uniform(0, warped.GetSize(), (EXPORT_POINTS, 3))
        )
        with closing(find_backend()) as engine:
            wanted = engine.map_points(transform, points)
        mapped = np.array([again.TransformPoint(point) for point in points.tolist()])
        worst = float(distances_mm(mapped, wanted).max())
        if worst > EXPORT_MM:
            raise BadRunFolder(
                f"{run}: the exported transform is {worst:.3g} mm off transformix, expected at "
                f"most {EXPORT_MM} mm; nothing was written"
            )
        file.replace(out)
    return worst


def _chain_and_grid(run: str | Path, out: str | Path | None) -> tuple[Chain, sitk.Image]:
    transform = run_folder.run_transform(Path(run))
    _check_output(out, SUFFIXES)
    return read_transform(transform), sitk.ReadImage(str(Path(run) / run_folder.WARPED))


def _written(image: sitk.Image, out: str | Path | None) -> sitk.Image:
    if out is not None:
        write_volume(image, Path(out))
    return image


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
    outside = int(np.sum(~inside(sitk.ReadImage(str(run / run_folder.WARPED)), points)))
    if outside:
        log.warning(
            "%d of %d points lie outside the fixed image, where the transform is a guess; "
            "expected physical mm (LPS) of the fixed image",
            outside,
            len(points),
        )
