"""TRE on the real lung pair of the elastix test data: `python -m benchmarks.lung [ENGINE ...]`.

The fixed image is the half-resolution file of the elastix test data; the moving image was restored
by inverting the transform stored there. The headers differ by 35 mm in z, hence the start from
the image centres. Expert pair 20 (from 0) is probably mis-annotated: figures with and without it.
"""

import sys
import time

import numpy as np

from benchmarks.common import arm, data_folder, markdown, session
from landmark_dir.elastix.engines import available
from landmark_dir.evaluation.metrics import summarise
from landmark_dir.evaluation.verdict import residual_mm
from landmark_dir.io.point_files import read_pairs
from landmark_dir.io.volumes import read_volume
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import Landmarks, landmarks_for

DOUBTFUL = 20  # row of the expert pairs


def row(name: str, distances: np.ndarray, landmarks: int, seconds: float) -> list[object]:
    """TRE over all pairs, and without the doubtful one."""
    every, certain = summarise(distances), summarise(np.delete(distances, DOUBTFUL))
    return [
        name, every.mean, every.median, every.p95, certain.mean, certain.median, certain.p95,
        landmarks, f"{seconds:.0f}",
    ]  # fmt: skip


def run(engine: str) -> list[list[object]]:
    """Rows for one engine: affine, without and with landmarks."""
    folder = data_folder() / "pairs" / "elastix-lung"
    expert = read_pairs(folder / "expert_fixed.txt", folder / "expert_moving.txt")
    fixed = read_volume(folder / "fixed.nii.gz")
    moving = read_volume(folder / "moving.nii.gz")
    options = RegisterOptions.of(align="centers", backend=engine)
    rows = []
    started = time.monotonic()
    inputs = load_inputs(fixed, moving, options)
    with session(inputs, options) as opened:
        affine_s = time.monotonic() - started
        error = residual_mm(opened.affine_chain, expert)
        rows.append(row(f"{engine}, affine", error, 0, affine_s))
        for name in ("without", "with"):
            started = time.monotonic()
            landmarks = landmarks_for(opened) if name == "with" else Landmarks.none()
            result = arm(opened, name, landmarks)
            seconds = affine_s + time.monotonic() - started
            error = residual_mm(result.chain, expert)
            rows.append(row(f"{engine}, {name}", error, len(result.landmarks), seconds))
    return rows


def main(engines: list[str]) -> None:
    """Print the table."""
    header = ["", "mean (51)", "median", "p95", "mean (50)", "median", "p95", "landmarks", "s"]
    rows = [line for engine in engines or available() for line in run(engine)]
    print(markdown(header, rows))


if __name__ == "__main__":
    main(sys.argv[1:])
