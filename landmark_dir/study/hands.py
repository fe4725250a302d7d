"""Who does the cases: this process, one after the other, or the workers of a Dask scheduler."""

import logging
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, Protocol

from landmark_dir.errors import LandmarkDirError
from landmark_dir.io.outputs import locked_folder
from landmark_dir.study.task import Outcome, Task, leave, run_task

if TYPE_CHECKING:  # slow to load, and not needed for a shard
    from distributed import Client, Future

SLOT = "landmark_dir"  # resource of a Dask worker: how many registrations it runs at once
FIRST = 4  # tasks sent to a scheduler that has no workers yet: one that adapts starts some
LOOK_S = 1.0  # how often the scheduler is looked at
END_S = 5.0  # patience with cases that were told to end
GONE_S = 30.0  # patience with a scheduler that does not answer


class Hands(Protocol):
    """Whoever does cases."""

    def run(self, tasks: Iterable[Task], most: int | None = None) -> Iterator[tuple[Task, Outcome]]:
        """Do tasks, at most so many at once; give each with its outcome, as they come."""

    def running(self) -> int:
        """How many are under way."""

    def told(self) -> str:
        """Where more is to be seen; empty: nowhere."""

    def end(self) -> list[tuple[Task, Outcome]]:
        """Wait a little for tasks that were told to stop; those that end meanwhile."""


class InThisProcess:
    """One case after the other, in a child of this process."""

    def run(self, tasks: Iterable[Task], most: int | None = None) -> Iterator[tuple[Task, Outcome]]:
        """Do tasks one after the other."""
        for task in tasks:
            yield task, run_task(task)

    def running(self) -> int:
        """One."""
        return 1

    def told(self) -> str:
        """Nowhere."""
        return ""

    def end(self) -> list[tuple[Task, Outcome]]:
        """End the child."""
        leave()
        return []


class OnDask:
    """The workers of a Dask scheduler, each with one case at a time.

    Tasks are sent in a sliding window: as many as can run and one more. A worker that declares the
    resource `landmark_dir` gets as many as it says; any other does one at a time all the same, see
    `task.Desk`. Every 100 ms Dask moves waiting tasks to workers that have nothing to do.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._running: dict[Future, Task] = {}
        self._looked = 0.0
        self._slots = 0
        self._resources: dict[str, float] = {}

    def run(self, tasks: Iterable[Task], most: int | None = None) -> Iterator[tuple[Task, Outcome]]:
        """Do tasks on the workers."""
        left = iter(tasks)
        exhausted = False
        while True:
            while not exhausted and len(self._running) < self._window(most):
                task = next(left, None)
                if task is None:
                    exhausted = True
                else:
                    self._send(task)
            if exhausted and not self._running:
                return
            for future in self._finished():
                yield self._running.pop(future), _outcome(future)

    def running(self) -> int:
        """How many are with workers."""
        return min(len(self._running), max(self._slots, 1))

    def told(self) -> str:
        """The address of Dask's dashboard, where it has one."""
        try:
            import bokeh  # noqa: F401  # Dask's dashboard is empty without it
        except ImportError:
            return ""
        return str(self._client.dashboard_link or "")

    def end(self) -> list[tuple[Task, Outcome]]:
        """Wait for tasks that were told to stop, then drop them."""
        until = time.monotonic() + END_S
        ended = []
        with suppress(Exception):  # the scheduler may be what is gone
            while self._running and time.monotonic() < until:
                ended += [(self._running.pop(one), _outcome(one)) for one in self._finished()]
            self._client.cancel(list(self._running))
        self._running = {}
        with suppress(Exception):
            self._client.run(leave, nanny=False, on_error="ignore")
        return ended

    def _send(self, task: Task) -> None:
        needed = dict(self._resources)
        if task.options.compute.device == "cuda":
            needed["GPU"] = 1
        key = f"landmark-dir-case-{os.urandom(8).hex()}"
        future = self._client.submit(run_task, task, key=key, pure=False, resources=needed or None)
        self._running[future] = task

    def _window(self, most: int | None) -> int:
        if time.monotonic() - self._looked > LOOK_S:
            self._look()
        window = self._slots + 1 if self._slots else FIRST
        return window if most is None else min(window, most)

    def _look(self) -> None:
        """See how many workers there are."""
        self._looked = time.monotonic()
        try:
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        except (OSError, CancelledError) as error:
            raise self._gone() from error
        offered = [float(worker["resources"].get(SLOT, 0)) for worker in workers]
        self._resources = {SLOT: 1} if any(offered) else {}
        self._slots = int(sum(offered)) if any(offered) else len(offered)

    def _finished(self) -> "list[Future]":
        """The futures that are through; waits a second for one."""
        from distributed import wait

        until = time.monotonic() + LOOK_S
        while time.monotonic() < until:
            if self._client.status != "running":
                self._wait_for_scheduler()
            done = [future for future in self._running if future.status != "pending"]
            if done or not self._running:
                return done
            # cancelled: the connection to the scheduler is lost, and all futures with it
            with suppress(TimeoutError, CancelledError), self._client.as_current():
                wait(list(self._running), timeout=0.25, return_when="FIRST_COMPLETED")
        return []

    def _wait_for_scheduler(self) -> None:
        """Let the client try to connect again, as long as it does."""
        while self._client.status == "connecting":
            time.sleep(0.2)
        if self._client.status != "running":
            raise self._gone()

    def _gone(self) -> LandmarkDirError:
        return LandmarkDirError(
            "the Dask scheduler is gone; cases that are done stay, start it and give the same "
            "command again"
        )


def _outcome(future: "Future") -> Outcome:
    """What a task gave, or what became of its worker."""
    if future.status == "finished":
        try:
            return Outcome(*future.result(timeout=GONE_S))
        except Exception as error:  # the worker ended before it could be asked
            return Outcome("failed", f"its worker ended ({error})", again=True)
    if future.status in ("cancelled", "lost"):
        return Outcome("busy")  # a worker may be at it still
    raised = future.exception(timeout=GONE_S)
    if type(raised).__name__ == "KilledWorker":
        return Outcome("failed", "its Dask workers ended one after the other", True, alone=True)
    return Outcome("failed", f"{type(raised).__name__}: {raised}", again=True)


@contextmanager
def local_cluster(workers: int, threads: int) -> Iterator[OnDask]:
    """Workers on this machine, each one process with one registration at a time."""
    import dask
    from distributed import Client, LocalCluster

    _silence()

    quiet = {"distributed.worker.memory.terminate": False, "distributed.worker.memory.pause": False}
    with (
        locked_folder(Path(gettempdir())) as scratch,
        dask.config.set(quiet),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=True,
            resources={SLOT: 1},
            memory_limit=0,  # a worker's own memory, not that of the engines below it
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=str(scratch),
            silence_logs=60,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield OnDask(client)


def _silence() -> None:
    """Dask tells of each worker that ends; what matters of it is told as an error of a case."""
    for name in [one for one in logging.root.manager.loggerDict if one.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@contextmanager
def joined(address: str | None, file: Path | None) -> Iterator[OnDask]:
    """The workers of a scheduler that runs already, by its address or its scheduler file."""
    from distributed import Client

    _silence()
    given: dict[str, Any] = {"scheduler_file": str(file)} if file else {"address": address}
    try:
        client = Client(**given, timeout=GONE_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise LandmarkDirError(
            f"no Dask scheduler answers at {file or address} ({error}); start one with `dask "
            "scheduler`, and workers with `dask worker`"
        ) from error
    with client:
        yield OnDask(client)
