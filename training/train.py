"""Train a network: `python -m training.train --config training/configs/paper.toml -o runs/paper`.

A run folder holds `config.toml`, `log.csv`, `last.pt` (to resume from) and `best.safetensors`.
Step n draws its random numbers from (seed, n) alone, so a resumed run continues the same stream.
"""

import argparse
import csv
import math
import os
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landmark_dir.matching import match_landmarks, pick_landmarks
from landmark_dir.network import PaperNetwork, best_of_each_cell, describe
from landmark_dir.weights import save_weights
from training import losses
from training.augment import AugmentOptions
from training.dataset import PairBatch, Slice, data_folder, load_slices, make_pairs, single_slices

VALIDATION_BATCHES = 12  # of two pairs
VALIDATION_PX = 320


@dataclass(frozen=True)
class TrainOptions:
    """One training, as in `training/configs/*.toml`."""

    network: str
    seed: int
    steps: int
    batch: int
    crop_px: int
    keypoints: int
    match_px: float
    margin_pos: float
    margin_neg: float
    learning_rate: float
    final_learning_rate: float
    weight_decay: float
    threshold: float
    border_px: int
    augment: AugmentOptions

    @classmethod
    def read(cls, path: Path) -> "TrainOptions":
        """Read a config file; an unknown or a missing key is an error."""
        values = tomllib.loads(path.read_text())
        return cls(**{**values, "augment": AugmentOptions(**values["augment"])})


@dataclass
class State:
    """What changes while training, and is kept in `last.pt`."""

    network: PaperNetwork
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = -math.inf
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write under a temporary name, then rename: a kill leaves the old file whole."""
        temporary = path.with_suffix(".tmp")
        content = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": (self.step, self.best, self.seconds),
        }
        torch.save(content, temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        """Go on from a file written by `save`."""
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.best, self.seconds = content["progress"]


def sampled_landmarks(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The sampling layer in training: the `count` best cells; keypoints [B, K, 2], logits."""
    keypoints, best = best_of_each_cell(logits)
    top, rows = best.topk(min(count, best.shape[1]), dim=1)
    return keypoints.gather(1, rows[..., None].expand(-1, -1, 2)), top


def compute_loss(
    network: PaperNetwork, pairs: PairBatch, options: TrainOptions, device: torch.device
) -> tuple[losses.LossTerms, float]:
    """The loss of eq. 1 for a batch, and how many matches per pair it held."""
    images = torch.cat([pairs.images_1, pairs.images_2])
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        maps = network.encode(images)
    keypoints, logits = sampled_landmarks(maps.logits.float(), options.keypoints)
    raw = describe(maps, keypoints)
    keypoints_1, keypoints_2 = keypoints.chunk(2)
    with torch.no_grad():
        truth = losses.ground_truth(
            keypoints_1,
            pairs.project_2_to_1(keypoints_2),
            pairs.valid(keypoints_1, pairs.warp_1, options.border_px),
            pairs.valid(keypoints_2, pairs.warp_2, options.border_px),
            options.match_px,
        )
    logits_1, logits_2 = logits.chunk(2)
    raw_1, raw_2 = raw.chunk(2)
    terms = losses.LossTerms(
        losses.landmark_loss(logits_1, truth.landmark_1),
        losses.landmark_loss(logits_2, truth.landmark_2),
        losses.hinge_loss(raw_1, raw_2, truth.match, options.margin_pos, options.margin_neg),
        losses.matching_cross_entropy(network.match_logits(raw_1, raw_2), truth.match),
    )
    return terms, float(truth.match.sum()) / len(truth.match)


def learning_rate(step: int, options: TrainOptions) -> float:
    """Short warm-up, then cosine decay."""
    share = min(step / options.steps, 1.0)
    low, high = options.final_learning_rate, options.learning_rate
    rate = low + (high - low) * 0.5 * (1 + math.cos(math.pi * share))
    return rate * min(1.0, (step + 1) / 100)


