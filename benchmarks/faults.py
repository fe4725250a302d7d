"""What is left when a command is killed or its disk is full: `python -m benchmarks.faults`.

A process of the command (the command itself, or an engine below it) is killed outright at a random
moment of an undisturbed run, or the disk of the output is too small by a random amount. Counted is
what stands under its final name and is not whole, what is left beside it and in the temporary
folder after the next command that works there, and which processes live on. A comparison of cases
that was killed is resumed, and its table is held against that of an undisturbed one.
"""

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from benchmarks.common import markdown
from landmark_dir.io import run_folder
from landmark_dir.io.volumes import write_volume
from landmark_dir.phantom.scanner import PhantomOptions, make_phantom

COMMAND = (sys.executable, "-m", "landmark_dir")
PHANTOM = PhantomOptions(size_xyz=(72, 64, 32), spacing_mm=(4.4, 4.0, 8.0))
ALONE = ("--no-landmarks", "--preset", "fast", "--threads", "1", "-q")
CASES = ("--preset", "fast", "--threads", "1", "-q", "--start", "affine")
MARK = "LANDMARK_DIR_FAULTS"  # in the environment of all that is started
GONE_S = 2.0  # after which no process may live on
DIFFERENT = ("seconds", "finished")  # in names of columns that differ from run to run
SMALL_DISK = """
mount -t tmpfs -o size={size}k tmpfs {folder} && {command}
code=$?
ls -A {folder}
exit $code
"""


@dataclass
class Count:
    """How often something was tried, and what was found."""

    tried: int = 0
    struck: int = 0  # the fault came before the end
    half: int = 0
    left: int = 0
    living: int = 0
    other: int = 0  # neither one sentence nor done
    words: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Folders of one try, and the files it works on."""

    folder: Path
    run: Path

    @property
    def out(self) -> Path:
        """Where outputs go."""
        return self.folder / "out"

    @property
    def temporary(self) -> Path:
        """`TMPDIR` of the command."""
        return self.folder / "tmp"

    def command(self, name: str) -> list[str]:
        """The command line of what is tried."""
        images = [str(self.folder / f"{side}.nii.gz") for side in ("fixed", "moving")]
        at = str(self.out / name)
        return {
            "register": [*COMMAND, "register", *images, "-o", at, *ALONE],
            "warp": [*COMMAND, "warp", str(self.run), images[1], "-o", f"{at}.nii.gz"],
            "export": [*COMMAND, "export", str(self.run), "-o", f"{at}.h5"],
            "next": [*COMMAND, "export", str(self.run), "-o", f"{at}.h5"],
        }[name]

    def start(self, command: list[str]) -> "subprocess.Popen[str]":
        """Start it."""
        return start(command, self.out, self.temporary)

    def living(self) -> list[int]:
        """Processes that were started for this place, whoever their parent is now."""
        return living(self.out)


def start(
    command: list[str], mark: Path, temporary: Path, said: int | IO[str] = subprocess.PIPE
) -> "subprocess.Popen[str]":
    """Start a command whose processes can be told by their mark; stderr goes to `said`."""
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=said,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), MARK: str(mark)},
    )


def living(mark: Path) -> list[int]:
    """Processes that were started with a mark, whoever their parent is now."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def prepare(folder: Path) -> Place:
    """The pair, and a finished run."""
    phantom = make_phantom(PHANTOM)
    place = Place(folder, folder / "run")
    for part in (place.out, place.temporary):
        part.mkdir()
    write_volume(phantom.fixed, folder / "fixed.nii.gz")
    write_volume(phantom.moving, folder / "moving.nii.gz")
    images = [str(folder / f"{side}.nii.gz") for side in ("fixed", "moving")]
    subprocess.run([*COMMAND, "register", *images, "-o", str(place.run), *ALONE], check=True)
    return place


def whole(path: Path) -> bool:
    """Tell whether what stands under a final name is a finished output."""
    return not path.is_dir() or (path / run_folder.RUN_JSON).is_file()


def kill_once(place: Place, name: str, at_s: float, below: bool, count: Count) -> None:
    """Kill the command, or a process below it, so long after its start."""
    process = place.start(place.command(name))
    time.sleep(at_s)
    others = [pid for pid in place.living() if pid != process.pid]
    victim = max(others) if below and others else process.pid
    count.tried += 1
    count.struck += process.poll() is None
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        pass
    said = process.communicate()[1]
    if victim != process.pid and process.returncode not in (0, 1):
        count.other += 1
        count.words.append(said[-300:])
    time.sleep(GONE_S if place.living() else 0)
    count.living += len(place.living())
    final = [one for one in place.out.iterdir() if not one.name.startswith(".")]
    count.half += sum(not whole(one) for one in final)
    following = place.start(place.command("next"))
    following.communicate()
    tidy(place, count, {one.name for one in final} | {"next.h5"})


