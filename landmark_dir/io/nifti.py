"""Read NIfTI-1 and NIfTI-2: one file or a pair, gzipped or not, of either byte order.

Everything is told from the content, never from the suffix. Where readers disagree, the place is
nibabel's (the sform, if there is one), with a warning that names both. The standard's x and y
point right and to the front; the image that is returned is LPS.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume
from landmark_dir.io.reading import Reading
from landmark_dir.io.stored import GZIP_MAGIC, in_mm, placed, sizes, start_of, whole

LONGEST_HEADER = 540  # bytes, of NIfTI-2
FIELDS = {  # name: place in NIfTI-1, type there, place in NIfTI-2, type there
    "sizeof_hdr": (0, "i4", 0, "i4"),
    "dim": (40, "8i2", 16, "8i8"),
    "datatype": (70, "i2", 12, "i2"),
    "pixdim": (76, "8f4", 104, "8f8"),
    "vox_offset": (108, "f4", 168, "i8"),
    "scl_slope": (112, "f4", 176, "f8"),
    "scl_inter": (116, "f4", 184, "f8"),
    "xyzt_units": (123, "u1", 500, "i4"),
    "qform_code": (252, "i2", 344, "i4"),
    "sform_code": (254, "i2", 348, "i4"),
    "quatern": (256, "3f4", 352, "3f8"),
    "qoffset": (268, "3f4", 376, "3f8"),
    "srow": (280, "(3,4)f4", 400, "(3,4)f8"),
}
LAYOUTS = {348: 0, 540: 2}  # bytes of the header -> where its columns begin in FIELDS
MAGIC = {348: (344, b"n+1\0", b"ni1\0"), 540: (4, b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")}
DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8",
    1280: "u8",
}  # fmt: skip
NOT_GREY = {1: "single bits", 32: "complex", 128: "RGB", 1536: "128 bit floats", 1792: "complex",
            2048: "complex", 2304: "RGBA"}  # fmt: skip
UNITS = {0: "", 1: "m", 2: "mm", 3: "um"}
SAME_MM = 0.1  # qform and sform nearer than this at all corners: no word
TO_LPS = np.diag([-1.0, -1.0, 1.0])


class Header(NamedTuple):
    """The fields of a header that matter here, in this machine's byte order."""

    fields: dict[str, Any]
    bytes: int  # of the header itself
    order: str  # "<" or ">"
    paired: bool  # the voxels are in a file of their own


def is_header(content: bytes) -> bool:
    """Tell whether a file, gzipped or not, begins with a NIfTI header."""
    return _kind(start_of(content, LONGEST_HEADER)) is not None