@torch.no_grad()
def validate(
    network: PaperNetwork, slices: list[Slice], options: TrainOptions, device: torch.device
) -> dict[str, float]:
    """Match fixed validation pairs as inference does; medians over pairs, shares over matches."""
    network.eval()
    counts, errors = [], []
    shape = (VALIDATION_PX, VALIDATION_PX)
    for i in range(VALIDATION_BATCHES):
        rng = torch.Generator().manual_seed(10_000 + i)
        pairs = make_pairs(slices, 2, shape, options.augment, rng, device)
        images = torch.cat([pairs.images_1, pairs.images_2])
        landmarks = pick_landmarks(network, images, options.threshold)
        for b in range(2):
            rows, _, _ = match_landmarks(network, landmarks[b], landmarks[2 + b])
            xy_1 = landmarks[b].keypoints[rows[:, 0]]
            xy_2 = landmarks[2 + b].keypoints[rows[:, 1]]
            padded = torch.zeros(2, max(len(xy_2), 1), 2, device=device)
            padded[b, : len(xy_2)] = xy_2
            projected = pairs.project_2_to_1(padded)[b, : len(xy_2)]
            counts.append(len(rows))
            errors.append((xy_1 - projected).norm(dim=1).cpu().numpy())
    network.train()
    error = np.concatenate([*errors, [np.inf]])
    correct = sum(int((e < 2).sum()) for e in errors) / len(errors)
    return {
        "matches": float(np.median(counts)),
        "median_px": float(np.median(error)),
        "within_2px": float((error < 2).mean()),
        "beyond_16px": float((error > 16).mean()),
        "correct": correct,
    }


def train(
    options: TrainOptions, folder: Path, data: Path, *, resume: bool, minutes: float, every: float
) -> None:
    """Train until `options.steps` or `minutes` are reached; validate every `every` minutes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    slices = load_slices(data / "ct" / "training")
    for file in sorted((data / "ct" / "slices").glob("*.npz")):
        slices += single_slices(file)
    held = load_slices(data / "ct" / "validation")
    print(f"{len(slices)} training slices, {len(held)} validation slices", flush=True)
    torch.manual_seed(options.seed)
    network = PaperNetwork().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    state = State(network, optimizer)
    if resume:
        state.load(folder / "last.pt")
    started, shown, seconds_before = time.monotonic(), time.monotonic(), state.seconds
    recent: list[list[float]] = []
    shape = (options.crop_px, options.crop_px)
    while state.step < options.steps and time.monotonic() - started < minutes * 60:
        rng = torch.Generator().manual_seed(options.seed * 1_000_003 + state.step)
        pairs = make_pairs(slices, options.batch, shape, options.augment, rng, device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(state.step, options)
        terms, matches = compute_loss(network, pairs, options, device)
        optimizer.zero_grad(set_to_none=True)
        terms.total().backward()
        optimizer.step()
        state.step += 1
        recent.append([t.item() for t in terms] + [matches])
        if time.monotonic() - shown > every * 60 or state.step == options.steps:
            shown = time.monotonic()
            state.seconds = seconds_before + shown - started
            state.save(folder / "last.pt")  # whatever validation does, the steps are kept
            report(state, recent, validate(network, held, options, device), folder)
            recent.clear()


def report(state: State, recent: list[list[float]], held: dict[str, float], folder: Path) -> None:
    """Write a line of `log.csv`, `last.pt`, and the weights where they are the best so far."""
    means = np.mean(recent, axis=0).round(4).tolist()
    names = [*losses.LossTerms._fields, "training_matches"]
    row = {"step": state.step, "seconds": round(state.seconds)}
    row |= dict(zip(names, means, strict=True)) | {k: round(v, 4) for k, v in held.items()}
    print(row, flush=True)
    log = folder / "log.csv"
    is_new = not log.exists()
    with log.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if is_new:
            writer.writeheader()
        writer.writerow(row)
    # correct matches count, wrong ones cost: a registration leans on both
    value = held["correct"] * held["within_2px"]
    if value > state.best:
        state.best = value
        save_weights(state.network, folder / "best.safetensors", {"step": str(state.step)})
    state.save(folder / "last.pt")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True, help="run folder")
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--every", type=float, default=5.0, help="minutes between validations")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.resume and (args.out / "last.pt").exists():
        parser.error(f"{args.out} holds a training; go on with --resume or name another folder")
    (args.out / "config.toml").write_text(args.config.read_text())
    train(
        TrainOptions.read(args.config),
        args.out,
        args.data,
        resume=args.resume,
        minutes=args.minutes,
        every=args.every,
    )


if __name__ == "__main__":
    main()
