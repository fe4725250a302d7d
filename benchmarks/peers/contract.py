"""What every peer has to say: which programs are called, and how their result is read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from landmark_dir.geometry import Points

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENTS = REPOSITORY / ".venv-peers"  # a virtual environment a peer, and `src` to build

Map: TypeAlias = Callable[[Points], Points]  # fixed points [N, 3] -> moving points, LPS mm


@dataclass(frozen=True)
class Job:
    """One registration: files to read, and an empty folder to work in."""

    fixed: Path
    moving: Path
    fixed_body: Path  # 0 / 1; a peer may use it as mask
    moving_body: Path
    folder: Path
    threads: int

    def file(self, name: str) -> str:
        """A file of the work folder, as an argument."""
        return str(self.folder / name)


@dataclass(frozen=True)
class Peer:
    """One program with one setting.

    Attributes
    ----------
    name : str
        As in the table, and with `--only`.
    settings, source : str
        What it is told, and who recommends that.
    tried : str
        What was tried to make it better.
    calls : callable
        The commands of a job, one after the other; their time and memory count.
    read : callable
        The mapping that these commands left in the work folder.
    version : callable
        The version of the program.
    """

    name: str
    settings: str
    source: str
    calls: Callable[[Job], list[list[str]]]
    read: Callable[[Job], Map]
    version: Callable[[], str]
    tried: str = ""
    own: bool = False  # ours


def python_of(environment: str) -> str:
    """The interpreter of a peer's environment."""
    return str(ENVIRONMENTS / environment / "bin" / "python")


def pinned(environment: str, package: str) -> str:
    """The version of a package, as its requirements file pins it."""
    lines = (Path(__file__).parent / "requirements" / f"{environment}.txt").read_text().split()
    return next(line for line in lines if line.startswith(f"{package}==")).replace("==", " ")
