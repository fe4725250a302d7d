"""Figures 2 and 3 of the seed paper, drawn from our own matches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from landmark_dir.preprocessing.intensity import CT

Array: TypeAlias = NDArray[np.float64]

# Okabe and Ito, told apart by colour-blind readers; the baselines keep theirs in every figure
BASELINE_STYLES = {
    "SIFT-InverseConsistency": ("#E69F00", "--"),
    "SIFT-RatioTest": ("#D55E00", "--"),
    "SIFT-InverseConsistency, soft tissue": ("#E69F00", ":"),
    "SIFT-RatioTest, soft tissue": ("#D55E00", ":"),
}
BLACK = "#000000"
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", BLACK, "#999999")
CROSS_HAIRS_MM, CROSS_HAIRS_OF = 64.0, "SIFT-RatioTest"  # [paper] fig. 2
ERROR_AXIS_MM = (1 / 8, 128.0)  # logarithmic
WINDOW_HU = CT.windows[0]  # soft tissue
PANEL_INCHES = 3.0
MOST_COLUMNS = 3  # of panels in figure 2
FEWEST = 20  # matches that make a point of the reliability diagram


@dataclass(frozen=True)
class Example:
    """A pair of slices for figure 3.

    Attributes
    ----------
    title : str
    hu_1, hu_2 : ndarray, shape (H, W)
        HU; the shapes may differ.
    matches : mapping
        By matcher: xy_1 and xy_2 [N, 2] px, and which of them are right [N].
    """

    title: str
    hu_1: NDArray[np.floating]
    hu_2: NDArray[np.floating]
    matches: Mapping[str, tuple[Array, Array, NDArray[np.bool_]]]


def matcher_styles(matchers: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and line style of each matcher, the same for the same list."""
    others = [name for name in matchers if name not in BASELINE_STYLES]
    return BASELINE_STYLES | {
        name: (COLOURS[i % len(COLOURS)], "-") for i, name in enumerate(others)
    }


def write_figure_2(errors: Mapping[str, Mapping[str, Array]], path: Path) -> None:
    """Write the share of matches (PNG) against their error, a panel per set, a line per matcher.

    Parameters
    ----------
    errors : mapping
        By set, then by matcher: the errors of all matches, mm; may be empty.
    """
    columns = min(len(errors), MOST_COLUMNS) if len(errors) != 4 else 2
    rows = -(-len(errors) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.6 * rows + 0.7), layout="constrained")
    for i, (name, of_matchers) in enumerate(errors.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        styles = matcher_styles(list(of_matchers))
        for matcher, error in of_matchers.items():
            _cumulative(axes, error, matcher, *styles[matcher])
        if CROSS_HAIRS_OF in of_matchers:
            _cross_hairs(axes, of_matchers[CROSS_HAIRS_OF], styles[CROSS_HAIRS_OF][0])
        axes.set_title(f"({'abcdefgh'[i]}) {name}", fontsize=11)
        _error_axes(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3))
    figure.savefig(path, dpi=150)


def _cumulative(axes: Axes, error: Array, label: str, colour: str, line: str) -> None:
    """One line; matches closer than the axis shows are counted at its left end."""
    ordered = np.sort(error)
    share = 100 * np.arange(1, len(ordered) + 1) / max(len(ordered), 1)
    axes.step(
        np.concatenate([ERROR_AXIS_MM[:1], np.maximum(ordered, ERROR_AXIS_MM[0])]),
        np.concatenate([[0.0], share]) if len(share) else [np.nan],
        where="post",
        label=label if len(error) else f"{label} (no matches)",
        color=colour,
        linewidth=1.8,
        linestyle=line,
    )


