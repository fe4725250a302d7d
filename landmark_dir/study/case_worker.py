"""The child's side: register or compare one case after the other; each leaves a whole folder.

Started by `Child` as `python -m landmark_dir.study.case_worker PARENT`. torch and the network's
weights stay loaded from case to case.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from landmark_dir.child_process import answer_requests, end_with_parent
from landmark_dir.comparison.compare import compare
from landmark_dir.comparison.references import at_labels, at_points, load_references
from landmark_dir.errors import BackendMissing, ElastixFailed, LandmarkDirError
from landmark_dir.io import run_folder
from landmark_dir.io.reading import Reading
from landmark_dir.io.volumes import read_with_warnings
from landmark_dir.options import RegisterOptions
from landmark_dir.registration.inputs import load_inputs
from landmark_dir.registration.pipeline import register
from landmark_dir.study.cases import TISSUES, Case, check_files_of
from landmark_dir.study.folder import ALL, CASE, PARTS, StudyFolder, about


def main(parent: int) -> None:
    """Answer requests of `task`, as long as the process that sends them lives."""
    end_with_parent(parent)
    answer_requests(run_case, lambda: None)


def run_case(request: dict[str, Any]) -> dict[str, Any] | None:
    """Do a case; None, or why it failed and whether another attempt may go better."""
    study = StudyFolder(Path(request["root"]), request["compare"])
    case = Case.of_json(request["case"])
    flat = {n: tuple(o) if isinstance(o, list) else o for n, o in request["options"].items()}
    try:
        check_files_of(case, "its row")
        place, read = study.place(case), list(case.files.values())
        with run_folder.new_run_folder(place, overwrite=True, inputs=read) as folder:
            run = _compare if study.compare else _register
            run(case, RegisterOptions.of(**flat), folder)
            _leave_out(folder, request["keep"])
    except (ElastixFailed, BackendMissing) as error:
        return {"error": str(error), "again": True}
    except LandmarkDirError as error:
        return {"error": str(error), "again": False}
    except (OSError, RuntimeError, MemoryError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}", "again": True}
    return None


def _images(case: Case) -> tuple[Reading, Reading]:
    fixed, moving = (
        read_with_warnings(case.files[side], case.series.get(f"{side}_series"))
        for side in ("fixed", "moving")
    )
    return fixed, moving


def _masks(case: Case) -> dict[str, Any]:
    return {name: case.files.get(name) for name in ("fixed_mask", "moving_mask", *TISSUES)}


def _compare(case: Case, options: RegisterOptions, folder: Path) -> None:
    points, labels = case.both("points"), case.both("labels")
    compare(*_images(case), folder, options, expert=points, labels=labels, **_masks(case))
    record = run_folder.read_json(folder / run_folder.COMPARISON_JSON)
    run_folder.write_json(folder / run_folder.COMPARISON_JSON, record | {CASE: about(case)})


def _register(case: Case, options: RegisterOptions, folder: Path) -> None:
    """Register, and measure at the points and label maps of the case, which guide nothing."""
    images = _images(case)
    references = case.both("points"), case.both("labels")
    truth = None
    if any(references):  # read and checked before anything slow is done
        truth = load_references(*references, load_inputs(*images, options))
    result = register(*images, folder, options, **_masks(case))
    record = run_folder.read_run_json(folder)
    if truth is not None:
        chains = {"after": result.chain}
        points = at_points(chains, truth.expert)
        labels = at_labels(chains, truth.labels).get("after", {})
        measured: dict[str, Any] = {}
        if points is not None:
            measured["tre_mm"] = points.summaries["after"]._asdict()
        if labels:
            measured["mean_dice"] = float(np.mean([one.dice for one in labels.values()]))
            measured["labels"] = {str(label): one._asdict() for label, one in labels.items()}
        record["metrics"] |= measured
        for name, file in truth.files.items():
            record["inputs"][name] = run_folder.describe_file(file)
    run_folder.write_run_json(folder, record | {CASE: about(case)})


def _leave_out(folder: Path, keep: list[str]) -> None:
    """Remove the parts of a run folder, or of both arms, that are not asked for."""
    if ALL in keep:
        return
    for file in [one for one in folder.rglob("*") if one.is_file()]:
        parts = [name for name, form in PARTS.items() if form.fullmatch(file.name)]
        if parts and not set(parts) & set(keep):
            file.unlink()


if __name__ == "__main__":
    main(int(sys.argv[1]))
