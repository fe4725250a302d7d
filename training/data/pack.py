"""CT slices on disk, compact: a folder of one file per CT series and `pack.json`.

Grey values are rounded to at most 256 levels of a fixed table (`level_values`), finest in soft
tissue. A series file is a plain zip of lossless WebP images, the valid masks as compressed bits
(`body.xz`) and `series.json`. Three neighbouring slices are the red, green and blue of one image,
as WebP predicts red and blue from green: 8 % smaller than one image a slice. A file holds no
date, so the same slices give the same file. numpy, Pillow and torch are all it takes to read it.
"""

import hashlib
import io
import json
import lzma
import os
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from landmark_dir.errors import LandmarkDirError
from landmark_dir.preprocessing.intensity import AIR_HU

Split: TypeAlias = Literal["training", "validation"]

SPLITS: tuple[Split, ...] = ("training", "validation")
FORMAT = 1
STEP_HU = 20
# lung, soft tissue, bone: where the steps change. Noise of a CT is 10 to 30 HU in soft tissue
# and more in lung, so half a step of 20 HU hides below it.
KNOTS_HU = (-950, -208, 256, 2000)
WEBP = {"lossless": True, "quality": 50, "method": 4}  # quality is effort here, not loss


class BadPack(LandmarkDirError):
    """A folder that is no pack, a damaged one, or one made with other settings."""


class Slice(NamedTuple):
    """One axial slice at 1 mm."""

    hu: Tensor  # [H, W] int16
    body: Tensor  # [H, W] bool, the valid mask of [paper] sec. 2.4
    patient: str
    series: str  # unique in its pack
    z_mm: float  # place along the stack of its series


@dataclass(frozen=True)
class CtSeries:
    """The slices of one CT series before they are packed.

    Attributes
    ----------
    patient, name : str
        Neither may tell who the patient is.
    source : str
        What the series was made from, to know it again; stays in `pack.json`.
    hu : ndarray, shape (Z, H, W), int16
    body : ndarray, shape (Z, H, W), bool
    z_mm : tuple of float
        Place of each slice along the stack, ascending.
    """

    patient: str
    name: str
    source: str
    hu: NDArray[np.int16]
    body: NDArray[np.bool_]
    z_mm: tuple[float, ...]


@dataclass(frozen=True)
class Entry:
    """What `pack.json` says of a series file.

    Attributes
    ----------
    errors : mapping
        How many body pixels are off by how many HU (a whole number, as a string for JSON).
    """

    file: str
    sha256: str
    size_bytes: int
    patient: str
    split: Split
    slices: int
    source: str
    errors: Mapping[str, int]


class Encoded(NamedTuple):
    """A series file in memory."""

    content: bytes
    entry: Entry


def level_values(step_hu: int) -> NDArray[np.int16]:
    """HU of each level, ascending: air, then steps of 2 s, s and 2 s between the knots.

    The knots are levels themselves, so rounding is off by at most s / 2 in soft tissue and by s
    in lung and bone. Values above the last knot are clipped; those below the first become air.

    Raises
    ------
    ValueError
        If the step is so small that the levels do not fit into a byte.
    """
    if step_hu < 1:
        raise ValueError(f"step_hu must be positive, found {step_hu}")
    lung, soft, bone, top = KNOTS_HU
    values = np.unique(
        np.concatenate(
            [
                (AIR_HU, *KNOTS_HU),  # level 0: everything below the first knot
                np.arange(soft, lung, -2 * step_hu),
                np.arange(soft, bone, step_hu),
                np.arange(bone, top, 2 * step_hu),
            ]
        )
    )
    if len(values) > 256:
        raise ValueError(
            f"a step of {step_hu} HU needs {len(values)} grey levels, at most 256 fit; take 8 HU"
            " or more"
        )
    return values.astype(np.int16)


def to_levels(hu: NDArray[np.int16], step_hu: int) -> NDArray[np.uint8]:
    """Round HU to the nearest level, half-way cases up."""
    values = level_values(step_hu)[1:]
    low, high = int(hu.min()), int(hu.max())
    every = np.arange(low, high + 1)  # look up, do not compute: pixels are many, HU are few
    table = np.floor(np.interp(every, values, np.arange(1, len(values) + 1)) + 0.5)
    table[every < KNOTS_HU[0]] = 0
    return np.asarray(table.astype(np.uint8)[hu.astype(np.int32) - low])


def from_levels(levels: NDArray[np.uint8], step_hu: int) -> NDArray[np.int16]:
    """Return the HU of each level."""
    return np.asarray(level_values(step_hu)[levels])


def encode_series(series: CtSeries, split: Split, step_hu: int) -> Encoded:
    """Make the file of a series, in memory."""
    levels = to_levels(series.hu, step_hu)
    about = {
        "format": FORMAT,
        "patient": series.patient,
        "series": series.name,
        "split": split,
        "step_hu": step_hu,
        "shape_zyx": list(levels.shape),
        "z_mm": [round(z, 3) for z in series.z_mm],
    }
    parts = {"series.json": json.dumps(about).encode()}
    parts["body.xz"] = lzma.compress(np.packbits(series.body).tobytes())
    for k in range(0, len(levels), 3):
        parts[f"{k:04d}.webp"] = _webp(levels[k : k + 3])
    content = _zip(parts)
    sha256 = hashlib.sha256(content).hexdigest()
    off = np.abs(series.hu.astype(np.int32) - from_levels(levels, step_hu))[series.body]
    counts = np.bincount(off)
    entry = Entry(
        file=f"{series.name}-{sha256[:8]}.zip",
        sha256=sha256,
        size_bytes=len(content),
        patient=series.patient,
        split=split,
        slices=len(levels),
        source=series.source,
        errors={str(hu): int(counts[hu]) for hu in np.flatnonzero(counts)},
    )
    return Encoded(content, entry)


