"""What a training leaves in its run folder, and how a folder is opened and resumed."""

import csv
import json
import math
import platform
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from landmark_dir import __version__
from landmark_dir.io.run_folder import write_json
from landmark_dir.models.weights import load_weights, save_weights
from training.data.pack import pack_hash
from training.loop.state import Run, State
from training.loop.timing import Stopwatch
from training.loop.validation import validate


class Log:
    """The files and the screen of the leading process."""

    def __init__(self, run: Run, step: int) -> None:
        self._run = run
        self._board = SummaryWriter(str(run.folder / "tensorboard"), purge_step=step + 1)
        self._bar = tqdm(total=run.steps, initial=step, unit="step", disable=None)

    def advance(self, recent: list[torch.Tensor], terms: int) -> None:
        """Move the progress bar; every 50 steps, show the loss: the first `terms` columns."""
        self._bar.update()
        if len(recent) % 50 == 0:
            loss = torch.stack(recent[-50:])[:, :terms].sum(1).mean().item()
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self._board.add_scalar("loss/total", loss, self._bar.n)

    def report(self, state: State, means: dict[str, float], watch: Stopwatch) -> None:
        """Validate; write a line of `log.csv`, and the weights where they are the best so far."""
        run, folder = self._run, self._run.folder
        state.save(folder / "last.pt")  # whatever validation does, the steps are kept
        held = validate(
            state.network, run.held, run.options.augment, run.options.threshold, run.team.device
        )
        shown = {**means, **held, "network_share": watch.network_share()}
        row: dict[str, float] = {"step": state.step, "seconds": round(state.seconds)}
        row |= {key: round(value, 4) for key, value in shown.items()}
        _append(folder / "log.csv", row)
        for key, value in shown.items():
            part = "validation" if key in held else "training"
            self._board.add_scalar(f"{part}/{key}", value, state.step)
        self._bar.update(state.step - self._bar.n)
        self._bar.clear()
        print(row, flush=True)
        if held["value"] > state.best:
            state.best = held["value"]
            notes = {"step": str(state.step), "value": str(state.best)}
            save_weights(state.network, folder / "best.safetensors", notes)
        state.save(folder / "last.pt")

    def close(self) -> None:
        """Close the files."""
        self._board.close()
        self._bar.close()


def _append(path: Path, row: dict[str, Any]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def best_value(folder: Path) -> float:
    """What the best weights so far were chosen by; a kill may have kept it out of `last.pt`."""
    path = folder / "best.safetensors"
    return float(load_weights(path).metadata["value"]) if path.exists() else -math.inf


def open_folder(folder: Path, config: Path | None, pack: Path, *, resume: bool) -> Path:
    """Check a run folder; return the config file to go by.

    Raises
    ------
    ValueError
        If the folder holds another training, or none to resume, or config or pack have changed.
    """
    kept, last = folder / "config.toml", folder / "last.pt"
    if not resume:
        if last.exists():
            raise ValueError(
                f"{folder}: holds a training; go on with --resume or name another folder"
            )
        if config is None:
            raise ValueError("--config: a new training needs one, training/configs/paper.toml say")
        if not config.is_file():
            raise ValueError(f"{config}: no such config file; see training/configs")
        return config
    if not last.exists():
        raise ValueError(f"{folder}: no last.pt to resume from; start without --resume")
    if config is not None and config.read_text("utf-8") != kept.read_text("utf-8"):
        raise ValueError(
            f"{config}: differs from {kept}, which the training began with; leave --config out, "
            "or start a new run"
        )
    began, found = last_start(folder)["pack"]["sha256"], pack_hash(pack)
    if found != began:
        raise ValueError(
            f"{pack}: expected the pack that the training began with ({began}), found "
            f"{found}; resume with that one, or start a new run"
        )
    return kept


def last_start(folder: Path) -> dict[str, Any]:
    """The last entry of `run.json`."""
    return starts(folder)[-1]


def starts(folder: Path) -> list[dict[str, Any]]:
    """The entries of `run.json`: the beginning of a training, then each time it was resumed."""
    found: list[dict[str, Any]] = json.loads((folder / "run.json").read_text("utf-8"))["starts"]
    return found


def write_start(run: Run, config: str, pack: Path, *, resume: bool) -> None:
    """Write `config.toml` and this start's entry of `run.json`, which a new training begins."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "config.toml").write_text(config)
    before = starts(run.folder) if resume else []
    write_json(run.folder / "run.json", {"starts": [*before, _describe_start(run, pack)]})


def _describe_start(run: Run, pack: Path) -> dict[str, Any]:
    """What a start of a training depends on, for `run.json`."""
    first = run.first and {"weights": run.first.path.name, "sha256": run.first.sha256}
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "training.train", *sys.argv[1:]]),
        "steps": run.steps,
        "first": first,
        "code": {"version": __version__, "commit": _commit()},
        "pack": {"sha256": pack_hash(pack), "slices": len(run.slices), "held_out": len(run.held)},
        "torch": torch.__version__,
        "device": str(run.team.device),
        "machine": platform.platform(),
        "processes": run.team.size,
        "threads": torch.get_num_threads(),
    }


def _commit() -> str:
    """The commit of this code, with `-dirty` where files were changed since."""
    call = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude", "*"]
    try:
        found = subprocess.run(
            call, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
