"""What a piece of work takes: seconds on the wall, and seconds of all processors together."""

import time
from collections.abc import Callable
from typing import NamedTuple


class Spent(NamedTuple):
    """Seconds that went by, and seconds that this process and its engine computed in them."""

    wall_s: float
    cpu_s: float


class Clock:
    """Runs from when it is made.

    Parameters
    ----------
    elsewhere : callable
        CPU seconds of another process that works for this one, so far.
    """

    def __init__(self, elsewhere: Callable[[], float] = lambda: 0.0) -> None:
        self._elsewhere = elsewhere
        self._start = self._now()

    def spent(self) -> Spent:
        """What has gone by since."""
        now = self._now()
        return Spent(now.wall_s - self._start.wall_s, now.cpu_s - self._start.cpu_s)

    def _now(self) -> Spent:
        return Spent(time.monotonic(), time.process_time() + self._elsewhere())
