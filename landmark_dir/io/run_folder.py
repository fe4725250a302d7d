"""The names of all files of a run, and how a run folder comes to be."""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from landmark_dir.errors import BadArgument, BadPoints, BadRunFolder, LandmarkDirError
from landmark_dir.io.outputs import output_place, readable, replacing
from landmark_dir.io.text_files import json_value, read_text, told

WARPED = "warped.nii.gz"
FIXED_POINTS = "landmarks_fixed.txt"
MOVING_POINTS = "landmarks_moving.txt"
LANDMARKS_CSV = "landmarks.csv"
HELD_BACK_CSV = "landmarks_held_back.csv"
FIXED_MARKUPS = "landmarks_fixed.mrk.json"
MOVING_MARKUPS = "landmarks_moving.mrk.json"
TRANSFORM = "transform.txt"
RUN_JSON = "run.json"
COMPARISON_JSON = "comparison.json"
COMPARISON_CSV = "comparison.csv"
REPORT = "report.html"
PREVIEW = "preview.webp"
LOG = "elastix.log"
PHANTOM_FIXED = "fixed.nii.gz"  # the demo's pair, and its true points
PHANTOM_MOVING = "moving.nii.gz"
TRUTH_FIXED = "truth_fixed.txt"
TRUTH_MOVING = "truth_moving.txt"
ARMS = ("without", "with")  # folders of a comparison
TRANSFORMS = re.compile(r"transform\.[0-9]+\.txt")  # applied before `TRANSFORM`
NAMES = frozenset(
    {
        *(WARPED, FIXED_POINTS, MOVING_POINTS, LANDMARKS_CSV, HELD_BACK_CSV),
        *(FIXED_MARKUPS, MOVING_MARKUPS),
        *(TRANSFORM, RUN_JSON, COMPARISON_JSON, COMPARISON_CSV, REPORT, PREVIEW, LOG),
        *(PHANTOM_FIXED, PHANTOM_MOVING, TRUTH_FIXED, TRUTH_MOVING),
    }
)
OF_THE_SYSTEM = (".DS_Store", "Thumbs.db", "desktop.ini")  # put anywhere, missed by no one

FULL = 1 << 18  # bytes that may be left on a disk on which writing just failed


@contextmanager
def new_run_folder(
    out: Path, *, overwrite: bool = False, inputs: Sequence[object] = ()
) -> Iterator[Path]:
    """Give a hidden folder that becomes `out` when the block ends well, and goes otherwise.

    Parameters
    ----------
    inputs : sequence
        What is read for the run; paths among them are not to be lost with an earlier run.

    Raises
    ------
    BadArgument
        If there cannot be a folder.
    BadRunFolder
        If `out` exists and `overwrite` is off or it holds more than a run, or the disk is full or
        read-only.
    """
    place = output_place(out)
    _check_free(place, out, overwrite, inputs)
    try:
        with replacing(place) as partial:
            partial.mkdir()
            try:
                yield partial
            except (LandmarkDirError, RuntimeError) as error:
                _check_space(place, error)  # while what fills the disk is still there
                raise
            _check_free(place, out, overwrite, inputs)  # someone may have come first meanwhile
    except OSError as error:
        raise BadRunFolder(f"{out}: cannot be written, {error.strerror or error}") from error


def _check_space(out: Path, error: Exception) -> None:
    """Blame a full disk for what engines make of it: half a log, half a transform, a crash."""
    for place in (out.parent, Path(tempfile.gettempdir())):
        if place.exists() and shutil.disk_usage(place).free < FULL:
            raise BadRunFolder(
                f"{out}: cannot be written, the disk of {place} is full; make room there"
            ) from error


