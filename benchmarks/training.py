"""Where the time of a training step goes: `python -m benchmarks.training PACK [--steps N]`.

One thread, two threads, and CUDA where there is one, each in turn, on the paper's config.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.common import machine, markdown
from training.data.ahead import pairs_of
from training.data.dataset import on_device
from training.data.pack import read_pack
from training.loop.processes import Team
from training.loop.state import Run, new_state
from training.loop.timing import Stopwatch
from training.options import TrainOptions
from training.train import take_step

CONFIG = Path(__file__).parents[1] / "training" / "configs" / "paper.toml"
WARM_UP = 5


def measure(run: Run, steps: int) -> Stopwatch:
    """Seconds by phase of so many steps, after some to warm up."""
    state, watch = new_state(run.options, run.team), Stopwatch(exact=True)
    batches = pairs_of(run, 0)
    for step in range(WARM_UP + steps):
        take_step(state, run, watch, batches)
        if step == WARM_UP - 1:
            watch = Stopwatch(exact=True)
    return watch


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, milliseconds a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args(arguments)
    options = TrainOptions.read(CONFIG)
    slices = read_pack(args.pack, "training")
    watches = {}
    if torch.cuda.is_available():
        team = Team()
        there = [on_device(part, team.device) for part in slices]
        name = torch.cuda.get_device_name()
        watches[name] = measure(Run(Path(), options, 1000, there, [], team=team), args.steps)
    else:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            run = Run(Path(), options, 1000, slices, [])
            watches[f"CPU, {threads} threads"] = measure(run, args.steps)
    phases = list(next(iter(watches.values())).seconds)
    rows: list[list[object]] = [
        [phase, *(1000 * watch.seconds[phase] / args.steps for watch in watches.values())]
        for phase in phases
    ]
    totals = [sum(watch.seconds.values()) for watch in watches.values()]
    rows.append(["all", *(1000 * total / args.steps for total in totals)])
    rows.append(["network's share", *(f"{w.network_share():.0%}" for w in watches.values())])
    rows.append(["pairs a second", *(options.batch * args.steps / total for total in totals)])
    print(markdown(["ms a step", *watches], rows))
    print(f"\n{machine()}; batches of {options.batch} pairs of {options.crop_px} px")


if __name__ == "__main__":
    main()
