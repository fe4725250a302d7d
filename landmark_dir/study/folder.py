"""What lies where in a study, and which of its cases are done: disk is the state.

| place in a study | what it is |
|---|---|
| `cases/CASE/` | a run folder or a comparison, as `register` and `compare` leave it |
| `failures/CASE.json` | why a case has no result |
| `cases.csv` | the cases, with absolute paths |
| `study.json` | options, counts and figures; begun with the first case |
| `results.csv`, `failures.csv`, `comparison.csv`, `study.html` | made when all are through |
| `.work/` | who is at work on what; gone when nobody is |
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from landmark_dir.errors import BadRunFolder
from landmark_dir.io import run_folder
from landmark_dir.io.outputs import clear_left, replacing
from landmark_dir.io.text_files import hashed
from landmark_dir.options import DEFAULTS, RegisterOptions
from landmark_dir.registration.result import check_record
from landmark_dir.study.cases import SERIES, Case
from landmark_dir.study.pooled import has_figures

STUDY_JSON = "study.json"
STUDY_HTML = "study.html"
CASES_CSV = "cases.csv"
RESULTS_CSV = "results.csv"
RESULTS_PARQUET = "results.parquet"
FAILURES_CSV = "failures.csv"
READERS = 16  # threads that read it; a shared disk answers slowly, and many at once
CHANGES_NOTHING = ("threads", "device")  # options that a result does not depend on
MADE_LAST = (RESULTS_CSV, RESULTS_PARQUET, FAILURES_CSV, run_folder.COMPARISON_CSV, STUDY_HTML)
PARTS = {  # what of a run folder may be asked for; records and pictures are small and always stay
    "transform": re.compile(r"transform(\.[0-9]+)?\.txt"),
    "points": re.compile(r"landmarks(_fixed|_moving|_held_back)?\.(txt|csv|mrk\.json)"),
    "warped": re.compile(re.escape(run_folder.WARPED)),
    "report": re.compile(re.escape(run_folder.REPORT)),
    "log": re.compile(re.escape(run_folder.LOG)),
}
ALL = "all"
CASE = "case"  # what `run.json` and `comparison.json` of a case say of it besides


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study.

    Attributes
    ----------
    root : Path
        Absolute.
    compare : bool
        Each case is a comparison of both arms.
    """

    root: Path
    compare: bool

    @property
    def cases(self) -> Path:
        """The folders of cases."""
        return self.root / "cases"

    @property
    def hearts(self) -> Path:
        """The signs of life of the processes at work."""
        return self.root / ".work" / "hearts"

    @property
    def claims(self) -> Path:
        """Which process is at work on which case."""
        return self.root / ".work" / "claims"

    def place(self, case: Case) -> Path:
        """The folder of a case."""
        return self.cases / case.folder

    def record(self, case: Case) -> dict[str, Any]:
        """What a finished case says of itself.

        Raises
        ------
        BadRunFolder
            If it is not finished, or damaged.
        """
        place = self.place(case)
        name = run_folder.COMPARISON_JSON if self.compare else run_folder.RUN_JSON
        content = run_folder.read_json(place / name)
        if not isinstance(content.get("inputs"), dict):
            raise BadRunFolder(f"{place}: its {name} names no inputs")
        if not self.compare:
            check_record(content, place)
        elif not has_figures(content.get("states")):
            raise BadRunFolder(f"{place}: its {name} has no whole figures")
        return content

    def why_not_done(self, case: Case, options: RegisterOptions) -> str | None:
        """None: the case is done, of these files and options. Else what speaks against it."""
        try:
            record = self.record(case)
        except BadRunFolder:
            return "damaged" if self.place(case).exists() else "new"
        if not self.has_options(record, case, options.flat()):
            return "options"
        if record.get(CASE) != about(case) or not _same_files(record["inputs"], case):
            return "inputs"
        return None

    def has_options(
        self, record: Mapping[str, Any], case: Case, options: Mapping[str, Any]
    ) -> bool:
        """Tell whether a record is of these options of the study, as its case changes them."""
        wanted = dict(options) | ({} if case.align is None else {"align": case.align})
        return bool(_options(record.get("options")) == _options(as_json(wanted)))

    def failure(self, case: Case) -> dict[str, Any] | None:
        """Why a case has no result; None if it has one, or was not tried."""
        with suppress(BadRunFolder):
            return run_folder.read_json(self._failure(case))
        return None

    def set_failure(self, case: Case, failure: dict[str, Any] | None) -> None:
        """Write down why a case has no result; None: it has one."""
        path = self._failure(case)
        if failure is None:
            path.unlink(missing_ok=True)
            return
        with replacing(path) as partial:
            run_folder.write_json(partial, failure)

    def _failure(self, case: Case) -> Path:
        return self.root / "failures" / f"{case.folder}.json"

    def tidy(self) -> None:
        """Remove what dead processes left, and empty folders."""
        for place in (self.root, self.cases, self.root / "failures"):
            for folder in (place, *_inner(place)):
                if folder.is_dir():
                    clear_left(folder)
        with suppress(OSError):  # somebody is still at work
            for folder in (self.hearts, self.claims, self.root / ".work"):
                with suppress(FileNotFoundError):
                    folder.rmdir()
        for folder in (*_inner(self.root / "failures"), self.root / "failures"):
            with suppress(OSError):
                folder.rmdir()


def _inner(folder: Path) -> list[Path]:
    """The folders that spread many cases."""
    if not folder.is_dir():
        return []
    return [one for one in folder.iterdir() if len(one.name) == 2 and one.is_dir()]


def about(case: Case) -> dict[str, Any]:
    """What is recorded of a case beside the run itself; ids of series are hashed."""
    return {"name": case.name, **{name: hashed(case.series.get(name, "")) for name in SERIES}}


def as_json(value: Any) -> Any:
    """A value as it comes back from a JSON file."""
    return json.loads(json.dumps(value))


@cache
def _defaults() -> dict[str, Any]:
    found: dict[str, Any] = as_json(DEFAULTS.flat())
    return found


def _options(flat: Any) -> Any:
    """The options that a result depends on; what an older version did not have is as by default."""
    if not isinstance(flat, Mapping):
        return None
    whole = {**_defaults(), **flat}
    return {name: value for name, value in whole.items() if name not in CHANGES_NOTHING}


def _same_files(inputs: Mapping[str, Any], case: Case) -> bool:
    """Tell whether these are the files that were read: unchanged since, or the same by hash."""
    read = {name for name, one in inputs.items() if isinstance(one, dict) and one.get("path")}
    if read != set(case.files):
        return False
    try:
        return all(run_folder.is_described(case.files[name], inputs[name]) for name in read)
    except OSError:
        return False
