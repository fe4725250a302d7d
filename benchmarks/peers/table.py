"""The kept rows as tables in Markdown, a table for each group of pairs."""

from collections.abc import Sequence

import numpy as np

from benchmarks.common import markdown
from benchmarks.peers.contract import Peer
from benchmarks.peers.kept import Row
from benchmarks.peers.pairs import group, names

TITLES = {
    "lung": "Lung pair, 50 expert points",
    "large": "Simulated follow-ups, large motion: mean over the 7",
    "small": "Simulated follow-ups, small motion: mean over the 7",
    "null": "One scan, two kernels, nothing moved: displacement in the body",
}
OURS = "landmark-dir"
HEADER = [
    "program", "TRE, mm: mean", "median", "p95", "folded, %", "CPU s", "s", "peak GiB",
    f"mean TRE of {OURS} on the same pairs",
]  # fmt: skip


def mean(rows: Sequence[Row], key: str) -> float:
    """Mean of a figure over rows."""
    return float(np.mean([row[key] for row in rows]))


def of(rows: Sequence[Row], peer: str, kind: str) -> list[Row]:
    """The rows of a peer in a group."""
    return [row for row in rows if row["peer"] == peer and group(row["pair"]) == kind]


def size(kind: str) -> int:
    """How many pairs a group has."""
    return len([name for name in names() if group(name) == kind])


def label(peer: str, rows: Sequence[Row], kind: str) -> str:
    """The name of a peer, and of how many pairs these are where it is not all."""
    return peer if len(rows) == size(kind) else f"{peer} ({len(rows)} of {size(kind)})"


def table(rows: Sequence[Row], peers: Sequence[str], kind: str) -> str:
    """A row for each peer, the smallest mean error first; those of some pairs come last."""
    found = {peer: own for peer in peers if (own := of(rows, peer, kind))}
    ours = {row["pair"]: row for row in of(rows, OURS, kind)}
    ranked = sorted(found, key=lambda peer: (-len(found[peer]), mean(found[peer], "mean")))
    lines = []
    for peer in ranked:
        own = found[peer]
        same = [ours[row["pair"]] for row in own if row["pair"] in ours]
        there = mean(same, "mean") if len(same) == len(own) else "-"
        lines.append([label(peer, own, kind), *figures(own), there])
    return markdown(HEADER, lines)


def figures(rows: Sequence[Row]) -> list[object]:
    """Means over some rows, and the peak of their memory; wall seconds if nothing else ran."""
    wall = f"{mean(rows, 'wall_s'):.0f}" if all(row["quiet"] for row in rows) else "-"
    return [
        *(mean(rows, key) for key in ("mean", "median", "p95")),
        f"{100 * mean(rows, 'folded'):.2f}",
        f"{mean(rows, 'cpu_s'):.0f}",
        wall,
        f"{max(row['peak_gib'] for row in rows):.1f}",
    ]


def tables(rows: Sequence[Row], peers: Sequence[str]) -> str:
    """A table for each group that something is measured of, under its title."""
    parts = []
    for kind, title in TITLES.items():
        missing = [peer for peer in peers if not of(rows, peer, kind)]
        if len(missing) == len(peers):
            continue
        parts += [f"{title}:", table(rows, peers, kind)]
        if missing:
            parts.append(f"Not measured: {'; '.join(missing)}.")
    return "\n\n".join(parts)


def settings(peers: Sequence[Peer], rows: Sequence[Row]) -> str:
    """What each program is told, who says so, and what was tried."""
    versions = {row["peer"]: row["version"] for row in rows}
    return markdown(
        ["program", "version", "settings", "from", "tried to make it better"],
        [[p.name, versions.get(p.name, "-"), p.settings, p.source, p.tried] for p in peers],
    )
