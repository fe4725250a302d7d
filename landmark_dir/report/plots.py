"""Histograms and cumulative curves of distances, as SVG."""

import html
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

COLOURS = ("#e69f00", "#56b4e9", "#cc79a7", "#009e73")  # Okabe and Ito: for every eye
WIDTH, HEIGHT = 460, 240
LEFT, BOTTOM, TOP, RIGHT = 46, 38, 12, 10
BINS = 40
SHOWN_SHARE = 0.99  # of the distances; the axis ends there

Arms = Mapping[str, NDArray[np.float64]]  # name of the arm -> distances, mm


def distance_plots(title: str, arms: Arms) -> str:
    """Cumulative curves and histograms of all arms, beside each other."""
    everything = np.concatenate(list(arms.values()))
    end = max(float(np.quantile(everything, SHOWN_SHARE)), 0.1)
    legend = "".join(
        f'<span class="key"><i style="background:{colour}"></i>{html.escape(name)}: '
        f"mean {values.mean():.2f}, median {np.median(values):.2f}, "
        f"95 % within {np.percentile(values, 95):.2f} mm ({len(values)} points)</span>"
        for (name, values), colour in zip(arms.items(), COLOURS, strict=False)
    )
    plots = _cumulative(arms, end) + _histogram(arms, end)
    title = html.escape(title)
    return f'<h3>{title}</h3><p class="legend">{legend}</p><div class="plots">{plots}</div>'


def _cumulative(arms: Arms, end: float) -> str:
    at = np.linspace(0, end, 120)
    curves = [
        np.searchsorted(np.sort(values), at, side="right") / len(values) for values in arms.values()
    ]
    lines = [_line(at / end, share) for share in curves]
    return _framed(lines, end, "share of the points within this distance", 1.0)


def _histogram(arms: Arms, end: float) -> str:
    edges = np.linspace(0, end, BINS + 1)
    shares = [np.histogram(values, edges)[0] / len(values) for values in arms.values()]
    top = max(float(max(share.max() for share in shares)), 1e-9)
    lines = [_line(np.repeat(edges / end, 2)[1:-1], np.repeat(share / top, 2)) for share in shares]
    return _framed(lines, end, "share of the points in each bin", top)


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """Points of a line from shares of the frame."""
    across = LEFT + x * (WIDTH - LEFT - RIGHT)
    down = HEIGHT - BOTTOM - y * (HEIGHT - BOTTOM - TOP)
    return " ".join(f"{a:.1f},{d:.1f}" for a, d in zip(across, down, strict=True))


def _framed(lines: Sequence[str], end: float, title: str, top: float) -> str:
    ticks = [_tick(share, share * end) for share in np.linspace(0, 1, 5)]
    levels = [_level(share, share * top) for share in (0.0, 0.5, 1.0)]
    drawn = [
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for line, colour in zip(lines, COLOURS, strict=False)
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    name = f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">mm; {title}</text>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
        f"{''.join(ticks + levels + drawn)}{name}</svg>"
    )


def _tick(share: float, value: float) -> str:
    x = LEFT + share * (WIDTH - LEFT - RIGHT)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="grid"/>'
        f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{value:.2g}</text>'
    )


def _level(share: float, value: float) -> str:
    y = HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:.2g}</text>'
    )
