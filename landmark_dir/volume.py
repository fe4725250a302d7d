"""Read, check and write a 3D CT volume; find the body in it.

Everything that enters is refused here or usable everywhere: one 3D scalar `sitk.Image`, LPS,
finite, not constant, int16 where that loses nothing and float32 else.
"""

import gzip
import logging
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from landmark_dir.errors import BadVolume, LandmarkDirError
from landmark_dir.geometry import corners, index_to_physical, inside, same_grid

Mask: TypeAlias = NDArray[np.bool_]  # [z, y, x]

log = logging.getLogger(__name__)

MIN_VOXELS = 4  # along each axis; elastix gives up on 3 (measured, elastix 5.3.1)
SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")  # one file each, so a rename is atomic
UNEVEN = 0.01  # share of the slice distance; more is worth a warning
MISSING = 1.5  # times the median slice distance; half of a slice is missing
TILT = 0.02  # mm sideways per mm along the stack; 1 degree of gantry tilt

BODY_HU = -500.0  # half-way from air (-1000) to soft tissue (0): the edge that a scanner blurs
LUNG_HU = -950.0  # lung is denser (bar emphysema [Gevenois 1996]), the air outside is not
BODY_GRID_MM = 2.5  # coarse grid of the morphology: the mask is good to about one such voxel
THIN_MM = 5.0  # radius; what is thinner than 10 mm in an axial slice is sheet, tube or table
FLAT_MM = 12.0  # radius; a part thinner than 24 mm all along is table, wrists are thicker
BIG_PART = 0.02  # of the largest part's volume: an arm stays, a piece of table goes
IN_SLICE = np.zeros((3, 3, 3), dtype=bool)  # neighbours [z, y, x] within an axial slice
IN_SLICE[1] = ndimage.generate_binary_structure(2, 1)


def read_volume(path: str | Path, series: str | None = None) -> sitk.Image:
    """Read a CT volume.

    Parameters
    ----------
    path : path
        A NIfTI, MHA/MHD or NRRD file, or a folder that holds a DICOM series (itself or one
        level down).
    series : str, optional
        Which DICOM series: its id, or a beginning or end of it that is unique.

    Returns
    -------
    sitk.Image
        3D, int16 or float32; rescale slope and intercept are applied.

    Raises
    ------
    BadVolume
        If the file cannot be read whole, several series are there to choose from, slices are
        missing, or `check_volume` refuses.
    """
    path = Path(path)
    image = _read_dicom(path, series) if path.is_dir() else _read_file(path)
    return check_volume(image, str(path))


def check_volume(image: sitk.Image, name: str) -> sitk.Image:
    """Return `image` as a 3D int16 or float32 volume, or refuse it; `name` is for the message.

    int16 is taken where every voxel survives it, whatever the pixel type was. A fourth axis of
    size 1 is dropped.
    """
    image = _as_3d(image, name)
    if min(image.GetSize()) < MIN_VOXELS:
        raise BadVolume(
            f"{name}: {_size(image)} voxels, expected at least {MIN_VOXELS} along each axis"
            "; for DICOM give the folder of the series, not one slice"
        )
    values = _finite_values(image, name)
    if values.min() == values.max():
        raise BadVolume(f"{name}: every voxel is {values.min():g}; there is nothing to register")
    wanted = sitk.sitkInt16 if _fits_int16(values) else sitk.sitkFloat32
    return image if image.GetPixelID() == wanted else sitk.Cast(image, wanted)


def read_mask(path: str | Path, image: sitk.Image, name: str) -> sitk.Image:
    """Read a mask of `image` from a file; see `check_mask`."""
    return check_mask(_read_file(Path(path)), image, f"{name} {path}")


def check_mask(mask: sitk.Image, image: sitk.Image, name: str) -> sitk.Image:
    """Return `mask` as uint8 0 / 1 on the grid of `image`; non-zero voxels are 1.

    Raises
    ------
    BadVolume
        If the mask is empty, or its voxels lie more than a tenth of a voxel beside the image's.
    """
    mask = _as_3d(mask, name)
    values = _finite_values(mask, name)
    if mask.GetSize() != image.GetSize():
        raise BadVolume(
            f"{name}: {_size(mask)} voxels, but its image has {_size(image)}"
            "; resample the mask onto the image with nearest neighbour"
        )
    if not same_grid(mask, image, tolerance_mm=0.1 * min(image.GetSpacing())):
        apart_mm = np.linalg.norm(corners(mask) - corners(image), axis=1).max()
        raise BadVolume(
            f"{name}: its corners lie up to {apart_mm:.3g} mm beside those of its image"
            "; resample the mask onto the image with nearest neighbour"
        )
    if not values.any():
        raise BadVolume(f"{name}: the mask is empty; expected non-zero voxels where to look")
    binary = sitk.Cast(mask != 0, sitk.sitkUInt8)
    binary.CopyInformation(image)  # headers of masks are often rounded
    return binary


