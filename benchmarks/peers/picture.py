"""Error against CPU seconds, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.peers.kept import Row
from benchmarks.peers.table import label, mean, of, size

PANELS = {"lung": "Lung pair, 50 expert points", "large": "7 follow-ups, large motion, mean"}
TICKS_MM = (0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 10)
TICKS_S = (2, 5, 10, 20, 50, 100, 200, 500)
OURS, OTHERS = "#c0392b", "#34495e"


def draw(rows: Sequence[Row], peers: Sequence[str], ours: Sequence[str], out: Path) -> None:
    """Write the picture: a panel for each group, both axes logarithmic."""
    figure = Figure(figsize=(11, 4.6), layout="tight")
    for axes, (kind, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        found = {peer: own for peer in peers if 2 * len(own := of(rows, peer, kind)) > size(kind)}
        places = [(mean(own, "mean"), mean(own, "cpu_s"), peer) for peer, own in found.items()]
        for rank, (mm, seconds, peer) in enumerate(sorted(places)):
            name = label(peer, found[peer], kind)
            mark(axes, name, (seconds, mm), peer in ours, rank % 2 == 0)
        axes.set(title=title, xscale="log", yscale="log")
        axes.set(xlabel="CPU seconds, one thread", ylabel="mean TRE, mm")
        for axis, ticks in ((axes.xaxis, TICKS_S), (axes.yaxis, TICKS_MM)):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
        axes.margins(x=0.3, y=0.12)
        axes.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def mark(axes: Axes, name: str, place: tuple[float, float], own: bool, right: bool) -> None:
    """A point and its name, right or left of it, so that neighbours can be read."""
    colour = OURS if own else OTHERS
    side: dict[str, Any] = {"ha": "left" if right else "right", "va": "center"}
    axes.plot(*place, "s" if own else "o", color=colour)
    shift = (7 if right else -7, 0)
    axes.annotate(name, place, shift, textcoords="offset points", fontsize=8, color=colour, **side)
