"""plastimatch (Debian): vectors in LPS mm, the affine stage in them."""

import subprocess

from benchmarks.peers.contract import Job, Map, Peer
from benchmarks.peers.fields import displaced, read_itk

STAGES = """
[GLOBAL]
fixed={fixed}
moving={moving}
vf_out={field}
default_value=-1000

[STAGE]
xform=affine
optim=rsg
metric=mse
max_its=100
res_mm=8 8 8

[STAGE]
xform=bspline
optim=lbfgsb
impl=plastimatch
threading=openmp
metric=mse
max_its=30
regularization_lambda=0.05
grid_spac=60 60 60
res_mm=6 6 6

[STAGE]
grid_spac=30 30 30
max_its=30
res_mm=4 4 4

[STAGE]
grid_spac=15 15 15
max_its=30
res_mm=2 2 2
"""


def calls(job: Job) -> list[list[str]]:
    """One call with a command file."""
    text = STAGES.format(fixed=job.fixed, moving=job.moving, field=job.file("field.mha"))
    (job.folder / "stages.txt").write_text(text)
    return [["plastimatch", "register", job.file("stages.txt")]]


def read(job: Job) -> Map:
    """The whole field."""
    return displaced(read_itk(job.folder / "field.mha"))


def version() -> str:
    """As plastimatch says it."""
    said = subprocess.run(["plastimatch", "--version"], capture_output=True, text=True, check=True)
    return " ".join(said.stdout.split()[:3:2])


PEERS = [
    Peer(
        "plastimatch",
        "affine, then b-splines of 60, 30 and 15 mm, MSE, 30 iterations each, lambda 0.05",
        "stages and iterations as on plastimatch.org, with finer grids",
        calls,
        read,
        version,
        "lung: lambda 0.001 1.54 mm, 0.005 1.46, 0.02 1.33, 0.1 1.24; at 0.005 20 iterations 1.39,"
        " 50 1.48, mask of the body 1.51",
    )
]
