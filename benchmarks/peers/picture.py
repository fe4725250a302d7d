"""Error against CPU seconds, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.peers.kept import Row
from benchmarks.peers.table import mean, of

PANELS = {"lung": "Lung pair, 50 expert points", "large": "7 follow-ups, large motion, mean"}
TICKS_MM = (0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 10)
OURS, OTHERS = "#c0392b", "#34495e"


def draw(rows: Sequence[Row], peers: Sequence[str], ours: Sequence[str], out: Path) -> None:
    """Write the picture: a panel for each group, both axes logarithmic."""
    figure = Figure(figsize=(10, 4.4), layout="tight")
    for axes, (kind, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for peer in peers:
            if own := of(rows, peer, kind):
                mark(axes, peer, (mean(own, "cpu_s"), mean(own, "mean")), peer in ours)
        axes.set(title=title, xscale="log", yscale="log")
        axes.set(xlabel="CPU seconds, one thread", ylabel="mean TRE, mm")
        axes.yaxis.set_major_locator(FixedLocator(TICKS_MM))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda mm, _: f"{mm:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.3, y=0.12)
        axes.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def mark(axes: Axes, name: str, place: tuple[float, float], own: bool) -> None:
    """A point and its name."""
    colour = OURS if own else OTHERS
    axes.plot(*place, "s" if own else "o", color=colour)
    axes.annotate(name, place, xytext=(6, 3), textcoords="offset points", fontsize=8, color=colour)
