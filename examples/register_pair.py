"""Register a follow-up pair, then warp an image, a label map and points with the result.

Writes the run folder `register_pair` into the current folder.
"""

import numpy as np

import landmark_dir
from landmark_dir.evaluation.overlap import dice
from landmark_dir.geometry import distances_mm
from landmark_dir.phantom.scanner import LABELS, PhantomOptions

# a small phantom saves time; yours: landmark_dir.read_volume("scan.nii.gz"), or simply the path
SMALL = PhantomOptions(size_xyz=(104, 80, 12), spacing_mm=(2.8, 2.8, 6.0))


def main() -> None:
    pair = landmark_dir.make_phantom(SMALL)
    options = landmark_dir.RegisterOptions.of(max_landmarks=500)
    result = landmark_dir.register(
        pair.fixed, pair.moving, "register_pair", options, overwrite=True
    )
    print(result.summary())  # result.warped, .landmarks, .transform, .metrics

    # anything else on the moving side comes along; labels take the nearest neighbour
    labels = landmark_dir.warp(result.folder, pair.moving_labels, labels=True)
    print(f"Dice of the liver: {dice(pair.fixed_labels, labels, LABELS['liver']):.2f}")

    # points go the other way: T maps fixed points to moving points, LPS mm
    fixed, moving = pair.truth_points(500, np.random.default_rng(0))
    found = landmark_dir.warp_points(result.folder, fixed)
    before, after = distances_mm(fixed, moving).mean(), distances_mm(found, moving).mean()
    print(f"mean distance from the truth: {before:.2f} mm before, {after:.2f} mm after")


if __name__ == "__main__":
    main()
