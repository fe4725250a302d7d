"""One scan, two reconstruction kernels, nothing moved: `python -m benchmarks.kernels`.

Whatever landmarks and registration find here is error.
"""

import tempfile
from pathlib import Path

import SimpleITK as sitk

from benchmarks.common import data_folder, markdown
from landmark_dir.evaluation.metrics import summarise
from landmark_dir.geometry import distances_mm, voxel_centres
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import landmarks_for
from landmark_dir.registration.pipeline import deform
from landmark_dir.registration.session import pre_aligned

STRIDE = 4  # every fourth voxel along each axis


def rows() -> list[list[object]]:
    """Mean, median, p95 of the displacement, and landmarks: of landmarks and of both fields."""
    folder = data_folder() / "pairs" / "lungpetctdx-a0002-kernels"
    options = RegisterOptions()
    inputs = load_inputs(
        folder / "kernel-a.nii.gz", folder / "kernel-b.nii.gz", None, None, options
    )
    body = sitk.GetArrayViewFromImage(inputs.fixed_body)[::STRIDE, ::STRIDE, ::STRIDE].ravel() > 0
    points = voxel_centres(inputs.fixed, STRIDE)[body]
    found: list[list[object]] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        pre_aligned(inputs, Path(scratch), options, lambda text: None) as stage,
    ):
        landmarks = landmarks_for(stage, None)
        pairs = landmarks.guiding
        error = summarise(distances_mm(pairs.fixed, pairs.moving))
        found.append(["landmarks", error.mean, error.median, error.p95, len(pairs)])
        for arm, used in (("without", landmarks.only_held_back()), ("with", landmarks)):
            (Path(scratch) / arm).mkdir()
            transform = deform(stage, used, Path(scratch) / arm).transform
            moved = summarise(distances_mm(stage.backend.map_points(transform, points), points))
            name = f"field inside the body, {arm}"
            found.append([name, moved.mean, moved.median, moved.p95, len(used.guiding)])
    return found


def main() -> None:
    """Print the table."""
    print(markdown(["displacement, mm", "mean", "median", "p95", "landmarks"], rows()))


if __name__ == "__main__":
    main()
