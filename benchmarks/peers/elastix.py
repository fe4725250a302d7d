"""elastix (Debian) with published parameter files."""

import subprocess
from pathlib import Path

from benchmarks.peers.contract import ENVIRONMENTS, REPOSITORY, Job, Map, Peer
from landmark_dir.transforms.chain import read_transform

ZOO = ENVIRONMENTS / "src" / "ElastixModelZoo" / "models"
DEFAULT = ("Parameters_Affine.txt", "Parameters_BSpline.txt")
PAR0003 = ("Par0003.affine.txt", "Par0003.bs-R6-ug.txt")
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


def masked(job: Job, *parameters: Path) -> list[str]:
    """The same, in the fixed body."""
    return [*elastix(job, *parameters), "-fMask", str(job.fixed_body)]


PEERS = [
    Peer(
        "elastix default",
        "affine, then a b-spline of 16 mm, mutual information",
        "ElastixModelZoo `default`",
        lambda job: [elastix(job, *(ZOO / "default" / name for name in DEFAULT))],
        read_last,
        version,
        "the next row",
    ),
    Peer(
        "elastix Par0003",
        "affine, then a b-spline of 12 mm in 6 levels, mutual information; samples in the body",
        "ElastixModelZoo `Par0003`, for follow-up CT of the lung",
        lambda job: [masked(job, *(ZOO / "Par0003" / name for name in PAR0003))],
        read_last,
        version,
        "without a mask its sampler fails",
    ),
]
