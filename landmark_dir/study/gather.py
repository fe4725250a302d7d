"""The tables and the page of a study, from what its cases left."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from landmark_dir.comparison.tables import (
    ARMS,
    cases_table,
    flat_figures,
    pooled_page_tables,
    write_figures,
)
from landmark_dir.errors import BadRunFolder, LandmarkDirError
from landmark_dir.evaluation.verdict import WORDS
from landmark_dir.io import run_folder
from landmark_dir.io.outputs import output_place, replacing
from landmark_dir.io.text_files import write_rows
from landmark_dir.options import DEFAULTS
from landmark_dir.study.cases import Case, read_cases
from landmark_dir.study.folder import (
    CASES_CSV,
    FAILURES_CSV,
    READERS,
    RESULTS_CSV,
    RESULTS_PARQUET,
    STUDY_HTML,
    STUDY_JSON,
    StudyFolder,
    as_json,
)
from landmark_dir.study.pooled import Figures, pooled

DONE, FAILED, LEFT = "done", "failed", "left"  # states of a case
FIRST_COLUMNS = ("case", "folder", "state", "verdict", "reasons", "error")
FAILURE_COLUMNS = ("case", "error", "attempts", "seconds", "finished")


@dataclass(frozen=True)
class Study:
    """A study as it stands.

    Attributes
    ----------
    folder : Path
    compare : bool
        Each case is a comparison of both arms.
    rows : list of dict
        One for each case, as in `results.csv`.
    counts : dict
        How many cases there are, are done, ended in an error, are left; and of each verdict.
    pooled : dict
        Of comparisons: means over cases, and their paired difference.
    comparisons : list of dict
        Of comparisons: each case with all its figures, or why it failed as `error`.
    """

    folder: Path
    compare: bool
    rows: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    pooled: dict[str, dict[str, Any]] = field(default_factory=dict)
    comparisons: list[Figures] = field(default_factory=list, repr=False)

    @property
    def failed(self) -> list[str]:
        """Names of the cases that have no result."""
        return [row["case"] for row in self.rows if row["state"] == FAILED]

    def table(self) -> str:
        """Each case of a comparison, and all together."""
        return cases_table(self.comparisons, self.pooled)

    def pooled_table(self) -> str:
        """What all cases of a comparison say together."""
        return cases_table([], self.pooled)

    def summary(self) -> str:
        """One line for people."""
        counts = self.counts
        words = [f"{n} {word}" for word in WORDS if (n := counts.get(f"judged {word}"))]
        verdicts = f", judged {', '.join(words)}" if words else ""
        text = f"{counts['done']} of {counts['cases']} cases have a result{verdicts}"
        text += f"; {counts['failed']} ended in an error" if counts["failed"] else ""
        return text + (f"; {counts['left']} left" if counts["left"] else "")


def gather(
    out: str | Path, about: Mapping[str, Any] | None = None, *, parquet: bool = False
) -> Study:
    """Make the tables and the page of a study; its cases may be done, failed or left.

    Parameters
    ----------
    out : path
        The folder of a study, as `batch` began it.
    about : mapping, optional
        More to be written down in `study.json`.
    parquet : bool
        Write `results.parquet`, too; needs pyarrow.

    Raises
    ------
    BadRunFolder
        If `out` is no study, or cannot be written.
    """
    root = output_place(Path(out))
    begun = _begun(root)
    study = StudyFolder(root, begun["compare"])
    cases = read_cases(root / CASES_CSV, check_files=False)
    with ThreadPoolExecutor(READERS) as pool:
        seen = [*pool.map(lambda case: _seen(study, case, begun["options"]), cases)]
    rows = [row for row, _ in seen]
    comparisons = [figures for _, figures in seen if figures] if study.compare else []
    found = Study(root, study.compare, rows, _counts(rows), pooled(comparisons), comparisons)
    try:
        _write(found, begun, about or {}, parquet)
    except OSError as error:
        raise BadRunFolder(f"{out}: cannot be written, {error.strerror or error}") from error
    return found


def _begun(root: Path) -> dict[str, Any]:
    if not (root / STUDY_JSON).is_file():
        raise BadRunFolder(f"{root}: expected the folder of a study, found no {STUDY_JSON} in it")
    begun = run_folder.read_json(root / STUDY_JSON)
    if not (isinstance(begun.get("compare"), bool) and isinstance(begun.get("options"), dict)):
        raise BadRunFolder(f"{root}: its {STUDY_JSON} is damaged; give the `batch` command again")
    return begun


def _seen(
    study: StudyFolder, case: Case, options: Mapping[str, Any]
) -> tuple[dict[str, Any], Figures]:
    """The row of a case; and of a comparison its figures, or why it failed."""
    row: dict[str, Any] = {"case": case.name, "folder": f"cases/{case.folder}"}
    with suppress(BadRunFolder):
        record = study.record(case)
        if study.has_options(record, case, options):
            figures = {name: record.get(name) for name in ("states", "warnings")}
            return _done_row(row, record, study.compare, case), {"case": case.name, **figures}
    failure = study.failure(case)
    if failure is None:
        return row | {"state": LEFT, **case.extra}, {}
    row |= {"state": FAILED, **{name: failure.get(name) for name in FAILURE_COLUMNS[1:]}}
    return row | case.extra, {"case": case.name, "error": str(failure.get("error"))}


def _done_row(
    row: dict[str, Any], record: Mapping[str, Any], compare: bool, case: Case
) -> dict[str, Any]:
    if compare:
        states = record["states"]
        figures = {f"{state}_{n}": v for state, of in states.items() for n, v in _flat(of).items()}
        judged, seconds = states["with"], sum(states[arm].get("seconds") or 0 for arm in ARMS)
    else:
        figures, judged = _flat(record["metrics"]), record["verdict"]
        figures |= {f"seconds_{n.replace(' ', '_')}": s for n, s in record["seconds"].items()}
        seconds = sum(record["seconds"].values())
    inputs = record["inputs"]
    return {
        **row,
        "state": DONE,
        "verdict": judged.get("verdict"),
        "reasons": "; ".join(judged.get("reasons") or []),
        **figures,
        "seconds": round(seconds, 2),
        **{f"{name}_sha256": one.get("sha256") for name, one in inputs.items()},
        "days_after_fixed": inputs.get("moving", {}).get("days_after_fixed"),
        "warnings": "; ".join(record.get("warnings") or []),
        "landmark_dir": record.get("landmark_dir"),
        **case.extra,
    }


def _flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures as columns; those of single labels would be too many."""
    return flat_figures({name: one for name, one in figures.items() if name != "labels"})


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    states = Counter(row["state"] for row in rows)
    verdicts = Counter(row.get("verdict") for row in rows if row["state"] == DONE)
    found = {state: states[state] for state in (DONE, FAILED, LEFT)}
    judged = {f"judged {word}": verdicts[word] for word in WORDS}
    return {"cases": len(rows), **found, **judged}


