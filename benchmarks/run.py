"""All benchmarks, as Markdown for `docs/results.md`: `python -m benchmarks.run`."""

import datetime
import tempfile
from pathlib import Path

from benchmarks import (
    corruption,
    extreme_hu,
    faults,
    followups,
    growing_lesions,
    inputs,
    kernels,
    landmark_weight,
    lesions,
    lung,
    rigid_parts,
    speed,
    study_faults,
    study_followups,
    study_scale,
    study_throughput,
    training,
)
from benchmarks.common import data_folder, machine
from landmark_dir.comparison.compare import demo
from training import evaluate, prepare


def main() -> None:
    """Print every table with machine, date and command."""
    print(f"Machine: {machine()}. Date: {datetime.date.today()}.\n")
    print("## The demo's phantom pair\n\n`landmark-dir demo -o runs/demo`\n")
    with tempfile.TemporaryDirectory() as scratch:
        print(f"```\n{demo(Path(scratch) / 'demo').table()}\n```\n")
    print("## Speed and memory\n\n`python -m benchmarks.speed`\n")
    speed.main([])
    print("\n## Killed, and on a full disk\n\n`python -m benchmarks.faults`\n")
    faults.main([])
    print(
        "\n## Many pairs, and whoever works at them killed\n\n`python -m benchmarks.study_faults`\n"
    )
    study_faults.main([])
    print("\n## Cases an hour\n\n`python -m benchmarks.study_throughput`\n")
    study_throughput.main([])
    print("\n## A hundred thousand cases\n\n`python -m benchmarks.study_scale`\n")
    study_scale.main([])
    print("\n## Rigid parts\n\n`python -m benchmarks.rigid_parts`\n")
    rigid_parts.main([])
    print("\n## Made and damaged files\n\n`python -m benchmarks.inputs`\n")
    inputs.main([])
    if not (data_folder() / "pairs").is_dir():
        print("\nThe real pairs are not here; set LANDMARK_DIR_DATA.")
        return
    print("\n## A real lung pair\n\n`python -m benchmarks.lung`\n")
    lung.main([])
    print("\n## Nothing moved\n\n`python -m benchmarks.kernels`\n")
    kernels.main()
    print("\n## With or without landmarks\n\n`python -m benchmarks.followups`\n")
    followups.main([])
    print("\n## A study from DICOM to its page\n\n`python -m benchmarks.study_followups`\n")
    with tempfile.TemporaryDirectory() as scratch:
        study_followups.main(["-o", scratch])
    print("\n## Lesions followed\n\n`python -m benchmarks.lesions`\n")
    lesions.main([])

    print("\n## Growing lesions\n\n`python -m benchmarks.growing_lesions`\n")
    growing_lesions.main([])
    print("\n## Spoilt landmarks\n\n`python -m benchmarks.corruption`\n")
    corruption.main([])
    print("\n## Metal, padding and other scales\n\n`python -m benchmarks.extreme_hu`\n")
    extreme_hu.main([])
    with tempfile.TemporaryDirectory() as scratch:
        print("\n## Their weight and number\n\n`python -m benchmarks.landmark_weight`\n")
        landmark_weight.main(["-o", str(Path(scratch) / "landmark_weight.png")])
        learn(data_folder(), Path(scratch))


def learn(data: Path, scratch: Path) -> None:
    """Pack the data, time a training step, and measure the shipped network against SIFT."""
    pack, ct = str(scratch / "pack"), data / "ct"
    print("\n## The pack\n")
    sources = [str(ct / "training"), str(ct / "slices"), "--validation", str(ct / "validation")]
    prepare.main([*sources, "--patient-pattern", "(.+?)(?:-[ab])?$", "-o", pack, "--step-hu", "8"])
    print("\n## Where the time of a training step goes\n")
    training.main([pack])
    print("\n## Matching, on slices of validation patients\n")
    slices = data / "pairs" / "followup-slices" / "covid-ny-sbu.npz"
    options = ["--pack", pack, "--followup-slices", str(slices), "-o", str(scratch / "evaluation")]
    evaluate.main(options)


if __name__ == "__main__":
    main()
