"""Error against CPU seconds, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from benchmarks.peers.kept import Row
from benchmarks.peers.table import label, mean, of, size

PANELS = {"lung": "Lung pair, 50 expert points", "large": "7 follow-ups, large motion, mean"}
TICKS_MM = (0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 10)
TICKS_S = (2, 5, 10, 20, 50, 100, 200, 500)
SIDES: dict[str, dict[str, Any]] = {
    "right": {"xytext": (7, 0), "ha": "left", "va": "center"},
    "left": {"xytext": (-7, 0), "ha": "right", "va": "center"},
    "above": {"xytext": (0, 6), "ha": "center", "va": "bottom"},
    "below": {"xytext": (0, -6), "ha": "center", "va": "top"},
}
Points2D: TypeAlias = NDArray[np.float64]
OURS, OTHERS = "#c0392b", "#34495e"


def draw(rows: Sequence[Row], peers: Sequence[str], ours: Sequence[str], out: Path) -> None:
    """Write the picture: a panel for each group, both axes logarithmic."""
    figure = Figure(figsize=(11, 4.6), layout="tight")
    for axes, (kind, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        found = {peer: own for peer in peers if 2 * len(own := of(rows, peer, kind)) > size(kind)}
        places = [(mean(own, "mean"), mean(own, "cpu_s"), peer) for peer, own in found.items()]
        for mm, seconds, peer in places:
            colour, shape = (OURS, "s") if peer in ours else (OTHERS, "o")
            axes.plot(seconds, mm, shape, color=colour)
        axes.set(title=title, xscale="log", yscale="log")
        axes.set(xlabel="CPU seconds, one thread", ylabel="mean TRE, mm")
        for axis, ticks in ((axes.xaxis, TICKS_S), (axes.yaxis, TICKS_MM)):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
        axes.margins(x=0.3, y=0.12)
        axes.grid(alpha=0.3)
        figure.draw_without_rendering()  # now points have their places on the paper
        paper = axes.transData.transform([(s, mm) for mm, s, _ in places]) * 72 / figure.dpi
        for (mm, seconds, peer), way in zip(places, free_sides(paper), strict=True):
            name = label(peer, found[peer], kind)
            colour = OURS if peer in ours else OTHERS
            axes.annotate(
                name,
                (seconds, mm),
                textcoords="offset points",
                fontsize=8,
                color=colour,
                **SIDES[way],
            )
    figure.savefig(out, dpi=110)


def free_sides(paper: Points2D) -> list[str]:
    """On which side of each point, [N, 2] in typographic points, its name is not over another.

    A name lies right of its point, or left, above, below, where others are nearer to the right.
    """
    sides = []
    for point in paper:
        apart = np.delete(paper - point, np.flatnonzero((paper == point).all(axis=1)), axis=0)
        taken = {
            "right": (apart[:, 0] > 0) & (apart[:, 0] < 90) & (abs(apart[:, 1]) < 14),
            "left": (apart[:, 0] < 0) & (apart[:, 0] > -55) & (abs(apart[:, 1]) < 14),
            "above": (abs(apart[:, 0]) < 40) & (apart[:, 1] > 0) & (apart[:, 1] < 24),
        }
        sides.append(next((side for side, near in taken.items() if not near.any()), "below"))
    return sides