def _webp(levels: NDArray[np.uint8]) -> bytes:
    """Encode up to three slices [z, y, x] as one colour image; the last fills what is missing."""
    colours = levels[np.minimum((0, 1, 2), len(levels) - 1)].transpose(1, 2, 0)  # [y, x, 3]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(colours)).save(buffer, "WEBP", **WEBP)
    return buffer.getvalue()


def _zip(parts: Mapping[str, bytes]) -> bytes:
    """Store without a date: the same slices give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def write_series(
    folder: Path, series: CtSeries, split: Split, settings: Mapping[str, Any] | None = None
) -> Entry:
    """Add a series to a pack, which is made if there is none; `settings` as in `open_pack`."""
    settings = settings or {"step_hu": STEP_HU}
    open_pack(folder, settings)
    encoded = encode_series(series, split, settings["step_hu"])
    add_series(folder, encoded)
    return encoded.entry


def open_pack(folder: Path, settings: Mapping[str, Any]) -> list[Entry]:
    """Return what is in a pack already; make an empty one if there is none.

    Parameters
    ----------
    settings : mapping
        All that decides what the slices look like, in JSON's types; `step_hu` is among them.

    Raises
    ------
    BadPack
        If the pack was made with other settings, or the folder holds something else.
    """
    level_values(settings["step_hu"])  # refuses a step that is too small
    if not (folder / "pack.json").exists():
        if folder.exists() and any(folder.iterdir()):
            raise BadPack(f"{folder}: not empty and not a pack; name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        _write_index(folder, settings, [])
        return []
    index = _read_index(folder)
    found = index["settings"]
    for key in sorted(found.keys() | settings.keys()):
        if found.get(key) != settings.get(key):
            raise BadPack(
                f"{folder}: made with {key} {found.get(key)}, now {settings.get(key)} is asked for"
                "; name a new folder or the same settings"
            )
    return _entries(index)


def add_series(folder: Path, encoded: Encoded) -> None:
    """Write a series file, then list it; for one process at a time.

    Both are written under another name and renamed, so a kill leaves no half file; a file that
    is not listed is not read.
    """
    index = _read_index(folder)
    entries = [entry for entry in _entries(index) if entry.file != encoded.entry.file]
    _write_whole(folder / encoded.entry.file, encoded.content)
    _write_index(folder, index["settings"], [*entries, encoded.entry])


def list_series(folder: Path) -> list[Entry]:
    """Return what `pack.json` says, sorted by file name.

    Raises
    ------
    BadPack
        If the folder is not a pack.
    """
    return _entries(_read_index(folder))


def _entries(index: Mapping[str, Any]) -> list[Entry]:
    return [Entry(**entry) for entry in index["series"]]


def pack_hash(folder: Path) -> str:
    """Return a short SHA-256 over all series files; the order they were made in is no matter."""
    lines = sorted(f"{entry.split} {entry.sha256}" for entry in list_series(folder))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def read_pack(folder: Path, split: Split) -> list[Slice]:
    """Read all slices of a split, those of a series one after the other, along the stack.

    Raises
    ------
    BadPack
        If the folder is not a pack, the split is empty, or a file is missing or damaged.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, found {split!r}")
    entries = [entry for entry in list_series(folder) if entry.split == split]
    if not entries:
        raise BadPack(f"{folder}: no series for {split}; add some with training.prepare")
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow lets other threads run
        found = pool.map(lambda entry: list(_read_series(folder / entry.file, entry)), entries)
        return [part for parts in found for part in parts]


def _read_series(file: Path, entry: Entry) -> Iterator[Slice]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadPack(f"{file}: cannot be read ({error.strerror}); make the pack again") from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise BadPack(f"{file}: damaged, its SHA-256 is not the one in pack.json; make it again")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        about = json.loads(archive.read("series.json"))
        shape = about["shape_zyx"]
        bits = np.frombuffer(lzma.decompress(archive.read("body.xz")), np.uint8)
        body = np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
        colours = [_colours(archive.read(f"{k:04d}.webp")) for k in range(0, shape[0], 3)]
    levels = np.concatenate(colours)[: shape[0]]  # [z, y, x]
    hu = torch.from_numpy(from_levels(levels, about["step_hu"]))
    for part, valid, z_mm in zip(hu, torch.from_numpy(body), about["z_mm"], strict=True):
        yield Slice(part, valid, about["patient"], file.stem, z_mm)


def _colours(webp: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(webp)) as image:
        return np.stack([np.asarray(image.getchannel(i)) for i in range(3)])


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "pack.json"
    try:
        index: dict[str, Any] = json.loads(path.read_text("utf-8"))
        found = index["format"]
    except FileNotFoundError as error:
        raise BadPack(
            f"{folder}: not a pack (no pack.json); make one with training.prepare"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadPack(f"{path}: damaged; make the pack again") from error
    if found != FORMAT:
        raise BadPack(f"{path}: format {found}, expected {FORMAT}; make the pack again")
    return index


def _write_index(folder: Path, settings: Mapping[str, Any], entries: list[Entry]) -> None:
    series = [asdict(entry) for entry in sorted(entries, key=lambda entry: entry.file)]
    lines = ",\n".join(f"  {json.dumps(one)}" for one in series)  # one line a series
    text = (
        f'{{"format": {FORMAT},\n "settings": {json.dumps(settings)},\n "series": [\n{lines}\n]}}'
    )
    _write_whole(folder / "pack.json", f"{text}\n".encode())


def _write_whole(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    os.replace(partial, path)
