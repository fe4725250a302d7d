"""Read NRRD: `.nrrd`, and `.nhdr` with its data file.

The rules are those of the format's definition. What its header leaves open is taken as ITK takes
it, with a warning that names both, or the file is refused.

References
----------
[nrrd] http://teem.sourceforge.net/nrrd/format.html
"""

import bz2
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume
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

MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
DTYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
TYPES = {name: dtype for dtype, names in DTYPES.items() for name in names.split(", ")}
SYNONYMS = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip",
            "axismins": "axis mins", "axismaxs": "axis maxs", "centers": "centerings",
            "oldmin": "old min", "oldmax": "old max"}  # fmt: skip
SPACES = {  # name -> signs that make it LPS
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
LAST_LINE = re.compile(rb"\ndata ?file: [^\n]+\Z", re.IGNORECASE)  # without its end
HEADER_END = re.compile(rb"\r?\n\r?\n")
LINE_BYTES = 4096  # no file name is longer
SPATIAL_KINDS = ("domain", "space", "none", "???")
VECTOR = re.compile(r"none|\([^()]*\)")


class Header(NamedTuple):
    """What a header says, and where it ends."""

    fields: dict[str, str]
    bytes: int
    size: list[int]
    spatial: list[int]  # the axes that lie in space


def is_header(content: bytes) -> bool:
    """Tell whether a file begins as NRRD does."""
    return MAGIC.match(content) is not None


def read_nrrd(path: Path, content: bytes) -> Reading:
    """Read the image whose header `content` begins with.

    Raises
    ------
    BadVolume
        If the file is not whole, contradicts itself, or holds anything but one grey volume.
    """
    header = _header(path, content)
    for key in ("old min", "old max"):
        if key in header.fields:
            raise BadVolume(
                f"{path}: its values were squeezed ({key}: {header.fields[key][:40]}), and readers "
                "disagree on undoing it; store plain HU and remove the field"
            )
    values = _voxels(header, content, path)
    _check_one_volume(header, path)
    steps, origin, warnings = _place(header, path)
    size = [header.size[axis] for axis in header.spatial]
    return placed(values, size, steps, origin, warnings, path)


def read_layers(path: Path, content: bytes) -> list[sitk.Image]:
    """Read volumes of one grid that are stored voxel by voxel, as layers of a segmentation.

    Raises
    ------
    BadVolume
        If the file is not whole, contradicts itself, or holds anything else.
    """
    header = _header(path, content)
    if len(header.size) == len(header.spatial):
        return [read_nrrd(path, content).image]
    if header.spatial != [1, 2, 3] or len(header.size) != 4:
        raise BadVolume(
            f"{path}: {sizes(header.size)} voxels, expected 3D volumes, the first axis counts them"
        )
    values = _voxels(header, content, path).reshape(-1, header.size[0])
    steps, origin, warnings = _place(header, path)
    return [
        placed(layer, header.size[1:], steps, origin, warnings, path).image for layer in values.T
    ]


def own_fields(content: bytes) -> dict[str, str]:
    """What a program has added to the header, as lines `key:=value`."""
    end = HEADER_END.search(content)
    lines = content[: end.start() if end else 0].decode("utf-8", "replace").splitlines()
    return {key: value for line in lines for key, mark, value in [line.partition(":=")] if mark}


def _header(path: Path, content: bytes) -> Header:
    fields, end = _fields(path, content)
    count = numbers(_needed(fields, "dimension", path), 1, "dimension", path)[0]
    if count not in range(1, 17):
        raise BadVolume(f"{path}: dimension is {count:g}, expected 3; repair the header")
    sides = numbers(_needed(fields, "sizes", path), int(count), "sizes", path)
    if sides.min() < 1 or not np.array_equal(sides, np.rint(sides)):
        raise BadVolume(
            f"{path}: its sizes are {sizes(sides)}, which is no size; repair the header"
        )
    size = [int(one) for one in sides]
    return Header(fields, end, size, _spatial(fields, size, path))


def _fields(path: Path, content: bytes) -> tuple[dict[str, str], int]:
    """The fields of the header, and where the data begin; the user's own `key:=value` left out."""
    fields: dict[str, str] = {}
    start = content.index(b"\n") + 1
    if LAST_LINE.search(content[-LINE_BYTES:]):
        content += b"\n"
    while (end := content.find(b"\n", start)) >= 0:
        line = content[start:end].rstrip(b"\r").decode("latin-1")
        start = end + 1
        if not line:
            return fields, start
        if line.startswith("#") or ":=" in line.partition(": ")[0]:
            continue
        key, colon, value = line.partition(":")
        key = SYNONYMS.get(key.strip().lower(), key.strip().lower())
        if not colon or fields.setdefault(key, value.strip()) != value.strip():
            raise BadVolume(
                f"{path}: its header has the line {line[:60]!r}, which is no field or the second "
                "one of that name; repair it"
            )
        if key == "data file" and value.split()[:1] == ["LIST"]:
            break
    if "data file" in fields:  # a header of its own need not end with an empty line
        return fields, len(content)
    raise BadVolume(f"{path}: not a whole NRRD header, it has no end; copy it again")


def _needed(fields: dict[str, str], key: str, path: Path) -> str:
    if key not in fields:
        raise BadVolume(f"{path}: its header has no {key!r}; add it")
    return fields[key]


def _spatial(fields: dict[str, str], size: list[int], path: Path) -> list[int]:
    """Tell which axes lie in space: those with a direction, or all but single further ones."""
    kinds = fields.get("kinds", "").split()
    kinds += ["???"] * (len(size) - len(kinds))
    axes = [axis for axis in range(len(size)) if kinds[axis].lower() in SPATIAL_KINDS]
    if "space directions" in fields:
        vectors = _vectors(fields, len(size), path)
        return [axis for axis in axes if vectors[axis] is not None][:3]
    if len(axes) > 3:
        axes = [axis for axis in axes if size[axis] > 1]
    return axes[:3]


def _vectors(fields: dict[str, str], count: int, path: Path) -> list[NDArray[np.float64] | None]:
    """The `space directions`, one an axis; None where an axis does not lie in space."""
    text = fields["space directions"]
    words = VECTOR.findall(text)
    if len(words) != count or VECTOR.sub("", text).strip():
        raise BadVolume(
            f"{path}: space directions is {text[:60]!r}, expected {count} vectors such as (0,0,1)"
            "; repair the header"
        )
    return [None if word == "none" else _vector(word, "space directions", path) for word in words]


def _vector(word: str, field: str, path: Path) -> NDArray[np.float64]:
    inner = word.strip().removeprefix("(").removesuffix(")")
    if f"({inner})" != word.strip():
        raise BadVolume(
            f"{path}: {field} is {word.strip()[:60]!r}, expected a vector such as (0,0,1); repair "
            "the header"
        )
    return numbers(inner.replace(",", " "), inner.count(",") + 1, field, path)


def _check_one_volume(header: Header, path: Path) -> None:
    found = f"{path}: {sizes(header.size)} voxels"
    others = [axis for axis, n in enumerate(header.size) if axis not in header.spatial and n > 1]
    if others and others[0] == 0:
        raise BadVolume(f"{found}, the first axis a vector; expected one number a voxel")
    if others or len(header.spatial) != 3:
        raise BadVolume(f"{found}, expected one 3D volume")


def _voxels(header: Header, content: bytes, path: Path) -> NDArray[Any]:
    """The numbers as they are stored, behind the header or in a file of their own."""
    fields = header.fields
    kind = _needed(fields, "type", path).lower()
    if kind not in TYPES:
        raise BadVolume(f"{path}: voxels of type {kind[:40]}, expected one number a voxel")
    count = int(np.prod(header.size, dtype=object))
    dtype = np.dtype(TYPES[kind])
    encoding = _needed(fields, "encoding", path).lower()
    data, file = _data(header, content, path)
    if encoding in ("txt", "text", "ascii"):
        return text_values(data, dtype, count, file)
    dtype = dtype.newbyteorder(_order(fields, dtype, path))
    expected = count * dtype.itemsize
    data = _without_skipped(fields, data, encoding, expected, file)
    return np.frombuffer(_unpacked(data, encoding, expected, file), dtype, count)


def _order(fields: dict[str, str], dtype: np.dtype[Any], path: Path) -> Any:
    if dtype.itemsize == 1:
        return "="
    endian = _needed(fields, "endian", path).lower()
    if endian not in ("little", "big"):
        raise BadVolume(f"{path}: endian is {endian[:40]!r}, expected little or big; repair it")
    return endian


def _data(header: Header, content: bytes, path: Path) -> tuple[bytes, Path]:
    """The bytes of the data, and the file that they are in."""
    name = header.fields.get("data file")
    if name is None:
        return content[header.bytes :], path
    if name.split()[:1] == ["LIST"] or "%" in name:
        raise BadVolume(f"{path}: its data are spread over many files; convert it to one .nrrd")
    return data_beside(path, name, ".nrrd")


def _without_skipped(
    fields: dict[str, str], data: bytes, encoding: str, expected: int, file: Path
) -> bytes:
    """Leave out what stands before the data; a `byte skip` of -1: the data are at the end."""
    lines, skip = (
        int(numbers(fields.get(key, "0"), 1, key, file)[0]) for key in ("line skip", "byte skip")
    )
    if lines or skip < -1 or (skip and encoding != "raw"):
        raise BadVolume(
            f"{file}: line skip {lines} and byte skip {skip} with encoding {encoding} are not "
            "known here; convert it to one .nrrd"
        )
    return data[max(0, len(data) - expected) :] if skip == -1 else data[skip:]


def _unpacked(data: bytes, encoding: str, expected: int, file: Path) -> bytes:
    if encoding == "raw":
        return whole(data, False, expected, file)
    if encoding in ("gz", "gzip"):
        if not data.startswith(GZIP_MAGIC):
            raise BadVolume(f"{file}: not gzip data, though its header says encoding: {encoding}")
        return whole(data, True, expected, file)
    if encoding in ("bz2", "bzip2"):
        return whole(_un_bz2(data, expected), False, expected, file)
    raise BadVolume(f"{file}: unknown encoding {encoding[:40]!r}, expected raw, gzip or bzip2")


def _un_bz2(data: bytes, expected: int) -> bytes:
    """Unpack bzip2; nothing if it is damaged or something stands behind it."""
    unpacker = bz2.BZ2Decompressor()
    try:
        content = unpacker.decompress(data, expected + 1)
        while not unpacker.eof and len(content) <= expected and not unpacker.needs_input:
            content += unpacker.decompress(b"", expected + 1 - len(content))
    except (OSError, ValueError):
        return b""
    sound = len(content) > expected or (unpacker.eof and not unpacker.unused_data)
    return content if sound else content[: expected - 1]


def _place(
    header: Header, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Steps [3, 3] and origin [3], LPS mm."""
    fields = header.fields
    if "axis mins" in fields or "axis maxs" in fields:
        raise BadVolume(
            f"{path}: its place is given by axis mins or axis maxs, which readers take differently"
            "; give space directions and space origin instead"
        )
    steps, warnings = _steps(header, path)
    origin = np.zeros(3)
    if "space origin" in fields:
        origin = _vector(fields["space origin"], "space origin", path)
        if len(origin) != _axes_of_space(header, path):
            raise BadVolume(
                f"{path}: its space origin has {len(origin)} numbers, its space "
                f"{_axes_of_space(header, path)} axes; repair the header"
            )
        origin = origin[:3]
    else:
        warnings.append(
            "its header has no space origin: first voxel placed at 0, 0, 0, as ITK does"
        )
    signs, said = _to_lps(fields)
    warnings += said
    steps, origin, converted = in_mm(steps, origin, _unit(header, path), "ITK", path)
    return steps * np.array(signs)[:, None], origin * signs, warnings + converted


def _axes_of_space(header: Header, path: Path) -> int:
    """3, or 4 where the directions count time, too."""
    if "space directions" not in header.fields:
        return 3
    vectors = _vectors(header.fields, len(header.size), path)
    return max((len(vector) for vector in vectors if vector is not None), default=3)


def _to_lps(fields: dict[str, str]) -> tuple[tuple[int, int, int], list[str]]:
    space = fields.get("space", "").lower().removesuffix("-time").strip()
    space = space[:3] if space in ("lpst", "rast", "last") else space
    if space in SPACES:
        return SPACES[space], []
    said = f"the space {space[:40]!r}, which does not say" if space else "no space, which would say"
    return (1, 1, 1), [f"its header has {said} where left and back are: taken as LPS, as ITK does"]


def _steps(header: Header, path: Path) -> tuple[NDArray[np.float64], list[str]]:
    """Columns [3, 3] are the steps of one voxel along each axis, in the header's space."""
    fields = header.fields
    if "space directions" in fields:
        if re.search(r"\d", fields.get("spacings", "")):
            raise BadVolume(f"{path}: has both spacings and space directions; remove spacings")
        return _directed(header, path), []
    if "spacings" not in fields:
        raise BadVolume(
            f"{path}: its header has neither space directions nor spacings; add the size of a "
            "voxel in mm"
        )
    words = fields["spacings"].split()
    words = [words[axis] for axis in header.spatial if axis < len(words)]
    spacing = numbers(" ".join(words), 3, "spacings", path)
    warnings = []
    if spacing.min() < 0:
        warnings.append(
            f"its header has a negative spacing, {sizes(spacing)}: the axis is turned around, as "
            "ITK does; others leave the sign out"
        )
    return np.diag(spacing), warnings


def _directed(header: Header, path: Path) -> NDArray[np.float64]:
    vectors = _vectors(header.fields, len(header.size), path)
    chosen = [vector for axis in header.spatial if (vector := vectors[axis]) is not None]
    lengths = {len(vector) for vector in chosen}
    if len(chosen) != 3 or lengths not in ({3}, {4}):
        raise BadVolume(f"{path}: its space directions are no axes in 3D; repair the header")
    matrix = np.array(chosen).T
    if matrix[3:].any():
        raise BadVolume(f"{path}: its space directions mix space and time; convert it to 3D")
    return np.asarray(matrix[:3])


def _unit(header: Header, path: Path) -> str:
    """The unit of space, the same for all axes; empty: not said."""
    for key in ("space units", "units"):
        if key not in header.fields:
            continue
        words: list[str] = re.findall(r'"([^"]*)"', header.fields[key])
        if key == "units":
            words = [words[axis] for axis in header.spatial if axis < len(words)]
        if len(set(words[:3])) > 1:
            raise BadVolume(f"{path}: different {key} along its axes; repair the header")
        if words:
            return words[0]
    return ""
