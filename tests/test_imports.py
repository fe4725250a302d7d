"""Who may import whom, as the table in `docs/architecture.md` says, and what loads when."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import landmark_dir

PACKAGE = Path(landmark_dir.__file__).parent
TABLE = Path(__file__).parents[1] / "docs" / "architecture.md"
ROW = re.compile(r"^\| (\d+) \| `(\w+)(?:/?)` \|", re.MULTILINE)
LAYERS = {name: int(layer) for layer, name in ROW.findall(TABLE.read_text("utf-8"))}
TORCH = ("models", "matching")  # the only packages that may load torch
FILES = sorted(PACKAGE.rglob("*.py"))


def _imports(file: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {m if _is_module(m) else node.module for m in modules}
    return found


def _is_module(dotted: str) -> bool:
    place = PACKAGE.parent.joinpath(*dotted.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def _name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(dotted: str) -> str:
    """The package, or the module beside the packages, that a dotted name belongs to."""
    return dotted.split(".")[1] if "." in dotted else ""


def test_the_table_names_every_room() -> None:
    rooms = {_room(_name(file)) for file in FILES} - {"", "__main__"}
    assert rooms == set(LAYERS)


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_imports_go_down(file: Path) -> None:
    """Only to a lower layer, or inside one's own package."""
    room = _room(_name(file))
    used = {_room(name) for name in _imports(file) if name.startswith("landmark_dir.")}
    if room in ("", "__main__"):
        return
    for other in used - {room}:
        assert LAYERS[other] < LAYERS[room], f"{_name(file)} imports {other}"


def test_no_import_circles() -> None:
    known = {_name(file) for file in FILES}
    graph = {_name(file): _imports(file) & known - {"landmark_dir"} for file in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_heavy_libraries_stay_in_their_rooms(file: Path) -> None:
    top = {name.split(".")[0] for name in _imports(file)}
    assert "torch" not in top or _room(_name(file)) in TORCH
    assert "itk" not in top or file.stem == "itkelastix"
    assert not top & {"training", "tests"}


@pytest.mark.parametrize("module", ["landmark_dir", "landmark_dir.cli.main"])
def test_importing_loads_neither_torch_nor_itk(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'itk'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_there_are_few_public_names_and_each_is_there() -> None:
    assert len(landmark_dir.__all__) <= 17
    for name in landmark_dir.__all__:
        assert getattr(landmark_dir, name) is not None
