"""Register with corresponding points of your own instead of the network's.

On the command line: `landmark-dir register FIXED MOVING --points FIXED.txt MOVING.txt -o RUN`.
Writes the two point files and the run folder `own_points` into the current folder.
"""

import numpy as np

import landmark_dir
from landmark_dir.geometry import distances_mm
from landmark_dir.io.point_files import write_elastix_points
from landmark_dir.phantom.scanner import PhantomOptions

SMALL = PhantomOptions(size_xyz=(104, 80, 12), spacing_mm=(2.8, 2.8, 6.0))
CLICK_MM = 1.0  # standard deviation of a hand along each axis


def main() -> None:
    pair = landmark_dir.make_phantom(SMALL)
    rng = np.random.default_rng(0)
    fixed, moving = pair.truth_points(200, rng)  # as if a person had clicked them
    write_elastix_points(fixed, "clicked_fixed.txt")  # row i belongs to row i, LPS mm
    write_elastix_points(moving + rng.normal(0, CLICK_MM, moving.shape), "clicked_moving.txt")

    result = landmark_dir.register(
        pair.fixed,
        pair.moving,
        "own_points",
        points=("clicked_fixed.txt", "clicked_moving.txt"),  # or a landmark_dir.PointPairs
        overwrite=True,
    )
    print(result.summary())

    # never measure at the points that guided
    fixed, moving = pair.truth_points(500, rng)
    found = landmark_dir.warp_points(result.folder, fixed)
    print(f"mean distance from the truth: {distances_mm(found, moving).mean():.2f} mm")


if __name__ == "__main__":
    main()