def write_volume(image: sitk.Image, path: str | Path) -> None:
    """Write `image`, compressed where the suffix allows it; the file is whole or not there.

    Raises
    ------
    ValueError
        If the suffix is none of `SUFFIXES`.
    LandmarkDirError
        If the file cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith(SUFFIXES):
        raise ValueError(f"{path}: unknown image suffix, expected one of {', '.join(SUFFIXES)}")
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        sitk.WriteImage(image, str(partial), useCompression=True)
        _read_file(partial)  # ITK does not notice every full disk
        partial.replace(path)
    except (RuntimeError, OSError, BadVolume) as error:
        raise LandmarkDirError(
            f"{path}: cannot be written; check the free space and the rights of {path.parent}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def looks_like_ct(image: sitk.Image) -> str | None:
    """Return one sentence that says why the voxels are hardly HU, or None if they may be."""
    values = sitk.GetArrayViewFromImage(image)[::2, ::4, ::4]
    air = np.mean(values < BODY_HU)
    soft_tissue = np.mean((values > -200) & (values < 200))  # HU; fat, muscle, organs, blood
    if air < 0.002:
        return f"no air below {BODY_HU:g} HU (smallest voxel {values.min():g}); is this CT in HU?"
    if soft_tissue < 0.02:
        return f"only {soft_tissue:.1%} of the voxels within 200 HU of water; is this CT in HU?"
    return None


def overlap_fraction(fixed: sitk.Image, moving: sitk.Image) -> float:
    """Share of the volume of `fixed` that lies inside `moving`, 0..1, by up to 32^3 samples."""
    steps = [(np.arange(k) + 0.5) * n / k - 0.5 for n in fixed.GetSize() for k in [min(n, 32)]]
    index_xyz = np.stack(np.meshgrid(*steps), axis=-1).reshape(-1, 3)
    return float(inside(moving, index_to_physical(fixed, index_xyz)).mean())


def body_mask(image: sitk.Image) -> sitk.Image:
    """Find the patient's body in a CT in HU, lungs and bowel gas included, table excluded.

    Returns
    -------
    sitk.Image
        uint8 0 / 1 on the grid of `image`; empty if nothing is denser than `BODY_HU`.
    """
    shrink = [
        max(1, min(int(BODY_GRID_MM / mm), n // MIN_VOXELS))
        for mm, n in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    coarse = sitk.DICOMOrient(sitk.BinShrink(image, shrink), "LPS")  # z, y, x: axial slices
    hu = sitk.GetArrayViewFromImage(coarse)
    tissue = hu > BODY_HU
    body = _big_parts(tissue, coarse.GetSpacing())
    body = _front_to_back(body | _cavities(body, tissue, hu))
    # a chest wall may be too thin to be solid, but it lies beside the lung
    beside_air = _morphology(sitk.BinaryDilate, body & ~tissue, 2 * THIN_MM, coarse.GetSpacing())
    body = _front_to_back(body | (beside_air & tissue))
    mask = sitk.GetImageFromArray(body.astype(np.uint8))
    mask.CopyInformation(coarse)
    return _onto_grid(mask, image)


def _size(image: sitk.Image) -> str:
    return " x ".join(str(n) for n in image.GetSize())


def _as_3d(image: sitk.Image, name: str) -> sitk.Image:
    """Drop a fourth axis of size 1; refuse what is not a 3D scalar image with a sane header."""
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise BadVolume(f"{name}: {_size(image)} voxels, expected one 3D volume")
    kind = image.GetPixelIDTypeAsString()
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in kind or "label" in kind:
        raise BadVolume(f"{name}: voxels of type {kind}, expected one number a voxel")
    if not np.isfinite(corners(image)).all():
        raise BadVolume(f"{name}: the header's origin or spacing is not a number; repair it")
    return image


def _finite_values(image: sitk.Image, name: str) -> NDArray[Any]:
    """Return a view of the voxels [z, y, x]; refuse NaN and infinity."""
    values: NDArray[Any] = sitk.GetArrayViewFromImage(image)
    if bad := int(values.size - np.isfinite(values).sum()):
        raise BadVolume(
            f"{name}: {bad} of {values.size} voxels are NaN or infinite; set them to air (-1000 HU)"
        )
    return values


def _fits_int16(values: NDArray[Any]) -> bool:
    limits = np.iinfo(np.int16)
    if values.min() < limits.min or values.max() > limits.max:
        return False
    return bool(np.array_equal(values, values.astype(np.int16)))


def _read_file(path: Path) -> sitk.Image:
    if not path.is_file():
        raise BadVolume(f"{path}: no such file")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_nifti_whole(path, reader)
        image = reader.Execute()
    except RuntimeError as error:
        raise BadVolume(
            f"{path}: not a whole NIfTI, MHA, NRRD or DICOM image ({_last_line(error)})"
        ) from error
    for key in image.GetMetaDataKeys():  # a patient's name must not travel into results
        image.EraseMetaData(key)
    return image


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()


def _check_nifti_whole(path: Path, reader: sitk.ImageFileReader) -> None:
    """Refuse a NIfTI file that ends early: ITK reads zeros there and says nothing."""
    if not reader.HasMetaDataKey("vox_offset"):  # not NIfTI; the other readers raise
        return
    sizes = [max(1, int(reader.GetMetaData(f"dim[{axis}]"))) for axis in range(1, 8)]
    voxel_bytes = int(reader.GetMetaData("bitpix")) // 8
    expected = math.prod(sizes) * voxel_bytes + int(float(reader.GetMetaData("vox_offset")))
    if (found := _unpacked_bytes(path)) < expected:
        raise BadVolume(
            f"{path}: cut short or damaged, expected {expected} bytes, found {found}; copy it again"
        )


def _unpacked_bytes(path: Path) -> int:
    """Size of a file's content in bytes; up to the damage if a gzip stream is damaged."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":  # gzip's magic number
            return path.stat().st_size
    total = 0
    try:
        with gzip.open(path) as file:
            while block := file.read(1 << 20):
                total += len(block)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return max(0, total - 1)  # also when only the checksum at the end is wrong
    return total


