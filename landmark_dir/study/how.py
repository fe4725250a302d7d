"""How a study is run: workers, limits, retries; none of it changes a result."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from landmark_dir.errors import BadArgument
from landmark_dir.study.folder import ALL, PARTS
from landmark_dir.study.task import CASE_WORKER

if TYPE_CHECKING:  # slow to load
    from distributed import Client

MEMORY_OF_A_CASE = 4e9  # bytes; what a worker is expected to take at most


@dataclass(frozen=True)
class How:
    """How a study is run; none of it changes a result.

    Attributes
    ----------
    workers : int or None
        Processes of a Dask cluster on this machine; None: this process does the cases, one after
        the other.
    scheduler, scheduler_file : str, path, optional
        A Dask scheduler to join.
    client : distributed.Client, optional
        One that is connected already.
    shard : (int, int), optional
        I, N: only each N-th case, from the I-th on; tables are left to `gather`.
    retries : int
        How often a case that ended in a crash or beyond a limit is tried again; last, and alone if
        its process was killed.
    timeout_min, memory_gb : float, optional
        What a case may take, all its processes together.
    keep : tuple of str
        `all`, or some of transform, points, warped, report, log.
    worker : str
        Module that does a case in its child process; another one for what is measured around it.
    """

    workers: int | None = None
    scheduler: str | None = None
    scheduler_file: Path | None = None
    client: "Client | None" = None
    shard: tuple[int, int] | None = None
    retries: int = 1
    timeout_min: float | None = None
    memory_gb: float | None = None
    keep: tuple[str, ...] = (ALL,)
    worker: str = CASE_WORKER

    def __post_init__(self) -> None:
        for name, low in (("workers", 1), ("retries", 0)):
            if getattr(self, name) is not None and getattr(self, name) < low:
                raise BadArgument(f"{name}: expected {low} or more, found {getattr(self, name)}")
        for name in ("timeout_min", "memory_gb"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise BadArgument(f"{name}: expected more than 0, found {getattr(self, name)}")
        if unknown := set(self.keep) - {ALL, *PARTS}:
            known = ", ".join([ALL, *PARTS])
            raise BadArgument(f"keep: expected some of {known}, found {', '.join(unknown)}")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise BadArgument(
                f"shard: expected I/N with I from 1 to N, found {self.shard[0]}/{self.shard[1]}"
            )
        ways = [self.workers, self.scheduler, self.scheduler_file, self.client]
        if sum(way is not None for way in ways) > 1:
            raise BadArgument("workers and a scheduler contradict each other; give one of them")


def default_workers() -> int:
    """One for each core, as far as the memory of this machine goes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    most = int(psutil.virtual_memory().total // MEMORY_OF_A_CASE)
    return max(1, min(cores or 1, most))


def with_workers(how: How) -> How:
    """With a worker for each core, where nothing says who does the cases."""
    given = how.workers or how.scheduler or how.scheduler_file or how.client or how.shard
    return how if given else replace(how, workers=default_workers())
