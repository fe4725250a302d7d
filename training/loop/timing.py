"""Where the time of a training step goes."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

NETWORK_PHASES = ("encode", "loss", "backward", "optimizer")  # the rest keeps the device waiting


class Stopwatch:
    """Seconds by phase.

    On CUDA kernels run on after a call returns; `exact` waits for them at each phase's end, which
    is right for a profile and slows a training.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._exact = exact and torch.cuda.is_available()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block."""
        started = time.perf_counter()
        yield
        if self._exact:
            torch.cuda.synchronize()
        self.seconds[name] += time.perf_counter() - started

    def network_share(self) -> float:
        """Share of the counted time in which the network computes, 0..1."""
        network = sum(self.seconds[name] for name in NETWORK_PHASES)
        return network / max(sum(self.seconds.values()), 1e-9)
