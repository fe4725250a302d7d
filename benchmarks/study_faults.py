"""Many pairs, and whoever works at them killed: `python -m benchmarks.study_faults`.

A study of small phantom pairs is made in peace. Another one of the same pairs is made while at
random moments a worker, all workers, the process of a case, an engine or the command itself is
killed outright; for the last quarter of the kills with a Dask scheduler and workers beside it,
which are killed, too, and started again. The command is given again whenever it ended. Counted are
cases that are lost, or done again though they were done, processes that live on, and files that are
left; the tables are held against each other.
"""

import argparse
import hashlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np
import psutil

from benchmarks.common import markdown
from benchmarks.faults import COMMAND, PHANTOM, living, start, table_of
from landmark_dir.io import run_folder
from landmark_dir.io.point_files import write_elastix_points
from landmark_dir.io.volumes import write_volume
from landmark_dir.phantom.scanner import make_phantom
from landmark_dir.study.folder import FAILURES_CSV, RESULTS_CSV

DASK = (sys.executable, "-m", "dask")
QUIET = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")
PHANTOMS = 3  # distinct ones, each taken in both directions
TRUTH = 20  # points a pair
WAYS = {
    "register": ("--no-landmarks", "--preset", "fast", "--threads", "1", "-q"),
    "compare": ("--compare", "--start", "affine", "--preset", "fast", "--threads", "1", "-q"),
}
ON_ITS_OWN = ("worker", "all workers", "case", "engine", "command")  # with a cluster of its own
AWAY = "scheduler, back late"  # when the command has given up
JOINED = ("scheduler", "nanny", AWAY, "worker", "command")  # with a scheduler beside it
OF = {  # in the command line of a process
    "worker": "spawn_main",
    "all workers": "spawn_main",
    "case": "landmark_dir.study.case_worker",
    "engine": "landmark_dir.elastix.worker",
}
MOMENT_S = 6.0  # the longest pause before a kill
APPEARS_S = 15.0  # patience with a victim that is not there
STUCK_S = 300.0  # without a new case
SPREAD = 0.85  # share of the cases over which the kills are spread
ENDS = 3  # times the command may be needed after the last kill
GONE_S = 3.0  # after which no process may live on
LOOK_S = 0.05


class Stuck(Exception):
    """Nothing goes on."""


@dataclass
class Count:
    """Kills of one kind."""

    tried: int = 0
    struck: int = 0  # there was a victim, and a case was under way
    restarts: int = 0  # of the command, until the next kill


@dataclass
class Beside:
    """A scheduler and workers that are no part of the command; whichever ends is started again."""

    begin: Callable[[Sequence[str]], "subprocess.Popen[str]"]
    port: int
    scheduler: "subprocess.Popen[str] | None" = None
    nanny: "subprocess.Popen[str] | None" = None
    away: bool = False  # leave the scheduler dead

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return f"tcp://127.0.0.1:{self.port}"

    def keep(self) -> None:
        """Start what does not run."""
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        if not self.away and (self.scheduler is None or self.scheduler.poll() is not None):
            self.scheduler = self.begin((*DASK, "scheduler", *where, *QUIET))
        if self.nanny is None or self.nanny.poll() is not None:
            how = ("--nworkers", "2", "--nthreads", "1", *QUIET)
            self.nanny = self.begin((*DASK, "worker", self.address, *how))

    def stop(self) -> None:
        """End both as a user does."""
        for process in (self.nanny, self.scheduler):
            if process is not None:
                process.terminate()
                process.wait()


