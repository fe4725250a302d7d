"""The figures are written, show something, and keep their colours."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from training.evaluation.figures import (
    Example,
    matcher_styles,
    place_colours,
    write_figure_2,
    write_figure_3,
)

NAMES = ("mine", "SIFT-RatioTest", "nothing found")


def _colours_in(path: Path) -> set[tuple[int, ...]]:
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    return set(map(tuple, pixels.reshape(-1, 3)))


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


@pytest.mark.parametrize("sets", [1, 4])
def test_figure_2_has_a_line_per_matcher(tmp_path: Path, sets: int) -> None:
    error = np.random.default_rng(0).exponential(2, 300)
    errors = dict(zip(NAMES, (error, 20 * error, error[:0]), strict=True))
    write_figure_2({f"set {i}": errors for i in range(sets)}, tmp_path / "figure2.png")
    shown = _colours_in(tmp_path / "figure2.png")
    styles = matcher_styles(NAMES)
    assert {_rgb(styles[name][0]) for name in NAMES[:2]} <= shown


def test_a_matcher_keeps_its_colour() -> None:
    alone, among = matcher_styles(["mine"]), matcher_styles(["SIFT-RatioTest", "mine", "other"])
    assert alone["mine"] == among["mine"] != among["other"]
    assert among["SIFT-RatioTest"][0] not in {among["mine"][0], among["other"][0]}


def test_figure_3_shows_matches_in_the_colour_of_their_place(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    xy = rng.uniform(10, 70, (40, 2))
    none = np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, dtype=bool)
    found = {"mine": (xy, xy + 20, rng.random(40) < 0.5), "nothing found": none}
    example = Example("patient", np.zeros((80, 90)), np.full((110, 100), -1000.0), found)
    write_figure_3([example, example], "within 2 mm", tmp_path / "figure3.png")
    coloured = [c for c in _colours_in(tmp_path / "figure3.png") if max(c) - min(c) > 60]
    assert len(coloured) > 40


def test_every_place_has_a_bright_colour_of_its_own() -> None:
    y, x = np.mgrid[0:100:11, 0:200:11]
    colours = place_colours(np.column_stack([x.ravel(), y.ravel()]).astype(float), (100, 200))
    assert colours.max(axis=1).min() > 0.9  # seen on black
    assert len(np.unique(colours.round(3), axis=0)) == x.size
    assert place_colours(np.zeros((0, 2)), (100, 200)).shape == (0, 3)
