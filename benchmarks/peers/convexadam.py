"""convexAdam: voxels only, and no affine stage; so it starts from the affine stage of ours."""

from benchmarks.peers.contract import Job, Map, Peer, pinned, python_of
from benchmarks.peers.elastix import AFFINE, elastix
from benchmarks.peers.fields import after, displaced_voxels, read_nifti
from benchmarks.peers.inside.common_grid import call as common_grid
from landmark_dir.transforms.chain import read_transform


def _peer(name: str, mm: float, settings: str, source: str, tried: str, *told: str) -> Peer:
    def calls(job: Job) -> list[list[str]]:
        images = ["-f", job.file("fixed.nii.gz"), "-m", job.file("moving.nii.gz")]
        program = [python_of("convexadam"), "-m", "convexAdam.convex_adam_MIND", *images]
        return [
            elastix(job, AFFINE),
            common_grid(job, mm, job.file("TransformParameters.0.txt")),
            [*program, "--result_path", str(job.folder), *told],
        ]

    settings = f"affine of ours, cubes of {mm:g} mm, {settings}"
    return Peer(name, settings, source, calls, read, version, tried)


def version() -> str:
    """As installed."""
    return pinned("convexadam", "convexAdam")


def read(job: Job) -> Map:
    """Vectors in voxels of the common grid, then the affine map."""
    affine = read_transform(job.folder / "TransformParameters.0.txt").map_points
    return after(displaced_voxels(read_nifti(job.folder / "disp.nii.gz")), affine)


PEERS = [
    _peer(
        "convexAdam",
        1.5,
        "its defaults but lambda 0.65",
        "the package; lambda as in its authors' script for lung CT of Learn2Reg 2021",
        "lung: lambda 1.25 1.05 mm; in cubes of 2 mm lambda 1.25 1.12, 0.65 1.08, coarse grid of 4"
        " voxels and a search of 6 1.11",
        "--lambda_weight",
        "0.65",
    )
]
