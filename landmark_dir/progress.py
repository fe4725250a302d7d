"""What a waiting person is told: one callback, `Progress(stage, fraction)`.

`stage` says in a few words what is being done, `fraction` is the share of the whole that is done, 0
to 1, and never falls. `part` gives a task a callback of its own: the task counts from 0 to 1, the
caller is told the share of the whole.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, float], None]


def silent(stage: str, fraction: float) -> None:
    """Tell nobody."""


def part(
    progress: Progress, start: float, end: float, name: str = "", between: str = ": "
) -> Progress:
    """A callback for a task that takes the share `start` to `end` of the whole.

    `name`, and what stands `between`, are put before what the task says of itself.
    """

    def within(stage: str, fraction: float) -> None:
        said = f"{name}{between}{stage}" if name and stage else name or stage
        progress(said, start + (end - start) * min(max(fraction, 0.0), 1.0))

    return within


class Plan:
    """The stages of a whole task in their order, each with the seconds it is expected to take.

    Only the proportions matter: they make the share done. A stage that is left out is passed over;
    one that is not in the plan is shown without moving on.
    """

    def __init__(self, progress: Progress, stages: Sequence[tuple[str, float]]) -> None:
        self._progress = progress
        self._stages = list(stages)
        self._total = sum(seconds for _, seconds in stages) or 1.0
        self._next = 0

    def begin(self, stage: str, said: str = "") -> Progress:
        """Say that a stage begins; the callback for the steps within it."""
        names = [name for name, _ in self._stages]
        done = sum(seconds for _, seconds in self._stages[: self._next])
        length = 0.0
        if stage in names[self._next :]:
            here = names.index(stage, self._next)
            done = sum(seconds for _, seconds in self._stages[:here])
            length = self._stages[here][1]
            self._next = here + 1
        within = part(
            self._progress, done / self._total, (done + length) / self._total, said or stage
        )
        within("", 0.0)
        return within
