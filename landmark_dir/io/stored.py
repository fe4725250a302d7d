"""What image files have in common: packed bytes, numbers in a row, a place in space, a unit."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from landmark_dir.errors import BadVolume
from landmark_dir.io.reading import Reading
from landmark_dir.io.text_files import NUMBER

GZIP_MAGIC = b"\x1f\x8b"
ANY_ZLIB = 47  # zlib's wbits: a zlib or a gzip stream, told apart by its first bytes
UNITS_MM = {
    "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "cm": 10.0, "centimeter": 10.0,
    "m": 1000.0, "meter": 1000.0, "um": 1e-3, "\u00b5m": 1e-3, "\u03bcm": 1e-3, "micron": 1e-3,
    "micrometer": 1e-3, "nm": 1e-6,
}  # fmt: skip


def unpacked(packed: bytes, limit: int) -> tuple[bytes, bool]:
    """Unpack gzip or zlib.

    Parameters
    ----------
    packed : bytes
        One stream, or several gzip streams one after the other.
    limit : int
        How many bytes are expected; one more is unpacked, to tell that there are more.

    Returns
    -------
    bytes, bool
        What could be unpacked, and whether the packed data are whole: checksums right, nothing
        behind them but zeros.
    """
    content = b""
    while True:
        unpacker = zlib.decompressobj(wbits=ANY_ZLIB)
        try:
            content += unpacker.decompress(packed, limit + 1 - len(content))
        except zlib.error:
            return content, False
        packed = unpacker.unused_data
        if not unpacker.eof or len(content) > limit or not packed.startswith(GZIP_MAGIC):
            return content, unpacker.eof and not packed.strip(b"\0")


def start_of(content: bytes, count: int) -> bytes:
    """Return the first `count` bytes of a file's content, unpacked if it is gzip."""
    if not content.startswith(GZIP_MAGIC):
        return content[:count]
    try:
        return zlib.decompressobj(wbits=ANY_ZLIB).decompress(content, count)
    except zlib.error:
        return b""


def whole(content: bytes, packed: bool, expected: int, path: Path) -> bytes:
    """Return exactly the `expected` bytes of data, unpacked if they are `packed`.

    Raises
    ------
    BadVolume
        If there are fewer or more, or a checksum is wrong.
    """
    sound = True
    if packed:
        content, sound = unpacked(content, expected)
    if len(content) > expected:
        raise BadVolume(
            f"{path}: damaged, or its header is: more data than the {expected} bytes that it "
            "speaks of; copy it again, or write it again with the program that made it"
        )
    if len(content) < expected or not sound:
        reason = "" if sound or len(content) < expected else ", but the checksum is wrong"
        raise BadVolume(
            f"{path}: cut short or damaged, {len(content)} of {expected} bytes can be read{reason}"
            "; copy it again"
        )
    return content


def data_beside(header: Path, name: str, one_file: str) -> tuple[bytes, Path]:
    """Return the bytes of the data file that a header names, and its path.

    Parameters
    ----------
    one_file : str
        Suffix of the kind of file that holds header and data, for the message.
    """
    file = header.parent / name
    if not name or not file.is_file():
        raise BadVolume(
            f"{header}: its data file {name[:120]!r} is not there; copy both, or convert it to "
            f"one {one_file}"
        )
    return file.read_bytes(), file


def numbers(text: str, count: int, field: str, path: Path) -> NDArray[np.float64]:
    """Read `count` finite numbers, with blanks between them, from a header's `field`."""
    words = text.split()
    if len(words) != count or not all(NUMBER.fullmatch(word) for word in words):
        raise BadVolume(
            f"{path}: {field} is {text.strip()[:60]!r}, expected {count} finite numbers"
            "; repair the header"
        )
    return np.array(words, dtype=np.float64)


def text_values(content: bytes, dtype: np.dtype[Any], count: int, path: Path) -> NDArray[Any]:
    """Read voxels that are written as text."""
    values = numbers(content.decode("latin-1"), count, "the data as text", path)
    if dtype.kind in "iu" and not np.array_equal(values, values.astype(dtype)):
        raise BadVolume(f"{path}: holds numbers that are no {dtype.name}, as its header says")
    return values.astype(dtype)


def in_mm(
    steps: NDArray[np.float64], origin: NDArray[np.float64], unit: str, others: str, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Convert the steps [3, 3] and the origin [3] of a grid from a header's unit.

    Parameters
    ----------
    unit : str
        As in the header; empty: not said, which is mm.
    others : str
        Which readers ignore the unit, for the warning.
    """
    word = unit.strip().strip('"').strip().lower()
    if word in ("", "?", "mm"):
        return steps, origin, []
    if word not in UNITS_MM:
        raise BadVolume(f"{path}: sizes in the unit {word!r}, expected mm; repair the header")
    factor = UNITS_MM[word]
    if factor == 1.0:
        return steps, origin, []
    raw, mm = (sizes(np.linalg.norm(one, axis=0)) for one in (steps, factor * steps))
    warning = (
        f"its header counts in {word}: read as voxels of {mm} mm; readers that ignore the unit, "
        f"as {others} does, take {raw} mm"
    )
    return factor * steps, factor * origin, [warning]


def sizes(values: ArrayLike) -> str:
    """Return numbers as `3 x 3 x 5`."""
    return " x ".join(f"{value:.5g}" for value in np.asarray(values, dtype=np.float64))


def placed(
    values: NDArray[Any],
    size: Sequence[int],
    steps: NDArray[np.float64],
    origin: NDArray[np.float64],
    warnings: Sequence[str],
    path: Path,
) -> Reading:
    """Make an image of the numbers of a file.

    Parameters
    ----------
    values : ndarray, shape (N,)
        x runs fastest; any byte order.
    size : sequence of int
        Along x, y, z, and further axes of size 1, which are dropped.
    steps : ndarray, shape (3, 3)
        Columns are the steps of one voxel along x, y, z in LPS mm.
    origin : ndarray, shape (3,)
        Centre of the first voxel, LPS mm.

    Raises
    ------
    BadVolume
        If it is not one 3D volume, or the steps are no place in space.
    """
    if len(size) < 3 or any(n != 1 for n in size[3:]):
        raise BadVolume(f"{path}: {sizes(size)} voxels, expected one 3D volume")
    if not (np.isfinite(steps).all() and np.isfinite(origin).all()):
        raise BadVolume(f"{path}: the header's origin or spacing is not a number; repair it")
    lengths = np.linalg.norm(steps, axis=0)
    if lengths.min() == 0 or abs(np.linalg.det(steps / lengths)) < 1e-3:
        raise BadVolume(f"{path}: two axes of its header are parallel or one is 0; repair it")
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    image = sitk.GetImageFromArray(native.reshape(tuple(size[2::-1])))
    image.SetSpacing(lengths.tolist())
    image.SetDirection((steps / lengths).ravel().tolist())
    image.SetOrigin(origin.tolist())
    return Reading(image, tuple(warnings))
