"""A registration engine: `register`, `version`, `close`, the same for all three elastix."""

import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir

from landmark_dir.child_process import Child, ChildDied, ChildFailed
from landmark_dir.elastix.job import Job
from landmark_dir.elastix.log import LogFollower, failure
from landmark_dir.elastix.parameters import check_parameters, format_map, iterations
from landmark_dir.elastix.transform_files import read_chain, write_chain
from landmark_dir.errors import ElastixFailed
from landmark_dir.io.outputs import locked_folder
from landmark_dir.progress import Progress, silent

JOB_FILES = (
    "fixed",
    "moving",
    "fixed_mask",
    "moving_mask",
    "initial_transform",
    "fixed_points",
    "moving_points",
)


class Engine:
    """One elastix, in a child process that starts to load at once; one call at a time.

    It is a process of its own so that a run can be interrupted, a crash of elastix harms nobody,
    and the calling process keeps its thread defaults. Transforms are elastix text files.

    Parameters
    ----------
    name : str
        Module of this package that the child loads: `itkelastix`, `simpleelastix`, `executable`.
    threads : int, optional
        Number of threads of elastix; all by default.
    python : str
        Interpreter of the child.
    """

    def __init__(self, name: str, threads: int | None = None, python: str = sys.executable) -> None:
        self.name = name
        self._threads = threads
        self._python = python
        self._start()

    def _start(self) -> None:
        self._child = Child(
            "landmark_dir.elastix.worker", self.name, threads=self._threads, python=self._python
        )
        self._version: str | None = None  # unknown until the engine is loaded
        self._finish = weakref.finalize(self, self._child.close)

    def _revive(self) -> None:
        if not self._child.alive():
            self.close()
            self._start()

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the child, its loading included, as of its last answer."""
        return self._child.cpu_s

    def close(self) -> None:
        """End the child."""
        self._finish()

    def version(self) -> str:
        """Version of the engine; waits until it is loaded."""
        if self._version is None:
            self._revive()
            try:
                self._version = str(self._child.answer(_nothing))
            except ChildDied as error:
                raise ElastixFailed(f"engine {self.name} cannot be loaded: {error}") from error
        return self._version

    def register(self, job: Job, progress: Progress = silent) -> Path:
        """Run elastix; return the transform file inside `job.folder`.

        Raises
        ------
        ElastixFailed
            With the words of elastix's log, and the path of the log.
        """
        check_parameters(job.parameters)
        folder = job.folder.resolve()
        files = {name: getattr(job, name) for name in JOB_FILES if getattr(job, name) is not None}
        files["parameters"] = folder / "parameters.txt"
        files["parameters"].write_text(format_map(job.parameters), encoding="utf-8")
        log, transform = folder / "elastix.log", folder / "TransformParameters.0.txt"
        for stale in (log, transform):
            stale.unlink(missing_ok=True)
        follow = LogFollower(log, iterations(job.parameters), progress)
        with locked_folder(Path(gettempdir())) as scratch:  # a tame path, see `write_chain`
            if job.initial_transform is not None:
                chain = read_chain(job.initial_transform)
                files["initial_transform"] = write_chain(chain, scratch, "initial")
            self.ask("register", folder, log, files, follow)
            if not transform.is_file():
                raise ElastixFailed(f"elastix ended without a transform; see {log}")
            return write_chain(read_chain(transform), folder, transform.stem, relative=True)

    def ask(
        self,
        call: str,
        folder: Path,
        log: Path,
        files: dict[str, Path],
        poll: Callable[[], None] | None = None,
    ) -> None:
        """Let the child make one call on files; `poll` is called while it works."""
        self._revive()
        self.version()
        paths = {name: str(path.resolve()) for name, path in files.items()}
        request = {"call": call, "arguments": {"folder": str(folder), **paths}}
        see = f"; see {log}" if call == "register" else ""  # the other logs are scratch
        try:
            self._child.ask(request, poll or _nothing)
        except ChildFailed as error:
            raise ElastixFailed(failure(log, str(error)) + see) from error
        except ChildDied as error:
            raise ElastixFailed(f"engine {self.name} died: {error}{see}") from error


def _nothing() -> None:
    """Wait in silence."""
