"""A small follow-up pair for tests: in memory, as files, and with its truth."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from landmark_dir.io.point_files import write_elastix_points
from landmark_dir.phantom.scanner import Phantom, PhantomOptions, make_phantom, rotation
from landmark_dir.points import PointPairs


@dataclass(frozen=True)
class Case:
    """A small follow-up pair: in memory, as files, and with its truth."""

    phantom: Phantom
    guides: PointPairs  # may guide a registration
    judges: PointPairs  # never do

    def write(self, folder: Path) -> Path:
        """`fixed.nii.gz`, `moving.nii.gz` and both sets of points as `guides_fixed.txt`, ..."""
        folder.mkdir(exist_ok=True)
        for side in ("fixed", "moving"):
            sitk.WriteImage(getattr(self.phantom, side), str(folder / f"{side}.nii.gz"))
            for name in ("guides", "judges"):
                points = getattr(getattr(self, name), side)
                write_elastix_points(points, folder / f"{name}_{side}.txt")
        return folder


def make_case(**options: object) -> Case:
    """48 x 40 x 36 voxels of 6 mm, oblique and off-origin, unless said; made in a second."""
    small: dict[str, object] = {"size_xyz": (48, 40, 36), "spacing_mm": (6.0, 6.0, 6.0)}
    phantom = make_phantom(PhantomOptions(**{**small, **options}))  # type: ignore[arg-type]
    fixed, moving = phantom.truth_points(1200, np.random.default_rng(0))
    truth = PointPairs(fixed, moving, np.ones(len(fixed)))
    rows = np.arange(len(truth))
    return Case(phantom, truth.select(rows[200:]), truth.select(rows[:200]))


if __name__ == "__main__":  # for those who cannot import the package
    turned = tuple(rotation((9, -7, 14)).ravel())
    grid = {"size_xyz": (60, 48, 30), "spacing_mm": (5.0, 5.5, 8.0), "direction": turned}
    make_case(**grid).write(Path(sys.argv[1]))
