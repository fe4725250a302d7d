"""The affine map of an elastix transform file as other programs read it.

`python -m benchmarks.peers.inside.affine_file KIND TRANSFORM FILE`; KIND: `ras`, 4 x 4, RAS to RAS,
for greedy; `itk`, LPS, for ANTs.
"""

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from benchmarks.peers.fields import LPS_OF_RAS
from landmark_dir.transforms.chain import Linear, read_transform


def call(kind: str, transform: str, out: str) -> list[str]:
    """What writes the file."""
    return [sys.executable, "-m", "benchmarks.peers.inside.affine_file", kind, transform, out]


def write_ras(linear: Linear, out: str) -> None:
    """A matrix as text."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear.matrix
    matrix[:3, 3] = linear.map_points(np.zeros((1, 3)))[0]
    np.savetxt(out, LPS_OF_RAS @ matrix @ LPS_OF_RAS)


def write_itk(linear: Linear, out: str) -> None:
    """A transform of ITK."""
    sitk.WriteTransform(linear.itk(), out)


KINDS = {"ras": write_ras, "itk": write_itk}


def main(kind: str, transform: str, out: str) -> None:
    """Read and write."""
    linear = read_transform(Path(transform)).as_linear()
    if linear is None:
        raise SystemExit(f"{transform}: expected affine maps only")
    KINDS[kind](linear, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
