"""Make the radius of a carried finding mean something: `landmark_dir.findings.certainty`.

    python -m training.calibrate_radius TRAINING_SCANS/*.nii.gz -o radius.json

Follow-ups with lesions are simulated from the volumes (`training.followups`) and registered as a
user does. How far lesions and other places of the body are carried from their true place is fitted
to what is known of each place: a line for the logarithm of the error, and the factors that hold a
given share of the lesions. Held-out patients take no part: `benchmarks.lesions` shows how well the
radius holds. An interrupted call goes on where it stopped (`--keep`).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from landmark_dir.errors import LandmarkDirError
from landmark_dir.findings.certainty import FEATURES, FLOOR_MM, Calibration, features
from landmark_dir.geometry import distances_mm
from landmark_dir.io.run_folder import write_json
from landmark_dir.io.volumes import read_volume
from landmark_dir.registration.pipeline import register
from training.followups.motion import MOTIONS
from training.followups.pair import make_follow_up, truth_points

LESIONS, PLACES = 15, 150  # of each pair
LEVELS = (0.5, 0.8, 0.95)
FIRST_SEED = 900  # of the pairs; benchmarks take others


def samples(path: Path, motion: str, seed: int, threads: int) -> dict[str, Any]:
    """Places of one pair: what is known of each, and how far off it was carried."""
    pair = make_follow_up(read_volume(path), motion, seed, lesions=LESIONS)
    fixed, moving = truth_points(pair, PLACES, seed)
    lesions = [(one.centre("fixed"), one.centre("moving")) for one in pair.lesions]
    fixed, moving = (
        np.concatenate([points, [lesion[side] for lesion in lesions]])
        for side, points in enumerate((fixed, moving))
    )
    with TemporaryDirectory() as scratch:
        run = register(pair.fixed, pair.moving, Path(scratch) / "run", threads=threads)
        slice_mm = max(image.GetSpacing()[2] for image in (pair.fixed, pair.moving))
        known = features(run.chain, run.held_back, slice_mm, fixed)
        error = distances_mm(run.chain.map_points(fixed), moving)
    return {
        "volume": path.name,
        "motion": motion,
        "seed": seed,
        "features": known.tolist(),
        "error_mm": error.tolist(),
        "lesion": [False] * PLACES + [True] * len(lesions),
    }


def fit(
    known: NDArray[np.float64], error_mm: NDArray[np.float64], lesion: NDArray[np.bool_]
) -> Calibration:
    """The line through all places, lesions counting half, and the factors of the lesions."""
    rows = np.isfinite(known).all(axis=1)
    known, error_mm, lesion = known[rows], error_mm[rows], lesion[rows]
    weight = np.sqrt(np.where(lesion, 0.5 / lesion.sum(), 0.5 / (~lesion).sum()))
    design = np.column_stack([np.ones(len(known)), known])
    wanted = np.log(error_mm + FLOOR_MM)
    low = np.array([-np.inf, *[0.0] * known.shape[1]])  # a worse figure never makes surer
    weights = lsq_linear(design * weight[:, None], wanted * weight, (low, np.inf)).x
    expected = np.exp(design @ weights)
    factors = np.quantile((error_mm / expected)[lesion], LEVELS)
    return Calibration(weights, LEVELS, tuple(float(factor) for factor in factors))


def pooled(
    parts: Sequence[dict[str, Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """All places of several pairs."""
    known, error, lesion = (
        np.concatenate([np.array(part[name]) for part in parts])
        for name in ("features", "error_mm", "lesion")
    )
    return known, error, lesion


def held_out(parts: Sequence[dict[str, Any]]) -> str:
    """How many lesions of each volume lie within radii that were fitted to all others."""
    shares = []
    for volume in sorted({part["volume"] for part in parts}):
        rest = [part for part in parts if part["volume"] != volume]
        known, error, lesion = pooled([part for part in parts if part["volume"] == volume])
        radii = fit(*pooled(rest)).radii_mm(known[lesion])
        shares.append(error[lesion][:, None] <= radii)
    share = np.concatenate(shares).mean(axis=0)
    told = ", ".join(f"{s:.1%} ({level:.0%})" for s, level in zip(share, LEVELS, strict=True))
    return f"lesions within their radius, each volume by the others: {told}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("volumes", type=Path, nargs="+", metavar="CT", help="of training patients")
    add("-o", "--out", type=Path, required=True, help="JSON file to write")
    add("--keep", type=Path, help="JSON file of the pairs measured so far")
    add("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    kept = args.keep is not None and args.keep.is_file()
    parts: list[dict[str, Any]] = json.loads(args.keep.read_text()) if kept else []
    for number, path in enumerate(args.volumes):
        motion, seed = list(MOTIONS)[number % len(MOTIONS)], FIRST_SEED + number
        if any(part["seed"] == seed for part in parts):
            continue
        try:
            parts.append(samples(path, motion, seed, args.threads))
        except (LandmarkDirError, ValueError) as error:
            print(f"{path.name}, {motion}: left out, {error}", file=sys.stderr, flush=True)
            continue
        print(path.name, motion, f"median {np.median(parts[-1]['error_mm']):.2f} mm", flush=True)
        if args.keep is not None:
            args.keep.write_text(json.dumps(parts))
    calibration = fit(*pooled(parts))
    made_of = [f"{part['volume']}, {part['motion']}, seed {part['seed']}" for part in parts]
    places = {"lesions": LESIONS, "places": PLACES, "pairs": made_of}
    write_json(args.out, calibration.described() | {"made_of": places})
    print(", ".join(f"{n} {w:.2f}" for n, w in zip(FEATURES, calibration.weights[1:], strict=True)))
    print(held_out(parts))


if __name__ == "__main__":
    main()
