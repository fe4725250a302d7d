"""Arrays that look into an image do not outlive it."""

import ast
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
ROOMS = ("landmark_dir", "training", "benchmarks", "examples", "tests")
MADE_ANEW = {"displacement", "jacobian"}  # properties of a result that make an image each time


def _views_of_nobody(source: str) -> Iterator[int]:
    """Lines where a view is taken of an image that no variable holds: it is freed at once."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr == "GetArrayViewFromImage":
            held = node.args[0]
            named = isinstance(held, ast.Attribute) and held.attr not in MADE_ANEW
            if not named and not isinstance(held, ast.Name):
                yield node.lineno


def test_the_search_finds_them() -> None:
    view = "sitk.GetArrayViewFromImage"
    bad = [f"{view}(one + two)", f"{view}(made())[0]", f"{view}(result.jacobian)"]
    good = [f"{view}(image)", f"{view}(run.body)"]
    assert set(_views_of_nobody("\n".join([*bad, *good]))) == {1, 2, 3}


def test_every_view_is_of_an_image_that_a_variable_holds() -> None:
    """Or numpy reads memory that is something else by then: wrong numbers, or a crash."""
    files = chain.from_iterable(REPOSITORY.joinpath(room).rglob("*.py") for room in ROOMS)
    found = [
        f"{file.relative_to(REPOSITORY)}:{line}"
        for file in files
        for line in _views_of_nobody(file.read_text("utf-8"))
    ]
    assert found == []
