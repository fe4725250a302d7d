"""One call of `batch` at work: look what is done, do the rest, try again, tidy up."""

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from landmark_dir.io.outputs import clear_left
from landmark_dir.options import RegisterOptions
from landmark_dir.progress import Progress
from landmark_dir.study.cases import Case
from landmark_dir.study.claims import Claims, Heart
from landmark_dir.study.folder import READERS, StudyFolder
from landmark_dir.study.hands import Hands, InThisProcess, OnDask, joined, local_cluster
from landmark_dir.study.how import How
from landmark_dir.study.task import STOP, Outcome, Task

log = logging.getLogger(__name__)

WAIT_S = 2.0  # between looks at cases that others are at
WHY = {
    "options": "with other options",
    "inputs": "of other files",
    "damaged": "damaged",
    "asked": "as asked",
}


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: what runs was ended; the message says how to go on."""


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
