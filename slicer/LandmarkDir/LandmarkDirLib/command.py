"""The command `landmark-dir`: found on the machine, or installed in an environment of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from LandmarkDirLib.problem import Problem
from LandmarkDirLib.work import Step

NAME = "landmark-dir"
LEAST_PYTHON = (3, 11)
PYTHONS = ("python3.13", "python3.12", "python3.11", "python3", "python")
READY = "ready"  # file in an environment that was installed to its end
# what would lead a Python, its pip or its ITK into Slicer's folders, or out of the environment
LEADS_ASTRAY = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE", "__PYVENV_LAUNCHER__"),
    *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON"),
    *("ITK_AUTOLOAD_PATH", "SITK_AUTOLOAD_PATH", "VIRTUAL_ENV"),
)
IS_NEW_ENOUGH = f"import ensurepip, sys, venv; sys.exit(sys.version_info < {LEAST_PYTHON})"
IS_ITS_OWN = """
import pathlib, sys, sysconfig
home = pathlib.Path(sys.argv[1]).resolve()
for place in (sys.prefix, sysconfig.get_path("purelib"), sysconfig.get_path("scripts")):
    if home not in (pathlib.Path(place).resolve(), *pathlib.Path(place).resolve().parents):
        sys.exit(f"Error: {home} is no environment of its own, {place} lies outside; name another "
                 "Python 3.11 or newer")
import pip
if home not in pathlib.Path(pip.__file__).resolve().parents:
    sys.exit(f"Error: the pip of {home} is that of {pip.__file__}; name another Python")
"""
MARK = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Variables for a child that must not see Slicer's Python.

    Parameters
    ----------
    base : mapping
        In Slicer `slicer.util.startupEnvironment()`: what was set before Slicer started.
    """
    kept = {name: value for name, value in base.items() if name not in LEADS_ASTRAY}
    return {
        **kept,
        "PYTHONNOUSERSITE": "1",
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
        "PIP_REQUIRE_VIRTUALENV": "1",  # pip refuses to install anywhere else
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def find_command(named: str, home: Path, variables: Mapping[str, str]) -> Path | None:
    """Where `landmark-dir` is; None if nowhere.

    Parameters
    ----------
    named : str
        What a person chose: the command, or empty. It is taken before all others.
    home : Path
        The environment that `install_steps` makes; then comes the PATH.
    variables : mapping
        Of the child; its PATH is searched.

    Raises
    ------
    Problem
        If what was named is no program.
    """
    if named:
        if not (Path(named).is_file() and os.access(named, os.X_OK)):
            raise Problem(f"{named} is no program; expected the path of the command {NAME}")
        return Path(named)
    if (home / READY).is_file():
        return _script(home, NAME)
    found = shutil.which(NAME, path=variables.get("PATH"))
    return Path(found) if found else None


def find_python(variables: Mapping[str, str], others: Iterable[str] = ()) -> str:
    """A Python of the machine that can hold the package: 3.11 or newer, with venv and pip.

    Parameters
    ----------
    others : iterable of str
        Asked after those on the PATH: Slicer's own.

    Raises
    ------
    Problem
        If there is none.
    """
    on_path = (shutil.which(name, path=variables.get("PATH")) for name in PYTHONS)
    for python in (*on_path, *others):
        if python and _answers(python, IS_NEW_ENOUGH, variables):
            return python
    raise Problem(
        "no Python 3.11 or newer with venv was found on this machine; install one, or choose a "
        f"{NAME} that is installed"
    )


def install_steps(python: str, source: Sequence[str], home: Path) -> list[Step]:
    """The calls that put the package into a new environment of its own at `home`.

    pip runs only after that environment has said that it is one, wherever Slicer's variables lead.

    Parameters
    ----------
    source : sequence of str
        What pip is to install, and its options: a folder with the package's source, a wheel.
    """
    inside = str(_script(home, "python"))
    pip = [inside, "-m", "pip", "install", "--no-input", *source]
    return [
        Step("making an environment", [python, "-m", "venv", "--clear", str(home)], 0.1),
        Step("checking the environment", [inside, "-c", IS_ITS_OWN, str(home)], 0.05),
        Step("installing the package", pip, 0.7),
        Step("trying the command", [str(_script(home, NAME)), "info"], 0.1),
        Step("finishing", [inside, "-c", MARK, str(home / READY)], 0.05),
    ]


def split_source(given: str) -> list[str]:
    """What pip is to install, and its options, as a person typed them; a folder may have spaces.

    Raises
    ------
    Problem
        If it is empty, or cannot be split.
    """
    if Path(given.strip()).exists() and given.strip():
        return [given.strip()]
    try:
        words = shlex.split(given, posix=os.name != "nt")
    except ValueError as error:
        raise Problem(f"package: {given} has an open quotation mark; close it") from error
    if not words:
        raise Problem("package: expected the folder with its source, or a wheel; name one")
    return words


def default_source(module_folder: Path) -> str:
    """The checkout that the extension lies in; empty where it was installed without one."""
    checkout = module_folder.resolve().parents[1]
    return str(checkout) if (checkout / "landmark_dir" / "__init__.py").is_file() else ""


def _script(home: Path, name: str) -> Path:
    return home / "Scripts" / f"{name}.exe" if os.name == "nt" else home / "bin" / name


def _answers(python: str, code: str, variables: Mapping[str, str]) -> bool:
    try:
        done = subprocess.run(
            [python, "-c", code], env=dict(variables), capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
