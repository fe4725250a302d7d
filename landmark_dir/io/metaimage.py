"""Read MetaImage: `.mha`, and `.mhd` with its data file.

Header and data are held against each other: the data, unpacked if the header says so, have to be
exactly as long as the header speaks of. Where the format leaves open what is right, ITK's reading
is taken, with a warning that names both, or the file is refused.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume
from landmark_dir.io.grid import SILENT_MM
from landmark_dir.io.reading import Reading
from landmark_dir.io.stored import (
    GZIP_MAGIC,
    data_beside,
    in_mm,
    numbers,
    placed,
    sizes,
    text_values,
    whole,
)

LINE = re.compile(rb"\s*([^=\r\n]*)=([^\r\n]*)(?:\r?\n|\Z)")
FIRST_LINE = re.compile(rb"\s*(ObjectType|NDims|Comment|ObjectSubType|BinaryData\w*)\s*=")
LAST_LINE = re.compile(rb"^ElementDataFile\s*=", re.MULTILINE)
HEADER_BYTES = 1 << 16  # no header is longer
LAST_FIELD = "ElementDataFile"
DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
SYNONYMS = {
    "Origin": "Offset", "Position": "Offset", "Rotation": "TransformMatrix",
    "Orientation": "TransformMatrix", "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}  # fmt: skip
KNOWN = {
    "ObjectType", "NDims", "BinaryData", "BinaryDataByteOrderMSB", "CompressedData",
    "CompressedDataSize", "TransformMatrix", "Offset", "CenterOfRotation", "ElementSpacing",
    "ElementSize", "DimSize", "HeaderSize", "ElementNumberOfChannels", "ElementType",
    "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset", "DistanceUnits",
    LAST_FIELD,
}  # fmt: skip
UNIT_LENGTH = 1e-3  # how far from 1 rounding may take the length of an axis


def is_header(content: bytes) -> bool:
    """Tell whether a file begins as a MetaImage header does."""
    start = content[:HEADER_BYTES]
    return bool(FIRST_LINE.match(start) or (LINE.match(start) and LAST_LINE.search(start)))


def read_metaimage(path: Path, content: bytes) -> Reading:
    """Read the image whose header `content` begins with.

    Raises
    ------
    BadVolume
        If the file is not whole, contradicts itself, or holds anything but one grey volume.
    """
    fields, start = _fields(path, content)
    axes = _whole_number(fields, "NDims", path)
    if not 1 <= axes <= 10:
        raise BadVolume(f"{path}: NDims is {axes}, expected 3; repair the header")
    size = [int(n) for n in numbers(_needed(fields, "DimSize", path), axes, "DimSize", path)]
    if min(size) < 1:
        raise BadVolume(f"{path}: DimSize is {sizes(size)}, which is no size; repair the header")
    if _whole_number(fields, "ElementNumberOfChannels", path, 1) != 1:
        raise BadVolume(f"{path}: voxels of type vector, expected one number a voxel")
    _refuse_scaling(fields, path)
    values = _voxels(fields, content[start:], int(np.prod(size, dtype=object)), path)
    steps, origin, warnings = _place(fields, size, path)
    return placed(values, size, steps, origin, warnings, path)


def _fields(path: Path, content: bytes) -> tuple[dict[str, str], int]:
    """The fields that matter, and where the header ends; synonyms under one name."""
    fields: dict[str, str] = {}
    start = 0
    while match := LINE.match(content, start):
        start = match.end()
        key, value = (part.decode("latin-1").strip() for part in match.groups())
        key = SYNONYMS.get(key, key)
        if key in KNOWN:
            if fields.setdefault(key, value) != value:
                raise BadVolume(
                    f"{path}: its header has two values for {key}, {fields[key]!r} and {value!r}"
                    "; remove the wrong one"
                )
        if key == LAST_FIELD:
            return fields, start
    raise BadVolume(
        f"{path}: not a whole MetaImage header, it ends or is damaged before {LAST_FIELD}"
        "; copy it again"
    )


def _needed(fields: dict[str, str], key: str, path: Path) -> str:
    if key not in fields:
        raise BadVolume(f"{path}: its header has no {key}; add it")
    return fields[key]


def _whole_number(fields: dict[str, str], key: str, path: Path, default: int | None = None) -> int:
    if key not in fields and default is not None:
        return default
    text = _needed(fields, key, path)
    if not re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        raise BadVolume(f"{path}: {key} is {text[:60]!r}, expected a whole number; repair it")
    return int(text)


def _yes(fields: dict[str, str], key: str, path: Path, default: bool) -> bool:
    if key not in fields:
        return default
    text = fields[key].lower()
    if text in ("true", "t", "1", "yes"):
        return True
    if text in ("false", "f", "0", "no"):
        return False
    raise BadVolume(f"{path}: {key} is {text[:60]!r}, expected True or False; repair the header")


def _refuse_scaling(fields: dict[str, str], path: Path) -> None:
    keys = ("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset")
    slope, offset = (
        float(numbers(fields.get(key, default), 1, key, path)[0])
        for key, default in zip(keys, ("1", "0"), strict=True)
    )
    if (slope, offset) != (1.0, 0.0):
        raise BadVolume(
            f"{path}: its header asks for values x {slope:g} + {offset:g} ({keys[0]}, {keys[1]}), "
            "which ITK and others leave out; store plain HU and remove both fields"
        )


def _voxels(fields: dict[str, str], behind: bytes, count: int, path: Path) -> NDArray[Any]:
    """The numbers as they are stored, behind the header or in a file of their own."""
    kind = _needed(fields, "ElementType", path)
    if kind not in DTYPES:
        raise BadVolume(f"{path}: voxels of type {kind[:60]}, expected one number a voxel")
    order = ">" if _yes(fields, "BinaryDataByteOrderMSB", path, False) else "<"
    dtype = np.dtype(order + DTYPES[kind])
    data, file = _data(fields, behind, path)
    packed = _yes(fields, "CompressedData", path, False)
    if not _yes(fields, "BinaryData", path, True):
        return text_values(data, dtype, count, file)
    data = _without_header(fields, data, count * dtype.itemsize, packed, file)
    if packed:
        _check_packed(fields, data, file)
    return np.frombuffer(whole(data, packed, count * dtype.itemsize, file), dtype, count)


def _data(fields: dict[str, str], behind: bytes, path: Path) -> tuple[bytes, Path]:
    """The bytes of the data, and the file that they are in."""
    name = fields[LAST_FIELD]
    if name.upper() == "LOCAL":
        return behind, path
    if name.split()[:1] == ["LIST"] or "%" in name:
        raise BadVolume(
            f"{path}: its data are spread over many files ({name[:60]}); convert it to one .mha"
        )
    return data_beside(path, name, ".mha")


def _without_header(
    fields: dict[str, str], data: bytes, expected: int, packed: bool, file: Path
) -> bytes:
    """Leave out what the data file has before the data: `HeaderSize`; -1: data are at its end."""
    skip = _whole_number(fields, "HeaderSize", file, 0)
    if skip == 0:
        return data
    own_file = fields[LAST_FIELD].upper() != "LOCAL"
    if skip == -1 and not packed:
        return data[-expected:] if own_file else data
    if skip < 0 or packed or not own_file:
        raise BadVolume(f"{file}: HeaderSize {skip} is not known here; convert it to one .mha")
    return data[skip:]


def _check_packed(fields: dict[str, str], data: bytes, file: Path) -> None:
    if not data.startswith(GZIP_MAGIC) and data[:1] != b"\x78":  # the first byte of zlib
        raise BadVolume(
            f"{file}: not compressed, though its header says CompressedData = True; set it to False"
        )
    said = _whole_number(fields, "CompressedDataSize", file, len(data))
    if said != len(data):
        raise BadVolume(
            f"{file}: cut short or damaged, its header says {said} compressed bytes, it holds "
            f"{len(data)}; copy it again"
        )


def _place(
    fields: dict[str, str], size: list[int], path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Steps [3, 3] and origin [3], LPS mm, of the first three axes."""
    axes = len(size)
    spacing, warnings = _spacing(fields, axes, path)
    cosines = np.eye(3)
    if "TransformMatrix" in fields:
        cosines, lengths = _cosines(fields, axes, path)
        warnings += _stretched(lengths, spacing, size)
    else:
        warnings.append("its header has no TransformMatrix: axes taken along L, P, S, as ITK does")
    origin = np.zeros(axes)
    if "Offset" in fields:
        origin = numbers(fields["Offset"], axes, "Offset", path)
    else:
        warnings.append("its header has no Offset: first voxel placed at 0, 0, 0, as ITK does")
    turned_about = numbers(
        fields.get("CenterOfRotation", "0 " * axes), axes, "CenterOfRotation", path
    )
    if turned_about.any() and not np.array_equal(cosines, np.eye(3)):
        warnings.append(f"its CenterOfRotation {sizes(turned_about)} is left out, as ITK does")
    steps, first, converted = in_mm(
        cosines * spacing[:3], origin[:3], fields.get("DistanceUnits", ""), "ITK", path
    )
    return steps, first, warnings + converted


