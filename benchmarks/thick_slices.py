"""TRE where slices are thick: `python -m benchmarks.thick_slices`.

Simulated follow-ups of the validation volumes with slices of up to 3.3 mm
(`training.followups.pair`; moving slices as far apart as the fixed ones), whose fixed image, moving
image or both are brought to slices of 5 and 7 mm: each the mean of what lies within its thickness.
The truth stays that of the thin pair, which stands beside them. Seeds are those of
`benchmarks.followups`. Settings were chosen on training volumes and other seeds (`--choosing`).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from benchmarks.common import arm, markdown, session, sources, swept
from benchmarks.followups import truth
from landmark_dir.evaluation.metrics import summarise
from landmark_dir.evaluation.verdict import residual_mm
from landmark_dir.geometry import index_to_physical
from landmark_dir.io.volumes import read_volume
from landmark_dir.options import RegisterOptions
from landmark_dir.preprocessing.intensity import AIR_HU
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import landmarks_for
from training.followups.motion import MOTIONS
from training.followups.pair import FollowUp, make_follow_up

THIN_MM = 3.3  # slices of the volumes that are made thicker, at most
SLICES: dict[str, tuple[float | None, float | None]] = {  # mm, fixed and moving; None: as they are
    "thin": (None, None),
    "fixed 5": (5.0, None),
    "moving 5": (None, 5.0),
    "both 5": (5.0, 5.0),
    "fixed 7": (7.0, None),
    "moving 7": (None, 7.0),
    "both 7": (7.0, 7.0),
}


def thicken(image: sitk.Image, thickness_mm: float | None) -> sitk.Image:
    """The same volume in thicker slices, each the mean of what lies within its thickness."""
    if thickness_mm is None:
        return image
    spacing = np.array(image.GetSpacing())
    count = 2 * int(np.ceil(thickness_mm / spacing[2]))
    slices = int(image.GetDepth() * spacing[2] // thickness_mm)

    def at(share: float) -> sitk.Image:
        """What lies at this share of each slice's thickness."""
        first = [0.0, 0.0, thickness_mm * share / spacing[2] - 0.5]
        grid = sitk.Image([*image.GetSize()[:2], slices], sitk.sitkUInt8)
        grid.SetSpacing([*spacing[:2].tolist(), thickness_mm])
        grid.SetDirection(image.GetDirection())
        grid.SetOrigin(index_to_physical(image, [first])[0].tolist())
        return sitk.Resample(
            image, grid, sitk.Transform(), sitk.sitkLinear, AIR_HU, sitk.sitkFloat32
        )

    parts = [sitk.GetArrayFromImage(at((k + 0.5) / count)) for k in range(count)]
    thick = sitk.GetImageFromArray(np.round(np.mean(parts, axis=0)))
    thick.CopyInformation(at(0.5))
    return thick


def measure(pair: FollowUp, slices: str, seed: int, options: RegisterOptions) -> dict[str, Any]:
    """Both arms of one pair in such slices."""
    truths = truth(pair, 4000, 1000 + seed)
    fixed, moving = (
        thicken(image, mm)
        for image, mm in zip((pair.fixed, pair.moving), SLICES[slices], strict=True)
    )
    normal = np.array(moving.GetDirection())[2::3]
    found: dict[str, Any] = {}
    with session(load_inputs(fixed, moving, options), options) as opened:
        landmarks = landmarks_for(opened)
        off = landmarks.guiding.moving - pair.to_moving(landmarks.guiding.fixed)
        found["guides"] = float(np.median(np.linalg.norm(off, axis=1)))
        for name, used in (("without", landmarks.only_held_back()), ("with", landmarks)):
            result = arm(opened, name, used)
            off = result.chain.map_points(truths.fixed) - truths.moving
            found[name] = summarise(residual_mm(result.chain, truths))._asdict()
            found[name] |= {"through": float(np.abs(off @ normal).mean())}
            found[name] |= {"verdict": result.verdict.verdict}
    return found


def table(cases: list[dict[str, Any]]) -> str:
    """Means over the volumes, a row for each motion and kind of slices."""
    header = ["motion", "slices", "cases", "guides, median", "without, mean", "with, mean"]
    header += ["median", "p95", "through-plane", "with / with thin", "largest of a case"]
    rows: list[list[object]] = []
    for motion in dict.fromkeys(case["motion"] for case in cases):
        for slices in SLICES:
            of = [c for c in cases if (c["motion"], c["slices"]) == (motion, slices)]
            thin = {
                c["name"]: c["with"]["mean"]
                for c in cases
                if (c["motion"], c["slices"]) == (motion, "thin")
            }
            if not of:
                continue
            ratios = [c["with"]["mean"] / thin[c["name"]] for c in of if c["name"] in thin]
            mean = np.mean([c["with"]["mean"] for c in of])
            rows.append(
                [
                    motion,
                    slices,
                    len(of),
                    f"{np.mean([c['guides'] for c in of]):.2f}",
                    f"{np.mean([c['without']['mean'] for c in of]):.2f}",
                    f"{mean:.2f}",
                    *(f"{np.mean([c['with'][k] for c in of]):.2f}" for k in ("median", "p95")),
                    f"{np.mean([c['with']['through'] for c in of]):.2f}",
                    f"{mean / np.mean(list(thin.values())):.2f}" if thin else "-",
                    f"{max(ratios):.2f}" if ratios else "-",
                ]
            )
    return markdown(header, rows)


def _slices_mm(path: Path) -> float:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return float(reader.GetSpacing()[2])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; `--keep FILE` keeps what is measured, and goes on from there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--choosing", action="store_true", help="training volumes, other seeds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--motions", nargs="+", choices=MOTIONS, default=list(MOTIONS))
    parser.add_argument("--slices", nargs="+", choices=list(SLICES), default=list(SLICES))
    parser.add_argument("--keep", type=Path, help="JSON file of the cases measured so far")
    args = parser.parse_args(arguments)
    options = RegisterOptions.of(threads=args.threads)

    def make(path: Path, motion: str, seed: int) -> FollowUp:
        volume = read_volume(path)
        return make_follow_up(volume, motion, seed, slices_mm=max(2.0, volume.GetSpacing()[2]))

    def found(pair: FollowUp, slices: str, seed: int) -> dict[str, Any]:
        return measure(pair, slices, seed, options)

    thin = [
        (path, seed)
        for path, seed in sources(choosing=args.choosing)
        if args.choosing or _slices_mm(path) <= THIN_MM
    ]
    cases = swept(thin, args.motions, args.slices, "slices", make, found, args.keep)
    print(table(cases))


if __name__ == "__main__":
    main()