@dataclass
class Disturbed:
    """A study that is disturbed, and what is seen of it."""

    folder: Path
    pairs: Path
    way: str
    cases: int
    log: IO[str]
    rng: random.Random
    beside: Beside | None = None
    process: "subprocess.Popen[str] | None" = None
    seen: dict[str, tuple[int, str]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    counts: dict[str, Count] = field(default_factory=dict)
    after: int = 0  # times the command was needed after the last kill
    stuck: str = ""
    last: str = ""  # whom the last kill was for
    peace_s: float = 0.0  # what the other study took
    took_s: float = 0.0

    @property
    def study(self) -> Path:
        """What the command makes."""
        return self.folder / "study"

    @property
    def temporary(self) -> Path:
        """`TMPDIR` of all processes."""
        return self.folder / "tmp"

    def begin(self, command: Sequence[str]) -> "subprocess.Popen[str]":
        """Start a process of this study."""
        return start([*command], self.folder, self.temporary, self.log)

    def give(self) -> None:
        """Give the command."""
        where = ("--workers", "2") if self.beside is None else ("--scheduler", self.beside.address)
        arguments = (str(self.pairs), "-o", str(self.study), *WAYS[self.way], *where)
        if self.process is not None:
            self.say(f"given again, after exit code {self.process.returncode}")
            if self.last:
                self.counts[self.last].restarts += 1
        self.process = self.begin([*COMMAND, "batch", *arguments])

    def look(self) -> None:
        """Note which cases are done, and which are not as they were."""
        name = run_folder.COMPARISON_JSON if self.way == "compare" else run_folder.RUN_JSON
        now = {}
        for record in self.study.glob(f"cases/[!.]*/{name}"):
            with suppress(FileNotFoundError):  # it is being replaced, which is seen next time
                content = hashlib.sha256(record.read_bytes()).hexdigest()
                now[record.parent.name] = record.stat().st_mtime_ns, content
        self.changed |= {case for case, was in self.seen.items() if now.get(case) != was}
        self.seen |= now

    def ended(self) -> bool:
        """Tell whether the command has ended."""
        assert self.process is not None
        return self.process.poll() is not None

    def until(self, true: Callable[[], bool], patience_s: float = STUCK_S) -> bool:
        """Look on until something is true, and keep everything going; False: patience is over."""
        end = time.monotonic() + patience_s
        while not true():
            before = len(self.seen)
            self.look()
            if len(self.seen) > before:
                end = time.monotonic() + patience_s
            if time.monotonic() > end:
                return False
            if self.beside is not None:
                self.beside.keep()
            time.sleep(LOOK_S)
        return True

    def going(self, true: Callable[[], bool], patience_s: float = STUCK_S) -> bool:
        """Look on, and give the command again whenever it ended before all were done."""

        def reached() -> bool:
            assert self.process is not None
            code = self.process.poll()
            if code == 0 or true():
                return True
            if code is not None:
                self.give()
            return False

        return self.until(reached, patience_s)

    def victims(self, who: str) -> list[int]:
        """The processes that are to be killed; of many one at random."""
        named = {"command": self.process}
        if self.beside is not None:
            named |= {"nanny": self.beside.nanny}
            named |= dict.fromkeys(("scheduler", AWAY), self.beside.scheduler)
        if who in named:
            process = named[who]
            return [process.pid] if process is not None and process.poll() is None else []
        found = [pid for pid in sorted(living(self.folder)) if OF[who] in _command_line(pid)]
        return found if who == "all workers" or not found else [self.rng.choice(found)]

    def kill(self, who: str, share: float) -> None:
        """Kill one when this share of the cases is done, and a random while later."""
        count = self.counts.setdefault(who, Count())
        wanted = int(share * SPREAD * self.cases)
        if not self.going(lambda: len(self.seen) >= wanted):
            raise Stuck(f"{len(self.seen)} cases done, none more within {STUCK_S:g} s")
        moment = time.monotonic() + self.rng.uniform(0, MOMENT_S)
        self.going(lambda: time.monotonic() > moment)
        self.going(lambda: bool(self.victims(who) and self.under_way()), APPEARS_S)
        self.look()
        count.tried += 1
        self.last = who
        busy, struck = self.under_way(), self.victims(who)
        for pid in struck:
            with suppress(ProcessLookupError):
                psutil.Process(pid).send_signal(signal.SIGKILL)
        count.struck += bool(busy and struck)
        self.say(f"killed {who} {struck}")
        if who == "command" and self.process is not None:
            self.process.wait()
        if who == AWAY and self.beside is not None:
            self.beside.away = True
            if not self.until(self.ended):
                raise Stuck("the command did not give up without a scheduler")
            self.beside.away = False

    def under_way(self) -> bool:
        """Tell whether a case is under way."""
        claimed = any((self.study / ".work" / "claims").glob("*"))
        return claimed and any(OF["case"] in _command_line(pid) for pid in living(self.folder))

    def say(self, text: str) -> None:
        """Into the log, between what the processes say."""
        print(f"--- {time.strftime('%X')} {len(self.seen)} done: {text}", file=self.log, flush=True)

    def finish(self) -> None:
        """Let the command come to its end, and give it again while it fails."""
        for self.after in range(1, ENDS + 1):
            if not self.until(self.ended):
                raise Stuck(f"the last command did not end, {len(self.seen)} cases done")
            assert self.process is not None
            if self.process.returncode == 0:
                return
            if self.after < ENDS:
                self.give()

    def run(self, kills: int) -> None:
        """All kills, the last quarter of them with a scheduler beside the command, and the end."""
        joined, started = kills // 4, time.monotonic()
        own = _drawn(ON_ITS_OWN, kills - joined, self.rng)
        self.give()
        try:
            for number, who in enumerate(own):
                self.kill(who, number / kills)
            if joined:
                self.join()
            for number, who in enumerate(_drawn(JOINED, joined, self.rng), len(own)):
                self.kill(who, number / kills)
            self.finish()
        except Stuck as error:
            self.stuck = str(error)
        finally:
            self.look()
            self.took_s = time.monotonic() - started
            if self.beside is not None:
                self.beside.stop()

    def join(self) -> None:
        """From now on a scheduler beside the command; what runs ends like a killed one."""
        assert self.process is not None
        if self.process.poll() != 0:
            self.process.kill()
            self.process.wait()
        self.last = ""  # not because of that kill it is given again
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.beside = Beside(self.begin, free.getsockname()[1])
        self.beside.keep()
        self.give()

    def left(self) -> list[str]:
        """Files that nobody needs: hidden in the study, or in the temporary folder."""
        hidden = [str(path.relative_to(self.folder)) for path in self.study.rglob(".*")]
        mine = ("landmark-dir-failed-*", "dask-scratch-space")  # told to the user; Dask's own
        return hidden + [
            path.name
            for path in self.temporary.iterdir()
            if not any(path.match(pattern) for pattern in mine)
        ]


def _command_line(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def _drawn(kinds: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """So many, of each kind as many as of any other, in random order."""
    drawn = [kinds[k % len(kinds)] for k in range(count)]
    rng.shuffle(drawn)
    return drawn


def prepare(folder: Path, pairs: int) -> None:
    """The phantoms with true points, in both directions."""
    for k in range(min(PHANTOMS, (pairs + 1) // 2)):
        phantom = make_phantom(replace(PHANTOM, seed=k))
        points = phantom.truth_points(TRUTH, np.random.default_rng(k))
        images = (phantom.fixed, phantom.moving)
        for side, image, truth in zip("ab", images, points, strict=True):
            write_volume(image, folder / f"{k}{side}.nii.gz")
            write_elastix_points(truth, folder / f"{k}{side}.txt")


def write_pairs(file: Path, pairs: int) -> Path:
    """The file of so many cases."""
    rows = ["case,fixed,moving,fixed_points,moving_points,site"]
    for number in range(pairs):
        k, sides = number // 2 % PHANTOMS, "ab" if number % 2 == 0 else "ba"
        files = [f"{k}{side}.{ending}" for ending in ("nii.gz", "txt") for side in sides]
        rows.append(",".join([f"patient {number:02d}", *files, f"site {number % 5}"]))
    file.write_text("\n".join(rows))
    return file


def disturb(scratch: Path, way: str, pairs: int, kills: int, seed: int) -> tuple[Disturbed, bool]:
    """A study in peace and one that is disturbed; the latter, and whether their tables agree."""
    file = write_pairs(scratch / f"{way}.csv", pairs)
    place, peace = scratch / way, scratch / way / "peace"
    (place / "tmp").mkdir(parents=True)
    command = [*COMMAND, "batch", str(file), "-o", str(peace), *WAYS[way], "--workers", "2"]
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    took_s = time.monotonic() - started
    with (place / "log").open("a+") as log:
        one = Disturbed(place, file, way, pairs, log, random.Random(seed), peace_s=took_s)
        one.run(kills)
    names = [RESULTS_CSV, FAILURES_CSV]
    names += [run_folder.COMPARISON_CSV] if way == "compare" else []
    try:
        same = all(table_of(one.study / name) == table_of(peace / name) for name in names)
    except FileNotFoundError:
        same = False
    return one, same


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and the words of whatever went wrong; 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--compared", type=int, default=4, help="pairs of a comparison; as many kills"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, help="keep studies and logs in this new folder")
    args = parser.parse_args(arguments)
    started, wrong = time.monotonic(), 0
    with ExitStack() as stack:
        if args.out is None:
            args.out = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        args.out.mkdir(parents=True, exist_ok=True)
        prepare(args.out, max(args.pairs, args.compared))
        for way, pairs, kills in (
            ("register", args.pairs, args.kills),
            ("compare", args.compared, args.compared),
        ):
            if pairs:
                one, same = disturb(args.out.absolute(), way, pairs, kills, args.seed)
                wrong += report(one, same)
    print(f"Took {time.monotonic() - started:.0f} s with seed {args.seed}.")
    return min(wrong, 1)


def report(one: Disturbed, same: bool) -> bool:
    """Print what was found in a study; tell whether anything is wrong."""
    time.sleep(GONE_S)
    alive = [f"{pid}: {_command_line(pid)}" for pid in living(one.folder)]
    left = one.left()
    lost = one.cases - len(one.seen)
    print(f"{one.cases} pairs, `batch {' '.join(WAYS[one.way])}`:\n")
    rows = [[who, *map(str, (c.tried, c.struck, c.restarts))] for who, c in one.counts.items()]
    print(markdown(["killed", "times", "struck", "command given again"], rows))
    found = [lost, len(one.changed), len(alive), len(left), one.after, "yes" if same else "no"]
    found += [round(one.took_s), round(one.peace_s)]
    header = ["cases lost", "done twice", "living on", "files left", "commands after", "same table"]
    header += ["seconds", "in peace"]
    print(f"\n{markdown(header, [[*map(str, found)]])}\n")
    wrong = bool(lost or one.changed or alive or left or one.stuck or not same)
    for words in (one.stuck, *sorted(one.changed), *alive, *left):
        if words:
            print(f"- {words}")
    if wrong:
        print((one.folder / "log").read_text())
    return wrong


if __name__ == "__main__":
    sys.exit(main())
