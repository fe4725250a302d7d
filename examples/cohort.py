"""Register a table of pairs in this process, and read the results.

On the command line: `landmark-dir batch pairs.csv -o cohort`, which also takes `--workers`. The
same call goes on after an interruption. Writes the images, `pairs.csv` and the study `cohort` into
the current folder. On a cluster: `cohort_on_a_queue.py`.
"""

from pathlib import Path

import SimpleITK as sitk

import landmark_dir
from landmark_dir.phantom.scanner import PhantomOptions

SMALL = {"size_xyz": (60, 48, 20), "spacing_mm": (5.0, 5.0, 8.0)}
PATIENTS = 2


def main() -> None:
    rows = ["case,fixed,moving,site"]  # any other column is carried into the results
    for patient in range(1, PATIENTS + 1):
        pair = landmark_dir.make_phantom(PhantomOptions(**SMALL, seed=patient))
        names = [f"patient{patient}_{side}.nii.gz" for side in ("fixed", "moving")]
        for name, image in zip(names, (pair.fixed, pair.moving), strict=True):
            sitk.WriteImage(image, name)
        rows.append(f"patient {patient},{names[0]},{names[1]},north")
    Path("pairs.csv").write_text("\n".join(rows) + "\n")

    study = landmark_dir.batch("pairs.csv", "cohort", preset="fast", overwrite=True)

    print(study.summary())
    for row in study.rows:
        held_back = float(row["held_back_mm_median"])
        print(f"{row['case']} ({row['site']}): {row['verdict']}, held back {held_back:.2f} mm")


if __name__ == "__main__":
    main()
