"""Who may import whom, and what loads when."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import landmark_dir

PACKAGE = Path(landmark_dir.__file__).parent
ROWS = [  # a module imports only from rows above its own
    {"errors", "distributions", "statistics"},
    {"geometry"},
    {"dicom", "body", "points", "parameters", "rundir", "phantom", "motion", "devices"},
    {"volume", "cases"},
    {"slices", "outliers", "metrics", "overlap", "spline"},
    {"network", "refining", "verdict"},
    {"weights", "matching", "backends", "report"},
    {"itk"},
    {"fields"},
    {"options"},
    {"inputs", "info"},
    {"stages", "applying"},
    {"guidance"},
    {"judging", "telling"},
    {"pipeline"},
    {"compare"},
    {"cli"},
]
TORCH = {
    *("devices", "network", "network_seek", "refining", "weights"),
    *("matching", "matching_paper", "matching_seek", "matching_stack", "matching_volume"),
}


def _imports(file: Path) -> set[str]:
    """Rooms of the package, and top-level names of other packages, that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "landmark_dir":
                names = [f"landmark_dir.{alias.name}" for alias in node.names]
            found |= set(names)
    return found


def _room(module: str) -> str:
    return module.split(".")[1].split("_")[0]


def _files() -> list[Path]:
    return sorted(
        f for f in PACKAGE.rglob("*.py") if f.name != "__init__.py" or f.parent.name == "backends"
    )


@pytest.mark.parametrize("file", _files(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_upwards(file: Path) -> None:
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py").split("_")[0]
    row = next(i for i, rooms in enumerate(ROWS) if room in rooms)
    allowed = set().union(*ROWS[:row]) | {room}
    if room == "matching":
        allowed.add("weights")
    used = {_room(m) for m in _imports(file) if m.startswith("landmark_dir.")}
    assert used - {"_"} - {""} <= allowed | {"__version__"}, f"{file.name} imports from below"


@pytest.mark.parametrize("file", _files(), ids=lambda f: str(f.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_their_rooms(file: Path) -> None:
    top = {name.split(".")[0] for name in _imports(file)}
    assert "torch" not in top or file.stem in TORCH
    assert "itk" not in top or file.stem == "itkelastix"
    assert not top & {"training", "tests"}


@pytest.mark.parametrize("module", ["landmark_dir", "landmark_dir.cli"])
def test_importing_loads_neither_torch_nor_itk(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'itk'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_there_are_at_most_twelve_public_names() -> None:
    assert len(landmark_dir.__all__) <= 12
    for name in landmark_dir.__all__:
        assert getattr(landmark_dir, name) is not None
