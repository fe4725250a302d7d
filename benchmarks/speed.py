"""Seconds and memory: `python -m benchmarks.speed [--pairs NAME ...] [--threads N ...]`.

A pair of slices beside SIFT; then whole registrations on the command line, with and without
landmarks, from two files to a finished run folder: seconds on the wall and of all processors, of
each stage, too, and the peak of the memory of all processes together.
"""

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
import torch

from benchmarks.common import data_folder, markdown
from landmark_dir.io.volumes import read_volume, write_volume
from landmark_dir.matching.slices import match_slices
from landmark_dir.phantom.scanner import PhantomOptions, make_phantom
from landmark_dir.preprocessing.intensity import AIR_HU
from training.evaluation import baselines
from training.evaluation.matchers import BASELINES
from training.followups.pair import make_follow_up

REPEATS = 10
ARMS = {"guided": "", "plain": "--no-landmarks"}
HUGE = (512, 512, 600)  # voxels


class Spent(NamedTuple):
    """What a command took."""

    wall_s: float
    cpu_s: float  # of it and all processes it started
    peak_gib: float  # of their resident memory together


def milliseconds(task: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median time of a call, ms, after one call to warm up."""
    task()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        task()
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


def slice_pair(threads: int) -> list[list[object]]:
    """Match two 512 x 512 slices of a phantom at 0.7 mm, taken as 1 mm, beside SIFT."""
    torch.set_num_threads(threads)
    baselines.opencv().setNumThreads(threads)
    size = PhantomOptions(size_xyz=(512, 512, 4), spacing_mm=(0.7, 0.7, 4.0))
    phantom = make_phantom(size)
    moving = sitk.Resample(phantom.moving, phantom.fixed, sitk.Transform(), sitk.sitkLinear, AIR_HU)
    one, two = (sitk.GetArrayFromImage(image)[2] for image in (phantom.fixed, moving))
    matchers: dict[str, Callable[..., tuple[Any, ...]]] = {
        **{name: functools.partial(match_slices, weights=name) for name in ("default", "paper")},
        "SIFT, ratio test, soft tissue": BASELINES["SIFT-RatioTest, soft tissue"],
    }
    return [
        [
            f"{name}, {len(matcher(one, two)[0])} matches",
            threads,
            milliseconds(functools.partial(matcher, one, two)),
        ]
        for name, matcher in matchers.items()
    ]


def phantom() -> tuple[sitk.Image, sitk.Image]:
    """A drawn pair of 400 x 330 x 140 voxels."""
    made = make_phantom(PhantomOptions(size_xyz=(400, 330, 140), spacing_mm=(1.0, 1.0, 2.0)))
    return made.fixed, made.moving


def lung() -> tuple[sitk.Image, sitk.Image]:
    """The real lung pair."""
    folder = data_folder() / "pairs" / "elastix-lung"
    return read_volume(folder / "fixed.nii.gz"), read_volume(folder / "moving.nii.gz")


def follow_up(name: str) -> tuple[sitk.Image, sitk.Image]:
    """A simulated follow-up with large motion of a validation volume."""
    pair = make_follow_up(_validation(name), "large", 50)
    return pair.fixed, pair.moving


def huge() -> tuple[sitk.Image, sitk.Image]:
    """The same of a volume that is resampled to `HUGE` voxels."""
    volume = _validation("covidctmd-normal002")
    grid = sitk.Image(HUGE, volume.GetPixelID())
    extent = np.multiply(volume.GetSize(), volume.GetSpacing())
    grid.SetSpacing((extent / HUGE).tolist())
    grid.SetOrigin(volume.GetOrigin())
    grid.SetDirection(volume.GetDirection())
    pair = make_follow_up(sitk.Resample(volume, grid), "large", 50)
    return pair.fixed, pair.moving


def _validation(name: str) -> sitk.Image:
    return read_volume(data_folder() / "ct" / "validation" / f"{name}.nii.gz")


PAIRS: dict[str, Callable[[], tuple[sitk.Image, sitk.Image]]] = {
    "lung": lung,
    "crlm-1004": lambda: follow_up("crlm-1004"),
    "phantom": phantom,
    "huge": huge,
}


def whole_pair(name: str, threads: Sequence[int], arms: Sequence[str]) -> Iterator[list[object]]:
    """Register a pair on the command line: a row for each arm and number of threads."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = [folder / "fixed.nii.gz", folder / "moving.nii.gz"]
        images = PAIRS[name]()
        for image, file in zip(images, files, strict=True):
            write_volume(image, file)
        size = " x ".join(map(str, images[0].GetSize()))
        del images
        for arm in arms:
            for count in threads:
                out = folder / f"{arm}-{count}"
                call = [sys.executable, "-m", "landmark_dir", "register", *map(str, files)]
                call += [*ARMS[arm].split(), "-o", str(out), "--threads", str(count), "-q"]
                call += ["--align", "centers"] if name == "lung" else []
                spent = run_and_watch(call)
                run = json.loads((out / "run.json").read_text())
                yield [f"{name}, {size}", arm, count, *spent, by_stage(run)]


def by_stage(run: dict[str, Any]) -> str:
    """Seconds of each stage, those of all processors in brackets."""
    spent = run["seconds"].items()
    return ", ".join(f"{name} {s:.1f} ({run['cpu_seconds'][name]:.1f})" for name, s in spent)


def run_and_watch(call: list[str]) -> Spent:
    """Run a command to its end."""
    page = resource.getpagesize()
    started = time.perf_counter()
    process = subprocess.Popen(call)
    peak = 0
    while True:
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        resident = 0
        for pid in family(process.pid):
            try:
                resident += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
            except OSError:
                continue
        peak = max(peak, resident)
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(call)} failed")
    wall = time.perf_counter() - started
    return Spent(wall, used.ru_utime + used.ru_stime, peak / 2**30)


def family(pid: int) -> list[int]:
    """A process and all its descendants (Linux)."""
    found = [pid]
    for member in found:
        for task in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = [name for name in PAIRS if name != "huge"]
    parser.add_argument("--pairs", nargs="*", choices=PAIRS, default=usual)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--no-slices", action="store_true", help="whole pairs only")
    args = parser.parse_args(arguments)
    if not args.no_slices:
        rows = [row for count in args.threads for row in slice_pair(count)]
        print(markdown(["two slices of 512 x 512 px", "threads", "ms"], rows), end="\n\n")
    head = ["pair", "arm", "threads", "s", "CPU s", "GiB", "of which, s (CPU s)"]
    rows = [row for name in args.pairs for row in whole_pair(name, args.threads, args.arms)]
    print(markdown(head, rows))


if __name__ == "__main__":
    main()
