"""The command of the Slicer extension: found, or installed where Slicer's Python never sees it."""

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from LandmarkDirLib import command
from LandmarkDirLib.problem import Problem
from LandmarkDirLib.work import Work

RECORD = "landmark_dir-9.0.dist-info"
WHEEL = {  # a package of one file that answers as the real one does
    "landmark_dir.py": "import sys\n\ndef main():\n    print(sys.prefix)\n",
    f"{RECORD}/METADATA": "Metadata-Version: 2.1\nName: landmark_dir\nVersion: 9.0\n",
    f"{RECORD}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{RECORD}/entry_points.txt": "[console_scripts]\nlandmark-dir = landmark_dir:main\n",
    f"{RECORD}/RECORD": "",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "landmark_dir-9.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in WHEEL.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def slicer_like(tmp_path: Path) -> dict[str, str]:
    """Variables that would lead a Python and a pip into the folders of another."""
    foreign = tmp_path / "Slicer"
    (foreign / "SimpleITK").mkdir(parents=True)
    (foreign / "SimpleITK" / "__init__.py").write_text("raise ImportError('that is Slicer's')")
    return {
        **os.environ,
        "PYTHONHOME": sys.base_prefix,
        "PYTHONPATH": str(foreign),
        "PIP_TARGET": str(foreign),
        "PIP_PREFIX": str(foreign),
        "PIP_USER": "1",
    }


def finish(work: Work) -> None:
    end = time.monotonic() + 120
    while work.poll() is not None:
        assert time.monotonic() < end
        time.sleep(0.05)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_package_is_installed_in_an_environment_of_its_own(
    wheel: Path, slicer_like: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "of its own"
    variables = command.environment(slicer_like)
    before = files_below(tmp_path / "Slicer")
    source = ["--no-index", str(wheel)]
    assert command.find_command("", home, {"PATH": ""}) is None
    finish(Work(command.install_steps(sys.executable, source, home), variables))
    assert files_below(tmp_path / "Slicer") == before
    found = command.find_command("", home, {"PATH": ""})
    assert found is not None
    said = subprocess.run([found], env=variables, capture_output=True, text=True, check=True)
    assert Path(said.stdout.strip()) == home


def test_an_installation_that_broke_off_is_not_found(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    steps = command.install_steps(sys.executable, ["--no-index", "no-such-thing"], home)
    with pytest.raises(Problem, match="installing the package failed: No matching distribution"):
        finish(Work(steps, command.environment(os.environ)))
    assert (home / "bin" / "python").exists()
    assert command.find_command("", home, {"PATH": ""}) is None


def test_pip_is_not_run_where_the_environment_is_none(tmp_path: Path) -> None:
    home = tmp_path / "home"
    make, check, *_ = command.install_steps(sys.executable, ["x"], home)
    variables = command.environment(os.environ)

    def checked(**more: str) -> str:
        done = subprocess.run(
            check.command, env={**variables, **more}, capture_output=True, text=True
        )
        return done.stderr if done.returncode else "its own"

    subprocess.run(make.command, check=True, env=variables)
    assert checked() == "its own"
    (tmp_path / "Slicer" / "pip").mkdir(parents=True)
    (tmp_path / "Slicer" / "pip" / "__init__.py").touch()
    assert "Error: the pip of" in checked(PYTHONPATH=str(tmp_path / "Slicer"))
    (home / "pyvenv.cfg").unlink()  # what is left is the Python that it was made with
    assert "is no environment of its own" in checked()


def test_a_named_command_comes_first_and_must_be_a_program(tmp_path: Path) -> None:
    program = tmp_path / "landmark-dir"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(Problem, match="is no program; expected the path of the command"):
        command.find_command(str(program), tmp_path, {})
    program.chmod(0o755)
    assert command.find_command(str(program), tmp_path, {}) == program
    assert command.find_command("", tmp_path, {"PATH": str(tmp_path)}) == program


def test_a_python_is_found_and_an_old_one_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    nowhere = {**command.environment(os.environ), "PATH": str(tmp_path)}
    assert command.find_python(nowhere, [sys.executable]) == sys.executable
    with pytest.raises(Problem, match="no Python 3.11 or newer"):
        command.find_python(nowhere)


def test_what_pip_installs_is_a_folder_or_words(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    assert command.split_source(f" {folder} ") == [str(folder)]
    assert command.split_source("'a b' --pre") == ["a b", "--pre"]
    with pytest.raises(Problem, match="expected the folder"):
        command.split_source("  ")
    with pytest.raises(Problem, match="open quotation mark"):
        command.split_source("'a b")


def test_the_checkout_beside_the_extension_is_offered(tmp_path: Path) -> None:
    repository = Path(__file__).parents[2]
    offered = command.default_source(repository / "slicer" / "LandmarkDir")
    assert Path(offered) == repository.resolve()
    assert command.default_source(tmp_path / "slicer" / "LandmarkDir") == ""
