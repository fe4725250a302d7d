"""Show what landmarks change: one pair, registered without and with them.

Both arms share the affine stage and the parameter file; only the points term differs. Writes
`compare_arms` into the current folder: a run folder for each arm, and the figures as JSON and CSV.
"""

import numpy as np

import landmark_dir
from landmark_dir.comparison.compare import compare
from landmark_dir.phantom.scanner import PhantomOptions

SMALL = PhantomOptions(size_xyz=(104, 80, 12), spacing_mm=(2.8, 2.8, 6.0))


def main() -> None:
    pair = landmark_dir.make_phantom(SMALL)
    fixed, moving = pair.truth_points(500, np.random.default_rng(0))
    truth = landmark_dir.PointPairs(fixed, moving, np.ones(len(fixed)))  # measures, never guides
    options = landmark_dir.RegisterOptions.of(max_landmarks=500)
    comparison = compare(
        pair.fixed, pair.moving, "compare_arms", options, expert=truth, overwrite=True
    )
    print(comparison.table())
    for arm, result in comparison.results.items():
        print(f"{arm} landmarks: {result.folder / 'report.html'}")


if __name__ == "__main__":
    main()
