"""Calls one after the other, watched without waiting: how far they are, and why one failed."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from LandmarkDirLib.child import PATIENCE_S, Child
from LandmarkDirLib.problem import Problem

# what `landmark-dir` prints where its output is no terminal: seconds, share done, stage
PROGRESS = re.compile(r"\s*\d+ s\s+(?P<percent>\d+)%\s+(?P<stage>\S.*)")
ERROR = re.compile(r"(?:ERROR|Error): (.*)")
FEW_LINES = 400  # of what was said, kept for the person


class Step(NamedTuple):
    """One call."""

    said: str  # what a person is told it does
    command: Sequence[str]
    share: float  # of the whole, 0 to 1


class Told(NamedTuple):
    """How far the whole is."""

    fraction: float  # 0 to 1; never falls
    stage: str


class Work:
    """Steps that run one after the other while `poll` is called.

    A step that fails is the last. A child that is cancelled and does not go is killed.
    """

    def __init__(self, steps: Sequence[Step], environment: Mapping[str, str]) -> None:
        self._steps = list(steps)
        self._environment = environment
        self._number = 0
        self._cancelled_at: float | None = None
        self._told = Told(0.0, steps[0].said)
        self.log: list[str] = []
        self._child: Child | None = Child(steps[0].command, environment)

    @property
    def cancelled(self) -> bool:
        """Whether a person ended it."""
        return self._cancelled_at is not None

    def poll(self) -> Told | None:
        """How far it is; None once all steps are done. Never waits.

        Raises
        ------
        Problem
            If a step failed, or the work was cancelled; all children are gone then.
        """
        if self._child is None:
            return None
        code = self._child.exit_code()
        self._listen(self._child)
        if code is None:
            self._lose_patience(self._child)
            return self._told
        self._child = None
        if self.cancelled:
            raise Problem("cancelled")
        if code != 0:
            raise Problem(self._reason(code))
        self._number += 1
        if self._number == len(self._steps):
            return None
        step = self._steps[self._number]
        self._told = Told(sum(done.share for done in self._steps[: self._number]), step.said)
        self._child = Child(step.command, self._environment)
        return self._told

    def cancel(self) -> None:
        """Ask what is at work to end; `poll` says when it has."""
        if self._child is not None and not self.cancelled:
            self._cancelled_at = time.monotonic()
            self._told = Told(self._told.fraction, "cancelling")
            self._child.cancel()

    def end(self) -> None:
        """End what is at work, and wait for it: for an application that closes."""
        if self._child is not None:
            self._child.end(patience_s=3.0)
            self._child = None

    def _listen(self, child: Child) -> None:
        for line in child.lines():
            self.log = [*self.log[-FEW_LINES:], line]
            found = PROGRESS.fullmatch(line)
            if found and not self.cancelled:
                before = sum(step.share for step in self._steps[: self._number])
                within = self._steps[self._number].share * int(found["percent"]) / 100
                self._told = Told(max(before + within, self._told.fraction), found["stage"])

    def _lose_patience(self, child: Child) -> None:
        if self._cancelled_at and time.monotonic() - self._cancelled_at > PATIENCE_S:
            child.end(patience_s=0.0)

    def _reason(self, code: int) -> str:
        said = [line.strip() for line in self.log if line.strip()]
        errors = [found[1] for line in said if (found := ERROR.match(line))]
        step = self._steps[self._number].said
        return f"{step} failed: {(errors or said or [f'exit code {code}'])[-1]}"
