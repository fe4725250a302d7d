"""With against without landmarks over several cases: a file of cases in, one folder each out."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from landmark_dir.comparison.cases import Case, read_cases
from landmark_dir.comparison.compare import check_options, compare
from landmark_dir.comparison.references import described
from landmark_dir.comparison.tables import AFTER, ARMS, STATES, cases_table, write_figures
from landmark_dir.errors import BadRunFolder, LandmarkDirError
from landmark_dir.evaluation.statistics import paired_difference
from landmark_dir.evaluation.verdict import WORDS
from landmark_dir.io import run_folder
from landmark_dir.io.outputs import output_place, replacing
from landmark_dir.io.text_files import is_number
from landmark_dir.options import DEFAULTS, RegisterOptions
from landmark_dir.progress import Progress, part, silent

log = logging.getLogger(__name__)

Figures: TypeAlias = dict[str, Any]  # of one case, as `comparison.json` has them

POOLED = ("tre_mm", "held_back_mm", "mean_dice")


@dataclass(frozen=True)
class CasesComparison:
    """What several cases say together.

    Attributes
    ----------
    cases : list of dict
        For each case its `case` and its figures, or why it failed as `error`.
    pooled : dict
        For TRE, held-back landmarks and Dice: the means over cases of each case's mean, and their
        paired difference. A case counts once, however many points it has.
    """

    cases: list[Figures]
    pooled: dict[str, dict[str, Any]]

    @property
    def failed(self) -> list[str]:
        """Names of the cases that failed."""
        return [case["case"] for case in self.cases if "error" in case]

    def table(self) -> str:
        """Each case, and all together."""
        return cases_table(self.cases, self.pooled)


def compare_cases(
    cases: str | Path | Sequence[Case],
    out: str | Path,
    options: RegisterOptions = DEFAULTS,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> CasesComparison:
    """Compare both arms on each case, and over all cases.

    A case that fails is reported; the others go on. Each finished case stands in `out`
    under its name, whatever happens later; `comparison.json` and `.csv` in `out` come last.

    Parameters
    ----------
    cases : path or sequence of Case
        A CSV file for `read_cases`, or what it gives.
    resume : bool
        Keep finished cases; they must be of the same files and options.
    overwrite : bool
        Replace finished cases.

    Raises
    ------
    ValueError
        As `compare`.
    LandmarkDirError
        If the file of cases is not as expected, or `out` is in the way.
    """
    check_options(options)
    output_place(Path(out))
    out = Path(out)
    cases = read_cases(cases) if isinstance(cases, str | Path) else cases
    _check_out(out, resume or overwrite)
    finished = {case.name for case in cases if _is_finished(case, out, options, resume, overwrite)}
    _make_room(out)
    found = []
    for number, case in enumerate(cases, start=1):
        at = f"{case.name} ({number} of {len(cases)})"
        if case.name not in finished:
            share = (number - 1) / len(cases), number / len(cases)
            told = part(progress, *share, at, between=", ")
            error = _compare_one(case, out, options, overwrite, told)
            if error is not None:
                log.error("%s failed: %s", at, error)
                found.append({"case": case.name, "error": error})
                continue
        found.append({"case": case.name, **_read_figures(out / case.name)})
    comparison = CasesComparison(found, _pooled(found))
    _write(comparison, options, out)
    return comparison


def _check_out(out: Path, may_exist: bool) -> None:
    if out.exists() and not out.is_dir():
        raise BadRunFolder(f"{out}: is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not may_exist:
        raise BadRunFolder(
            f"{out} exists already; --resume keeps its finished cases, --overwrite replaces them"
        )
    has_comparison = (out / run_folder.COMPARISON_JSON).is_file()
    if (out / run_folder.RUN_JSON).is_file() or (has_comparison and "cases" not in _read(out)):
        raise BadRunFolder(f"{out} holds one pair, not cases, and is left alone; name another")


def _make_room(out: Path) -> None:
    """Create the folder; results of earlier cases go, so that it does not look finished."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (run_folder.COMPARISON_JSON, run_folder.COMPARISON_CSV):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise BadRunFolder(f"{out}: cannot be written, {error.strerror}") from error


