"""Read, check and write a 3D CT volume.

Everything that enters is refused here or usable everywhere: one 3D scalar `sitk.Image`, LPS,
finite, not constant, int16 where that loses nothing and float32 else.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume, LandmarkDirError
from landmark_dir.geometry import corners, index_to_physical, inside, same_grid
from landmark_dir.io import metaimage, nifti, nrrd
from landmark_dir.io.dicom import is_dicom, read_series
from landmark_dir.io.grid import checked_grid
from landmark_dir.io.itk_warnings import heard_from_itk
from landmark_dir.io.outputs import output_place, replacing
from landmark_dir.io.reading import Reading

log = logging.getLogger(__name__)

MIN_VOXELS = 4  # along each axis; elastix gives up on 3 (measured, elastix 5.3.1)
LARGEST = 1e9  # of a voxel
LONGEST_HEADER = 1 << 20  # bytes
READERS: tuple[tuple[Callable[[bytes], bool], Callable[[Path, bytes], Reading]], ...] = (
    (nifti.is_header, nifti.read_nifti),
    (metaimage.is_header, metaimage.read_metaimage),
    (nrrd.is_header, nrrd.read_nrrd),
)
SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")  # one file each, so a rename is atomic


def read_volume(path: str | Path, series: str | None = None) -> sitk.Image:
    """Read a CT volume; what is doubtful about the file is logged.

    Parameters
    ----------
    path : path
        A NIfTI, MHA/MHD or NRRD file, a DICOM file of many frames, or a folder that holds a DICOM
        series (itself or below).
    series : str, optional
        Which DICOM series: its id, or a beginning or end of it that is unique; with `#2` behind
        it the second acquisition in it.

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
    return _logged(read_with_warnings(path, series), str(path))


def read_with_warnings(path: str | Path, series: str | None = None) -> Reading:
    """Read a CT volume as `read_volume` does, and return what is doubtful instead of logging it."""
    reading = read_image(path, series)
    image, warnings, *_ = checked_volume(reading.image, str(path))
    return reading._replace(image=image, warnings=reading.warnings + warnings)


def read_image(path: str | Path, series: str | None = None) -> Reading:
    """Read a file or a DICOM folder, told by its content, before it is known what it has to be.

    Raises
    ------
    BadVolume
        If it is not whole, contradicts itself, or holds anything but one grey 3D image.
    """
    path = Path(path)
    if series is not None and path.is_file() and not is_dicom(path):
        raise BadVolume(f"{path}: a series is chosen in a folder of DICOM files, this is a file")
    if not (path.is_file() or path.is_dir()):
        what = "neither a file nor a folder" if path.exists() else "no such file"
        raise BadVolume(f"{path}: {what}")
    try:
        dicom = path.is_dir() or is_dicom(path)
        reading = _read_dicom(path, series) if dicom else _read_file(path)
        return reading._replace(path=path)
    except OSError as error:
        raise BadVolume(f"{path}: cannot be read ({error.strerror}); check its rights") from error


def read_labels(path: str | Path) -> sitk.Image:
    """Read a 3D label map; an integer pixel type is kept, whole numbers in floats become int32.

    Raises
    ------
    BadVolume
        If the file cannot be read whole, or does not hold one 3D image of integers.
    """
    return check_labels(_logged(read_image(path), str(path)), str(path))


def check_labels(image: sitk.Image, name: str) -> sitk.Image:
    """Return `image` if it is a 3D label map, or refuse it; `name` is for the message."""
    image = _logged(_as_3d(image, name), name)
    values = _finite_values(image, name)
    if np.issubdtype(values.dtype, np.integer):
        return image
    if not np.array_equal(values, np.rint(values)):
        raise BadVolume(
            f"{name}: expected a label map, found fractions; warp it as an image, without --labels"
        )
    return sitk.Cast(image, sitk.sitkInt32)  # labels saved as floats


def check_volume(image: sitk.Image, name: str) -> sitk.Image:
    """Return `image` as a 3D int16 or float32 volume, or refuse it; `name` is for the message.

    int16 is taken where every voxel survives it, whatever the pixel type was. A fourth axis of
    size 1 is dropped. Axes that a rounded header has turned from right angles are straightened.
    """
    return _logged(checked_volume(image, name), name)


def checked_volume(image: sitk.Image, name: str) -> Reading:
    """Check as `check_volume` does, and return what is doubtful instead of logging it."""
    image, warnings, *_ = _as_3d(image, name)
    if min(image.GetSize()) < MIN_VOXELS:
        raise BadVolume(
            f"{name}: {_size(image)} voxels, expected at least {MIN_VOXELS} along each axis"
            "; for DICOM give the folder of the series, not one slice"
        )
    values = _finite_values(image, name)
    if values.min() == values.max():
        raise BadVolume(f"{name}: every voxel is {values.min():g}; there is nothing to register")
    wanted = sitk.sitkInt16 if _fits_int16(values) else sitk.sitkFloat32
    if image.GetPixelID() != wanted:
        image = sitk.Cast(image, wanted)
    return Reading(image, warnings)


