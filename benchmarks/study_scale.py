"""A hundred thousand cases that take 10 ms each: `python -m benchmarks.study_scale`.

Everything but the registrations is real: the scheduler, two workers and their child processes, the
claims, the folders and records on disk, the tables and the page. Printed is what the runner needs
for that, and how long it takes to find what is done when 99 % is.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import stand_in
from benchmarks.common import machine, markdown
from landmark_dir.io import run_folder
from landmark_dir.study.batch import batch
from landmark_dir.study.cases import read_cases
from landmark_dir.study.folder import StudyFolder
from landmark_dir.study.gather import gather
from landmark_dir.study.how import How

WORKERS = 2
LEFT = 0.01  # share of the cases that is not done when what is done is looked for


def prepare(folder: Path, count: int) -> Path:
    """A file of so many cases of the same two files."""
    for side in ("fixed", "moving"):
        (folder / f"{side}.txt").write_text(side)
    path = folder / "pairs.csv"
    rows = (f"patient {k},fixed.txt,moving.txt,site {k % 7}" for k in range(count))
    path.write_text("\n".join(["case,fixed,moving,site", *rows]), encoding="utf-8")
    return path


def one_call(pairs: Path, workers: int) -> dict[str, Any]:
    """Run `batch` in a process of its own; what it needed."""
    call = [sys.executable, "-m", "benchmarks.study_scale", "--call", str(pairs), str(workers)]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def call(pairs: Path, workers: int) -> None:
    """Print what this process needs for a study, as JSON."""
    started = time.monotonic()
    how = How(workers=workers, worker=stand_in.NAME)
    study = batch(pairs, pairs.parent / "study", how=how)
    ended = time.monotonic()
    made = json.loads((study.folder / "study.json").read_text())["last_run"]
    print(
        json.dumps(
            {
                "counts": study.counts,
                "seconds": ended - started,
                "cases_s": made["seconds"],
                "tables_s": ended - started - made["seconds"],
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.call:
        call(Path(args.call[0]), int(args.call[1]))
        return
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(prepare(Path(scratch), args.cases), args.cases)
    print(f"Machine: {machine()}; {os.cpu_count()} cores, {WORKERS} workers.\n")
    print(markdown([f"{args.cases:,} cases of 10 ms", ""], rows))


def measure(pairs: Path, count: int) -> list[list[str]]:
    """What the first call needs, and one that finds 99 % done."""
    first = one_call(pairs, WORKERS)
    ideal = count * stand_in.SLEEP_S / WORKERS
    study, cases = StudyFolder(pairs.parent / "study", False), read_cases(pairs)
    files = sum(len(files) for _, _, files in os.walk(study.root))
    for case in random.Random(0).sample(cases, round(count * LEFT)):
        shutil.rmtree(study.place(case))
    again = one_call(pairs, WORKERS)
    started = time.monotonic()
    gather(study.root)
    gathered = time.monotonic() - started
    page = (study.root / "study.html").stat().st_size
    begun = run_folder.read_json(study.root / "study.json")
    assert begun["counts"]["done"] == count
    return [
        ["all cases, tables and page", f"{first['seconds']:.0f} s"],
        [
            "a case, beside its 10 ms",
            f"{1e3 * (first['cases_s'] - ideal) * WORKERS / count:.1f} ms",
        ],
        ["cases an hour", f"{3600 * count / first['cases_s']:,.0f}"],
        ["memory of the runner, with its scheduler", f"{first['memory_mb']:.0f} MB"],
        ["files in the study", f"{files:,}"],
        ["99 % done: find the rest, do it", f"{again['cases_s']:.0f} s"],
        ["memory of the runner then", f"{again['memory_mb']:.0f} MB"],
        ["tables and page", f"{gathered:.0f} s"],
        ["size of the page", f"{page / 1e6:.1f} MB"],
    ]


if __name__ == "__main__":
    main()
