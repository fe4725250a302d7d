"""The pairs of a training, step by step: made on its device, or ahead by processes of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch.utils.data import DataLoader, Dataset

from training.data.dataset import PairBatch, choose, make_pairs, on_device
from training.data.pack import Slice
from training.loop.state import Run

AHEAD = 4  # batches that each process may be ahead


def seeds_of(run: Run, step: int) -> list[int]:
    """The seeds of this process's share of a step's pairs."""
    first = run.options.seed * 1_000_000_007 + step * run.options.batch
    return [first + row for row in run.team.share(run.options.batch)]


def pairs_of(run: Run, first: int, workers: int = 0) -> Iterator[PairBatch]:
    """The pairs of step `first` and of all that follow.

    Parameters
    ----------
    workers : int
        Processes that make pairs on the CPU; 0: they are made where the network trains.
    """
    shape, device = (run.options.crop_px, run.options.crop_px), run.team.device
    if not workers:
        for step in range(first, run.steps):
            yield make_pairs(run.slices, seeds_of(run, step), shape, run.options.augment, device)
        return
    loader = DataLoader(
        _Ahead(run, shape),
        batch_size=None,
        sampler=range(first, run.steps),
        num_workers=workers,
        prefetch_factor=AHEAD,
        pin_memory=device.type == "cuda",
    )
    for pairs in loader:
        sources = [run.slices[i] for i in choose(len(run.slices), pairs.seeds)]
        yield replace(pairs.to(device), sources=sources)


class _Ahead(Dataset[PairBatch]):
    """The pairs of each step, made on the CPU; without the slices, which the training has."""

    def __init__(self, run: Run, shape: tuple[int, int]) -> None:
        cpu = torch.device("cpu")
        self._run, self._shape = run, shape
        self._slices: Sequence[Slice] = [on_device(part, cpu) for part in run.slices]

    def __getitem__(self, step: int) -> PairBatch:
        seeds, augment = seeds_of(self._run, step), self._run.options.augment
        pairs = make_pairs(self._slices, seeds, self._shape, augment, torch.device("cpu"))
        return replace(pairs, sources=[])
