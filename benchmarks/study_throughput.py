"""Cases an hour, by workers and threads: `python -m benchmarks.study_throughput [--ways 8x4 ...]`.

The same pairs, on the same machine, one way after the other: as one process registers them one by
one with all threads (`landmark_dir.register` in a loop), and as `batch` does with so many workers
of so many threads.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.common import machine, markdown
from landmark_dir.io.volumes import write_volume
from landmark_dir.phantom.scanner import PhantomOptions, make_phantom
from landmark_dir.registration.pipeline import register
from landmark_dir.study.batch import batch
from landmark_dir.study.cases import read_cases
from landmark_dir.study.gather import Study
from landmark_dir.study.how import How

PHANTOM = PhantomOptions(size_xyz=(160, 140, 56), spacing_mm=(2.0, 2.0, 4.0))
STAGES = ("affine", "pre-align", "landmarks", "outliers", "dense motion", "b-spline")


def prepare(folder: Path, count: int) -> Path:
    """A file of so many cases of one phantom pair, there and back in turn."""
    phantom = make_phantom(PHANTOM)
    for side in ("fixed", "moving"):
        write_volume(getattr(phantom, side), folder / f"{side}.nii.gz")
    ways = ("fixed.nii.gz,moving.nii.gz", "moving.nii.gz,fixed.nii.gz")
    path = folder / "pairs.csv"
    path.write_text("\n".join(["fixed,moving", *(ways[k % 2] for k in range(count))]))
    return path


def one_by_one(pairs: Path, out: Path, threads: int) -> None:
    """The loop that a user would write."""
    for case in read_cases(pairs):
        register(case.files["fixed"], case.files["moving"], out / case.name, threads=threads)


def stages_of(study: Study) -> str:
    """Mean seconds of the stages of a case."""
    means = []
    for stage in STAGES:
        column = f"seconds_{stage.replace(' ', '_')}"
        seconds = [row[column] for row in study.rows if row.get(column) is not None]
        means.append(f"{stage} {sum(seconds) / max(len(seconds), 1):.1f}")
    return ", ".join(means)


def workers_and_threads(text: str) -> tuple[int, int]:
    """Read `2x1`."""
    workers, threads = (int(part) for part in text.split("x"))
    return workers, threads


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    cores = os.cpu_count() or 1
    usual = [(cores, 1), (1, cores), (1, 1), (1, 2 * cores)]
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument(
        "--ways", nargs="*", type=workers_and_threads, default=usual,
        metavar="WORKERSxTHREADS", help="of `batch`, beside the loop",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    rows, loop_s = [], 0.0
    with tempfile.TemporaryDirectory() as scratch:
        pairs = prepare(Path(scratch), args.pairs)
        ways: list[tuple[str, Callable[[Path], Study | None]]] = [
            (
                f"a loop of `register`, {cores} threads",
                lambda out: one_by_one(pairs, out, cores),
            )
        ]
        for workers, threads in args.ways:
            how = How(workers=workers)
            ways.append(
                (
                    f"`batch`, {workers} workers x {threads} threads",
                    lambda out, how=how, threads=threads: batch(
                        pairs, out, how=how, threads=threads
                    ),
                )
            )
        for k, (name, way) in enumerate(ways):
            started = time.monotonic()
            study = way(Path(scratch) / f"out{k}")
            took = time.monotonic() - started
            loop_s = loop_s or took
            told = "" if study is None else stages_of(study)
            hourly = f"{3600 * args.pairs / took:.0f}"
            rows.append([name, f"{took:.0f}", hourly, f"{loop_s / took:.2f}", told])
            print(*rows[-1], sep="; ", file=sys.stderr, flush=True)
    print(f"Machine: {machine()}; {cores} cores. {args.pairs} pairs of 160 x 140 x 56 voxels.\n")
    print(markdown(["", "seconds", "cases an hour", "to the loop", "seconds a case"], rows))


if __name__ == "__main__":
    main()