class _Series(NamedTuple):
    """A DICOM series as found on disk."""

    id: str
    description: str
    files: list[str]


def _read_dicom(folder: Path, wanted: str | None) -> sitk.Image:
    series = _choose_series(_find_series(folder), wanted, folder)
    try:
        files = _sorted_slices(series.files, str(folder))
        return sitk.ReadImage(files)
    except RuntimeError as error:
        raise BadVolume(
            f"{folder}: series {series.id} cannot be read ({_last_line(error)})"
        ) from error


def _find_series(folder: Path) -> list[_Series]:
    """All DICOM series in `folder` and one level down."""
    files: dict[str, list[str]] = {}
    for place in [folder, *sorted(sub for sub in folder.iterdir() if sub.is_dir())]:
        for series_id in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(place)):
            names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place), series_id)
            files.setdefault(series_id, []).extend(names)
    return [
        _Series(key, _tag(_header(names[0]), "0008|103e"), names) for key, names in files.items()
    ]


def _choose_series(found: list[_Series], wanted: str | None, folder: Path) -> _Series:
    if not found:
        raise BadVolume(f"{folder}: no DICOM series in this folder or one level down")
    if wanted is None:
        fits = found
    else:  # one id may be the beginning of another, so the whole id comes first
        fits = [one for one in found if one.id == wanted] or [
            one for one in found if one.id.startswith(wanted) or one.id.endswith(wanted)
        ]
    if len(fits) == 1:
        return fits[0]
    why = "" if wanted is None else f", {len(fits)} of them fit {wanted!r}"
    listing = "".join(
        f"\n  {one.id}  {one.description or '(no description)'}, {len(one.files)} slices"
        for one in found
    )
    raise BadVolume(
        f"{folder}: {len(found)} DICOM series{why}; choose one by its ID with --fixed-series or "
        f"--moving-series:{listing}"
    )


