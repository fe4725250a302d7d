"""Greedy (PICSL): its matrices are RAS to RAS, its warps LPS mm in a NIfTI file."""

import numpy as np

from benchmarks.peers.contract import Job, Map, Peer, pinned, python_of
from benchmarks.peers.elastix import AFFINE, elastix
from benchmarks.peers.fields import after, displaced, ras_matrix, read_nifti
from benchmarks.peers.inside.affine_file import call as affine_file

RUN = "import sys; from picsl_greedy import Greedy3D; Greedy3D().execute(sys.argv[1])"
SOURCE = "quick start of greedy.readthedocs.io"


def _call(arguments: str) -> list[str]:
    return [python_of("greedy"), "-c", RUN, arguments]


def _peer(name: str, metric: str, levels: str, source: str, tried: str) -> Peer:
    def calls(job: Job) -> list[list[str]]:
        both = f"-threads {job.threads} -i {job.fixed} {job.moving}"
        matrix, warp = job.file("affine.mat"), job.file("warp.nii.gz")
        return [
            elastix(job, AFFINE),
            affine_file("ras", job.file("TransformParameters.0.txt"), matrix),
            _call(f"{both} -n {levels} -m {metric} 4x4x4 -it {matrix} -o {warp}"),
        ]

    settings = f"affine of ours, {metric} of 9 x 9 x 9 voxels, {levels} iterations"
    return Peer(
        name, settings, source, calls, read, lambda: pinned("greedy", "picsl_greedy"), tried
    )


def version() -> str:
    """As installed."""
    return pinned("greedy", "picsl_greedy")


def read(job: Job) -> Map:
    """The warp, then the affine map."""
    warp = displaced(read_nifti(job.folder / "warp.nii.gz"))
    return after(warp, ras_matrix(np.loadtxt(job.folder / "affine.mat")))


PEERS = [
    _peer(
        "greedy NCC",
        "NCC",
        "100x50x10",
        SOURCE,
        "lung: 100x100x100 iterations 1.32 mm; from its own affine map, with these, 5 x 5 x 5"
        " voxels 1.28, mask of the body 1.35, affine by NMI 1.34, smoothing of 2 and 1 voxels 1.34",
    ),
    _peer(
        "greedy WNCC",
        "WNCC",
        "100x50x10",
        SOURCE,
        "lung, from its own affine map: 1.32 mm, 100x100x100 iterations 1.29, with 5 x 5 x 5 voxels"
        " 1.24; `sts-044`, large, from its own affine map 7.10, from ours 5.13, 200x100x10 4.75",
    ),
]