def _cosines(
    fields: dict[str, str], axes: int, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions of the first three axes as columns [3, 3], and their lengths, nearly 1."""
    rows = numbers(fields["TransformMatrix"], axes * axes, "TransformMatrix", path)
    matrix = rows.reshape(axes, axes).T  # the file has one axis after the other
    if axes < 3:
        return np.eye(3), np.ones(3)  # `placed` refuses it
    if matrix[3:, :3].any() or matrix[:3, 3:].any():
        raise BadVolume(f"{path}: its TransformMatrix mixes space and time; convert it to 3D")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if lengths.min() == 0 or (np.abs(lengths - 1)).max() > UNIT_LENGTH:
        raise BadVolume(
            f"{path}: the axes of its TransformMatrix have lengths of {sizes(lengths)}, expected 1"
            "; readers disagree whether they change the spacing, so repair the header"
        )
    return matrix[:3, :3], lengths


def _stretched(
    lengths: NDArray[np.float64], spacing: NDArray[np.float64], size: list[int]
) -> list[str]:
    """What to say if rounded directions, which ITK takes as they are, change the spacing."""
    if len(size) < 3:  # `placed` refuses it
        return []
    off_mm = float((np.abs(lengths - 1) * np.abs(spacing[:3]) * size[:3]).max())
    if off_mm <= SILENT_MM:
        return []
    return [
        f"the axes of its TransformMatrix have lengths of {sizes(lengths)}, not 1: voxels of "
        f"{sizes(lengths * spacing[:3])} mm, as ITK has them; others have {sizes(spacing[:3])} mm, "
        f"which moves a corner by {off_mm:.2g} mm"
    ]


def _spacing(
    fields: dict[str, str], axes: int, path: Path
) -> tuple[NDArray[np.float64], list[str]]:
    if "ElementSpacing" not in fields and "ElementSize" not in fields:
        raise BadVolume(f"{path}: its header has no ElementSpacing; add the size of a voxel in mm")
    key = "ElementSpacing" if "ElementSpacing" in fields else "ElementSize"
    spacing = numbers(fields[key], axes, key, path)
    warnings = []
    if key == "ElementSize":
        warnings.append(f"its header has no ElementSpacing: ElementSize {sizes(spacing)} is taken")
    if (spacing < 0).any():
        warnings.append(
            f"its header has a negative spacing, {sizes(spacing)}: the axis is turned around, as "
            "ITK does; others leave the sign out"
        )
    return spacing, warnings
