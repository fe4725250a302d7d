"""How an output comes to its place: whole, or not at all.

It is made in a hidden folder beside its place and moved when it is complete. That folder is locked,
and the system takes the lock back when the process ends, however it ends. So the next process that
writes in the same place can tell what a dead one left behind from the work of a living one.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from landmark_dir.errors import BadArgument, BadRunFolder

try:
    import fcntl
except ImportError:  # Windows: nothing is locked and nothing is cleared there
    fcntl = None  # type: ignore[assignment]

PREFIX = ".landmark-dir-"  # of hidden folders
LOCK, NEW_LOCK = ".lock", ".new-lock"
NEW, EARLIER = "new", "earlier"  # folders: what is made, and what it takes the place of


def readable(path: str | os.PathLike[str]) -> str:
    """A path as text that can be written down, whatever bytes a file system has in its names."""
    return os.fsencode(path).decode("utf-8", "replace")


def output_place(given: Path, name: str = "out") -> Path:
    """Where an output will stand: absolute, links followed, also one that leads to nothing yet.

    Raises
    ------
    BadArgument
        If it is no name of a file or folder; `name` is what the message calls it.
    BadRunFolder
        If nothing can be created there.
    """
    try:
        place = given.resolve()
        str(place).encode()
    except UnicodeEncodeError as error:
        raise BadArgument(
            f"{name}: {readable(given)!r} or a folder above it has a name that is no UTF-8 text, "
            "which the engines cannot write to; name another, or set LC_ALL=C.UTF-8"
        ) from error
    except (OSError, RuntimeError) as error:  # a link to itself
        raise BadArgument(f"{name}: {given} leads nowhere ({error}); name another") from error
    if place.exists() and not (place.is_file() or place.is_dir()):
        raise BadArgument(f"{name}: {given} is neither a file nor a folder; name another")
    above = next(parent for parent in place.parents if parent.exists())
    if not above.is_dir():
        raise BadRunFolder(f"{given} cannot be created, {above} is a file; name another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise BadRunFolder(
            f"{given} cannot be created, {above} may not be written to; name another place, or "
            "change the rights or the mount"
        )
    return place


@contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """Give a path of the same name that is moved to `place` when the block ends well.

    Folders above it are created, and go again if it does not. What stands there goes only when the
    new one stands; a folder too.

    Raises
    ------
    OSError
        If it cannot be created or moved.
    """
    new_parents = [parent for parent in place.parents if not parent.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with locked_folder(place.parent) as hidden:
            (hidden / NEW).mkdir()
            yield hidden / NEW / place.name
            if place.is_dir():
                (hidden / EARLIER).mkdir()
                place.rename(hidden / EARLIER / place.name)
            (hidden / NEW / place.name).rename(place)
    finally:
        with suppress(OSError):  # they stay once they hold something
            for parent in new_parents:
                parent.rmdir()


@contextmanager
def locked_folder(parent: Path) -> Iterator[Path]:
    """Give a hidden folder in `parent` that goes with the block, or with the next one there."""
    clear_left(parent)
    while (begun := _begin(parent)) is None:
        pass
    hidden, lock = begun
    try:
        yield hidden
    finally:
        _restore(hidden)
        _remove(hidden)
        if lock is not None:
            lock.close()


def _begin(parent: Path) -> tuple[Path, IO[bytes] | None] | None:
    """Make a hidden folder and lock it; None: another process took it for a dead one's meanwhile.

    The lock has its name only once it is held. It is None where nothing can be locked.
    """
    hidden = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    lock = None
    try:
        lock = _locked(hidden / NEW_LOCK, "xb")
        if lock is not None:
            (hidden / NEW_LOCK).rename(hidden / LOCK)
    except (FileNotFoundError, BlockingIOError):
        if lock is not None:
            lock.close()
        return None
    return hidden, lock


def _locked(path: Path, mode: str = "r+b") -> IO[bytes] | None:
    """Lock a file; None: nothing can be locked.

    Raises
    ------
    BlockingIOError
        If another process has it.
    """
    if fcntl is None:
        return None
    file: IO[bytes] = path.open(mode)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if isinstance(error, BlockingIOError):
            raise
        return None
    return file


def clear_left(parent: Path) -> None:
    """Remove what dead processes left in `parent`, and put back what they had moved away."""
    for hidden in parent.glob(f"{PREFIX}*") if fcntl is not None else ():
        with suppress(OSError):  # a living process has it, another user, or it is gone meanwhile
            if not hidden.is_symlink():
                _clear(hidden)


def _clear(hidden: Path) -> None:
    """Remove a hidden folder of a dead process; of one that was killed at its begin or end, too."""
    found = {one.name for one in hidden.iterdir()}
    if not found:
        hidden.rmdir()
        return
    name = LOCK if LOCK in found else NEW_LOCK
    if name == NEW_LOCK and found != {NEW_LOCK}:
        return  # it could not be locked, and nobody knows
    lock = _locked(hidden / name)
    if lock is not None:
        _restore(hidden)
        _remove(hidden)
        lock.close()


def _remove(hidden: Path) -> None:
    """Remove a hidden folder, its lock last: whoever is killed at it leaves what can be told."""
    with suppress(OSError):  # gone meanwhile
        for one in hidden.iterdir():
            if one.is_dir():
                shutil.rmtree(one, ignore_errors=True)
            elif one.name != LOCK:
                one.unlink(missing_ok=True)
    shutil.rmtree(hidden, ignore_errors=True)


def _restore(hidden: Path) -> None:
    """Put back an earlier output whose place is empty: its successor never came."""
    earlier = hidden / EARLIER
    if earlier.is_dir():
        for one in earlier.iterdir():
            if not (hidden.parent / one.name).exists():
                one.rename(hidden.parent / one.name)
