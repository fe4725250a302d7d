"""Large pieces of work shared between threads, each of which computes on one processor.

The libraries below (torch, OpenMP, BLAS) would share small pieces, and their threads wait busily
for each other: where another process works beside them, they get many times as slow. NumPy, SciPy
and torch let go of Python's lock while they compute.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_threads: ContextVar[int | None] = ContextVar("threads", default=None)


def thread_count() -> int:
    """How many threads work may be shared between; 1 within a piece of it."""
    return _threads.get() or _processors()


def _processors() -> int:
    """As many as this process may use, or fewer where OpenMP is told so."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told):
        return int(told)
    may_use = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(may_use(0)) if may_use else os.cpu_count() or 1


@contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Share work between `count` threads; None: as many as there are."""
    token = _threads.set(count)
    try:
        yield
    finally:
        _threads.reset(token)


def share(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results of `work` on each of the items, in their order, as they come."""
    count = min(thread_count(), len(items))
    if count < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(count, initializer=_threads.set, initargs=(1,)) as pool:
        yield from pool.map(work, items)
