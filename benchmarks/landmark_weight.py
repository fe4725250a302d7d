"""TRE against the weight of the landmarks: `python -m benchmarks.landmark_weight`.

The network's landmarks, and as many perfect ones on the phantom, where the truth is known.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.common import data_folder, markdown
from benchmarks.lung import DOUBTFUL
from landmark_dir.inputs import Volume, load_inputs
from landmark_dir.metrics import distances_mm
from landmark_dir.options import RegisterOptions
from landmark_dir.phantom import make_phantom
from landmark_dir.points import PointPairs, read_pairs
from landmark_dir.stages import Stage, bspline_stage, landmarks_for, pre_aligned

WEIGHTS = [
    (0.03, 0.003, 0.0003),
    (0.1, 0.01, 0.001),
    (0.3, 0.03, 0.003),
    (1.0, 0.1, 0.01),
    (0.1, 0.03, 0.01),
    (0.1, 0.1, 0.1),
    (1.0, 1.0, 1.0),
]


@contextmanager
def stage(fixed: Volume, moving: Volume, options: RegisterOptions) -> Iterator[Stage]:
    """A pair after its affine stage."""
    inputs = load_inputs(fixed, moving, None, None, options)
    with (
        tempfile.TemporaryDirectory() as scratch,
        pre_aligned(inputs, Path(scratch), options, lambda text: None) as ready,
    ):
        yield ready


def column(ready: Stage, judges: PointPairs, guides: PointPairs) -> list[float]:
    """Mean TRE without guides, then with them at each weight."""
    found = []
    for weights in [None, *WEIGHTS]:
        options = replace(ready.options, landmark_weight=weights or WEIGHTS[0])
        pairs = guides if weights else PointPairs.empty()
        transform = bspline_stage(replace(ready, options=options), pairs)
        mapped = ready.backend.map_points(transform, judges.fixed)
        found.append(float(distances_mm(mapped, judges.moving).mean()))
    return found


def main() -> None:
    """Print the table."""
    columns = {}
    phantom = make_phantom()

    def truth(count: int, seed: int) -> PointPairs:
        points = phantom.truth_points(count, np.random.default_rng(seed))
        return PointPairs(*points, np.ones(len(points[0])))

    with stage(phantom.fixed, phantom.moving, RegisterOptions()) as ready:
        columns["phantom, found"] = column(ready, truth(2000, 0), landmarks_for(ready, None))
        columns["phantom, perfect"] = column(ready, truth(2000, 0), truth(2500, 1))
    folder = data_folder() / "pairs" / "elastix-lung"
    if folder.is_dir():
        expert = read_pairs(folder / "expert_fixed.txt", folder / "expert_moving.txt")
        certain = expert.select(np.delete(np.arange(len(expert)), DOUBTFUL))
        images = (folder / "fixed.nii.gz", folder / "moving.nii.gz")
        with stage(*images, RegisterOptions(align="centers")) as ready:
            columns["lung (50), found"] = column(ready, certain, landmarks_for(ready, None))
    names = ["none", *(", ".join(f"{w:g}" for w in weights) for weights in WEIGHTS)]
    rows = zip(names, *columns.values(), strict=True)
    print(markdown(["landmark weight at each resolution", *columns], rows))


if __name__ == "__main__":
    main()
