"""Find lesions of the fixed scan again in the moving one, and say how sure each place is.

On the command line: `landmark-dir follow register_pair lesions.csv -o followed.csv`. Run
`register_pair.py` first: its run folder is used here. Writes `followed.csv`, the places for 3D
Slicer (`followed.mrk.json`) and a page with pictures (`followed.html`).
"""

from pathlib import Path

import numpy as np
from register_pair import SMALL

import landmark_dir

LESIONS = 3


def main() -> None:
    pair = landmark_dir.make_phantom(SMALL)
    fixed, moving = pair.truth_points(LESIONS, np.random.default_rng(1))
    rows = [f"lesion {k},{x:.3f},{y:.3f},{z:.3f}" for k, (x, y, z) in enumerate(fixed, start=1)]
    Path("lesions.csv").write_text("\n".join(["name,x,y,z", *rows]) + "\n")  # LPS mm

    followed = landmark_dir.follow("register_pair", "lesions.csv", "followed.csv", overwrite=True)

    print(followed.table())
    for row, true in zip(followed.rows, moving, strict=True):
        found = [row[f"moving_{axis}"] for axis in "xyz"]
        off = np.linalg.norm(np.subtract(found, true))
        print(f"{row['finding']}: {off:.2f} mm from the truth, told {row['radius_95_mm']:.1f} mm")


if __name__ == "__main__":
    main()
