"""TRE against weight and number of landmarks: `python -m benchmarks.landmark_weight -o FOLDER`.

On one small and one large simulated follow-up, made with seeds that serve for choosing only, and
on the lung pair. Elastix alone varies; the landmarks are sought once. Weights are tried from both
starts of the b-spline stage, numbers from the affine map.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.common import data_folder, markdown, session
from benchmarks.followups import truth
from benchmarks.lung import DOUBTFUL
from landmark_dir.evaluation.verdict import residual_mm
from landmark_dir.io.point_files import read_pairs
from landmark_dir.io.volumes import read_volume
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.landmarks import landmarks_for, projected
from landmark_dir.registration.session import Session
from landmark_dir.registration.stages import bspline_stage
from landmark_dir.transforms.chain import read_transform
from training.followups.pair import make_follow_up

SIMULATED = (("crlm-1004", "small", 52), ("sts-044", "large", 56))  # volume, motion, seed
CONSTANT = (0.01, 0.03, 0.1, 0.3, 1.0)
FADING = ((0.1, 0.03, 0.01), (0.1, 0.01, 0.001))
NUMBERS = (100, 300, 1000, 2500, 5000)
WEIGHT, NUMBER = 0.1, 2500  # held while the other varies; one of NUMBERS
LAID, AFFINE = "from the landmarks", "from the affine map"  # where the stage starts


def tre(
    ready: Session,
    truths: PointPairs,
    guides: PointPairs,
    weights: Sequence[float] = (WEIGHT,),
    start: Path | None = None,
) -> float:
    """Mean TRE, mm, of one b-spline stage."""
    weighed = replace(ready, options=ready.options.but(landmark_weight=tuple(weights)))
    transform = read_transform(bspline_stage(weighed, guides, start))
    return float(residual_mm(transform, truths).mean())


def column(ready: Session, truths: PointPairs) -> dict[str, float]:
    """Mean TRE at each setting."""
    landmarks = landmarks_for(ready)
    assert landmarks.motion is not None
    many = {n: projected(landmarks.measured, landmarks.motion, n) for n in NUMBERS}
    found = {"none": tre(ready, truths, PointPairs.empty())}
    for name, start in ((LAID, landmarks.motion), (AFFINE, None)):
        for weight in CONSTANT:
            found[f"{name}, {weight:g}"] = tre(ready, truths, many[NUMBER], [weight], start)
    for weights in FADING:
        name = ", ".join(f"{weight:g}" for weight in weights)
        found[f"{AFFINE}, {name}"] = tre(ready, truths, many[NUMBER], weights)
    for number in NUMBERS:
        found[f"{number} landmarks"] = tre(ready, truths, many[number])
    return found


def plot(columns: dict[str, dict[str, float]], path: Path) -> None:
    """Mean TRE as a share of that without landmarks, against weight and against number."""
    figure = Figure(figsize=(9, 3.6), layout="tight")
    left, right = figure.subplots(1, 2, sharey=True)
    for colour, (name, found) in enumerate(columns.items()):
        shares = {key: value / found["none"] for key, value in found.items()}
        for start, line in ((LAID, "o-"), (AFFINE, "s--")):
            values = [shares[f"{start}, {w:g}"] for w in CONSTANT]
            left.plot(CONSTANT, values, line, color=f"C{colour}", label=start if not colour else "")
        values = [shares[f"{n} landmarks"] for n in NUMBERS]
        right.plot(NUMBERS, values, "s--", color=f"C{colour}", label=name)
    labels = ("landmark weight", "number of landmarks, from the affine map")
    for axes, label in zip((left, right), labels, strict=True):
        axes.set(xscale="log", xlabel=label, ylim=(0, 1.05))
        axes.axhline(1, color="grey", linewidth=0.8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    left.set_ylabel("mean TRE / without landmarks")
    figure.savefig(path, dpi=100)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True, help="picture to write, .png")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    options = RegisterOptions.of(threads=args.threads)
    columns = {}
    for name, motion, seed in SIMULATED:
        volume = read_volume(data_folder() / "ct" / "validation" / f"{name}.nii.gz")
        pair = make_follow_up(volume, motion, seed)
        with session(load_inputs(pair.fixed, pair.moving, options), options) as ready:
            columns[f"{name}, {motion}"] = column(ready, truth(pair, 4000, 1000 + seed))
    folder = data_folder() / "pairs" / "elastix-lung"
    expert = read_pairs(folder / "expert_fixed.txt", folder / "expert_moving.txt")
    certain = expert.select(np.delete(np.arange(len(expert)), DOUBTFUL))
    images = (folder / "fixed.nii.gz", folder / "moving.nii.gz")
    options = options.but(align="centers")
    with session(load_inputs(*images, options), options) as ready:
        columns["lung (50)"] = column(ready, certain)
    plot(columns, args.out)
    names = next(iter(columns.values()))
    rows = [[name, *(f"{found[name]:.2f}" for found in columns.values())] for name in names]
    print(markdown(["mean TRE, mm", *columns], rows))


if __name__ == "__main__":
    main()
