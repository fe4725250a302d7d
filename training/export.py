"""Ship weights: `python -m training.export runs/paper --name paper`.

Copies the best weights of a training into the package and writes their model card beside them.
"""

import argparse
import csv
from pathlib import Path

from landmark_dir.weights import load_weights, save_weights
from training.options import TrainOptions
from training.record import last_start

SHIPPED = Path(__file__).parents[1] / "landmark_dir" / "model_files"

CARD = """# `{name}`

Weights of the `{network}` network, trained by this repository's own code from random numbers.

- Command: `python -m training.train --config training/configs/{name}.toml --pack packs/ct
  --steps {steps} -o runs/{name}`, with the pack of `training.prepare` (docs/training.md)
- Config: the one in the repository; {step} of {steps} steps, {pairs} image pairs
- Device and time: {device}, {hours:.1f} h{note}
- Tensors' SHA-256: `{sha256}`

## Measured on `ct/validation`

Pairs made as in training (both images warped and jittered), 320 x 320 px, seeds fixed; matches are
inverse consistent with landmark probability above 0.5; errors are continuous, in px of 1 mm.

| matches (median) | median error | within 2 px | beyond 16 px | correct (within 2 px) a pair |
|---|---|---|---|---|
| {matches:.0f} | {median_px:.2f} | {within_2px:.1%} | {beyond_16px:.2%} | {correct:.0f} |

These patients chose the checkpoint, so this is a validation figure, not a test figure.
{tables}
## Data

33 CT volumes of 32 patients (thorax, abdomen, pelvis, groin) and 95 single slices of 54 patients,
1 mm in-plane. Only the weights are distributed, never the data. Licences are stated as generally
known and were not re-checked file by file.

| collection | licence |
|---|---|
| OHIF viewer test data (juno) | MIT |
| TCIA ACRIN-NSCLC-FDG-PET, ACRIN-FLT-Breast | CC BY 3.0 |
| TCIA NLST, Colorectal-Liver-Metastases, CMB-CRC | CC BY 4.0 |
| TCIA LIDC-IDRI, CPTAC-PDA, CPTAC-LSCC, Soft-tissue-Sarcoma, TCGA-LUAD | CC BY 3.0 |
| COVID-CT-MD (Afshar et al., Sci Data 2021) | CC BY 4.0 |
| TCIA RIDER, C4KC-KiTS, Lung-Fused-CT-Pathology, Lung-PET-CT-Dx | CC BY 3.0 / 4.0 |

## Limits

Trained on adults' CT in HU; head and neck were not among the data, nor was metal. Trained far
shorter than the seed paper's 28 GPU hours. For research; not a medical device.
"""


def export(
    run: Path, name: str, device: str, note: str = "", evaluation: Path | None = None
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
    """
    loaded = load_weights(run / "best.safetensors", fold=False)
    step = int(loaded.metadata["step"])
    with (run / "log.csv").open(newline="") as stream:
        row = next(r for r in csv.DictReader(stream) if int(r["step"]) == step)
    numbers = {key: float(value) for key, value in row.items() if value}
    options = TrainOptions.read(run / "config.toml")
    path = SHIPPED / f"{name}.safetensors"
    save_weights(loaded.network, path, {"step": str(step), "value": loaded.metadata["value"]})
    card = CARD.format(
        **{k: numbers[k] for k in ("matches", "median_px", "within_2px", "beyond_16px", "correct")},
        name=name,
        network=loaded.metadata["network"],
        step=step,
        steps=last_start(run)["steps"],
        pairs=step * options.batch,
        device=device,
        note=f"\n- Note: {note}" if note else "",
        hours=numbers["seconds"] / 3600,
        sha256=loaded.sha256,
        tables=f"\n{(evaluation / 'table.md').read_text().strip()}\n" if evaluation else "",
    )
    path.with_suffix(".md").write_text(card)
    return path


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--device", default="one CPU thread", help="what it was trained on")
    parser.add_argument("--note", default="", help="how the run differed from the command")
    parser.add_argument("--evaluation", type=Path, help="folder of training.evaluate")
    args = parser.parse_args()
    print(export(args.run, args.name, args.device, args.note, args.evaluation))


if __name__ == "__main__":
    main()
