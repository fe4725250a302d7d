"""All benchmarks, as Markdown for `docs/results.md`: `python -m benchmarks.run`."""

import datetime
import tempfile
from pathlib import Path

from benchmarks import kernels, landmark_weight, lung, network
from benchmarks.common import data_folder, machine
from landmark_dir.compare import demo


def main() -> None:
    """Print every table with machine, date and command."""
    print(f"Machine: {machine()}. Date: {datetime.date.today()}.\n")
    print("## The demo's phantom pair\n\n`landmark-dir demo -o runs/demo`\n")
    with tempfile.TemporaryDirectory() as scratch:
        print(f"```\n{demo(Path(scratch) / 'demo').table()}\n```\n")
    print("## Speed and memory\n\n`python -m benchmarks.network`\n")
    network.main()
    if not (data_folder() / "pairs").is_dir():
        print("\nThe real pairs are not here; set LANDMARK_DIR_DATA.")
        return
    print("\n## A real lung pair\n\n`python -m benchmarks.lung`\n")
    lung.main([])
    print("\n## Nothing moved\n\n`python -m benchmarks.kernels`\n")
    kernels.main()
    print("\n## The weight of the landmarks\n\n`python -m benchmarks.landmark_weight`\n")
    landmark_weight.main()


if __name__ == "__main__":
    main()
