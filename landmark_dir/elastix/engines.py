"""The registration engines: which are installed, and one to work with."""

import logging
import os
import shutil
import sys
from importlib.util import find_spec

import SimpleITK as sitk

from landmark_dir.elastix.distributions import distribution
from landmark_dir.elastix.engine import Engine
from landmark_dir.errors import BackendMissing
from landmark_dir.options import ComputeOptions

# SimpleElastix and SimpleITK own the same folder, so it may live in a Python of its own
SIMPLEELASTIX_PYTHON = "LANDMARK_DIR_SIMPLEELASTIX_PYTHON"

log = logging.getLogger(__name__)

INSTALL = {  # in the order in which `auto` tries them
    "itkelastix": "`pip install itk-elastix`",
    "simpleelastix": (
        "`pip uninstall -y SimpleITK SimpleITK-SimpleElastix` and then "
        "`pip install --force-reinstall 'SimpleITK-SimpleElastix>=3.0.0a1'`, or a Python that has "
        "it named in LANDMARK_DIR_SIMPLEELASTIX_PYTHON"
    ),
    "executable": "`elastix` and `transformix` on the PATH (`apt install elastix`, or elastix.dev)",
}


def _python_with(engine: str) -> str:
    """Interpreter for the child: this one, or for SimpleElastix the one a variable names."""
    other = os.environ.get(SIMPLEELASTIX_PYTHON)
    if engine != "simpleelastix" or not other:
        return sys.executable
    if not shutil.which(other):
        raise BackendMissing(
            f"{SIMPLEELASTIX_PYTHON} names {other}, expected a Python that can be started; "
            "correct it or unset it"
        )
    return other


def available() -> dict[str, str]:
    """Name and version of each engine that is installed; none is loaded."""
    versions = {}
    if find_spec("itk") and (version := distribution("itk-elastix")):
        versions["itkelastix"] = f"itk-elastix {version}"
    if other := os.environ.get(SIMPLEELASTIX_PYTHON):
        versions["simpleelastix"] = f"in {other}"
    elif hasattr(sitk, "ElastixImageFilter"):
        versions["simpleelastix"] = f"SimpleITK {sitk.Version.VersionString()}"
    if (elastix := shutil.which("elastix")) and shutil.which("transformix"):
        versions["executable"] = elastix
    return versions


def find_engine(name: str = "auto", threads: int | None = None) -> Engine:
    """Start an engine; it loads in a process of its own while the caller goes on.

    Parameters
    ----------
    name : {'auto', 'itkelastix', 'simpleelastix', 'executable'}
        `auto` takes the first of them that is installed.
    threads : int, optional
        Number of threads of elastix; all by default.

    Raises
    ------
    BackendMissing
        With the way to install what was asked for.
    """
    ComputeOptions(backend=name, threads=threads)  # checks itself
    installed = available()
    chosen = next(iter(installed), None) if name == "auto" else name
    if chosen not in installed:
        wanted = INSTALL if name == "auto" else {name: INSTALL[name]}
        ways = "; or ".join(f"{engine}: {way}" for engine, way in wanted.items())
        raise BackendMissing(f"no {name} registration engine is installed; install {ways}")
    log.info("engine: %s (%s)", chosen, installed[chosen])
    return Engine(chosen, threads, _python_with(chosen))
