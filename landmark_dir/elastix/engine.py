"""The three calls of a backend, the same for every engine: files out, the child, files in."""

import re
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk

from landmark_dir.elastix.child import Child, ChildDied, ChildFailed
from landmark_dir.elastix.job import Job, ProgressCallback
from landmark_dir.elastix.log import LogFollower, failure
from landmark_dir.elastix.parameters import check_parameters, format_map
from landmark_dir.elastix.transform_files import read_chain, resampling, write_chain
from landmark_dir.errors import ElastixFailed
from landmark_dir.geometry import Points, as_points
from landmark_dir.io.point_files import write_elastix_points

JOB_FILES = (
    "fixed",
    "moving",
    "fixed_mask",
    "moving_mask",
    "initial_transform",
    "fixed_points",
    "moving_points",
)
SCRATCH = "landmark-dir-"  # prefix of temporary folders
MAX_LABEL = 2**24  # larger integers are not all exact in elastix's float images
_OUTPUT_POINT = re.compile(r"OutputPoint = \[ (\S+) (\S+) (\S+) \]")


class Engine:
    """One elastix, in a child process that starts to load at once.

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
        self._child = Child(self.name, self._threads, self._python)
        self._version: str | None = None  # unknown until the engine is loaded
        self._finish = weakref.finalize(self, self._child.close)

    def _revive(self) -> None:
        if not self._child.alive():
            self.close()
            self._start()

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

    def register(self, job: Job, progress: ProgressCallback | None = None) -> Path:
        """Run elastix; return the transform file inside `job.folder`."""
        check_parameters(job.parameters)
        folder = job.folder.resolve()
        files = {name: getattr(job, name) for name in JOB_FILES if getattr(job, name) is not None}
        files["parameters"] = folder / "parameters.txt"
        files["parameters"].write_text(format_map(job.parameters), encoding="utf-8")
        log, transform = folder / "elastix.log", folder / "TransformParameters.0.txt"
        for stale in (log, transform):
            stale.unlink(missing_ok=True)
        follow = LogFollower(log, progress) if progress else _nothing
        with TemporaryDirectory(prefix=SCRATCH) as scratch:  # a tame path, see `write_chain`
            if job.initial_transform is not None:
                chain = read_chain(job.initial_transform)
                files["initial_transform"] = write_chain(chain, Path(scratch), "initial")
            self._ask("register", folder, log, files, follow)
            if not transform.is_file():
                raise ElastixFailed(f"elastix ended without a transform; see {log}")
            return write_chain(read_chain(transform), folder, transform.stem, relative=True)

    def warp_image(
        self, transform: Path, moving: sitk.Image, *, labels: bool = False
    ) -> sitk.Image:
        """Resample `moving` onto the fixed grid stored in `transform`; the pixel type is kept."""
        array = sitk.GetArrayViewFromImage(moving)
        lowest, highest = array.min(), array.max()
        if labels and max(abs(int(lowest)), abs(int(highest))) > MAX_LABEL:
            raise ValueError(f"expected labels up to {MAX_LABEL}, found {lowest} to {highest}")
        with TemporaryDirectory(prefix=SCRATCH) as name:
            folder = Path(name)
            files = {"moving": folder / "moving.mha"}
            sitk.WriteImage(sitk.Cast(moving, sitk.sitkFloat32), str(files["moving"]))
            chain = read_chain(transform)
            chain[0] |= resampling(labels=labels, outside=0.0 if labels else float(lowest))
            files["transform"] = write_chain(chain, folder, "transform")
            self._ask("warp_image", folder, folder / "transformix.log", files)
            warped = sitk.ReadImage(str(folder / "result.mha"))
        # cubic splines overshoot beside edges; no voxel may leave the range of the image
        values = sitk.GetArrayFromImage(warped).clip(min(lowest, 0) if labels else lowest, highest)
        if np.issubdtype(array.dtype, np.integer):
            values = np.rint(values)
        result = sitk.GetImageFromArray(values.astype(array.dtype))
        result.CopyInformation(warped)
        return result

    def map_points(self, transform: Path, fixed_points: Points) -> Points:
        """Map fixed points [N, 3] to moving points, LPS mm, to the nanometre; N may be 0."""
        points = as_points(fixed_points)
        if not len(points):
            return points
        with TemporaryDirectory(prefix=SCRATCH) as name:
            folder = Path(name)
            files = {"points": folder / "points.txt"}
            write_elastix_points(points, files["points"])
            chain = read_chain(transform)
            chain[0]["Size"] = ("1", "1", "1")  # some engines resample an image on the side
            files["transform"] = write_chain(chain, folder, "transform")
            self._ask("map_points", folder, folder / "transformix.log", files)
            mapped = _read_output_points(folder / "outputpoints.txt")
        if mapped.shape != points.shape:
            raise ElastixFailed(f"transformix mapped {len(mapped)} of {len(points)} points")
        return mapped

    def _ask(
        self,
        call: str,
        folder: Path,
        log: Path,
        files: dict[str, Path],
        poll: Callable[[], None] | None = None,
    ) -> None:
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


def _read_output_points(path: Path) -> Points:
    return as_points([match.groups() for match in _OUTPUT_POINT.finditer(path.read_text())])
