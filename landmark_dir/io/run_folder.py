"""The names of all files of a run, and how a run folder comes to be.

A run is written under a temporary name beside its place and renamed when complete, so anything
killed half-way leaves no folder that looks finished.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from landmark_dir.errors import BadRunFolder, LandmarkDirError
from landmark_dir.io.text_files import json_value, told

WARPED = "warped.nii.gz"
FIXED_POINTS = "landmarks_fixed.txt"
MOVING_POINTS = "landmarks_moving.txt"
LANDMARKS_CSV = "landmarks.csv"
FIXED_MARKUPS = "landmarks_fixed.mrk.json"
MOVING_MARKUPS = "landmarks_moving.mrk.json"
TRANSFORM = "transform.txt"
RUN_JSON = "run.json"
COMPARISON_JSON = "comparison.json"
COMPARISON_CSV = "comparison.csv"
REPORT = "report.html"
LOG = "elastix.log"

FULL = 1 << 18  # bytes that may be left on a disk on which writing just failed


@contextmanager
def new_run_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary folder that becomes `out` when the block ends well, and goes otherwise.

    Raises
    ------
    BadRunFolder
        If `out` exists and `overwrite` is off or it is not a run folder, or the disk is full or
        read-only.
    """
    out = out.absolute()
    _check_free(out, overwrite)
    new_parents = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
    except OSError as error:
        raise BadRunFolder(f"{out}: cannot be created, {error.strerror}") from error
    try:
        yield partial
        _check_free(out, overwrite)  # someone may have come first meanwhile
        _put_in_place(partial, out)
    except OSError as error:
        raise BadRunFolder(f"{out}: cannot be written, {error.strerror or error}") from error
    except (LandmarkDirError, RuntimeError) as error:
        _check_space(out, error)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # they stay once they hold something
            for parent in new_parents:
                parent.rmdir()


def _check_space(out: Path, error: Exception) -> None:
    """Blame a full disk for what engines make of it: half a log, half a transform, a crash."""
    for place in (out.parent, Path(tempfile.gettempdir())):
        if shutil.disk_usage(place).free < FULL:
            raise BadRunFolder(
                f"{out}: cannot be written, the disk of {place} is full; make room there"
            ) from error


def _put_in_place(partial: Path, out: Path) -> None:
    """Rename; an earlier run goes only when the new one stands."""
    earlier = partial.with_name(f"{partial.name}-earlier")
    if out.exists():
        out.rename(earlier)
    partial.chmod(0o755)
    partial.rename(out)
    shutil.rmtree(earlier, ignore_errors=True)


def _check_free(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise BadRunFolder(f"{out} exists already; name another folder or give --overwrite")
    if not any((out / name).is_file() for name in (RUN_JSON, COMPARISON_JSON)):
        raise BadRunFolder(
            f"{out} is not a run folder (it has no {RUN_JSON}) and is left alone; "
            "name another folder"
        )


def write_run_json(folder: Path, content: dict[str, Any]) -> None:
    """Write `run.json`, readable and with a stable order."""
    write_json(folder / RUN_JSON, content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that every reader takes: a number that is none becomes null."""
    path.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n", "utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_run_json(run: Path) -> dict[str, Any]:
    """Read `run.json` of a finished run.

    Raises
    ------
    BadRunFolder
        If `run` is not a finished run folder.
    """
    try:
        content = json_value((run / RUN_JSON).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadRunFolder(
            f"{run}: expected a finished run folder with {RUN_JSON}, found none that can be read"
        ) from error
    if not isinstance(content, dict):
        raise BadRunFolder(f"{run}: its {RUN_JSON} is {told(content)}, expected that of a run")
    return content


def run_transform(run: Path) -> Path:
    """The final transform file of a finished run.

    Raises
    ------
    BadRunFolder
        If the run is not finished or has no transform.
    """
    read_run_json(run)
    path = run.absolute() / TRANSFORM
    if not path.is_file():
        raise BadRunFolder(f"{run}: has no {TRANSFORM}; `landmarks` runs end before it is made")
    return path


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the files of a folder."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(os.fsencode(file.relative_to(path)))
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
