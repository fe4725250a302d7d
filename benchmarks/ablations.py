"""The seed paper's own arguments, each taken away: `python -m benchmarks.ablations PACK OUT`.

Short trainings from the same random start and the same stream of pairs, then `training.evaluate`
on the affine and the elastic set. A training that is there already is not made again.
"""

import argparse
import dataclasses
import shutil
from pathlib import Path

import torch

from training import evaluate
from training.data.pack import read_pack
from training.loop.state import Run
from training.options import TrainOptions
from training.train import train

CONFIG = Path(__file__).parents[1] / "training" / "configs" / "paper.toml"
VARIANTS: dict[str, dict[str, object]] = {
    "as-in-the-paper": {},
    "m_pos-0": {"margin_pos": 0.0},
    "hinge-only": {"cross_entropy": 0.0},
    "cross-entropy-only": {"hinge": 0.0},
    "no-valid-mask": {"valid_mask": False},
    "no-cells": {"cells": False},
}


def main() -> None:
    """Train every variant, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--per-patient", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    slices, held = (read_pack(args.pack, split) for split in ("training", "validation"))
    for name, changes in VARIANTS.items():
        weights = args.out / f"{name}.safetensors"
        if weights.exists():
            continue
        options = TrainOptions.read(CONFIG)
        recipe = dataclasses.replace(options.recipe, **changes)  # type: ignore[arg-type]
        options = dataclasses.replace(options, recipe=recipe)
        folder = args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        # validated once, at the end: the last weights are the best, whatever they are
        train(Run(folder, options, args.steps, slices, held, every=float("inf")))
        shutil.copy(folder / "best.safetensors", weights)
    files = [str(args.out / f"{name}.safetensors") for name in VARIANTS]
    call = ["--pack", args.pack, "--weights", *files, "--no-baselines", "--overwrite"]
    call += ["--sets", "affine,elastic", "--per-patient", args.per_patient]
    evaluate.main([*map(str, call), "-o", str(args.out / "evaluation")])


if __name__ == "__main__":
    main()
