"""Speed and memory of the networks: `python -m benchmarks.network [THREADS]`."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from benchmarks.common import markdown
from landmark_dir.io.volumes import write_volume
from landmark_dir.models.weights import load_weights
from landmark_dir.phantom.scanner import PhantomOptions, make_phantom
from landmark_dir.preprocessing.intensity import AIR_HU
from training.evaluation import baselines
from training.evaluation.matchers import BASELINES, Matcher, network_matcher

REPEATS = 10
LARGE = PhantomOptions(size_xyz=(400, 330, 140), spacing_mm=(1.0, 1.0, 2.0))
SIZE = " x ".join(map(str, LARGE.size_xyz))


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
    matchers: dict[str, Matcher] = {
        **{name: network_matcher(load_weights(name)) for name in ("default", "paper")},
        "SIFT, ratio test, soft tissue": BASELINES["SIFT-RatioTest, soft tissue"],
    }
    rows: list[list[object]] = []
    for name, matcher in matchers.items():
        found = len(matcher(one, two)[0])
        rows.append(
            [
                f"match two 512 x 512 slices, {name} ({found} matches), ms",
                milliseconds(lambda matcher=matcher: matcher(one, two)),  # type: ignore[misc]
            ]
        )
    return rows


def whole_pair(threads: int) -> list[list[object]]:
    """Register a large pair on the command line; seconds and peak memory of all its processes."""
    phantom = make_phantom(LARGE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / "fixed.nii.gz", folder / "moving.nii.gz"]
        for image, file in zip((phantom.fixed, phantom.moving), files, strict=True):
            write_volume(image, file)
        rows: list[list[object]] = []
        taken = {}
        for words in (
            "landmarks --weights default",
            "landmarks --weights paper",
            "register",
            "register --no-landmarks",
        ):
            out = folder / "-".join(words.split())
            command, *rest = words.split()
            call = [sys.executable, "-m", "landmark_dir", command, *map(str, files), *rest]
            call += ["-o", str(out), "--threads", str(threads), "-q"]
            started = time.perf_counter()
            peak = run_and_watch(call)
            taken[words] = time.perf_counter() - started
            spent = json.loads((out / "run.json").read_text())["seconds"]
            rows.append([f"`{words}` of {SIZE} voxels, s", taken[words]])
            parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in spent.items())
            rows.append(["... of which", parts])
            rows.append(["... peak memory of all processes, GiB", peak])
            rows.append(["... report, MB", (out / "report.html").stat().st_size / 1e6])
        ratio = taken["register"] / taken["register --no-landmarks"]
        return [*rows, ["with / without landmarks, seconds", ratio]]


def run_and_watch(call: list[str]) -> float:
    """Run a command; the peak of the summed resident memory of it and its children, GiB."""
    page = resource.getpagesize()
    process = subprocess.Popen(call)
    peak = 0
    while process.poll() is None:
        resident = 0
        for pid in family(process.pid):
            try:
                resident += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
            except OSError:
                continue
        peak = max(peak, resident)
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{call[3]} failed")
    return peak / 2**30


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


def main(threads: int = 2) -> None:
    """Print the table."""
    rows = slice_pair(threads) + whole_pair(threads)
    print(markdown([f"{threads} threads", ""], rows))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