def _cross_hairs(axes: Axes, error: Array, colour: str) -> None:
    """The percentile of the ratio test at 64 mm, as in the paper."""
    if not len(error):
        return
    share = 100 * float((error <= CROSS_HAIRS_MM).mean())
    axes.axvline(CROSS_HAIRS_MM, color=colour, linewidth=0.8, linestyle=":")
    axes.axhline(share, color=colour, linewidth=0.8, linestyle=":")
    text = f"{CROSS_HAIRS_OF}: {share:.1f} % within {CROSS_HAIRS_MM:g} mm"
    axes.text(0.98, 0.04, text, transform=axes.transAxes, color=colour, fontsize=9, ha="right")


def _error_axes(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(*ERROR_AXIS_MM)
    axes.set_ylim(0, 101)
    axes.xaxis.set_major_locator(FixedLocator([0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda mm, _: f"{mm:g}".lstrip("0")))
    axes.set_xlabel("distance from the true place, mm")
    axes.set_ylabel("matches within, %")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def write_reliability(scored: Mapping[str, tuple[Array, NDArray[np.bool_]]], path: Path) -> None:
    """How often matches of each score are right, beside what the score says.

    Parameters
    ----------
    scored : mapping
        Matcher -> scores [N] and whether the matches are right [N].
    """
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name, (score, right) in scored.items():
        tenth = (10 * score).astype(int).clip(0, 9)
        used = [k for k in range(10) if (tenth == k).sum() >= FEWEST]
        points = [(score[tenth == k].mean(), right[tenth == k].mean()) for k in used]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name)
    axes.set(xlabel="score", ylabel="share of matches within 2 mm", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def place_colours(xy: Array, shape: tuple[int, ...]) -> Array:
    """RGB [N, 3] of places xy [N, 2] px in a slice (H, W): hue along x, paler to the top.

    The slice, not the points, gives the scale: a place has one colour for every matcher.
    """
    x, y = np.clip(xy / (np.array(shape[::-1]) - 1), 0, 1).T
    return hsv_to_rgb(np.stack([0.85 * x, 0.35 + 0.6 * y, np.ones(len(x))], axis=1))


def write_figure_3(examples: Sequence[Example], right: str, path: Path) -> None:
    """Write pairs of slices (PNG) with their matches, a row per matcher, two columns per pair.

    A match has the colour of its place in slice 1, in both slices.

    Parameters
    ----------
    right : str
        What a right match is, for the titles: "within 2 mm".
    """
    matchers = list(examples[0].matches)
    styles = matcher_styles(matchers)
    tallest = max(_room(e)[0] / _room(e)[1] for e in examples)
    size = (PANEL_INCHES * 2 * len(examples), (PANEL_INCHES * tallest + 0.35) * len(matchers))
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.04, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=size, layout=layout, facecolor="black")
    panels = figure.subplots(len(matchers), 2 * len(examples), squeeze=False)
    for row, matcher in zip(panels, matchers, strict=True):
        for example, left, other in zip(examples, row[::2], row[1::2], strict=True):
            xy_1, xy_2, good = example.matches[matcher]
            colour = place_colours(xy_1, example.hu_1.shape)
            share = f"{100 * good.mean():.1f} % {right}" if len(good) else "-"
            _slice(left, example.hu_1, xy_1, colour, f"{matcher}: {len(good)} matches")
            _slice(other, example.hu_2, xy_2, colour, f"{example.title}: {share}")
            left.title.set_color("white" if styles[matcher][0] == BLACK else styles[matcher][0])
            for axes in (left, other):  # both at one scale
                axes.set_xlim(-0.5, _room(example)[1] - 0.5)
                axes.set_ylim(_room(example)[0] - 0.5, -0.5)
    figure.savefig(path, dpi=110, facecolor="black")


def _room(example: Example) -> NDArray[np.int64]:
    """Height and width that hold both slices of a pair, px."""
    return np.maximum(example.hu_1.shape, example.hu_2.shape)


def _slice(axes: Axes, hu: NDArray[np.floating], xy: Array, colour: Array, title: str) -> None:
    axes.imshow(hu, cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1])
    axes.scatter(xy[:, 0], xy[:, 1], c=colour, s=7, linewidths=0)
    axes.set_title(title, color="white", fontsize=8)
    axes.set_axis_off()
