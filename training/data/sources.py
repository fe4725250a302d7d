"""CT series on disk: find them in files and folders, and cut each into slices for a pack."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume
from landmark_dir.io import dicom
from landmark_dir.io.volumes import check_volume, read_volume
from landmark_dir.preprocessing.body_mask import body_mask
from landmark_dir.preprocessing.intensity import looks_like_ct
from landmark_dir.preprocessing.slices import resample_in_plane
from training.data.pack import CtSeries

VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
MIN_BODY_PX = 2000  # slices with less body than this teach nothing
MARGIN_PX = 8  # around the body: air, so that its outline is seen
THIN_MM = 1.5  # slices thinner than this are averaged
THICK_MM = 2.0  # to about this

Reasons: TypeAlias = dict[str, str]  # name of a bad source -> what is wrong with it


@dataclass(frozen=True)
class Source:
    """One CT series that is to be packed.

    Attributes
    ----------
    place : str
        How messages call it; may hold what must not enter the pack.
    name, patient : str
        As in the pack.
    identity : str
        Tells a series that is in the pack from a new one.
    data : Path, (Path, str) or dicom.Series
        A volume file, an .npz file and a key, or DICOM files.
    """

    place: str
    name: str
    patient: str
    identity: str
    data: Path | tuple[Path, str] | dicom.Series


def short_hash(text: str) -> str:
    """Return 12 hex digits that stand for an id."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def find_sources(paths: Iterable[Path], pattern: str | None) -> tuple[list[Source], Reasons]:
    """Return all series below `paths`, each once, and what is left out and why.

    Raises
    ------
    ValueError
        If a path is nothing that can be read, or a file does not fit `pattern`.
    """
    found: dict[str, Source] = {}
    skipped: Reasons = {}
    for path in paths:
        for source in _sources(path, pattern):
            twin = found.setdefault(source.identity, source)
            if twin.place != source.place:
                skipped[source.place] = f"same name, size and date as {twin.place}"
            elif isinstance(source.data, dicom.Series) and source.data.modality != "CT":
                skipped[source.place] = f"modality {source.data.modality or 'unknown'}, not CT"
    return [source for source in found.values() if source.place not in skipped], skipped


def _sources(path: Path, pattern: str | None) -> Iterator[Source]:
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if _is_visible(file, path)]
        others = [file for file in files if not file.name.lower().endswith((*VOLUMES, ".npz"))]
        yield from map(_dicom_source, dicom.find_series(sorted({file.parent for file in others})))
        known = sorted(set(files) - set(others))
    elif path.is_file() and path.name.lower().endswith((*VOLUMES, ".npz")):
        known = [path]
    else:
        raise ValueError(
            f"{path}: expected a folder, an .npz or a volume ({', '.join(VOLUMES)})"
            f", found {'another kind of file' if path.exists() else 'nothing'}"
        )
    for file in known:
        if file.name.lower().endswith(".npz"):
            yield from _array_sources(file)
        else:
            below = file.relative_to(path if path.is_dir() else path.parent)
            yield _volume_source(file, below, pattern)


def _is_visible(file: Path, root: Path) -> bool:
    return file.is_file() and not any(p.startswith(".") for p in file.relative_to(root).parts)


def _stamp(file: Path) -> str:
    about = file.stat()
    return f"{about.st_size} {about.st_mtime_ns}"


def _volume_source(file: Path, below: Path, pattern: str | None) -> Source:
    suffix = next(end for end in VOLUMES[::-1] if file.name.lower().endswith(end))
    stem = file.name[: -len(suffix)]
    patient = stem
    if pattern is not None:
        said = below.with_name(stem).as_posix()
        match = re.search(pattern, said)
        if match is None or not match[1]:
            raise ValueError(f"{file}: --patient-pattern {pattern!r} finds no patient in {said!r}")
        patient = match[1]
    return Source(str(file), stem, patient, f"{file.name} {_stamp(file)}", file)


def _array_sources(file: Path) -> list[Source]:
    try:
        with np.load(file) as arrays:
            keys = list(arrays.files)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file}: not a whole .npz file ({error})") from error
    stamp = f"{file.name} {_stamp(file)}"
    return [
        Source(f"{file}[{key}]", key, key.rsplit("_", 1)[0], f"{key} {stamp}", (file, key))
        for key in keys
    ]


def _dicom_source(series: dicom.Series) -> Source:
    name = f"dicom-{short_hash(series.id)}"
    patient = f"dicom-{short_hash(series.patient_id)}"
    place = f"{Path(series.files[0]).parent} series {series.id}"
    return Source(place, name, patient, name, series)


def read_slices(source: Source) -> CtSeries:
    """Read a series and make the slices for the pack of it.

    Raises
    ------
    LandmarkDirError
        If it cannot be read, is hardly a CT, or shows too little body.
    """
    image = _read(source)
    if doubt := looks_like_ct(image):
        raise BadVolume(f"{source.place}: {doubt}")
    body = sitk.GetArrayFromImage(body_mask(image)).astype(bool)
    keep = np.flatnonzero(body.sum((1, 2)) >= MIN_BODY_PX)
    if not len(keep):
        raise BadVolume(f"{source.place}: no slice with {MIN_BODY_PX} px of body")
    z_mm = tuple(float(k) * image.GetSpacing()[2] for k in keep)
    hu = whole_hu(sitk.GetArrayViewFromImage(image)[keep])
    box = _box(body[keep])
    return CtSeries(source.patient, source.name, source.identity, hu[box], body[keep][box], z_mm)


def _read(source: Source) -> sitk.Image:
    """Read the image, in axial slices at 1 mm."""
    if isinstance(source.data, dicom.Series):
        image = check_volume(dicom.load_series(source.data, source.place), source.place)
    elif isinstance(source.data, Path):
        image = read_volume(source.data)
    else:
        return _read_array(*source.data)
    return resample_in_plane(_thick_slices(sitk.DICOMOrient(image, "LPS")))


def _read_array(file: Path, key: str) -> sitk.Image:
    with np.load(file) as arrays:
        values = arrays[key]
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number):
        raise BadVolume(f"{file}: {key} is {values.dtype} of shape {values.shape}, expected 2D HU")
    if not np.isfinite(values).all():
        raise BadVolume(f"{file}: {key} holds NaN or infinite values; set them to air (-1000 HU)")
    return sitk.GetImageFromArray(values[None].astype(np.float32))


def _thick_slices(image: sitk.Image) -> sitk.Image:
    """Average neighbouring slices thinner than `THIN_MM` to about `THICK_MM`."""
    thickness = image.GetSpacing()[2]
    if thickness >= THIN_MM:
        return image
    count = min(max(2, round(THICK_MM / thickness)), image.GetDepth())
    return sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), (1, 1, count))


def whole_hu(values: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.int16]:
    """Round to whole HU, half-way cases up, within int16."""
    limits = np.iinfo(np.int16)
    rounded = np.floor(values.astype(np.float32) + 0.5)
    return np.asarray(rounded.clip(limits.min, limits.max).astype(np.int16))


def _box(body: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the bounding box of a mask [z, y, x], all slices and a margin."""
    sides = []
    for axes in ((0, 2), (0, 1)):
        places = np.flatnonzero(body.any(axes))
        sides.append(slice(max(0, places[0] - MARGIN_PX), places[-1] + 1 + MARGIN_PX))
    return slice(None), sides[0], sides[1]
