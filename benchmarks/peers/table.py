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
HEADER = ["program", "TRE, mm: mean", "median", "p95", "folded, %", "CPU s", "s", "peak GiB"]


def mean(rows: Sequence[Row], key: str) -> float:
    """Mean of a figure over rows."""
    return float(np.mean([row[key] for row in rows]))


def of(rows: Sequence[Row], peer: str, kind: str) -> list[Row]:
    """The rows of a peer in a group; none unless all its pairs are measured."""
    found = [row for row in rows if row["peer"] == peer and group(row["pair"]) == kind]
    wanted = [name for name in names() if group(name) == kind]
    return found if len(found) == len(wanted) else []


def table(rows: Sequence[Row], peers: Sequence[str], kind: str) -> str:
    """A row for each peer, the smallest mean error first."""
    found = {peer: own for peer in peers if (own := of(rows, peer, kind))}
    ranked = sorted(found, key=lambda peer: mean(found[peer], "mean"))
    return markdown(HEADER, [line(peer, found[peer]) for peer in ranked])


def line(peer: str, rows: Sequence[Row]) -> list[object]:
    """Means over some rows, and the peak of their memory; wall seconds if nothing else ran."""
    wall = f"{mean(rows, 'wall_s'):.0f}" if all(row["quiet"] for row in rows) else "-"
    return [
        peer,
        *(mean(rows, key) for key in ("mean", "median", "p95")),
        f"{100 * mean(rows, 'folded'):.2f}",
        f"{mean(rows, 'cpu_s'):.0f}",
        wall,
        f"{max(row['peak_gib'] for row in rows):.1f}",
    ]


def tables(rows: Sequence[Row], peers: Sequence[str]) -> str:
    """All tables, under their titles, and what is not measured whole."""
    parts = []
    for kind, title in TITLES.items():
        if not any(of(rows, peer, kind) for peer in peers):
            continue
        parts += [f"{title}:", table(rows, peers, kind)]
        missing = [peer for peer in peers if not of(rows, peer, kind)]
        if missing:
            parts.append(f"Not measured on all of them: {', '.join(missing)}.")
    return "\n\n".join(parts)


def settings(peers: Sequence[Peer], rows: Sequence[Row]) -> str:
    """What each program is told, who says so, and what was tried."""
    versions = {row["peer"]: row["version"] for row in rows}
    return markdown(
        ["program", "version", "settings", "from", "tried to make it better"],
        [[p.name, versions.get(p.name, "-"), p.settings, p.source, p.tried] for p in peers],
    )
