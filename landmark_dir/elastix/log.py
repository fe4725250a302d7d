"""elastix.log: where a running registration is, and why one failed."""

import re
from collections.abc import Sequence
from pathlib import Path

from landmark_dir.progress import Progress

_RESOLUTION = re.compile(r"Resolution: (\d+)")
_ITERATION = re.compile(r"(\d+)\t")  # a row of the iteration table
_WRAPPING = r"ITK ERROR: |(?:\w+\(0x\w+\): )"  # `ITK ERROR: Class(0x55d0): ` before the words
_DESCRIPTION = re.compile(rf"^Description:\s*(?:{_WRAPPING})*(.+)", re.MULTILINE)
_RAISED = re.compile(rf".*ERROR: (?:{_WRAPPING})*", re.DOTALL)
NO_OVERLAP = "Too many samples map outside moving image buffer"


class LogFollower:
    """Tell the progress of a registration from its growing `elastix.log`; call it now and then.

    Parameters
    ----------
    iterations : sequence of int
        How many iterations each resolution runs at most.
    """

    def __init__(self, log: Path, iterations: Sequence[int], progress: Progress) -> None:
        self._log = log
        self._iterations = iterations
        self._progress = progress
        self._offset = 0
        self._rest = ""
        self._newest = (0, -1)  # resolution, iteration; counted from 0

    def __call__(self) -> None:
        """Read what was added since the last call."""
        if not self._log.exists():
            return
        with self._log.open("rb") as stream:
            stream.seek(self._offset)
            added = stream.read()
        self._offset += len(added)
        *lines, self._rest = (self._rest + added.decode(errors="replace")).split("\n")
        newest = self._newest
        for line in lines:
            if match := _RESOLUTION.match(line):
                newest = int(match[1]), -1
            elif match := _ITERATION.match(line):
                newest = newest[0], int(match[1])
        if newest != self._newest:
            self._newest = newest
            if newest[1] >= 0:
                self._tell(*newest)

    def _tell(self, resolution: int, iteration: int) -> None:
        levels = len(self._iterations)
        most = self._iterations[min(resolution, levels - 1)]
        self._progress(
            f"resolution {resolution + 1} of {levels}, iteration {iteration}",
            (resolution + (iteration + 1) / most) / levels,
        )


def failure(log: Path, message: str) -> str:
    """Say in one sentence why elastix failed: its log's own words, else those of `message`."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    said = _DESCRIPTION.findall(text) or [_RAISED.sub("", message)]
    reason = " ".join(said[0].split()).rstrip(".")
    if NO_OVERLAP in reason:
        reason += (
            " (the images hardly overlap, a mask is empty or misplaced, or voxels are NaN: "
            "check where both lie, or align their centres first)"
        )
    return reason
