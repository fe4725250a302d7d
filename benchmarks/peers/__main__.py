"""Measure what is missing, then print the tables: `python -m benchmarks.peers`.

Every row is kept in `measured.json` beside this file, so that a run that is stopped goes on.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.common import machine
from benchmarks.peers import ants, convexadam, deeds, elastix, greedy, kept, ours, plastimatch
from benchmarks.peers.contract import REPOSITORY
from benchmarks.peers.measure import measured
from benchmarks.peers.pairs import group, names, prepared
from benchmarks.peers.picture import draw
from benchmarks.peers.table import settings, tables

ADAPTERS = (ours, greedy, plastimatch, elastix, ants, convexadam, deeds)
PEERS = {peer.name: peer for adapter in ADAPTERS for peer in adapter.PEERS}
KEPT = Path(__file__).parent / "measured.json"
PICTURE = REPOSITORY / "docs" / "images" / "peers.png"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", choices=PEERS, default=list(PEERS), metavar="NAME", help="programs")
    add("--pairs", nargs="*", default=names(), metavar="NAME", help="pairs, or groups of them")
    add("--threads", type=int, default=1)
    add("--again", action="store_true", help="measure also what is kept")
    add("--quiet", action="store_true", help="nothing else runs here: wall seconds can be shown")
    add("--keep", type=Path, default=KEPT, help="JSON file of the rows")
    add("--work", type=Path, default=Path("runs/peers"), help="where the pairs are written")
    add("--picture", type=Path, default=PICTURE, help="where the picture goes")
    args = parser.parse_args(arguments)
    for peer, pair in missing(args):
        try:
            row = measured(PEERS[peer], prepared(pair, args.work / "pairs"), args.threads)
        except RuntimeError as error:  # the others may go well
            print(error, file=sys.stderr, flush=True)
            continue
        kept.add(args.keep, row | {"quiet": args.quiet})
        figures = {key: round(value, 2) for key, value in row.items() if isinstance(value, float)}
        print(peer, pair, figures, file=sys.stderr, flush=True)
    rows = valid(args.keep)
    print(f"Machine: {machine()}.\n\n{tables(rows, list(PEERS))}\n")
    print(settings(list(PEERS.values()), rows))
    draw(rows, list(PEERS), [name for name, peer in PEERS.items() if peer.own], args.picture)


def missing(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """What is to be measured, looked up each time: another run may be at work on the same file."""
    for pair in names():
        for peer in args.only if pair in args.pairs or group(pair) in args.pairs else ():
            done = {kept.key(row) for row in valid(args.keep)}
            if args.again or (peer, pair) not in done:
                yield peer, pair


def valid(file: Path) -> list[kept.Row]:
    """The kept rows of the programs as they are set now."""
    now = {(peer.name, peer.settings) for peer in PEERS.values()}
    return [row for row in kept.read(file) if (row["peer"], row["settings"]) in now]


if __name__ == "__main__":
    main()
