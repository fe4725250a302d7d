"""A stand-in for registrations, for what is measured and tried around them.

Run by `study.task` instead of `study.case_worker`. It takes 10 ms, and leaves the record of a case
and nothing else. What the fixed file holds says what it does instead: `fails`, `refused`,
`crashes`, `crashes once`, `slow`, `large`.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from landmark_dir.child_process import answer_requests, end_with_parent
from landmark_dir.comparison.tables import ARMS, STATES
from landmark_dir.io import run_folder
from landmark_dir.study.cases import Case
from landmark_dir.study.folder import CASE, StudyFolder, about

SLEEP_S = 0.01
SLOW_S = 60.0
LARGE_BYTES = 400_000_000
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
NAME = "benchmarks.stand_in"


def run_case(request: dict[str, Any]) -> dict[str, Any] | None:
    """Do a case, or what the fixed file says."""
    study = StudyFolder(Path(request["root"]), request["compare"])
    case = Case.of_json(request["case"])
    fixed = case.files["fixed"]
    if not fixed.is_file():
        return {"error": f"fixed {fixed}: no such file", "again": False}
    told = fixed.read_text()[:20].strip()
    if told in ("fails", "refused"):
        return {"error": "elastix gave up", "again": told == "fails"}
    _misbehave(told, fixed)
    with run_folder.new_run_folder(study.place(case), overwrite=True) as folder:
        name = run_folder.COMPARISON_JSON if study.compare else run_folder.RUN_JSON
        run_folder.write_json(folder / name, record(study.compare, case, request["options"]))
    return None


def _misbehave(told: str, file: Path) -> None:
    if told == "crashes once":
        file.write_text("good now")
    if told.startswith("crashes"):
        os.kill(os.getpid(), signal.SIGSEGV)
    held = b"x" * LARGE_BYTES if told == "large" else b""
    time.sleep(SLOW_S if told == "slow" or held else SLEEP_S)


def record(compare: bool, case: Case, options: dict[str, Any]) -> dict[str, Any]:
    """What a run or a comparison says of itself, as far as a study reads it."""
    inputs = {name: run_folder.describe_file(file) for name, file in case.files.items()}
    for side in ("fixed", "moving"):
        grid = {"spacing_mm": [1.0] * 3, "origin_mm": [0.0] * 3, "direction": IDENTITY}
        inputs[side] |= {"size_xyz": [9, 9, 9], **grid}
    metrics = {"correlation": 0.9, "folded_share": 0.0, "residual_mm": None, "landmarks": 0}
    verdict = {"verdict": "good", "reasons": ["nothing was done"]}
    shared = {"landmark_dir": "0", "inputs": inputs, "options": options, "warnings": []}
    shared |= {CASE: about(case)}
    if not compare:
        return {**shared, "metrics": metrics, "verdict": verdict, "seconds": {"affine": SLEEP_S}}
    arm = {**metrics, **verdict, "seconds": SLEEP_S}
    tre = {"tre_mm": {"mean": 1.0}}
    states = {state: tre | (arm if state in ARMS else {}) for state in STATES}
    return {**shared, "states": states, "with_minus_without": {}}


def main(parent: int) -> None:
    """Answer requests of `study.task`."""
    end_with_parent(parent)
    answer_requests(run_case, lambda: None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