def tidy(place: Place, count: Count, wanted: set[str]) -> None:
    """Count what is left beside what is wanted, and remove everything."""
    logs = {one.name for one in place.temporary.glob("landmark-dir-failed-*")}  # named to the user
    left = {one.name for one in place.out.iterdir()} - wanted
    left |= {one.name for one in place.temporary.iterdir()} - logs
    count.left += bool(left)
    count.words += sorted(left)
    for folder in (place.out, place.temporary):
        shutil.rmtree(folder)
        folder.mkdir()


def small_disk(place: Place, name: str, kib: int, count: Count) -> None:
    """Run on a disk of so many KiB, which only the command sees."""
    command = " ".join(f"'{part}'" for part in place.command(name))
    script = SMALL_DISK.format(size=kib, folder=place.out, command=command)
    unshare = ["unshare", "--mount", "--map-root-user", "sh", "-c", script]
    done = subprocess.run(unshare, capture_output=True, text=True)
    count.tried += 1
    if done.returncode == 0:
        return
    count.struck += 1
    listed = [line for line in done.stdout.splitlines() if str(place.out) not in line]
    count.half += len(listed)
    sentence = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    if done.returncode not in (1, 2) or len(sentence) != 1 or "Traceback" in done.stderr:
        count.other += 1
        count.words.append(done.stderr[-300:])
    count.words += listed


def table_of(file: Path) -> list[dict[str, str]]:
    """A table without what differs from run to run."""
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    return [
        {name: cell for name, cell in row.items() if not any(word in name for word in DIFFERENT)}
        for row in rows
    ]


def resumed(place: Place, kills: int, rng: random.Random) -> tuple[int, int]:
    """How many of so many killed and resumed comparisons have the table of an undisturbed one."""
    cases = place.folder / "cases.csv"
    cases.write_text("fixed,moving\nfixed.nii.gz,moving.nii.gz\nmoving.nii.gz,fixed.nii.gz\n")
    command = [*COMMAND, "compare", "--cases", str(cases), *CASES, "-o"]
    plain, out = place.folder / "plain", place.folder / "killed"
    started = time.monotonic()
    subprocess.run([*command, str(plain)], check=True, stdout=subprocess.DEVNULL)
    took, same = time.monotonic() - started, 0
    for _ in range(kills):
        process = place.start([*command, str(out)])
        time.sleep(rng.uniform(0, took))
        process.kill()
        process.communicate()
        subprocess.run([*command, str(out), "--resume"], check=True, stdout=subprocess.DEVNULL)
        hidden = [one for one in out.iterdir() if one.name.startswith(".")]
        tables = [table_of(one / run_folder.COMPARISON_CSV) for one in (out, plain)]
        same += tables[0] == tables[1] and not hidden
        shutil.rmtree(out)
    return same, kills


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and the words of whatever went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=100, help="kills; a quarter as many disks")
    parser.add_argument("--resumed", type=int, default=3, help="killed comparisons of cases")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        place = prepare(Path(scratch))
        counts: dict[str, Count] = {}
        for name, share in (("register", 0.6), ("warp", 0.2), ("export", 0.2)):
            started = time.monotonic()
            place.start(place.command(name)).communicate()
            took = time.monotonic() - started
            tidy(place, Count(), set())
            for number in range(round(args.tries * share)):
                below = name != "warp" and number % 3 == 2
                who = "an engine below" if below else "the command"
                count = counts.setdefault(f"{name}: {who} killed", Count())
                kill_once(place, name, rng.uniform(0, took), below, count)
            most = disk_kib(place, name)
            for _ in range(args.tries // 12):
                count = counts.setdefault(f"{name}: disk full", Count())
                small_disk(place, name, rng.randint(8, most), count)
        same, tried = resumed(place, args.resumed, rng)
    header = ["fault", "tried", "struck", "half outputs", "left behind", "living on", "other"]
    rows = [
        [name, *map(str, (c.tried, c.struck, c.half, c.left, c.living, c.other))]
        for name, c in counts.items()
    ]
    print(f"{markdown(header, rows)}\n")
    print(
        f"Killed comparisons that were resumed to the table of an undisturbed one: {same}/{tried}."
    )
    for name, count in counts.items():
        for words in count.words:
            print(f"\n{name}: {words}")


def disk_kib(place: Place, name: str) -> int:
    """KiB that the output of a command takes."""
    place.start(place.command(name)).communicate()
    size = sum(file.stat().st_size for file in place.out.rglob("*") if file.is_file())
    tidy(place, Count(), set())
    return max(16, size // 1024)


if __name__ == "__main__":
    main()
