"""One peer on one pair: called and watched, its map read, its error at points of known truth."""

import datetime
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.contract import Job, Peer
from benchmarks.peers.pairs import Pair
from benchmarks.speed import Spent, run_and_watch
from landmark_dir.evaluation.metrics import folding, summarise
from landmark_dir.geometry import distances_mm
from landmark_dir.io.volumes import read_volume

THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)  # fmt: skip
LOGGED = 'exec "$@" >>"$0" 2>&1'  # the shell becomes the program


def measured(peer: Peer, pair: Pair, threads: int) -> dict[str, Any]:
    """A row: TRE in mm, folded share in the body, seconds, memory."""
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(
            pair.fixed.resolve(), pair.moving.resolve(),
            pair.fixed_body.resolve(), pair.moving_body.resolve(), Path(scratch), threads,
        )  # fmt: skip
        spent = watched(peer, job)
        mapped = peer.read(job)
        fixed, moving, certain = pair.points()
        error = distances_mm(mapped(fixed), moving)
        body = read_volume(pair.fixed_body)
        folded = folding(mapped, read_volume(pair.fixed), body).folded_share
    found = summarise(error[certain])
    return {
        "peer": peer.name,
        "settings": peer.settings, "pair": pair.name, "version": peer.version(),
        "mean": found.mean, "median": found.median, "p95": found.p95,
        "mean_of_all": float(np.mean(error)), "folded": folded,
        "wall_s": spent.wall_s, "cpu_s": spent.cpu_s, "peak_gib": spent.peak_gib,
        "threads": threads, "date": str(datetime.date.today()),
    }  # fmt: skip


def watched(peer: Peer, job: Job) -> Spent:
    """All calls of a job: the sum of their seconds, the peak of their memory."""
    log = job.file("log.txt")
    limits = [f"{name}={job.threads}" for name in THREADS]
    spent = []
    for call in peer.calls(job):
        try:
            spent.append(run_and_watch(["bash", "-c", LOGGED, log, "env", *limits, *call]))
        except SystemExit as failed:
            said = Path(log).read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{peer.name}: {failed}\n{said}") from failed
    wall, cpu, peak = zip(*spent, strict=True)
    return Spent(sum(wall), sum(cpu), max(peak))
