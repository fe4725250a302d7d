"""The affine map of an elastix transform file as greedy reads it: 4 x 4, RAS to RAS.

`python -m benchmarks.peers.inside.ras_matrix TRANSFORM MATRIX`
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.peers.fields import LPS_OF_RAS
from landmark_dir.transforms.chain import read_transform


def call(transform: str, out: str) -> list[str]:
    """What writes the matrix."""
    return [sys.executable, "-m", "benchmarks.peers.inside.ras_matrix", transform, out]


def main(transform: str, out: str) -> None:
    """Read and write."""
    linear = read_transform(Path(transform)).as_linear()
    if linear is None:
        raise SystemExit(f"{transform}: expected affine maps only")
    matrix = np.eye(4)
    matrix[:3, :3] = linear.matrix
    matrix[:3, 3] = linear.map_points(np.zeros((1, 3)))[0]
    np.savetxt(out, LPS_OF_RAS @ matrix @ LPS_OF_RAS)


if __name__ == "__main__":
    main(*sys.argv[1:])
