"""deeds: voxels only. Its map is read off images of coordinates, which it warps like any image."""

from pathlib import Path

from benchmarks.peers.contract import ENVIRONMENTS, Job, Map, Peer
from benchmarks.peers.elastix import AFFINE, elastix
from benchmarks.peers.fields import after, placed, read_nifti_parts
from benchmarks.peers.inside.common_grid import call as common_grid
from landmark_dir.transforms.chain import read_transform

BUILT = ENVIRONMENTS / "src" / "deedsBCV"


def _peer(name: str, mm: float, settings: str, source: str, tried: str, *told: str) -> Peer:
    def calls(job: Job) -> list[list[str]]:
        images = ["-F", job.file("fixed.nii.gz"), "-M", job.file("moving.nii.gz")]
        warped = [
            ["-M", job.file(f"place{k}.nii.gz"), "-D", job.file(f"went{k}.nii.gz")]
            for k in range(3)
        ]
        return [
            elastix(job, AFFINE),
            common_grid(job, mm, job.file("TransformParameters.0.txt")),
            [str(BUILT / "deedsBCV"), *images, "-O", job.file("deeds"), *told],
            *([str(BUILT / "applyBCVfloat"), *one, "-O", job.file("deeds")] for one in warped),
        ]

    settings = f"affine of ours, cubes of {mm:g} mm, {settings}"
    return Peer(name, settings, source, calls, read, version, tried)


def read(job: Job) -> Map:
    """Where the voxels of the common grid go, then the affine map."""
    affine = read_transform(job.folder / "TransformParameters.0.txt").map_points
    went = read_nifti_parts([job.folder / f"went{k}.nii.gz" for k in range(3)])
    return after(placed(went), affine)


def version() -> str:
    """The commit that is built."""
    head = Path(BUILT / ".git" / "HEAD").read_text().strip()
    return head[:7]


TRIED = "lung, in cubes of 1.5 mm: 1.16 mm"
PEERS = [_peer("deeds", 2.0, "its defaults", "README of deedsBCV", TRIED)]
