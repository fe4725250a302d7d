"""`landmark-dir register`, as it is in this checkout."""

import sys

from benchmarks.peers.contract import Job, Map, Peer
from landmark_dir import __version__
from landmark_dir.registration.result import open_run


def _peer(name: str, settings: str, *options: str) -> Peer:
    def calls(job: Job) -> list[list[str]]:
        call = [sys.executable, "-m", "landmark_dir", "register", str(job.fixed), str(job.moving)]
        call += ["-o", job.file("run"), "--threads", str(job.threads), "-q", *options]
        return [call]

    return Peer(name, settings, "defaults", calls, read, lambda: __version__, own=True)


def read(job: Job) -> Map:
    """The chain of the run."""
    return open_run(job.folder / "run").chain.map_points


PEERS = [
    _peer("landmark-dir", "defaults"),
    _peer("landmark-dir, no landmarks", "`--no-landmarks`", "--no-landmarks"),
]
