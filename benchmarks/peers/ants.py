"""ANTs, called by ANTsPy: ITK's transforms, and warps in LPS mm in a NIfTI file."""

from pathlib import Path

from benchmarks.peers.contract import Job, Map, Peer, pinned, python_of
from benchmarks.peers.elastix import AFFINE, elastix
from benchmarks.peers.fields import after, displaced, itk_affine, read_nifti
from benchmarks.peers.inside.affine_file import call as affine_file

SCRIPT = Path(__file__).parent / "inside" / "ants_registration.py"


def _peer(name: str, iterations: str, source: str, tried: str) -> Peer:
    def calls(job: Job) -> list[list[str]]:
        start = job.file("affine.mat")
        files = [str(job.fixed), str(job.moving), start, job.file("ants_")]
        return [
            elastix(job, AFFINE),
            affine_file("itk", job.file("TransformParameters.0.txt"), start),
            [python_of("ants"), str(SCRIPT), *files, iterations],
        ]

    settings = f"affine of ours, SyN, mutual information, {iterations} iterations"
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
        "40x20x0",
        "defaults of `ants.registration`",
        "lung, from its own affine map: 3.07 mm",
    ),
    _peer(
        "ANTs SyN, long",
        "100x70x50x20",
        "iterations of ANTs' `antsRegistrationSyN.sh`",
        "lung, from its own affine map: 2.06 mm; CC of 9 x 9 x 9 voxels was broken off after 5"
        " minutes",
    ),
]
