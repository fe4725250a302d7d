"""The Slicer extension without Slicer: its calls, its texts, and files that name each other."""

import ast
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from LandmarkDirLib import registration, shown
from LandmarkDirLib.problem import Problem
from PIL import Image

from landmark_dir.io import run_folder
from landmark_dir.options import PRESETS

EXTENSION = Path(__file__).parents[2] / "slicer"
MODULE = EXTENSION / "LandmarkDir"
CODE = (MODULE / "LandmarkDir.py").read_text("utf-8")
PANEL = ElementTree.parse(MODULE / "Resources" / "UI" / "LandmarkDir.ui").getroot()
ENTRY = {  # of slicer-extension-catalog-entry-schema-v1.0.1.json
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}


def test_presets_and_file_names_are_those_of_the_package(tmp_path: Path) -> None:
    assert registration.PRESETS == tuple(PRESETS)
    at = registration.places(tmp_path)
    assert at.warped.name == run_folder.WARPED
    assert at.report.name == run_folder.REPORT
    assert at.markups("fixed").name == run_folder.FIXED_MARKUPS
    assert at.markups("moving").name == run_folder.MOVING_MARKUPS


def test_the_calls_register_and_export(tmp_path: Path) -> None:
    at = registration.places(tmp_path, tmp_path / "kept run")
    more = "--align centers --fixed-mask 'a b.nii'"
    register, export = registration.steps(Path("/x/landmark-dir"), at, "lung", more)
    inputs = [str(tmp_path / "fixed.nrrd"), str(tmp_path / "moving.nrrd")]
    assert register.command == [
        *("/x/landmark-dir", "register", *inputs, "-o", str(tmp_path / "kept run")),
        *("--preset", "lung", "--align", "centers", "--fixed-mask", "a b.nii"),
    ]
    assert export.command[1:] == ["export", str(at.run), "-o", str(at.transform)]
    assert register.share + export.share == pytest.approx(1)


@pytest.mark.parametrize("more", ["-o elsewhere", "--out=x", "--preset fast", "--quiet", "-q"])
def test_options_that_the_panel_gives_are_refused(more: str, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="chosen elsewhere in this panel"):
        registration.steps(Path("x"), registration.places(tmp_path), "fast", more)


def test_an_open_quotation_mark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="close it"):
        registration.steps(Path("x"), registration.places(tmp_path), "fast", "--seed '1")


def test_the_verdict_is_shown_with_its_reasons(tmp_path: Path) -> None:
    said = {"verdict": "doubtful", "reasons": ["p95 < 3 mm", "folding"]}
    (tmp_path / "run.json").write_text(json.dumps({"verdict": said, "warnings": ["a & b"]}))
    verdict = registration.read_verdict(tmp_path)
    text = shown.verdict_text(verdict)
    assert text.startswith('<b style="color:#c77700">doubtful</b>')
    assert "<li>p95 &lt; 3 mm</li><li>folding</li><li>Note: a &amp; b</li>" in text


@pytest.mark.parametrize("content", ["", "[]", '{"verdict": {}}', '{"verdict": 3}'])
def test_a_run_without_a_verdict_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(Problem, match="expected a finished run with run.json"):
        registration.read_verdict(tmp_path)
    with pytest.raises(Problem, match="expected a finished run"):
        registration.read_verdict(tmp_path / "none")


def _widgets() -> set[str]:
    return {widget.attrib["name"] for widget in PANEL.iter("widget")}


def test_every_widget_that_the_code_names_is_in_the_panel() -> None:
    named = set(re.findall(r"self\.ui\.(\w+)", CODE)) | set(re.findall(r"widget\.ui\.(\w+)", CODE))
    assert named - _widgets() == set()
    assert len(named) > 10


def test_widgets_and_parameters_name_each_other() -> None:
    in_panel = [
        value.text
        for prop in PANEL.iter("property")
        if prop.attrib["name"] == "SlicerParameterName"
        and (value := prop.find("string")) is not None
    ]
    (node,) = (
        one
        for one in ast.parse(CODE).body
        if isinstance(one, ast.ClassDef) and one.name == "LandmarkDirParameterNode"
    )
    fields = [
        one.target.id
        for one in node.body
        if isinstance(one, ast.AnnAssign)
        if isinstance(one.target, ast.Name)
    ]
    assert sorted(name or "" for name in in_panel) == sorted(fields)


def test_every_node_selector_gets_the_scene() -> None:
    selectors = {
        one.attrib["name"]
        for one in PANEL.iter("widget")
        if one.attrib["class"] == "qMRMLNodeComboBox"
    }
    told = {one.findtext("receiver") for one in PANEL.iter("connection")}
    assert told == selectors


def test_slots_that_are_connected_are_there() -> None:
    tree = ast.parse(CODE)
    methods = {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}
    connected = set(re.findall(r"self\.(on\w+)", CODE))
    assert connected <= methods


def test_the_build_lists_every_file() -> None:
    listed = (MODULE / "CMakeLists.txt").read_text("utf-8")
    for file in (MODULE / "LandmarkDirLib").glob("*.py"):
        assert f"${{MODULE_NAME}}Lib/{file.name}" in listed
    tests = (MODULE / "Testing" / "Python" / "CMakeLists.txt").read_text("utf-8")
    for file in (MODULE / "Testing" / "Python").glob("test_*.py"):
        assert file.name in tests


def test_the_index_entry_fits_its_schema() -> None:
    entry = json.loads((EXTENSION / "LandmarkDir.json").read_text("utf-8"))
    assert {"$schema", "category", "scm_url"} <= set(entry) <= set(ENTRY)
    for name, value in entry.items():
        assert type(value) is ENTRY[name]
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert 1 <= entry["tier"] <= 5


def test_the_icon_is_one() -> None:
    with Image.open(MODULE / "Resources" / "Icons" / "LandmarkDir.png") as icon:
        assert icon.size == (128, 128)
        assert icon.mode == "RGBA"


def test_the_library_is_plain_python_that_slicer_3_9_reads() -> None:
    for file in [MODULE / "LandmarkDir.py", *(MODULE / "LandmarkDirLib").glob("*.py")]:
        tree = ast.parse(file.read_text("utf-8"), feature_version=(3, 9))
        names = {
            name.split(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert "landmark_dir" not in names, file
        if file.parent.name == "LandmarkDirLib":
            assert not names & {"qt", "ctk", "slicer", "vtk", "SimpleITK"}, file