def _header(file: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return reader


def _tag(header: sitk.ImageFileReader, key: str) -> str:
    return header.GetMetaData(key).strip() if header.HasMetaDataKey(key) else ""


def _numbers(header: sitk.ImageFileReader, key: str, count: int) -> list[float]:
    try:
        numbers = [float(word) for word in _tag(header, key).split("\\")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise BadVolume(f"{header.GetFileName()}: DICOM tag {key} does not hold {count} numbers")
    return numbers


def _sorted_slices(files: list[str], name: str) -> list[str]:
    """Sort the files of a series along the stack; refuse gaps and tilt, warn of uneven slices."""
    if len(files) == 1:  # multi-frame, or too thin, which `check_volume` says
        return files
    headers = [_header(file) for file in files]
    rows = np.array([_numbers(header, "0020|0037", 6) for header in headers])  # orientation
    if np.ptp(rows, axis=0).max() > TILT:
        raise BadVolume(f"{name}: slices of different orientation in one series (a scout?)")
    normal = np.cross(rows[0, :3], rows[0, 3:])
    positions = np.array([_numbers(header, "0020|0032", 3) for header in headers])
    order = np.argsort(positions @ normal)
    _check_stack(positions[order], normal, name)
    return [files[k] for k in order]


def _check_stack(positions: NDArray[np.float64], normal: NDArray[np.float64], name: str) -> None:
    """Check the slice positions [N, 3], sorted along `normal`."""
    steps = np.diff(positions, axis=0)
    gaps = steps @ normal
    usual = float(np.median(gaps))
    found = f"slices {gaps.min():.4g} to {gaps.max():.4g} mm apart, usually {usual:.4g}"
    if gaps.max() >= MISSING * usual or gaps.min() <= usual / MISSING:
        raise BadVolume(
            f"{name}: {found}: slices are missing, or several acquisitions are mixed"
            "; export the series again or resample it to even slices"
        )
    sideways = np.linalg.norm(steps.sum(axis=0) - gaps.sum() * normal) / gaps.sum()
    if sideways > TILT:
        degrees = math.degrees(math.atan(sideways))
        raise BadVolume(f"{name}: gantry tilt of {degrees:.1f} degrees; resample it to a box first")
    if np.ptp(gaps) > UNEVEN * usual:
        log.warning("%s: %s; read as if evenly spaced", name, found)


def _big_parts(tissue: Mask, spacing_mm: tuple[float, ...]) -> Mask:
    """Drop what is thin (sheet, tube) or flat (table) or small; keep the trunk and the limbs."""
    solid = _morphology(sitk.BinaryMorphologicalOpening, tissue, THIN_MM, spacing_mm)
    core = _morphology(sitk.BinaryErode, tissue, FLAT_MM, spacing_mm, False)
    parts, count = ndimage.label(solid)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[np.bincount(parts[core], minlength=count + 1) == 0] = 0
    sizes[0] = 0
    keep = (sizes > 0) & (sizes >= BIG_PART * sizes.max())
    # ears, fingers and corners come back, as far as the opening may have taken them
    return _morphology(sitk.BinaryDilate, keep[parts], THIN_MM, spacing_mm) & tissue


def _morphology(
    operation: Callable[..., sitk.Image],
    mask: Mask,
    radius_mm: float,
    spacing_mm: tuple[float, ...],
    border: bool = True,
) -> Mask:
    """Open, erode or dilate a mask [z, y, x] by a disc in its axial slices."""
    radius = [max(1, round(radius_mm / mm)) for mm in spacing_mm[:2]]
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    outside = {} if border else {"boundaryToForeground": False}
    done = operation(image, [*radius, 0], sitk.sitkBall, **outside)
    return np.asarray(sitk.GetArrayFromImage(done) > 0)


def _cavities(body: Mask, tissue: Mask, hu: NDArray[Any]) -> Mask:
    """Find the air [z, y, x] that `tissue` encloses in axial slices, and that is the body's.

    It is if most of its wall is: the foam of a table has the table around it. Vessels are thin,
    so not yet part of `body`, and lungs may have more foreign wall.
    """
    air, count = ndimage.label(~tissue, IN_SLICE)
    wall = ndimage.maximum_filter(air, (1, 3, 3)) * tissue
    of_body = _share(wall, body, count + 1)
    of_lung = _share(air, hu > LUNG_HU, count + 1)
    chosen = (of_body > 0.7) | ((of_lung > 0.5) & (of_body > 0.4))
    chosen[air[:, [0, -1]]] = chosen[air[:, :, [0, -1]]] = False  # open at the border
    chosen[0] = False  # tissue
    return np.asarray(chosen[air])


def _front_to_back(body: Mask) -> Mask:
    """Fill [z, y, x] from the first to the last body voxel along y: lungs cut by the border."""
    behind_front = np.maximum.accumulate(body, axis=1)
    before_back = np.maximum.accumulate(body[:, ::-1], axis=1)[:, ::-1]
    return behind_front & before_back


def _share(labels: NDArray[Any], chosen: Mask, count: int) -> NDArray[np.float64]:
    """Share of chosen voxels under each label below `count`."""
    hits = np.bincount(labels[chosen], minlength=count)
    return hits / np.maximum(1, np.bincount(labels.ravel(), minlength=count))


def _onto_grid(mask: sitk.Image, image: sitk.Image) -> sitk.Image:
    """Resample a coarse 0 / 1 mask onto the grid of `image`, with smooth outlines."""
    fine = sitk.Resample(
        mask * 200, image, sitk.Transform(), sitk.sitkLinear, 0, sitk.sitkUInt8, True
    )  # True: the nearest voxel beyond the coarse grid's edge
    return sitk.BinaryThreshold(fine, 100, 255)
