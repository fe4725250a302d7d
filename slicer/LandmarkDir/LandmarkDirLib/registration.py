"""One registration as calls of `landmark-dir`, and what its run folder says."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import NamedTuple

from LandmarkDirLib.problem import Problem
from LandmarkDirLib.work import Step

PRESETS = ("default", "fast", "fine", "lung", "points-only")
OURS = ("-o", "--out", "--overwrite", "-q", "--quiet", "--preset")  # options that are given here


class Places(NamedTuple):
    """The files of one registration."""

    fixed: Path
    moving: Path
    run: Path  # the run folder
    transform: Path  # as exported

    @property
    def warped(self) -> Path:
        """The moving image on the fixed grid."""
        return self.run / "warped.nii.gz"

    @property
    def report(self) -> Path:
        """The page of the run."""
        return self.run / "report.html"

    def markups(self, side: str) -> Path:
        """The landmarks of `fixed` or `moving`; no file if none guided."""
        return self.run / f"landmarks_{side}.mrk.json"


class Verdict(NamedTuple):
    """What `run.json` says of a run."""

    word: str  # good, doubtful, failed, not checked
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def places(folder: Path, run: Path | None = None) -> Places:
    """The files of a registration that works in `folder`; its run folder too, unless named."""
    return Places(
        folder / "fixed.nrrd",
        folder / "moving.nrrd",
        folder / "run" if run is None else run,
        folder / "transform.h5",
    )


def steps(command: Path, at: Places, preset: str, more: str = "") -> list[Step]:
    """The calls that register the written volumes and export the transform.

    Parameters
    ----------
    more : str
        Further options of `landmark-dir register`, as in a shell.

    Raises
    ------
    Problem
        If those cannot be split, or hold an option that is given here.
    """
    try:
        options = shlex.split(more)
    except ValueError as error:
        raise Problem(f"further options: {more} has an open quotation mark; close it") from error
    for option in options:
        if option.split("=")[0] in OURS:
            raise Problem(f"further options: {option} is chosen elsewhere in this panel; drop it")
    register = [str(command), "register", str(at.fixed), str(at.moving), "-o", str(at.run)]
    export = [str(command), "export", str(at.run), "-o", str(at.transform)]
    return [
        Step("registration", [*register, "--preset", preset, *options], 0.9),
        Step("export", export, 0.1),
    ]


def read_verdict(run: Path) -> Verdict:
    """The verdict of a finished run.

    Raises
    ------
    Problem
        If there is no finished run.
    """
    try:
        content = json.loads((run / "run.json").read_text("utf-8"))
        said = content["verdict"]
        return Verdict(said["verdict"], tuple(said["reasons"]), tuple(content["warnings"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(f"{run}: expected a finished run with run.json ({error})") from error
