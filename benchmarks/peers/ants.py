"""ANTs, called by ANTsPy: ITK's transforms, and warps in LPS mm in a NIfTI file."""

from pathlib import Path

from benchmarks.peers.contract import Job, Map, Peer, pinned, python_of
from benchmarks.peers.fields import after, displaced, itk_affine, read_nifti

SCRIPT = Path(__file__).parent / "inside" / "ants_registration.py"


def _peer(name: str, metric: str, iterations: str, settings: str, source: str, tried: str) -> Peer:
    def calls(job: Job) -> list[list[str]]:
        files = [str(job.fixed), str(job.moving), job.file("ants_")]
        return [[python_of("ants"), str(SCRIPT), *files, metric, iterations]]

    return Peer(name, settings, source, calls, read, version, tried)


def version() -> str:
    """As installed."""
    return pinned("ants", "antspyx")


def read(job: Job) -> Map:
    """The warp, then the affine map."""
    warp = displaced(read_nifti(job.folder / "ants_1Warp.nii.gz"))
    return after(warp, itk_affine(job.folder / "ants_0GenericAffine.mat"))


PEERS = [
    _peer(
        "ANTs SyN",
        "mattes",
        "40x20x0",
        "affine, then SyN, mutual information, 40x20x0 iterations",
        "defaults of `ants.registration`",
        "the next row",
    ),
    _peer(
        "ANTs SyN, long",
        "mattes",
        "100x70x50x20",
        "the same with 100x70x50x20 iterations",
        "iterations of ANTs' `antsRegistrationSyN.sh`",
        "lung: CC of 9 x 9 x 9 voxels was broken off after 5 minutes",
    ),
]
