"""The affine map of an elastix transform file in ITK's format, which ANTs reads.

`python -m benchmarks.peers.inside.itk_affine TRANSFORM FILE`
"""

import sys
from pathlib import Path

import SimpleITK as sitk

from landmark_dir.transforms.chain import read_transform


def call(transform: str, out: str) -> list[str]:
    """What writes the file."""
    return [sys.executable, "-m", "benchmarks.peers.inside.itk_affine", transform, out]


def main(transform: str, out: str) -> None:
    """Read and write."""
    linear = read_transform(Path(transform)).as_linear()
    if linear is None:
        raise SystemExit(f"{transform}: expected affine maps only")
    sitk.WriteTransform(linear.itk(), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
