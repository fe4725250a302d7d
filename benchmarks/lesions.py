"""Lesions followed on simulated follow-ups: `python -m benchmarks.lesions`.

The 14 pairs of `benchmarks.followups` (validation patients, other seeds), with ten lesions each
that stay, grow, shrink, vanish or appear. Measured is how far the carried place is from the truth,
how many lie within the radius that is told, whether findings of both scans are paired rightly, and
how well their change of volume is found. The radius was calibrated on training patients.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.common import data_folder, machine, markdown, session
from landmark_dir.findings.certainty import shipped
from landmark_dir.findings.finding import Finding, finding_of
from landmark_dir.findings.follow import GONE, NEW, SAME, follow
from landmark_dir.findings.places import SIDES, carry_places, other
from landmark_dir.geometry import distances_mm
from landmark_dir.io.run_folder import new_run_folder
from landmark_dir.io.volumes import read_volume
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import landmarks_for
from landmark_dir.registration.pipeline import deform
from landmark_dir.registration.result import Result, open_run
from training.followups.motion import MOTIONS
from training.followups.pair import FollowUp, make_follow_up

ARMS = ("without", "with")
LESIONS, FIRST_SEED = 10, 300


def findings(pair: FollowUp, side: str) -> list[Finding]:
    """The lesions that one scan shows."""
    labels = pair.lesion_labels(side)
    shown = [one.number for one in pair.lesions if one.volume(side)]
    return [finding_of(str(number), labels == number) for number in shown]


def measured(pair: FollowUp, run: Result) -> dict[str, Any]:
    """What `follow` makes of one pair, against the truth."""
    here, there = (np.array([one.centre(side) for one in pair.lesions]) for side in SIDES)
    found: dict[str, Any] = {}
    for of, own, true in (("fixed", here, there), ("moving", there, here)):
        carried = carry_places(run, own, of, shipped())
        error = distances_mm(carried.on(other(of)), true)
        found[of] = {"error_mm": error.tolist(), "radii_mm": carried.radii_mm.tolist()}
    followed = follow(run, findings(pair, "fixed"), of="fixed", found=findings(pair, "moving"))
    truth = {str(one.number): one for one in pair.lesions}
    right, volume = 0, []
    for row in followed.rows:
        lesion = truth[row["finding"]]
        wanted = SAME if lesion.volume_fixed and lesion.volume_moving else NEW
        wanted = GONE if not lesion.volume_moving else wanted
        right += row["change"] == wanted and row["is"] in (None, row["finding"])
        if row["volume_change_percent"] is not None and row["is"] == row["finding"]:
            true_change = 100 * (lesion.volume_moving / lesion.volume_fixed - 1)
            volume.append(row["volume_change_percent"] - true_change)
    return found | {"rows": len(followed.rows), "right": right, "volume": volume}


def registered(pair: FollowUp, folder: Path, options: RegisterOptions) -> dict[str, Result]:
    """Both arms of one pair, in a folder that keeps them."""
    if not folder.exists():
        inputs = load_inputs(pair.fixed, pair.moving, options)
        with session(inputs, options) as opened, new_run_folder(folder) as partial:
            landmarks = landmarks_for(opened)
            for one, used in zip(ARMS, (landmarks.only_held_back(), landmarks), strict=True):
                (partial / one).mkdir()
                deform(opened, used, partial / one)
    return {one: open_run(folder / one) for one in ARMS}


def row(name: str, cases: Sequence[dict[str, Any]], one: str) -> list[object]:
    """Figures of one arm over several pairs."""

    def all_of(of: str, key: str) -> Any:
        return np.concatenate([np.array(case[one][of][key]) for case in cases])

    error = np.concatenate([all_of(of, "error_mm") for of in SIDES])
    radii = np.concatenate([all_of(of, "radii_mm") for of in SIDES])
    shares = (error[:, None] <= radii).mean(axis=0)
    volume = np.concatenate([np.array(case[one]["volume"]) for case in cases])
    right, rows = (sum(case[one][key] for case in cases) for key in ("right", "rows"))
    return [
        name,
        one,
        len(error),
        f"{np.median(error):.2f}",
        f"{np.quantile(error, 0.95):.2f}",
        f"{error.max():.1f}",
        *(f"{share:.1%}" for share in shares),
        f"{np.median(radii[:, -1]):.1f}",
        f"{right} of {rows}",
        f"{np.median(np.abs(volume)):.1f}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; `--keep FOLDER` keeps the registrations, and goes on from there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder of the registrations made so far")
    parser.add_argument("--motions", nargs="+", choices=MOTIONS, default=list(MOTIONS))
    args = parser.parse_args(arguments)
    options = RegisterOptions.of(threads=args.threads)
    cases: list[dict[str, Any]] = []
    with TemporaryDirectory() as scratch:
        for motion in args.motions:
            volumes = sorted((data_folder() / "ct" / "validation").glob("*.nii.gz"))
            for number, path in enumerate(volumes):
                seed = FIRST_SEED + number
                pair = make_follow_up(read_volume(path), motion, seed, lesions=LESIONS)
                name = f"{path.name.split('.')[0]}-{motion}"
                runs = registered(pair, (args.keep or Path(scratch)) / name, options)
                cases.append({"case": name} | {one: measured(pair, runs[one]) for one in ARMS})
                print(name, file=sys.stderr, flush=True)
    header = ["", "arm", "places", "median, mm", "p95, mm", "worst, mm"]
    header += ["within 50 %", "80 %", "95 % radius", "its median, mm"]
    header += ["paired rightly", "change of volume off by (median), points"]
    groups = [(m, [c for c in cases if c["case"].endswith(m)]) for m in MOTIONS]
    groups.append(("all", cases))
    rows = [row(name, group, one) for name, group in groups if group for one in ARMS]
    print(f"Machine: {machine()}.\n\n{markdown(header, rows)}")


if __name__ == "__main__":
    main()
