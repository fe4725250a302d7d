"""A training run: what stays (`Run`) and what changes (`State`)."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from landmark_dir.models.weights import NETWORKS, LoadedWeights, Network
from training.data.pack import Slice
from training.loop.processes import Team
from training.options import TrainOptions

WARM_UP_STEPS = 100


@dataclass
class State:
    """What changes while training, and is kept in `last.pt`."""

    network: Network
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


@dataclass(frozen=True)
class Run:
    """What stays while training.

    Attributes
    ----------
    folder : Path
    options : TrainOptions
    steps : int
        Where the training ends; the learning rate decays towards it.
    slices, held : list of Slice
        To train on, and of other patients to validate on.
    minutes, every : float
        Stop after, and validate every, so many minutes.
    workers : int
        Processes that make pairs ahead of this one; 0: none.
    first : LoadedWeights, optional
        What a new training starts from, batch normalisation unfolded; else from random numbers.
    """

    folder: Path
    options: TrainOptions
    steps: int
    slices: list[Slice]
    held: list[Slice]
    minutes: float = math.inf
    every: float = 5.0
    team: Team = field(default_factory=Team)
    workers: int = 0
    first: LoadedWeights | None = None


def new_state(options: TrainOptions, team: Team, first: LoadedWeights | None = None) -> State:
    """A network, the same in every process, and its optimiser; of random numbers or `first`."""
    torch.manual_seed(options.seed)
    network = NETWORKS[options.network]()
    if first is not None:
        network.load_state_dict(first.network.state_dict())
    team.share_batch_norm(network)
    network.to(team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    adam = torch.optim.Adam if options.network == "paper" else torch.optim.AdamW
    optimizer = adam(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    return State(network, optimizer)


def learning_rate(step: int, steps: int, options: TrainOptions) -> float:
    """Short warm-up, then cosine decay."""
    share = min(step / steps, 1.0)
    low, high = options.final_learning_rate, options.learning_rate
    rate = low + (high - low) * 0.5 * (1 + math.cos(math.pi * share))
    return rate * min(1.0, (step + 1) / WARM_UP_STEPS)
