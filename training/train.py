"""Train a network.

    python -m training.train --config training/configs/paper.toml --pack packs/ct -o runs/paper
    python -m training.train --pack packs/ct -o runs/paper --resume
    torchrun --nproc-per-node 2 -m training.train ...

The run folder holds `config.toml`, `run.json` (code version, data hash, machine; one entry a
start), `log.csv`, `tensorboard/`, `last.pt` (to resume from) and `best.safetensors`. Pair n draws
its random numbers from (seed, n) alone, so a resumed run goes on in the same stream, and several
processes see what one would.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from landmark_dir.errors import BadWeights, LandmarkDirError
from landmark_dir.models.weights import LoadedWeights, load_weights
from training.data.ahead import pairs_of
from training.data.dataset import PairBatch, on_device
from training.data.pack import read_pack
from training.loop.processes import Team
from training.loop.record import Log, best_value, last_start, open_folder, write_start
from training.loop.state import Run, State, learning_rate, new_state
from training.loop.timing import Stopwatch
from training.networks import default, paper
from training.networks.paper import Step
from training.options import TrainOptions

STEPS: dict[str, Callable[..., Step]] = {
    "paper": paper.training_step,
    "default": default.training_step,
}


def take_step(state: State, run: Run, watch: Stopwatch, batches: Iterator[PairBatch]) -> Step:
    """One step of the optimiser, on this process's share of the batch."""
    options, team = run.options, run.team
    with watch.phase("pairs"):
        pairs = next(batches)
    step: Step = STEPS[options.network](state.network, pairs, options, watch, team)
    with watch.phase("backward"):
        state.optimizer.zero_grad(set_to_none=True)
        loss = torch.stack([*step.terms.values()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        team.average_gradients(state.network)
    with watch.phase("optimizer"):
        for group in state.optimizer.param_groups:
            group["lr"] = learning_rate(state.step, run.steps, options)
        state.optimizer.step()
    state.step += 1
    return step


def train(run: Run, *, resume: bool = False) -> int:
    """Train until `run.steps` or `run.minutes` are reached; validate every `run.every` minutes.

    Returns
    -------
    int
        The step that was reached.
    """
    state = new_state(run.options, run.team, run.first)
    if resume:
        state.load(run.folder / "last.pt")
        state.best = max(state.best, best_value(run.folder))
    elif run.team.leads:
        state.save(run.folder / "last.pt")  # from here on a kill can be resumed
    log = Log(run, state.step) if run.team.leads else None
    started = last_shown = time.monotonic()
    seconds_before = state.seconds
    watch = Stopwatch()
    recent: list[torch.Tensor] = []
    batches = pairs_of(run, state.step, run.workers)
    is_last = state.step >= run.steps
    while not is_last:
        step = take_step(state, run, watch, batches)
        shown = {**step.terms, **step.figures}
        recent.append(torch.stack([*shown.values()]).detach())
        now = time.monotonic()
        is_last = run.team.agree(state.step >= run.steps or now - started > run.minutes * 60)
        if run.team.agree(is_last or now - last_shown > run.every * 60):
            last_shown = now
            state.seconds = seconds_before + now - started
            means = run.team.average(torch.stack(recent).mean(0)).tolist()
            if log is not None:
                log.report(state, dict(zip(shown, means, strict=True)), watch)
            recent, watch = [], Stopwatch()
        elif log is not None:
            log.advance(recent, len(step.terms))
    if log is not None:
        log.close()
    return state.step


def command_line() -> argparse.ArgumentParser:
    """What `main` understands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, help="needed for a new training")
    parser.add_argument("--pack", type=Path, required=True, help="made by training.prepare")
    parser.add_argument("-o", "--out", type=Path, required=True, help="run folder")
    parser.add_argument("--first", help="weights to start from: a shipped name or a file")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--steps", type=int, help="end here instead of after the config's epochs")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after; can resume")
    parser.add_argument("--every", type=float, default=5.0, help="minutes between validations")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that make pairs ahead, for a GPU"
    )
    return parser


def first_weights(weights: str, network: str) -> LoadedWeights:
    """The weights that a training starts from.

    Raises
    ------
    BadWeights
        If they cannot be read, or are those of another network.
    """
    loaded = load_weights(weights, fold=False)
    if loaded.metadata["network"] != network:
        raise BadWeights(
            f"--first {weights}: expected weights of the `{network}` network, as the config says, "
            f"found those of `{loaded.metadata['network']}`"
        )
    return loaded


def open_run(args: argparse.Namespace, team: Team) -> Run:
    """Check everything, read the pack, and note the start in the run folder.

    Raises
    ------
    ValueError, BadPack
        If the config, the pack or the run folder cannot be used.
    BadWeights
        If the weights to start from cannot be.
    """
    if args.resume and args.first:
        raise ValueError("--first: a resumed training goes on from its own state; leave it out")
    if args.steps is not None and args.steps < 1:
        raise ValueError(f"--steps: expected 1 or more, found {args.steps}")
    config = open_folder(args.out, args.config, args.pack, resume=args.resume)
    text, options = config.read_text("utf-8"), TrainOptions.read(config)
    first = first_weights(args.first, options.network) if args.first else None
    team.share(options.batch)
    slices, held = (read_pack(args.pack, split) for split in ("training", "validation"))
    steps = args.steps
    if steps is None:
        steps = last_start(args.out)["steps"] if args.resume else options.steps(len(slices))
    slices = [on_device(part, team.device) for part in slices]
    limits = args.minutes, args.every
    run = Run(args.out, options, steps, slices, held, *limits, team, args.workers, first)
    team.wait()  # nobody looks at the folder any more
    if team.leads:
        write_start(run, text, args.pack, resume=args.resume)
    return run


def main() -> None:
    """Command line."""
    args = command_line().parse_args()
    torch.set_num_threads(args.threads)
    team = Team.join()
    try:
        run = open_run(args, team)
    except (LandmarkDirError, ValueError, OSError) as error:
        sys.exit(f"error: {error}" if team.leads else 1)
    try:
        done = train(run, resume=args.resume)
    except KeyboardInterrupt:
        again = f"python -m training.train --pack {args.pack} -o {args.out} --resume"
        sys.exit(f"stopped; go on with: {again}")
    if team.leads:
        print(f"{args.out}: at step {done} of {run.steps}")
    team.leave()


if __name__ == "__main__":
    main()
