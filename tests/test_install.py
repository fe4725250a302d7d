"""A wheel, built and installed, works away from the checkout."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("landmark_dir", "elastix_params")
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
LOOK_INSIDE = """
import landmark_dir
from landmark_dir.elastix.parameters import bundled
from landmark_dir.models.weights import shipped_weights

print(landmark_dir.__file__)
print(*(name for name in ("affine", "bspline") if bundled(name)["Transform"]))
print(*shipped_weights())
"""


def call(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel; it borrows the dependencies of this one."""
    pytest.importorskip("setuptools", reason="needed to build a wheel")
    folder = tmp_path_factory.mktemp("install")
    source = folder / "source"  # a build leaves folders behind, not in the checkout
    source.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source / name)
    wheel = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, source)
    call(sys.executable, "-m", "pip", *wheel, cwd=folder)
    (built,) = folder.glob("landmark_dir-*.whl")
    call(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    install = ("install", "--no-deps", "--no-index", built)
    call(sys.executable, "-m", "pip", "--python", python, *install, cwd=folder)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = Path(call(python, "-c", ask, cwd=folder).strip())
    # it comes after its own folder on the path, so the wheel before an editable install
    (purelib / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv"


@pytest.mark.engine
def test_a_wheel_brings_parameters_and_weights(installed: Path, tmp_path: Path) -> None:
    python = installed / "bin" / "python"
    file, parameters, weights = call(python, "-c", LOOK_INSIDE, cwd=tmp_path).splitlines()
    assert Path(file).is_relative_to(installed)
    assert parameters == "affine bspline"
    assert "paper" in weights.split()


@pytest.mark.engine
def test_the_installed_command_finds_its_engine(installed: Path, tmp_path: Path) -> None:
    said = call(installed / "bin" / "landmark-dir", "info", cwd=tmp_path)
    assert "engine itkelastix" in said
    assert "weights default, paper" in said


@pytest.mark.engine
def test_the_installed_engine_loads(installed: Path, tmp_path: Path) -> None:
    code = "from landmark_dir.elastix.engines import find_engine; print(find_engine().version())"
    assert call(installed / "bin" / "python", "-c", code, cwd=tmp_path).strip()
