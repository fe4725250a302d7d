"""Histograms and cumulative curves, as SVG."""

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 460, 240
LEFT, BOTTOM, TOP, RIGHT = 46, 38, 12, 10
BINS = 40
CASE_BINS = 24
SHOWN_SHARE = 0.99  # of the values; the axis ends there

Arms = Mapping[str, NDArray[np.float64]]  # name of the arm -> distances, mm, or other figures


def distance_plots(title: str, arms: Arms) -> str:
    """Cumulative curves and histograms of all arms, beside each other."""
    everything = np.concatenate(list(arms.values()))
    end = max(float(np.quantile(everything, SHOWN_SHARE)), 0.1)
    legend = "".join(
        f'<span class="key"><i class="arm{number}"></i>{html.escape(name)}: '
        f"mean {values.mean():.2f}, median {np.median(values):.2f}, "
        f"95 % within {np.percentile(values, 95):.2f} mm ({len(values)} points)</span>"
        for number, (name, values) in enumerate(arms.items())
    )
    plots = _cumulative(arms, end) + _histogram(arms, end)
    title = html.escape(title)
    return f'<h3>{title}</h3><p class="legend">{legend}</p><div class="plots">{plots}</div>'


def cases_plot(title: str, arms: Arms, digits: int) -> str:
    """Histogram of one figure of all cases; the first and the last bin hold what lies beyond."""
    low, high = np.quantile(np.concatenate(list(arms.values())), [1 - SHOWN_SHARE, SHOWN_SHARE])
    start = 0.0 if 0 <= low < high / 2 else float(low)
    end = float(max(high, start + 0.1**digits))
    edges = np.linspace(start, end, CASE_BINS + 1)
    counts = [np.histogram(values.clip(start, end), edges)[0] for values in arms.values()]
    top = 2 * math.ceil(max(count.max() for count in counts) / 2)  # its half is a count, too
    plot = _framed([_steps(count / top) for count in counts], (start, end), html.escape(title), top)
    legend = "".join(
        f'<span class="key"><i class="arm{number}"></i>{_case_figures(name, values, digits)}</span>'
        for number, (name, values) in enumerate(arms.items())
    )
    return f'<figure>{plot}<figcaption class="legend">{legend}</figcaption></figure>'


def _case_figures(arm: str, values: NDArray[np.float64], digits: int) -> str:
    low, median, high = (f"{np.quantile(values, q):.{digits}f}" for q in (0.05, 0.5, 0.95))
    named = f"{html.escape(arm)}: " if arm else ""
    return f"{named}median {median}, 90 % from {low} to {high} ({len(values)} cases)"


def _cumulative(arms: Arms, end: float) -> str:
    at = np.linspace(0, end, 120)
    curves = [
        np.searchsorted(np.sort(values), at, side="right") / len(values) for values in arms.values()
    ]
    lines = [_line(at / end, share) for share in curves]
    return _framed(lines, (0.0, end), "mm; share of the points within this distance", 1.0)


def _histogram(arms: Arms, end: float) -> str:
    edges = np.linspace(0, end, BINS + 1)
    shares = [np.histogram(values, edges)[0] / len(values) for values in arms.values()]
    top = max(float(max(share.max() for share in shares)), 1e-9)
    lines = [_steps(share / top) for share in shares]
    return _framed(lines, (0.0, end), "mm; share of the points in each bin", top)


def _steps(heights: NDArray[np.float64]) -> str:
    """Points of a line that goes up and down at the edges of even bins, from and to the ground."""
    edges = np.linspace(0, 1, len(heights) + 1)
    return _line(np.repeat(edges, 2), np.concatenate([[0], np.repeat(heights, 2), [0]]))


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """Points of a line from shares of the frame."""
    across = LEFT + x * (WIDTH - LEFT - RIGHT)
    down = HEIGHT - BOTTOM - y * (HEIGHT - BOTTOM - TOP)
    return " ".join(f"{a:.1f},{d:.1f}" for a, d in zip(across, down, strict=True))


def _framed(lines: Sequence[str], ends: tuple[float, float], title: str, top: float) -> str:
    start, end = ends
    ticks = [_tick(share, start + share * (end - start)) for share in np.linspace(0, 1, 5)]
    levels = [_level(share, share * top) for share in (0.0, 0.5, 1.0)]
    drawn = [
        f'<polyline points="{line}" class="arm{number}" stroke-width="2"/>'
        for number, line in enumerate(lines)
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    name = f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle" class="axis">{title}</text>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
        f"{''.join(ticks + levels + drawn)}{name}</svg>"
    )


def _tick(share: float, value: float) -> str:
    x, y = LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM
    anchor = "middle" if share < 1 else "end"
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{y}" class="grid"/>'
        f'<text x="{x:.1f}" y="{y + 15}" text-anchor="{anchor}">{_short(value)}</text>'
    )


def _level(share: float, value: float) -> str:
    y = HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>'
    )


def _short(value: float) -> str:
    """Three digits, and all of those before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
