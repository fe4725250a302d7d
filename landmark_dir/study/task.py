"""One case, done by one process: claimed, run in a child process, watched, and taken down.

This is what a Dask worker is sent. What comes back is small; the truth is on disk.
"""

import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from landmark_dir import __version__
from landmark_dir.child_process import Child, ChildDied, ChildFailed
from landmark_dir.options import RegisterOptions
from landmark_dir.study.cases import Case
from landmark_dir.study.claims import Claims, Heart
from landmark_dir.study.folder import StudyFolder, as_json

CASE_WORKER = "landmark_dir.study.case_worker"
LOOK_S = 1.0  # how often a running case is looked at
STOP = ".stop"  # behind the name of a runner's heart: end what it has sent


@dataclass(frozen=True)
class Task:
    """A case to be done, and how.

    Attributes
    ----------
    keep : tuple of str
        Which parts of a run folder stay; see `folder.PARTS`.
    threads : int or None
        Of the registration; None: those of the Dask worker, else all.
    timeout_s, memory_bytes : float or None
        What a case may take; it is ended beyond.
    runner : str
        Heart of the process that sends the task.
    attempt : int
        How often the case failed before in this run.
    redo : bool
        Do it again even if it is done.
    worker : str
        Module that the child process runs.
    version : str
        Of the package that sends it.
    """

    study: StudyFolder
    case: Case
    options: RegisterOptions
    keep: tuple[str, ...] = ("all",)
    threads: int | None = None
    timeout_s: float | None = None
    memory_bytes: float | None = None
    runner: str = ""
    attempt: int = 0
    redo: bool = False
    worker: str = CASE_WORKER
    version: str = __version__

    @property
    def stop(self) -> Path:
        """The file that tells all tasks of this runner to end."""
        return self.study.hearts / f"{self.runner}{STOP}"


class Outcome(NamedTuple):
    """What became of a case.

    Attributes
    ----------
    state : str
        `done`; `kept`: it was done already; `failed`; `busy`: a living process has it; `stopped`.
    error : str
        Why it failed.
    again : bool
        Another attempt may go better.
    alone : bool
        It should have the machine to itself then: its process was ended, perhaps for memory.
    """

    state: str
    error: str = ""
    again: bool = False
    alone: bool = False
    seconds: float = 0.0
    memory_bytes: int = 0


class Ended(Exception):
    """The case has to be ended, with this outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.error)
        self.outcome = outcome


class Watch:
    """Looks at a running case: its time, the memory of all its processes, whether to stop."""

    def __init__(self, task: Task, pid: int) -> None:
        self._task = task
        self._process = psutil.Process(pid)
        self._started = self._looked = time.monotonic()
        self.memory_bytes = 0

    def __call__(self) -> None:
        """Raise `Ended` if it has to be ended."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        if self._task.stop.exists():
            raise Ended(Outcome("stopped"))
        self._check_time(now - self._started)
        self._check_memory()

    def _check_time(self, seconds: float) -> None:
        most = self._task.timeout_s
        if most is not None and seconds > most:
            error = f"took longer than {most / 60:g} min (--timeout) and was ended"
            raise Ended(Outcome("failed", error, again=True, seconds=seconds))

    def _check_memory(self) -> None:
        self.memory_bytes = max(self.memory_bytes, _memory(self._process))
        most = self._task.memory_bytes
        if most is not None and self.memory_bytes > most:
            error = (
                f"took {self.memory_bytes / 1e9:.1f} GB of memory, more than {most / 1e9:g} GB "
                "(--memory), and was ended"
            )
            raise Ended(Outcome("failed", error, again=True, alone=True))


def _memory(process: psutil.Process) -> int:
    """Bytes that a process and all below it hold."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.Error:  # one of them just ended
        pass
    return total


class Desk:
    """The one child process of this process that does cases, kept from case to case."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._of: tuple[str, int | None] = ("", None)
        self.lock = threading.Lock()  # one case at a time, however many threads a worker has

    def child(self, module: str, threads: int | None) -> Child:
        """A living child that runs this module."""
        if self._child is None or not self._child.alive() or self._of != (module, threads):
            self.clear()
            self._child, self._of = Child(module, threads=threads), (module, threads)
            self._child.answer(lambda: None)
        return self._child

    def clear(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
        self._child = None


DESK = Desk()


def run_task(task: Task) -> Outcome:
    """Do a case, unless it is done or somebody else is at it."""
    if task.version != __version__:
        error = f"landmark_dir is {__version__} on a worker and {task.version} here; install one"
        return Outcome("failed", error)
    with DESK.lock:
        if task.stop.exists():
            return Outcome("stopped")
        heart = Heart(task.study.hearts)
        try:
            claims = Claims(task.study.claims, heart)
            if not claims.take(task.case.folder):
                return Outcome("busy")
            try:
                return _claimed(task)
            finally:
                claims.release(task.case.folder)
        finally:
            heart.stop()


def _claimed(task: Task) -> Outcome:
    if not task.redo and task.study.why_not_done(task.case, task.options) is None:
        task.study.set_failure(task.case, None)
        return Outcome("kept")
    outcome = _run(task)
    if outcome.state == "failed":
        task.study.set_failure(task.case, _failure(task, outcome))
    elif outcome.state == "done":
        task.study.set_failure(task.case, None)
    return outcome


def _run(task: Task) -> Outcome:
    """Let the child do it, and watch."""
    started = time.monotonic()
    threads = task.threads or _worker_threads()
    watch: Watch | None = None
    try:
        child = DESK.child(task.worker, threads)
        watch = Watch(task, child.pid)
        answer = child.ask(_request(task, threads), watch)
        outcome = Outcome("failed", **answer) if answer else Outcome("done")
    except Ended as ended:
        outcome = ended.outcome
    except ChildDied as error:
        outcome = Outcome("failed", f"its process ended: {error}", again=True, alone=True)
    except (ChildFailed, OSError, psutil.Error) as error:
        outcome = Outcome("failed", str(error), again=True)
    memory = watch.memory_bytes if watch is not None else 0
    return outcome._replace(seconds=time.monotonic() - started, memory_bytes=memory)


def _worker_threads() -> int | None:
    """The threads that the Dask worker here was started with; None: there is no worker."""
    if "distributed" not in sys.modules:  # slow to load, and a worker has it loaded
        return None
    from distributed import get_worker

    try:
        return int(get_worker().state.nthreads)
    except ValueError:
        return None


def _request(task: Task, threads: int | None) -> dict[str, Any]:
    """What the child is told, as JSON."""
    options = task.case.options(task.options)
    return {
        "root": str(task.study.root),
        "compare": task.study.compare,
        "case": task.case.as_json(),
        "options": as_json(options.flat() | {"threads": threads}),
        "keep": list(task.keep),
    }


def _failure(task: Task, outcome: Outcome) -> dict[str, Any]:
    return {
        "case": task.case.name,
        "error": outcome.error,
        "attempts": task.attempt + 1,
        "seconds": round(outcome.seconds, 2),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def leave() -> None:
    """End the child process that is kept for the next case."""
    with DESK.lock:
        DESK.clear()


def absolute(options: RegisterOptions) -> RegisterOptions:
    """The same options for a process in another folder."""
    weights = Path(options.network.weights)
    return options.but(weights=str(weights.absolute())) if weights.is_file() else options