def is_unmarked(content: bytes) -> bool:
    """Tell whether a file begins as Analyze 7.5 does, which NIfTI came from; without its mark."""
    start = start_of(content, LONGEST_HEADER)
    lengths = (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big"))
    return len(start) >= 348 and 348 in lengths


def header_of(image: Path) -> Path | None:
    """Return the header beside the image file of a pair, if there is one."""
    return _beside(image, ".img", ".hdr")


def read_nifti(path: Path, content: bytes) -> Reading:
    """Read the file or pair whose header `content` begins with.

    Raises
    ------
    BadVolume
        If the file is not whole, contradicts itself, or holds anything but one grey volume.
    """
    header = _header(path, content)
    size = _size(header, path)
    dtype = _dtype(header, path)
    steps, origin, warnings = _place(header, size, path)
    values = _voxels(header, content, dtype, int(np.prod(size, dtype=object)), path)
    values, scaled = _scaled(header, values, path)
    return placed(values, size, steps, origin, warnings + scaled, path)


def _kind(start: bytes) -> tuple[int, str, bool] | None:
    """Length of the header, byte order, and whether it is one of a pair; None: not NIfTI."""
    for length, (place, single, pair) in MAGIC.items():
        magic = start[place : place + len(single)]
        for order in "<>":
            if start[:4] == struct.pack(f"{order}i", length) and magic in (single, pair):
                return length, order, magic == pair
    return None


def _header(path: Path, content: bytes) -> Header:
    start = start_of(content, LONGEST_HEADER)
    kind = _kind(start)
    if kind is None or len(start) < kind[0]:
        raise BadVolume(f"{path}: not a whole NIfTI header; copy it again")
    length, order, paired = kind
    column = LAYOUTS[length]
    fields = {}
    for name, entry in FIELDS.items():
        offset, layout = entry[column : column + 2]
        value = np.frombuffer(start, _ordered(str(layout), order), 1, int(offset))[0]
        fields[name] = np.asarray(value).astype(np.float64)
    return Header(fields, length, order, paired)


def _ordered(layout: str, order: Any) -> np.dtype[Any]:
    return np.dtype(layout).newbyteorder(order)


def _size(header: Header, path: Path) -> list[int]:
    """Voxels along each axis, 3 to 7 of them."""
    dim = header.fields["dim"]
    axes = int(dim[0])
    if not 1 <= axes <= 7 or dim[1 : axes + 1].min() < 1:
        found = " ".join(f"{value:g}" for value in dim)
        raise BadVolume(f"{path}: its header's dim is {found}, which is no size; repair it")
    if axes > 4 and dim[5] > 1:
        raise BadVolume(f"{path}: voxels of type vector, expected one number a voxel")
    return [int(value) for value in dim[1 : axes + 1]]


def _dtype(header: Header, path: Path) -> np.dtype[Any]:
    code = int(header.fields["datatype"])
    if code not in DTYPES:
        kind = NOT_GREY.get(code, f"unknown (datatype {code})")
        raise BadVolume(f"{path}: voxels of type {kind}, expected one number a voxel")
    return _ordered(DTYPES[code], header.order)


def _voxels(
    header: Header, content: bytes, dtype: np.dtype[Any], count: int, path: Path
) -> NDArray[Any]:
    """The numbers as they are stored, from this file or the other one of the pair."""
    offset = float(header.fields["vox_offset"])
    least = 0 if header.paired else header.bytes + 4
    if not np.isfinite(offset) or offset < least or offset != int(offset):
        raise BadVolume(
            f"{path}: its header says that the voxels begin at byte {offset:g} (vox_offset), "
            f"expected {least} or more; repair the header"
        )
    if header.paired:
        path = _image_of(path)
        content = path.read_bytes()
    expected = int(offset) + count * dtype.itemsize
    content = whole(content, content.startswith(GZIP_MAGIC), expected, path)
    return np.frombuffer(content, dtype, count, int(offset))


def _image_of(header: Path) -> Path:
    image = _beside(header, ".hdr", ".img")
    if image is None:
        raise BadVolume(
            f"{header}: the header of a NIfTI pair, expected one image file {header.stem}.img "
            "beside it; copy both files, or convert them to one .nii.gz"
        )
    return image


def _beside(path: Path, this: str, other: str) -> Path | None:
    """The other file of a pair, of either case, gzipped or not; None unless there is just one."""
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith(this):
        return None
    stem = name.removesuffix(this)
    wanted = (f"{stem}{other}", f"{stem}{other}.gz")
    found = [one for one in path.parent.iterdir() if one.name.lower() in wanted]
    exact = path.name[: len(stem)]
    found = [one for one in found if one.name.startswith(exact)] or found
    return found[0] if len(found) == 1 else None


def _scaled(
    header: Header, values: NDArray[Any], path: Path
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Apply slope and intercept as the standard says: a slope of 0 means none."""
    slope, inter = float(header.fields["scl_slope"]), float(header.fields["scl_inter"])
    if slope == 0 or np.isnan(slope):
        if not np.isfinite(inter) or inter == 0:
            return values, ()
        return values, (
            f"its header has a slope of {slope:g} and an intercept of {inter:g}: not applied, as "
            "the standard says and nibabel does; ITK adds the intercept",
        )
    if not (np.isfinite(slope) and np.isfinite(inter)):
        raise BadVolume(
            f"{path}: slope {slope:g} and intercept {inter:g} in its header (scl_slope, "
            "scl_inter), expected numbers; repair the header"
        )
    if (slope, inter) == (1.0, 0.0):
        return values, ()
    return values.astype(np.float64) * slope + inter, ()


def _place(
    header: Header, size: Sequence[int], path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """Steps [3, 3] and origin [3], LPS mm, as nibabel has them, and what others make of them."""
    for field in ("qform_code", "sform_code"):
        if not 0 <= (code := int(header.fields[field])) <= 5:
            raise BadVolume(f"{path}: {field} {code}, expected 0 to 5; repair the header")
    pixdim, warnings = _pixdim(header, path)
    extent = [*size, 1, 1][:3]  # `placed` refuses fewer than three axes
    if header.fields["sform_code"] > 0:
        affine = header.fields["srow"]
        warnings += _other_than_sform(header, pixdim, extent, path)
    elif header.fields["qform_code"] > 0:
        affine = _qform(header, pixdim, path)
    else:
        affine = _centred(pixdim, extent)
        warnings.append(
            "its header does not say where the patient lies (qform and sform code 0): placed as "
            f"nibabel does, first voxel at {_lps(affine[:, 3])} mm; ITK puts it at 0, 0, 0 with y "
            "to the back"
        )
    steps, origin = TO_LPS @ affine[:, :3], TO_LPS @ affine[:, 3]
    steps, origin, converted = _in_mm(header, steps, origin, path)
    return steps, origin, (*warnings, *converted)


def _in_mm(
    header: Header, steps: NDArray[np.float64], origin: NDArray[np.float64], path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    code = int(header.fields["xyzt_units"]) & 7
    if code not in UNITS:
        return steps, origin, [f"its header has the unknown unit {code}; taken as mm"]
    return in_mm(steps, origin, UNITS[code], "nibabel", path)


def _pixdim(header: Header, path: Path) -> tuple[NDArray[np.float64], list[str]]:
    """Voxel sizes as nibabel takes them, without a sign."""
    pixdim = header.fields["pixdim"][1:4]
    if (pixdim < 0).any() and header.fields["sform_code"] > 0:
        return np.abs(pixdim), [
            f"its header has a negative spacing, {sizes(pixdim)}: not needed beside the sform; ITK "
            "turns the axis around"
        ]
    if header.fields["sform_code"] > 0:
        return pixdim, []
    if not np.isfinite(pixdim).all() or (pixdim == 0).any():
        raise BadVolume(f"{path}: spacing {sizes(pixdim)} in its header; repair it")
    if (pixdim > 0).all():
        return pixdim, []
    return np.abs(pixdim), [
        f"its header has a negative spacing, {sizes(pixdim)}: the sign is left out, as nibabel "
        "does; ITK turns the axis around"
    ]


def _qform(header: Header, pixdim: NDArray[np.float64], path: Path) -> NDArray[np.float64]:
    """The affine [3, 4] of the quaternion."""
    factor = float(header.fields["pixdim"][0])
    if factor not in (-1.0, 0.0, 1.0):
        raise BadVolume(f"{path}: pixdim[0] is {factor:g}, expected 1 or -1; repair the header")
    b, c, d = header.fields["quatern"]
    length = b * b + c * c + d * d
    if not length <= 1 + 1e-5:  # float32 rounding; NaN, too
        raise BadVolume(
            f"{path}: its qform is no rotation (quaternion {b:g}, {c:g}, {d:g}); set it again"
        )
    rounding = 3 * np.finfo("f4" if header.bytes == 348 else "f8").eps  # nibabel's
    a = np.sqrt(1 - length) if 1 - length > rounding else 0.0  # the root makes much of rounding
    a, b, c, d = np.array([a, b, c, d]) / np.sqrt(a * a + length)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    steps = rotation * pixdim * [1, 1, -1 if factor < 0 else 1]
    return np.column_stack([steps, header.fields["qoffset"]])


def _centred(pixdim: NDArray[np.float64], size: Sequence[int]) -> NDArray[np.float64]:
    """The affine [3, 4] of a header without orientation: x to the left, 0 in the middle."""
    steps = np.diag(pixdim * [-1, 1, 1])
    return np.column_stack([steps, -steps @ (np.array(size[:3]) - 1) / 2])


def _other_than_sform(
    header: Header, pixdim: NDArray[np.float64], size: Sequence[int], path: Path
) -> list[str]:
    """What to say if the qform, or the voxel sizes, are not those of the sform."""
    sform = header.fields["srow"]
    if header.fields["qform_code"] > 0:
        try:
            qform = _qform(header, pixdim, path)
        except BadVolume as error:
            return [f"the sform is taken; {str(error).removeprefix(f'{path}: ')}"]
        apart_mm, corner = _farthest(qform, sform, size)
        if apart_mm <= SAME_MM:
            return []
        named = ", ".join(str(index) for index in corner)
        there = (_lps(affine[:, :3] @ corner + affine[:, 3]) for affine in (sform, qform))
        return [
            f"qform and sform are up to {apart_mm:.3g} mm apart: the sform is taken, voxel {named} "
            "at {} mm; readers that take the qform have it at {} mm".format(*there)
        ]
    lengths = np.linalg.norm(sform[:, :3], axis=0)
    if (np.abs(lengths - pixdim) * size[:3]).max() <= SAME_MM:
        return []
    return [
        f"its sform has voxels of {sizes(lengths)} mm, which are taken; its pixdim, which ITK "
        f"takes, {sizes(pixdim)} mm"
    ]


def _farthest(
    one: NDArray[np.float64], other: NDArray[np.float64], size: Sequence[int]
) -> tuple[float, NDArray[np.int64]]:
    """How far apart two affines put a corner, mm, infinite if one is NaN; and which [x, y, z]."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(size[:3]) - 1)
    apart = np.linalg.norm(np.column_stack([corners, np.ones(8)]) @ (one - other).T, axis=1)
    worst = int(np.nan_to_num(apart, nan=np.inf).argmax())
    return float(np.nan_to_num(apart[worst], nan=np.inf)), corners[worst]


def _lps(place: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.5g}" for value in TO_LPS @ place)
