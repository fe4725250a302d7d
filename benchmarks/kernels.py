"""One scan, two reconstruction kernels, nothing moved: `python -m benchmarks.kernels`.

Whatever landmarks and registration find here is error.
"""

import numpy as np
import SimpleITK as sitk

from benchmarks.common import arm, data_folder, markdown, session
from landmark_dir.evaluation.metrics import summarise
from landmark_dir.geometry import Points, distances_mm, voxel_centres
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import landmarks_for

STRIDE = 4  # every fourth voxel along each axis


def places(body: sitk.Image) -> Points:
    """Voxel centres of a body mask at which the displacement is measured, LPS mm."""
    inside = sitk.GetArrayViewFromImage(body)[::STRIDE, ::STRIDE, ::STRIDE].ravel() > 0
    return np.asarray(voxel_centres(body, STRIDE)[inside])


def rows() -> list[list[object]]:
    """Mean, median, p95 of the displacement, and landmarks: of landmarks and of both fields."""
    folder = data_folder() / "pairs" / "lungpetctdx-a0002-kernels"
    options = RegisterOptions()
    inputs = load_inputs(folder / "kernel-a.nii.gz", folder / "kernel-b.nii.gz", options)
    points = places(inputs.fixed_body)
    found: list[list[object]] = []
    with session(inputs, options) as opened:
        landmarks = landmarks_for(opened)
        pairs = landmarks.guiding
        error = summarise(distances_mm(pairs.fixed, pairs.moving))
        found.append(["landmarks", error.mean, error.median, error.p95, len(pairs)])
        for name, used in (("without", landmarks.only_held_back()), ("with", landmarks)):
            chain = arm(opened, name, used).chain
            moved = summarise(distances_mm(chain.map_points(points), points))
            label = f"field inside the body, {name}"
            found.append([label, moved.mean, moved.median, moved.p95, len(used.guiding)])
    return found


def main() -> None:
    """Print the table."""
    print(markdown(["displacement, mm", "mean", "median", "p95", "landmarks"], rows()))


if __name__ == "__main__":
    main()