def check_mask(mask: sitk.Image, image: sitk.Image, name: str) -> sitk.Image:
    """Return `mask` as uint8 0 / 1 on the grid of `image`; non-zero voxels are 1.

    Raises
    ------
    BadVolume
        If the mask is empty, or its voxels lie more than a tenth of a voxel beside the image's.
    """
    mask = _logged(_as_3d(mask, name), name)
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
    try:
        with replacing(output_place(path)) as partial:
            sitk.WriteImage(image, str(partial), useCompression=True)
            _check_written(image, partial)  # ITK does not notice every full disk
    except (RuntimeError, OSError, BadVolume) as error:
        raise LandmarkDirError(
            f"{path}: cannot be written; check the free space and the rights of {path.parent}"
        ) from error


def overlap_fraction(fixed: sitk.Image, moving: sitk.Image) -> float:
    """Share of the volume of `fixed` that lies inside `moving`, 0..1, by up to 32^3 samples."""
    steps = [(np.arange(k) + 0.5) * n / k - 0.5 for n in fixed.GetSize() for k in [min(n, 32)]]
    index_xyz = np.stack(np.meshgrid(*steps), axis=-1).reshape(-1, 3)
    return float(inside(moving, index_to_physical(fixed, index_xyz)).mean())


def _size(image: sitk.Image) -> str:
    return " x ".join(str(n) for n in image.GetSize())


def _logged(reading: Reading, name: str) -> sitk.Image:
    for warning in reading.warnings:
        log.warning("%s: %s", name, warning)
    return reading.image


def _as_3d(image: sitk.Image, name: str) -> Reading:
    """Drop a fourth axis of size 1; refuse what is not a 3D scalar image on a sane grid."""
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise BadVolume(f"{name}: {_size(image)} voxels, expected one 3D volume")
    kind = image.GetPixelIDTypeAsString()
    if image.GetNumberOfComponentsPerPixel() == 1 and "vector" in kind:
        image = sitk.VectorIndexSelectionCast(image, 0)
        kind = image.GetPixelIDTypeAsString()
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in kind or "label" in kind:
        raise BadVolume(f"{name}: voxels of type {kind}, expected one number a voxel")
    return checked_grid(image, name)


def _finite_values(image: sitk.Image, name: str) -> NDArray[Any]:
    """Return a view of the voxels [z, y, x]; refuse NaN and infinity."""
    values: NDArray[Any] = sitk.GetArrayViewFromImage(image)
    _refuse_non_finite(values, name)
    return values


def _refuse_non_finite(values: NDArray[Any], name: str) -> None:
    if values.dtype.kind == "f":
        absurd = int((np.abs(values) > LARGEST).sum() - np.isinf(values).sum())
        if absurd:
            raise BadVolume(
                f"{name}: {absurd} of {values.size} voxels are beyond {LARGEST:g}, which nothing "
                "measures; the file or the slope in its header is damaged"
            )
    if bad := int(values.size - np.isfinite(values).sum()):
        raise BadVolume(
            f"{name}: {bad} of {values.size} voxels are NaN or infinite; set them to that of air"
        )


def _fits_int16(values: NDArray[Any]) -> bool:
    limits = np.iinfo(np.int16)
    if values.min() < limits.min or values.max() > limits.max:
        return False
    return bool(np.array_equal(values, values.astype(np.int16)))


def _read_file(path: Path) -> Reading:
    """Read a file by its content, whatever its suffix."""
    with path.open("rb") as file:
        start = file.read(LONGEST_HEADER)
    for fits, read in READERS:
        if fits(start):
            return read(path, path.read_bytes())
    header = nifti.header_of(path)
    if header is not None:  # these are the voxels of a pair
        path, start = header, header.read_bytes()
        if nifti.is_header(start):
            return nifti.read_nifti(path, start)
    if nifti.is_unmarked(start):
        raise BadVolume(
            f"{path}: a header without NIfTI's mark, as of Analyze 7.5, which does not say which "
            "side is left; convert it to NIfTI"
        )
    raise BadVolume(f"{path}: not a whole NIfTI, MHA, NRRD or DICOM image")


def _read_dicom(path: Path, series: str | None) -> Reading:
    """Read a DICOM series from a folder, or a DICOM file, with what ITK says of it."""
    with heard_from_itk() as heard:
        reading = read_series(path, series)
    return reading._replace(warnings=(*reading.warnings, *heard))


def _check_written(image: sitk.Image, path: Path) -> None:
    """Refuse a file that does not give back the voxels of `image`; ITK reads NaN of NIfTI as 0."""
    written = sitk.ReadImage(str(path))
    found, wanted = (sitk.GetArrayViewFromImage(one) for one in (written, image))
    if found.shape != wanted.shape or not ((found == wanted) | ~np.isfinite(wanted)).all():
        raise BadVolume(f"{path}: not what was written")
