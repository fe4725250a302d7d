"""Register or compare many pairs: a file of cases in, a study out, whatever is killed."""

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import psutil

from landmark_dir.comparison.compare import check_options
from landmark_dir.errors import BadArgument, BadRunFolder
from landmark_dir.io import run_folder
from landmark_dir.io.outputs import clear_left, output_place, replacing
from landmark_dir.options import DEFAULTS, RegisterOptions, changed
from landmark_dir.progress import Progress, silent
from landmark_dir.study.cases import Case, read_cases, spread, write_cases
from landmark_dir.study.claims import Claims, Heart
from landmark_dir.study.folder import ALL, CASES_CSV, MADE_LAST, PARTS, STUDY_JSON, StudyFolder
from landmark_dir.study.gather import Study, gather
from landmark_dir.study.hands import Hands, InThisProcess, OnDask, joined, local_cluster
from landmark_dir.study.task import CASE_WORKER, STOP, Outcome, Task, absolute

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

READERS = 16  # threads that look what is done; a shared disk answers slowly, and many at once
MEMORY_OF_A_CASE = 4e9  # bytes; what a worker is expected to take at most
WAIT_S = 2.0  # between looks at cases that others are at
WHY = {
    "options": "with other options",
    "inputs": "of other files",
    "damaged": "damaged",
    "asked": "as asked",
}


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: what runs was ended; the message says how to go on."""


@dataclass(frozen=True)
class How:
    """How a study is run; none of it changes a result.

    Attributes
    ----------
    workers : int or None
        Processes of a Dask cluster on this machine; None: this process does the cases, one after
        the other.
    scheduler, scheduler_file : str, path, optional
        A Dask scheduler to join.
    client : distributed.Client, optional
        One that is connected already.
    shard : (int, int), optional
        I, N: only each N-th case, from the I-th on; tables are left to `gather`.
    retries : int
        How often a case that ended in a crash or beyond a limit is tried again; last, and alone if
        its process was killed.
    timeout_min, memory_gb : float, optional
        What a case may take, all its processes together.
    keep : tuple of str
        `all`, or some of transform, points, warped, report, log.
    worker : str
        Module that does a case in its child process; another one for what is measured around it.
    """

    workers: int | None = None
    scheduler: str | None = None
    scheduler_file: Path | None = None
    client: "Client | None" = None
    shard: tuple[int, int] | None = None
    retries: int = 1
    timeout_min: float | None = None
    memory_gb: float | None = None
    keep: tuple[str, ...] = (ALL,)
    worker: str = CASE_WORKER

    def __post_init__(self) -> None:
        for name, low in (("workers", 1), ("retries", 0)):
            if getattr(self, name) is not None and getattr(self, name) < low:
                raise BadArgument(f"{name}: expected {low} or more, found {getattr(self, name)}")
        for name in ("timeout_min", "memory_gb"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise BadArgument(f"{name}: expected more than 0, found {getattr(self, name)}")
        if unknown := set(self.keep) - {ALL, *PARTS}:
            known = ", ".join([ALL, *PARTS])
            raise BadArgument(f"keep: expected some of {known}, found {', '.join(unknown)}")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise BadArgument(
                f"shard: expected I/N with I from 1 to N, found {self.shard[0]}/{self.shard[1]}"
            )
        ways = [self.workers, self.scheduler, self.scheduler_file, self.client]
        if sum(way is not None for way in ways) > 1:
            raise BadArgument("workers and a scheduler contradict each other; give one of them")


def default_workers() -> int:
    """One for each core, as far as the memory of this machine goes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    most = int(psutil.virtual_memory().total // MEMORY_OF_A_CASE)
    return max(1, min(cores or 1, most))


def with_workers(how: How) -> How:
    """With a worker for each core, where nothing says who does the cases."""
    given = how.workers or how.scheduler or how.scheduler_file or how.client or how.shard
    return how if given else replace(how, workers=default_workers())


def batch(
    pairs: str | Path | Sequence[Case],
    out: str | Path,
    options: RegisterOptions = DEFAULTS,
    *,
    compare: bool = False,
    client: "Client | None" = None,
    how: How | None = None,
    resume: bool = True,
    overwrite: bool = False,
    parquet: bool = False,
    progress: Progress = silent,
    **choices: Any,
) -> Study:
    """Register many pairs, or compare them without and with landmarks.

    Each case gets a folder of its own; a case that fails is reported, and the others go on. The
    same call after any interruption keeps what is done: cases of the same files and options.

    Parameters
    ----------
    pairs : path or sequence of Case
        A CSV file with the columns `fixed` and `moving`, and any of `study.cases.COLUMNS`; others
        are carried along into the results.
    out : path
        Folder of the study, to be created or gone on with.
    compare : bool
        Both arms of each pair, measured, instead of one registration.
    client : distributed.Client, optional
        Whose workers do the cases; without it this process does them, one after the other, or as
        `how` says.
    how : How, optional
        Workers, limits, retries: nothing that changes a result.
    resume : bool
        Whether `out` may hold finished cases.
    overwrite : bool
        Do all cases again.
    parquet : bool
        Write `results.parquet`, too; needs pyarrow.
    progress : callable, optional
        Told how many are done, and the share of the whole, 0 to 1.
    **choices
        Single options by name, changed from `options`.

    Returns
    -------
    Study
        Its folder, a row for each case, and counts. Of a shard: without tables.

    Raises
    ------
    BadArgument
        If options or `how` contradict each other.
    LandmarkDirError
        If the file of cases is not as expected, `out` is in the way, or the scheduler goes.
    Interrupted
        On Ctrl-C, after running cases were ended and their traces removed.
    """
    options = absolute(changed(options, choices))
    how = how or How()
    how = how if client is None else replace(how, client=client)
    if compare:
        check_options(options)
    study = StudyFolder(output_place(Path(out)), compare)
    _check_free(study, Path(out), resume or overwrite)
    cases = _cases(pairs)
    begin(study, cases, options, how)
    runner = Runner(study, _shard(cases, how), options, how, overwrite, progress)
    runner.run()
    if how.shard is not None:
        return Study(study.root, compare, counts=runner.counts())
    return gather(study.root, runner.about(), parquet=parquet)


def _cases(pairs: str | Path | Sequence[Case]) -> list[Case]:
    return read_cases(pairs, check_files=False) if isinstance(pairs, str | Path) else spread(pairs)


def _shard(cases: list[Case], how: How) -> list[Case]:
    if how.shard is None:
        return cases
    which, count = how.shard
    return cases[which - 1 :: count]


def _check_free(study: StudyFolder, out: Path, may_exist: bool) -> None:
    root = study.root
    if root.exists() and not root.is_dir():
        raise BadRunFolder(f"{out}: is a file; name a folder")
    if not root.is_dir() or not any(root.iterdir()):
        return
    if run_folder.is_run(root):
        raise BadRunFolder(f"{out} holds one pair, not cases, and is left alone; name another")
    if not (root / STUDY_JSON).is_file():
        raise BadRunFolder(
            f"{out} exists and is no study (it has no {STUDY_JSON}), and is left alone; name "
            "another folder"
        )
    if not may_exist:
        raise BadRunFolder(
            f"{out} exists already; --resume keeps its finished cases, --overwrite replaces them"
        )


def begin(study: StudyFolder, cases: list[Case], options: RegisterOptions, how: How) -> None:
    """Create the study; tables of an earlier time go, so that it does not look finished."""
    content = {"compare": study.compare, "options": options.flat(), "cases": len(cases)}
    try:
        study.cases.mkdir(parents=True, exist_ok=True)
        for name in () if how.shard else MADE_LAST:
            (study.root / name).unlink(missing_ok=True)
        with replacing(study.root / CASES_CSV) as partial:
            write_cases(cases, partial)
        with replacing(study.root / STUDY_JSON) as partial:
            run_folder.write_json(partial, content)
    except OSError as error:
        raise BadRunFolder(f"{study.root}: cannot be written, {error.strerror}") from error


@dataclass
class Runner:
    """One call of `batch`: what it found, does, and has left."""

    study: StudyFolder
    cases: list[Case]
    options: RegisterOptions
    how: How
    overwrite: bool
    progress: Progress
    kept: int = 0
    done: int = 0
    failed: dict[str, Outcome] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    memory_bytes: int = 0
    started: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Do what is not done."""
        wanted = self._look()
        heart = Heart(self.study.hearts)
        try:
            if wanted:
                self._do(wanted, heart)
        except KeyboardInterrupt:
            raise Interrupted(
                f"Aborted: {self.kept + self.done} of {len(self.cases)} cases are done and stay in "
                f"{self.study.root}; the same command goes on with the others"
            ) from None
        finally:
            self._tidy(heart)

    def counts(self) -> dict[str, int]:
        """How many cases are done, failed, and are left."""
        left = len(self.cases) - self.kept - self.done - len(self.failed)
        done = self.kept + self.done
        return {"cases": len(self.cases), "done": done, "failed": len(self.failed), "left": left}

    def about(self) -> dict[str, Any]:
        """What is written down of this call."""
        return {
            "kept": self.kept,
            "done": self.done,
            "seconds": round(time.monotonic() - self.started, 1),
            "most_memory_gb": round(self.memory_bytes / 1e9, 2) or None,
        }

    def _look(self) -> list[Case]:
        """The cases that are to be done; says what is kept and why others are done again."""
        self.progress("look what is done", 0.0)
        if self.overwrite:
            found = ["asked" if self.study.place(case).exists() else "new" for case in self.cases]
            reasons: list[str | None] = [*found]
        else:
            with ThreadPoolExecutor(READERS) as pool:
                reasons = [*pool.map(self._why_not_done, self.cases)]
        wanted = [case for case, why in zip(self.cases, reasons, strict=True) if why is not None]
        self.kept = len(self.cases) - len(wanted)
        again = Counter(why for why in reasons if why in WHY)
        said = "".join(f", {count} made {WHY[why]} done again" for why, count in again.items())
        if self.kept or again:
            log.warning("%d of %d cases are done and kept%s", self.kept, len(self.cases), said)
        return wanted

    def _why_not_done(self, case: Case) -> str | None:
        return self.study.why_not_done(case, self.options)

    def _do(self, wanted: list[Case], heart: Heart) -> None:
        with _hands(self.how, self.options) as hands:
            if told := hands.told():
                log.warning("Dask's dashboard: %s", told)
            try:
                self._passes(wanted, hands, heart)
            finally:
                (self.study.hearts / f"{heart.name}{STOP}").touch()
                for task, outcome in hands.end():
                    self._took(task.case, outcome)

    def _passes(self, wanted: list[Case], hands: Hands, heart: Heart) -> None:
        """All cases; then those that may go better, and at last alone those that were killed."""
        alone: list[Case] = []
        while wanted or alone:
            most = None if wanted else 1
            wanted, now = [], wanted or alone
            alone = [] if most == 1 else alone
            busy = 0
            for task, outcome in hands.run((self._task(case, heart) for case in now), most):
                self._took(task.case, outcome)
                if outcome.state == "busy":
                    wanted.append(task.case)
                    busy += 1
                elif self._again(task.case, outcome):
                    (alone if outcome.alone else wanted).append(task.case)
                self._tell(hands)
            if busy and busy == len(wanted):
                self.progress(f"batch: wait for {busy} cases that others are at", self._share())
                time.sleep(WAIT_S)

    def _task(self, case: Case, heart: Heart) -> Task:
        how, compute = self.how, self.options.compute
        return Task(
            self.study,
            case,
            self.options,
            keep=how.keep,
            threads=compute.threads,
            timeout_s=None if how.timeout_min is None else how.timeout_min * 60,
            memory_bytes=None if how.memory_gb is None else how.memory_gb * 1e9,
            runner=heart.name,
            attempt=self.tries[case.folder],
            redo=self.overwrite,
            worker=how.worker,
        )

    def _took(self, case: Case, outcome: Outcome) -> None:
        self.memory_bytes = max(self.memory_bytes, outcome.memory_bytes)
        if outcome.state in ("done", "kept"):
            self.failed.pop(case.folder, None)
            self.done += 1
        elif outcome.state == "failed":
            self.tries[case.folder] += 1
            self.failed[case.folder] = outcome
            log.error("%s failed: %s", case.name, outcome.error)

    def _again(self, case: Case, outcome: Outcome) -> bool:
        return outcome.again and self.tries[case.folder] <= self.how.retries

    def _share(self) -> float:
        return (self.kept + self.done + len(self.failed)) / max(len(self.cases), 1)

    def _tell(self, hands: Hands) -> None:
        hours = (time.monotonic() - self.started) / 3600
        self.progress(
            f"batch: {self.kept + self.done} of {len(self.cases)} done, {len(self.failed)} failed, "
            f"{hands.running()} running, {self.done / hours:.0f} an hour",
            self._share(),
        )

    def _tidy(self, heart: Heart) -> None:
        """Remove what dead processes left, this one's sign of life, and scratch of killed cases."""
        (self.study.hearts / f"{heart.name}{STOP}").unlink(missing_ok=True)
        heart.clear()
        Claims(self.study.claims, heart).clear()
        heart.stop()
        self.study.tidy()
        clear_left(Path(gettempdir()))


@contextmanager
def _hands(how: How, options: RegisterOptions) -> Iterator[Hands]:
    """Whoever does the cases."""
    with ExitStack() as stack:
        if how.client is not None:
            yield OnDask(how.client)
        elif how.scheduler is not None or how.scheduler_file is not None:
            yield stack.enter_context(joined(how.scheduler, how.scheduler_file))
        elif how.workers is not None:
            cores = os.cpu_count() or 1
            threads = options.compute.threads or max(1, cores // how.workers)
            yield stack.enter_context(local_cluster(how.workers, threads))
        else:
            yield InThisProcess()
