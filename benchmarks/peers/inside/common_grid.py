"""Both images on one grid of cubes, for programs that know voxels only.

`python -m benchmarks.peers.inside.common_grid FIXED MOVING FOLDER MM TRANSFORM`: the grid covers
the fixed image; moving is brought there by an elastix transform file. The grid's own LPS
coordinates are written as three more images.
"""

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from benchmarks.peers.contract import Job
from landmark_dir.geometry import centre, index_to_physical
from landmark_dir.transforms.chain import read_transform

MULTIPLE = 12  # sizes; so that coarser grids of 2, 3, 4 and 6 voxels fill it


def call(job: Job, mm: float, transform: str) -> list[str]:
    """What makes both images of a job in its folder."""
    module = [sys.executable, "-m", "benchmarks.peers.inside.common_grid"]
    return [*module, str(job.fixed), str(job.moving), str(job.folder), str(mm), transform]


def cubes(image: sitk.Image, mm: float) -> sitk.Image:
    """An empty image of cubes that covers another, about its centre."""
    extent = np.multiply(image.GetSize(), image.GetSpacing())
    size = MULTIPLE * np.ceil(extent / mm / MULTIPLE).astype(int)
    grid = sitk.Image(size.tolist(), sitk.sitkInt16)
    grid.SetSpacing([mm] * 3)
    grid.SetDirection(image.GetDirection())
    shift = centre(image) - centre(grid)
    grid.SetOrigin((np.array(grid.GetOrigin()) + shift.ravel()).tolist())
    return grid


def resampled(image: sitk.Image, grid: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """An image on another grid; beyond its edge, as at its edge."""
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(grid)
    resampler.SetTransform(transform)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.UseNearestNeighborExtrapolatorOn()
    return resampler.Execute(image)


def places(grid: sitk.Image) -> list[sitk.Image]:
    """Three images of the LPS coordinates of a grid's voxels."""
    x, y, z = grid.GetSize()
    index = np.indices((z, y, x))[::-1].reshape(3, -1).T  # x, y, z of each voxel
    points = index_to_physical(grid, index.astype(float)).reshape(z, y, x, 3)
    images = [sitk.GetImageFromArray(points[..., k].astype(np.float32)) for k in range(3)]
    for image in images:
        image.CopyInformation(grid)
    return images


def main(fixed: str, moving: str, out: str, mm: str, transform: str) -> None:
    """Write `fixed.nii.gz`, `moving.nii.gz` and, of the grid, `place0.nii.gz` to `place2`."""
    image, folder = sitk.ReadImage(fixed), Path(out)
    grid = cubes(image, float(mm))
    affine = read_transform(Path(transform)).itk()
    sitk.WriteImage(resampled(image, grid, sitk.Transform(3, 1)), folder / "fixed.nii.gz")
    sitk.WriteImage(resampled(sitk.ReadImage(moving), grid, affine), folder / "moving.nii.gz")
    for k, part in enumerate(places(grid)):
        sitk.WriteImage(part, folder / f"place{k}.nii.gz")


if __name__ == "__main__":
    main(*sys.argv[1:])