def _is_finished(
    case: Case, out: Path, options: RegisterOptions, resume: bool, overwrite: bool
) -> bool:
    """Tell whether a case is done and to be kept; refuse a folder that is something else."""
    folder = out / case.name
    if not folder.exists():
        return False
    if not (folder / run_folder.COMPARISON_JSON).is_file():
        raise BadRunFolder(f"{folder} is no comparison and is left alone; name another folder")
    if overwrite or not resume:
        return False
    if changed := _changed(_read(folder), case, options):
        raise BadRunFolder(
            f"{folder} was made with another {', '.join(changed)}; name another folder, or "
            "replace all cases with --overwrite"
        )
    return True


def _changed(content: Figures, case: Case, options: RegisterOptions) -> list[str]:
    """Names of what is not as it was: version, options, files."""
    inputs = _part(content, "inputs")
    before = {
        "landmark_dir": content.get("landmark_dir"),
        **_part(content, "options"),
        **{name: _part(inputs, name).get("sha256") for name in inputs},
    }
    now = {
        "landmark_dir": version("landmark_dir"),
        **json.loads(json.dumps(options.flat())),
        **{name: file["sha256"] for name, file in described(case.files).items()},
    }
    return [name for name in before | now if before.get(name) != now.get(name)]


def _compare_one(
    case: Case, out: Path, options: RegisterOptions, overwrite: bool, progress: Progress
) -> str | None:
    """Run a case into its folder; the sentence that says why, if it failed."""
    try:
        compare(
            case.files["fixed"],
            case.files["moving"],
            out / case.name,
            options,
            expert=case.both("points"),
            labels=case.both("labels"),
            fixed_mask=case.files.get("fixed_mask"),
            moving_mask=case.files.get("moving_mask"),
            overwrite=overwrite,
            progress=progress,
        )
    except LandmarkDirError as error:
        return str(error)
    except (OSError, RuntimeError, MemoryError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _read(folder: Path) -> Figures:
    return run_folder.read_json(folder / run_folder.COMPARISON_JSON)


def _read_figures(folder: Path) -> Figures:
    """The figures of a finished comparison, if they are of the kinds that one writes."""
    content = _read(folder)
    if not _has_figures(_part(content, "states")):
        raise BadRunFolder(
            f"{folder}: its {run_folder.COMPARISON_JSON} has no whole figures of "
            f"{', '.join(STATES)}; compare that case again with --overwrite"
        )
    return {name: content.get(name) for name in ("states", "with_minus_without", "warnings")}


def _has_figures(states: Figures) -> bool:
    """Tell whether all is there that the tables need, and of the kind that a comparison writes."""
    arms = [_part(states, arm) for arm in ARMS]
    kinds = [name for name in POOLED if name in _part(states, "with")]
    means = [_mean(_part(states, state).get(name)) for state in AFTER for name in kinds]
    shares = [arm.get(name) for arm in arms for name in ("folded_share", "seconds")]
    return (
        all(isinstance(states.get(state), dict) for state in STATES)
        and all(map(is_number, means))
        and all(share is None or is_number(share) for share in shares)
        and all(arm.get("verdict") in WORDS for arm in arms)
    )


def _part(content: Figures, name: str) -> Figures:
    """What a dict has under a name, if that is a dict; else nothing."""
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def _pooled(cases: list[Figures]) -> dict[str, dict[str, Any]]:
    """What each kind of reference says over the cases that have it."""
    found = {}
    for name in POOLED:
        states = [
            case["states"] for case in cases if name in case.get("states", {}).get("with", {})
        ]
        if states:
            without, with_ = ([_mean(s[arm][name]) for s in states] for arm in ("without", "with"))
            difference = paired_difference(with_, without)
            means = {"without": float(np.mean(without)), "with": float(np.mean(with_))}
            found[name] = means | {"with_minus_without": difference._asdict()}
    return found


def _mean(figure: Any) -> Any:
    return figure.get("mean") if isinstance(figure, dict) else figure


def _write(comparison: CasesComparison, options: RegisterOptions, out: Path) -> None:
    """CSV, then JSON: the folder counts as finished once that is there."""
    content = {
        "options": options.flat(),
        "pooled": comparison.pooled,
        "cases": comparison.cases,
    }
    try:
        for name in (run_folder.COMPARISON_CSV, run_folder.COMPARISON_JSON):
            with replacing(out.resolve() / name) as partial:
                if name == run_folder.COMPARISON_CSV:
                    write_figures(comparison.cases, partial)
                else:
                    run_folder.write_json(partial, content)
    except OSError as error:
        raise BadRunFolder(f"{out}: cannot be written, {error.strerror}") from error
