"""Who is at work on which case: claims on disk, which end with the process that holds them.

Each process at work on a study has a heart: a file that it touches every few seconds, and locks as
long as it lives. A claim names the heart of its holder. It is a link, which is there whole or not
at all and made only once; on a disk without links it is a file. A claim whose holder is dead may be
followed by one with the next number. So no claim outlives its process, and no two processes hold
the same case, on one machine or on many that share a disk.
"""

import json
import os
import secrets
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: the age of a heart alone tells
    fcntl = None  # type: ignore[assignment]

BEAT_S = 5.0
STALE_S = 60.0  # since the last beat; shared disks may show a file's time late


class Heart:
    """The sign of life of this process in a folder of hearts.

    Attributes
    ----------
    name : str
        Of its file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._path = folder / self.name
        while (file := self._begin()) is None:  # somebody tidied up in between
            pass
        self._file = file
        self._over = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def _begin(self) -> IO[str] | None:
        """Come to be, locked and whole; None: what was begun is gone."""
        _create_folder(self.folder)
        begun = self._path.with_name(f"{self.name}.new")
        with suppress(FileNotFoundError):
            file = begun.open("w")
            _lock(file)
            file.write(socket.gethostname())
            file.flush()
            with suppress(FileNotFoundError):
                begun.rename(self._path)
                return file
            file.close()
        return None

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with suppress(OSError):
                os.utime(self._path)

    def stop(self) -> None:
        """Take the sign of life away."""
        self._over.set()
        self._path.unlink(missing_ok=True)
        self._file.close()

    def is_alive(self, name: str) -> bool:
        """Tell whether the process whose heart has this name lives."""
        path = self.folder / name
        try:
            with path.open("r+") as file:
                if file.read() == socket.gethostname() and _lock(file):
                    return False  # the system took its lock back
            return self.age_s(path) < STALE_S
        except OSError:
            return False

    def age_s(self, path: Path) -> float:
        """Seconds since a file was touched, by the clock of the disk.

        Raises
        ------
        OSError
            If it is not there.
        """
        os.utime(self._path)
        return self._path.stat().st_mtime - path.stat().st_mtime

    def clear(self) -> None:
        """Remove the hearts of dead processes, and what is told in their name."""
        for path in self.folder.iterdir():
            name = path.name.partition(".")[0]
            if name != self.name and not self.is_alive(name):
                path.unlink(missing_ok=True)


def _lock(file: IO[str]) -> bool:
    """Lock a file as long as it is open; False if another has it, or nothing can be locked."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Claims:
    """The claims of one process in a folder of claims."""

    def __init__(self, folder: Path, heart: Heart) -> None:
        self._folder = folder
        self._heart = heart

    def take(self, name: str) -> bool:
        """Claim a name, or tell that a living process has it."""
        passed: list[tuple[Path, str]] = []  # claims of dead processes, and their hearts
        while True:
            path = self._path(name, len(passed) + 1)
            if _create(path, self._heart.name):
                # claims are released in the order of their numbers: if those of the dead are still
                # there, nobody has begun anew below this one
                if all(_read(one) == holder for one, holder in passed):
                    return True
                path.unlink(missing_ok=True)
                passed = []
                continue
            holder = _read(path)
            if holder is None:  # released meanwhile
                passed = []
            elif self._is_held(path, holder):
                return False
            else:
                passed.append((path, holder))

    def release(self, name: str) -> None:
        """Give a name back, and with it the claims of dead processes on it."""
        number = 1
        while _read(path := self._path(name, number)) is not None:
            path.unlink(missing_ok=True)
            number += 1

    def clear(self) -> None:
        """Remove the claims of dead processes."""
        with suppress(FileNotFoundError):  # nobody is at work any more
            self._clear()

    def _clear(self) -> None:
        for name in {path.name.rpartition(".")[0] for path in self._folder.iterdir()}:
            if self.take(name):
                self.release(name)

    def _is_held(self, path: Path, holder: str) -> bool:
        if holder:
            return self._heart.is_alive(holder)
        with suppress(OSError):  # created, not written yet; or its process died in between
            return self._heart.age_s(path) < STALE_S
        return False

    def _path(self, name: str, number: int) -> Path:
        return self._folder / f"{name.replace('/', '_')}.{number}"


def _create_folder(folder: Path) -> None:
    with suppress(FileExistsError, FileNotFoundError):  # it goes at this moment
        folder.mkdir(parents=True, exist_ok=True)


def _create(path: Path, holder: str) -> bool:
    """Make a claim; False: there is one."""
    while True:
        _create_folder(path.parent)
        try:
            _make(path, holder)
        except FileExistsError:
            return False
        except FileNotFoundError:  # somebody tidied up in between
            continue
        return True


def _make(path: Path, holder: str) -> None:
    try:
        path.symlink_to(holder)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # no links on this disk, or not for this user
        with path.open("x") as file:
            file.write(json.dumps(holder))


def _read(path: Path) -> str | None:
    """The heart that a claim names; empty: not written yet; None: there is no claim."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None
    except OSError:  # it is a file
        pass
    try:
        return str(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except ValueError:
        return ""
