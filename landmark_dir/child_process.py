"""A child process that answers requests, and can be interrupted at any time; both of its ends."""

import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TextIO

POLL_S = 0.1  # how often a waiting parent looks at the log
PR_SET_PDEATHSIG = 1  # of prctl(2)
END_S = 2.0  # patience with a child that was asked to end


class ChildFailed(Exception):
    """The child answered with an error."""


class ChildDied(Exception):
    """The child is gone without an answer."""


class Child:
    """A module of this package in a process of its own: JSON lines in, JSON lines out.

    What holds Python's lock while it works, or may crash, does neither here. The session is new: a
    terminal's Ctrl-C reaches the parent only, and the parent ends the child and whatever the child
    has started. If the parent is killed outright, the child ends with it on Linux, and elsewhere
    with what it is busy with.

    Parameters
    ----------
    module : str
        It is run with `arguments` and the number of this process, and calls `answer_requests`.
    threads : int, optional
        Of its numerical libraries; None: their own choice.
    python : str
        Interpreter of the child.
    """

    def __init__(
        self, module: str, *arguments: str, threads: int | None, python: str = sys.executable
    ) -> None:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")
        # our own Python finds the package where we did, installed or not; another has its own,
        # and must not see our libraries beside it
        ours = python == sys.executable
        flags, cwd = ([], Path(__file__).parents[1]) if ours else (["-P"], None)
        self._process = subprocess.Popen(
            [python, *flags, "-m", module, *arguments, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            cwd=cwd,
            env=_environment(threads),
            start_new_session=True,
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.cpu_s = 0.0  # of the child and what it has started, as of its last answer
        threading.Thread(
            target=_forward, args=(self._process.stdout, self._answers), daemon=True
        ).start()

    def ask(self, request: dict[str, Any], poll: Callable[[], None]) -> Any:
        """Send one request and wait for its answer, calling `poll` all the while.

        Whatever ends the wait early, Ctrl-C above all, ends the child too.
        """
        assert self._process.stdin is not None
        with suppress(OSError):  # a dead child is noticed by its missing answer
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self.answer(poll)

    def answer(self, poll: Callable[[], None]) -> Any:
        """Wait for an answer that is due."""
        try:
            line = self._wait(poll)
            poll()
        except BaseException:
            self.kill()
            raise
        if not line:
            raise ChildDied(self._last_words())
        content = json.loads(line)
        self.cpu_s = content["cpu_s"]
        if "error" in content:
            raise ChildFailed(content["error"])
        return content["answer"]

    def _wait(self, poll: Callable[[], None]) -> str:
        while True:
            try:
                return self._answers.get(timeout=POLL_S)
            except queue.Empty:
                poll()

    def _last_words(self) -> str:
        self.kill()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return describe_exit(self._process.returncode) + (f", {lines[-1]}" if lines else "")

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def alive(self) -> bool:
        """Tell whether it can take another request."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the child and what it started, now."""
        with suppress(subprocess.TimeoutExpired):  # it may be ending on its own, with a reason
            self._process.wait(POLL_S)
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let the child end: its input ends. One that is busy is killed."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self.kill()
        self._errors.close()


def _forward(pipe: IO[str], answers: "queue.SimpleQueue[str]") -> None:
    """Pass the lines of `pipe` on, then an empty one: a pipe cannot be waited for portably."""
    with pipe:
        for line in pipe:
            answers.put(line)
    answers.put("")


def _environment(threads: int | None) -> dict[str, str]:
    if threads is None:
        return dict(os.environ)
    # ITK in all three engines reads this when it starts; OMP is for elastix's own loops and torch
    count = {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    return {**os.environ, **count}


def end_with_parent(parent: int) -> None:
    """On Linux: have the kernel kill this process as soon as the thread that started it is gone.

    A killed parent cannot close the pipe in a way that an engine at work would notice.

    Parameters
    ----------
    parent : int
        Its process number: if it is gone already, this process ends now.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def answer_requests(call: Callable[[dict[str, Any]], Any], ready: Callable[[], Any]) -> None:
    """The child's end: answer lines from stdin with `call`, one line each, until the input ends.

    Parameters
    ----------
    ready : callable
        What is loaded first; its answer comes before any request.
    """
    answers = _own_stdout()
    _send(answers, {"answer": ready()})
    for line in sys.stdin:
        try:
            answer = call(json.loads(line))
        except Exception as error:
            _send(answers, {"error": str(error)})
        else:
            _send(answers, {"answer": answer})


def _own_stdout() -> TextIO:
    """Keep stdout for the answers; what others print goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _send(answers: TextIO, content: dict[str, Any]) -> None:
    spent = {"cpu_s": sum(os.times()[:4])}  # its own, and that of processes it waited for
    print(json.dumps(content | spent), file=answers, flush=True)


def describe_exit(code: int) -> str:
    """Say how a process ended: `exit status 1`, `signal SIGSEGV`."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
