"""A child process whose output is read while it works, and which can be ended with its tree."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

from LandmarkDirLib.problem import Problem

PATIENCE_S = 20.0  # with a child that was asked to end: it removes what it had begun to write
WINDOWS = os.name == "nt"


class Child:
    """A command at work.

    Parameters
    ----------
    command : sequence of str
    environment : mapping
        All its variables; see `command.environment`.

    Raises
    ------
    Problem
        If it cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=not WINDOWS,  # a group of its own, to be ended together
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise Problem(
                f"{command[0]} cannot be started ({error.strerror}); choose another command"
            ) from error
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(
            target=_forward, args=(self._process.stdout, self._lines), daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def lines(self) -> list[str]:
        """What it said since the last call; never waits."""
        said = []
        with suppress(queue.Empty):
            while True:
                said.append(self._lines.get_nowait())
        return said

    def exit_code(self) -> int | None:
        """Its exit code once it has ended and all that it said can be had; None: at work."""
        code = self._process.poll()
        return None if self._reader.is_alive() else code

    def cancel(self) -> None:
        """Ask it to end, with all that it has started; never waits.

        `landmark-dir` tidies up and ends the engine, which has a session of its own.
        """
        if self._process.poll() is None:
            if WINDOWS:
                _end_tree_on_windows(self.pid)
            else:
                _signal_group(self.pid, signal.SIGTERM)

    def end(self, patience_s: float = PATIENCE_S) -> None:
        """Cancel it, wait until it is gone, and kill what does not go."""
        self.cancel()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        if not WINDOWS:
            _signal_group(self.pid, signal.SIGKILL)  # the group outlives its first process
        self._process.wait()
        self._reader.join(1.0)


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # all gone; on macOS: all but zombies
        os.killpg(pid, number)


def _end_tree_on_windows(pid: int) -> None:
    command = ["taskkill", "/PID", str(pid), "/T", "/F"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _forward(stream: IO[str] | None, lines: queue.SimpleQueue[str]) -> None:
    assert stream is not None
    with stream:
        for line in stream:
            lines.put(line.rstrip("\r\n"))
