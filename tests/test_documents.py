"""What the pages print can be typed: commands, options, Python names, links.

`make docs` checks the pages of the site against each other; here is what it does not see.
"""

import ast
import configparser
import importlib
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import yaml

from landmark_dir.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), ROOT / "elastix_params/README.md", *(ROOT / "docs").rglob("*.md")]
NO_SITE = [page for page in PAGES if "docs" not in page.parts]  # read as they are
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
README_LINES = 130


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced blocks of a page in one language; none: commands and their output."""
    for found, text in BLOCK.findall(page.read_text("utf-8")):
        if found == language:
            yield text


def commands(page: Path) -> Iterator[list[str]]:
    """Each command that a page prints, in words; what stands far behind it is a remark."""
    for text in blocks(page, ""):
        for line in text.replace("\\\n", " ").splitlines():
            typed = re.split(r"\s{3,}", line.strip())[0]
            program, _, rest = re.sub(r"\$\w+", "1", typed).partition(" ")
            if program.split("/")[-1] == "landmark-dir":
                yield shlex.split(rest, comments=True)


def parsed(words: list[str]) -> None:
    """Let click read a command as typed, and do nothing."""
    command = main.commands[words[0]]
    command.make_context(words[0], words[1:], parent=click.Context(main))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_can_be_typed(page: Path) -> None:
    for words in commands(page):
        parsed(words)


def test_a_slip_in_a_command_is_noticed() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 40
    for slip in ("register a b -o c --maks d", "register a b", "demo -o c --threads x"):
        with pytest.raises(click.UsageError):
            parsed(slip.split())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_names_are_there(page: Path) -> None:
    for text in blocks(page, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("landmark_dir"):
                module = importlib.import_module(str(node.module))
                assert [one.name for one in node.names if not hasattr(module, one.name)] == []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                ours = importlib.import_module("landmark_dir")
                assert node.value.id != "landmark_dir" or hasattr(ours, node.attr), node.attr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_modules_that_are_run_are_there(page: Path) -> None:
    named = re.findall(r"python -m ((?:training|benchmarks)[.\w]*)", page.read_text("utf-8"))
    assert [name for name in named if find_spec(name.rstrip(".")) is None] == []


@pytest.mark.parametrize("page", NO_SITE, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def headings(page: Path) -> set[str]:
    """The anchors that a page has, as GitHub and the site make them of its headings."""
    lines = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= README_LINES


def test_one_version_everywhere() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    version = config["metadata"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == version
    assert cited["license"] == config["metadata"]["license_expression"]
    released = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert released[0] == version
