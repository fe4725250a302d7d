"""A study from DICOM to its page: `python -m benchmarks.study_followups -o runs/followups`.

The simulated follow-ups of the validation volumes (as in `benchmarks.followups`) are written as
DICOM exams of two dates, `pairs` finds them there, and `batch --compare` does the rest. True points
are added to the table that `pairs` wrote, as a user adds expert points.
"""

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from benchmarks.common import data_folder, machine
from landmark_dir.io.point_files import write_elastix_points
from landmark_dir.io.volumes import read_volume
from landmark_dir.study.batch import batch
from landmark_dir.study.finding.find_pairs import find_pairs
from landmark_dir.study.finding.pairs_file import pairs_table, write_pairs
from landmark_dir.study.how import How
from tests.made_dicom import write_series
from training.followups.motion import MOTIONS
from training.followups.pair import make_follow_up, truth_points

TRUTHS = 4000  # points
DATES = {"fixed": "20240110", "moving": "20240612"}
ROOT = "1.2.826.0.1.3680043.2.1125.8"


def write_exams(folder: Path, motions: Sequence[str]) -> None:
    """Both exams of each simulated patient, and true points beside them."""
    volumes = sorted((data_folder() / "ct" / "validation").glob("*.nii.gz"))
    for number, path in enumerate(volumes):
        for motion in motions:
            name = f"{path.name.split('.')[0]}-{motion}"
            pair = make_follow_up(read_volume(path), motion, number)
            points = truth_points(pair, TRUTHS, 1000 + number)
            for side, of in zip(DATES, points, strict=True):
                uid = f"{ROOT}.{number}.{motions.index(motion)}.{len(side)}"
                change = _exam_of(name, side, uid)
                write_series(getattr(pair, side), folder / name / side, change, f"{uid}.1")
                write_elastix_points(of, folder / f"{name}_{side}.txt")


def _exam_of(patient: str, side: str, uid: str):  # type: ignore[no-untyped-def]
    def change(_: int, dataset: Dataset) -> None:
        dataset.PatientID = patient
        dataset.StudyInstanceUID = uid
        dataset.StudyDate = DATES[side]
        dataset.SeriesDescription, dataset.ConvolutionKernel = "Body 3.0 B30f", "B30f"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]

    return change


def add_points(pairs: Path, exams: Path) -> None:
    """Add the true points of each patient, whose id is kept, to the table."""
    with pairs.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for side in DATES:
            row[f"{side}_points"] = str(exams / f"{row['patient']}_{side}.txt")
    with pairs.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the study, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--motions", nargs="+", choices=MOTIONS, default=list(MOTIONS))
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(arguments)
    exams, pairs = args.out.absolute() / "exams", args.out.absolute() / "pairs.csv"
    if not pairs.is_file():
        write_exams(exams, args.motions)
        found = find_pairs(exams, keep_ids=True)
        write_pairs(found, pairs)
        print(pairs_table(found.pairs))
        add_points(pairs, exams)
    started = time.monotonic()

    def progress(stage: str, _: float) -> None:
        print(f"{time.monotonic() - started:5.0f} s  {stage}", file=sys.stderr)

    how = How(workers=args.workers)
    study = batch(pairs, args.out / "study", compare=True, how=how, threads=1, progress=progress)
    print(f"{study.table()}\n\n{study.summary()}, {time.monotonic() - started:.0f} s.")
    print(f"Machine: {machine()}.")


if __name__ == "__main__":
    main()