def _write(study: Study, begun: Mapping[str, Any], about: Mapping[str, Any], parquet: bool) -> None:
    failures = [row for row in study.rows if row["state"] == FAILED]
    made: dict[str, Callable[[Path], None]] = {
        RESULTS_CSV: lambda path: _write_rows(path, FIRST_COLUMNS, study.rows),
        FAILURES_CSV: lambda path: _write_rows(path, FAILURE_COLUMNS, failures, more=False),
    }
    if study.compare:
        name = run_folder.COMPARISON_CSV
        made[name] = lambda path: write_figures(study.comparisons, path)
    if parquet:
        made[RESULTS_PARQUET] = lambda path: _write_parquet(study.folder / RESULTS_CSV, path)
    made[STUDY_HTML] = lambda path: _write_page(path, study, begun, about)
    content = dict(begun) | {"landmark_dir": version("landmark_dir"), "counts": study.counts}
    content |= {"pooled": study.pooled, "last_run": dict(about)}
    made[STUDY_JSON] = lambda path: run_folder.write_json(path, content)
    for name, write in made.items():
        with replacing(study.folder / name) as partial:
            write(partial)


def _write_rows(
    path: Path,
    first: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    more: bool = True,
) -> None:
    """Rows as CSV: these columns, and where `more` all others that a row has."""
    others = dict.fromkeys(name for row in rows for name in row if more and name not in first)
    write_rows(path, [*first, *others], rows)


def _write_parquet(table: Path, path: Path) -> None:
    try:
        from pyarrow import csv as arrow_csv
        from pyarrow import parquet
    except ImportError as error:
        raise LandmarkDirError(
            f"{path.name} needs pyarrow: pip install 'landmark_dir[parquet]'"
        ) from error
    parquet.write_table(arrow_csv.read_csv(table), path)


def _write_page(
    path: Path, study: Study, begun: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    from landmark_dir.report.study_page import StudyContent, write_study_page  # slow to load

    content = StudyContent(
        title=study.folder.name,
        about=_about(study, begun, about),
        compared=study.compare,
        rows=[row for row in study.rows if row["state"] != LEFT],
        left=study.counts[LEFT],
        pooled=pooled_page_tables(study.pooled),
        previews=lambda row: _preview(study, row),
    )
    write_study_page(path, content)


def _about(study: Study, begun: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, str]:
    """What the page says of how the study was made."""
    default = as_json(DEFAULTS.flat())
    options = begun["options"]
    other = {name: value for name, value in options.items() if value != default.get(name)}
    versions = {str(row["landmark_dir"]) for row in study.rows if row.get("landmark_dir")}
    found = {
        "each case": "without and with landmarks" if study.compare else "registered once",
        "options other than the defaults": ", ".join(f"{n} {v}" for n, v in other.items())
        or "none",
        "landmark_dir": ", ".join(sorted(versions)),
    }
    if about.get("done"):
        found["last call"] = f"{about['done']} cases in {about['seconds']:.0f} s"
    if about.get("most_memory_gb"):
        found["most memory of a case"] = f"{about['most_memory_gb']} GB"
    return found


def _preview(study: Study, row: Mapping[str, Any]) -> Path | None:
    """The small picture of a case; of a comparison that of the arm with landmarks."""
    folder = study.folder / row["folder"]
    path = (folder / ARMS[1] if study.compare else folder) / run_folder.PREVIEW
    return path if path.is_file() else None
