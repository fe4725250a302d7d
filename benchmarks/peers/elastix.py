"""elastix (Debian) with published parameter files."""

import subprocess
from pathlib import Path

from benchmarks.peers.contract import ENVIRONMENTS, REPOSITORY, Job, Map, Peer
from landmark_dir.transforms.chain import read_transform

ZOO = ENVIRONMENTS / "src" / "ElastixModelZoo" / "models"
AFFINE = REPOSITORY / "elastix_params" / "affine.txt"


def elastix(job: Job, *parameters: Path) -> list[str]:
    """One call of elastix."""
    files = ["-f", str(job.fixed), "-m", str(job.moving), "-out", str(job.folder)]
    named = [word for file in parameters for word in ("-p", str(file))]
    return ["elastix", *files, *named, "-threads", str(job.threads)]


def read_last(job: Job) -> Map:
    """The last transform file, which names those before."""
    last = max(job.folder.glob("TransformParameters.?.txt"))
    return read_transform(last).map_points


def version() -> str:
    """As elastix says it."""
    said = subprocess.run(["elastix", "--version"], capture_output=True, text=True, check=True)
    return said.stdout.strip().replace("version: ", "")


def _peer(name: str, files: list[Path], settings: str, source: str, tried: str) -> Peer:
    return Peer(
        name, settings, source, lambda job: [elastix(job, *files)], read_last, version, tried
    )


PEERS = [
    _peer(
        "elastix default",
        [ZOO / "default" / f"Parameters_{stage}.txt" for stage in ("Affine", "BSpline")],
        "affine, then a b-spline of 16 mm, mutual information",
        "ElastixModelZoo `default`",
        "the next row",
    ),
    _peer(
        "elastix Par0003",
        [ZOO / "Par0003" / f"Par0003.{stage}.txt" for stage in ("affine", "bs-R6-ug")],
        "affine, then a b-spline of 12 mm in 6 levels, mutual information",
        "ElastixModelZoo `Par0003`, for follow-up CT of the lung",
        "-",
    ),
]
