"""Ship weights: `python -m training.export runs/paper --name paper`.

Copies the best weights of a training into the package and writes their model card beside them.
"""

import argparse
import csv
import re
import sys
from pathlib import Path

from landmark_dir.errors import LandmarkDirError
from landmark_dir.models.weights import load_weights, save_weights
from training.loop.record import last_start, starts
from training.options import TrainOptions

SHIPPED = Path(__file__).parents[1] / "landmark_dir" / "models" / "files"

CARD = """---
license: apache-2.0
library_name: landmark_dir
pipeline_tag: keypoint-detection
tags:
- medical
- computed-tomography
- image-registration
- landmarks
- {network}-network
---

# `{name}`

Weights of the `{network}` network. The code of this repository trained them, starting from
{first}.

- Command: `{command}`
- Config: {config}; {step} of {steps} steps, {pairs} image pairs
- Pack (`training.prepare`): SHA-256 `{pack}`
- Device and time: {device}, {hours:.1f} h{note}
- Input scale: `{input_scale}`
- SHA-256 of the tensors: `{sha256}`

## Measured on the validation patients of the pack

The pairs are made as in training (both images deformed and changed), 320 x 320 px, with fixed
seeds. All matches of landmarks with a probability (matchability) above {threshold:g} count. Errors
are continuous, in mm.

| matches (median) | median error | within 2 px | beyond 16 px | correct (within 2 px) a pair |
|---|---|---|---|---|
| {matches:.0f} | {median_px:.2f} | {within_2px:.1%} | {beyond_16px:.2%} | {correct:.0f} |

These patients were used to choose the checkpoint, so this is a validation figure, not a test
figure.
{tables}
{data}
"""
NO_DATA_CARD = """## Data

Say here which scans the pack holds, under which licence, and what the weights are not for.
"""


def export(
    run: Path,
    name: str,
    device: str,
    *,
    note: str = "",
    evaluation: Path | None = None,
    data_card: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Copy the best weights of a training run into the package, with a model card.

    Parameters
    ----------
    device : str
        What it was trained on, in words.
    note : str
        How the run differed from the command.
    evaluation : Path, optional
        A folder of `training.evaluate` with these weights; its tables go into the card.
    data_card : Path, optional
        Markdown on the data, their licences, and limits.
    overwrite : bool
        Replace weights of that name.

    Raises
    ------
    ValueError
        If there are weights of that name already.
    BadWeights
        If the run has none yet.
    """
    path = SHIPPED / f"{name}.safetensors"
    if path.exists() and not overwrite:
        raise ValueError(f"{path}: exists; name the weights otherwise or say --overwrite")
    loaded = load_weights(run / "best.safetensors", fold=False)
    step = int(loaded.metadata["step"])
    with (run / "log.csv").open(newline="") as stream:
        row = next(r for r in csv.DictReader(stream) if int(r["step"]) == step)
    numbers = {key: float(value) for key, value in row.items() if value}
    options = TrainOptions.read(run / "config.toml")
    start, first = last_start(run), starts(run)[0].get("first")
    save_weights(loaded.network, path, {"step": str(step), "value": loaded.metadata["value"]})
    card = CARD.format(
        **{k: numbers[k] for k in ("matches", "median_px", "within_2px", "beyond_16px", "correct")},
        name=name,
        network=loaded.metadata["network"],
        first=f"`{first['weights']}` (SHA-256 of its tensors: `{first['sha256']}`)"
        if first
        else "random numbers",
        input_scale=loaded.network.scale.name,
        step=step,
        command=start["command"],
        config=f"`network = {options.network!r}`, in the config.toml of the run",
        pack=start["pack"]["sha256"],
        threshold=options.threshold,
        steps=start["steps"],
        pairs=step * options.batch,
        device=device,
        note=f"\n- Note: {note}" if note else "",
        hours=numbers["seconds"] / 3600,
        sha256=loaded.sha256,
        data=(data_card.read_text("utf-8") if data_card else NO_DATA_CARD).strip(),
        tables=_below(evaluation / "table.md") if evaluation else "",
    )
    path.with_suffix(".md").write_text(card, "utf-8")
    return path


def _below(table: Path) -> str:
    """Return a page of Markdown with its headings one level down."""
    text = re.sub(r"^#", "##", table.read_text("utf-8").strip(), flags=re.MULTILINE)
    return f"\n{text}\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--device", default="one CPU thread", help="what it was trained on")
    parser.add_argument("--note", default="", help="how the run differed from the command")
    parser.add_argument("--evaluation", type=Path, help="folder of training.evaluate")
    parser.add_argument("--data-card", type=Path, help="Markdown on data, licences and limits")
    parser.add_argument("--overwrite", action="store_true")
    args = vars(parser.parse_args())
    try:
        print(export(args.pop("run"), args.pop("name"), args.pop("device"), **args))
    except (LandmarkDirError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