def _check_free(place: Path, out: Path, overwrite: bool, inputs: Sequence[object]) -> None:
    """Refuse a place that is taken, but for an earlier run that is to be replaced."""
    if Path.cwd().is_relative_to(place):
        raise BadArgument(
            f"out: {out} is the folder you are in, or one above it; name a new folder, such as "
            f"{out / 'run'}"
        )
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not overwrite:
        raise BadRunFolder(f"{out} exists already; name another folder or give --overwrite")
    if not is_run(place):
        raise BadRunFolder(
            f"{out} is not a run folder (it has no {RUN_JSON}) and is left alone; "
            "name another folder"
        )
    if foreign := _foreign(place):
        raise BadRunFolder(
            f"{out} holds what no run has written, {foreign}, and is left alone; move that "
            "elsewhere, or name another folder"
        )
    for given in inputs:
        if isinstance(given, str | Path) and Path(given).resolve().is_relative_to(place):
            raise BadRunFolder(
                f"{given} lies in {out}, which is to be replaced; name another folder"
            )


def is_run(folder: Path) -> bool:
    """Tell whether a folder holds a finished run or a comparison."""
    return any((folder / name).is_file() for name in (RUN_JSON, COMPARISON_JSON))


def is_of_a_run(file: Path) -> bool:
    """Tell whether a path is that of a file which a run has written and its folder needs."""
    return is_run(file.parent) and _is_ours(file.name)


def _is_ours(name: str) -> bool:
    return name in NAMES or bool(TRANSFORMS.fullmatch(name))


def _foreign(folder: Path) -> str | None:
    """A file or folder in a run folder that is none of the run's; None if there is none."""
    for one in sorted(folder.iterdir()):
        if one.is_dir() and not one.is_symlink():
            if one.name not in ARMS or not is_run(one):
                return one.name
            if inner := _foreign(one):
                return f"{one.name}/{inner}"
        elif not _is_ours(one.name) and one.name not in OF_THE_SYSTEM:
            return one.name
    return None


def write_run_json(folder: Path, content: dict[str, Any]) -> None:
    """Write `run.json`, readable and with a stable order."""
    write_json(folder / RUN_JSON, content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that every reader takes: a number that is none becomes null."""
    path.write_text(json.dumps(plain(content), indent=2, allow_nan=False) + "\n", "utf-8")


def plain(value: Any) -> Any:
    """What `write_json` makes of a value: null of a number that is none, lists of tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_run_json(run: Path) -> dict[str, Any]:
    """Read `run.json` of a finished run.

    Raises
    ------
    BadRunFolder
        If `run` is not a finished run folder.
    """
    return read_json(run / RUN_JSON)


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote into a run folder.

    Raises
    ------
    BadRunFolder
        If it is not there, or not JSON.
    """
    try:
        content = json_value(read_text(path))
    except (BadPoints, ValueError) as error:
        raise BadRunFolder(
            f"{path.parent}: expected a finished run folder with {path.name}, found none that can "
            "be read"
        ) from error
    if not isinstance(content, dict):
        raise BadRunFolder(f"{path.parent}: its {path.name} is {told(content)}, expected an object")
    return content


def run_transform(run: Path) -> Path:
    """The final transform file of a finished run.

    Raises
    ------
    BadRunFolder
        If it has none.
    """
    path = run.absolute() / TRANSFORM
    if not path.is_file():
        raise BadRunFolder(f"{run}: has no {TRANSFORM}; `landmarks` runs end before it is made")
    return path


def describe_file(path: Path) -> dict[str, Any]:
    """What is recorded of an input: path, hash, size, when it was last changed.

    Of a folder: those of all files in it together.
    """
    return {"path": readable(path), "sha256": sha256(path), **_stamp(path)}


def is_described(path: Path, described: dict[str, Any]) -> bool:
    """Tell whether a file or folder is still what was recorded: unchanged, or the same by its hash.

    Raises
    ------
    OSError
        If it is not there.
    """
    stamp = _stamp(path)
    if all(described.get(name) == value for name, value in stamp.items()):
        return True
    return bool(described.get("sha256") == sha256(path))


def _stamp(path: Path) -> dict[str, int]:
    files = [file.stat() for file in _files(path)]
    newest = max((file.st_mtime_ns for file in files), default=0)
    return {"bytes": sum(file.st_size for file in files), "modified_ns": newest}


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the files of a folder."""
    digest = hashlib.sha256()
    for file in _files(path):
        if path.is_dir():
            digest.update(os.fsencode(file.relative_to(path)))
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
