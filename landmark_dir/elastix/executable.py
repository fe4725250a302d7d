"""The `elastix` and `transformix` programs. Runs in the worker; see `worker` for the calls."""

import os
import subprocess
from functools import partial
from pathlib import Path

from landmark_dir.child_process import describe_exit, end_with_parent

OPTIONS = {  # our name -> elastix's option
    "fixed": "-f",
    "moving": "-m",
    "parameters": "-p",
    "fixed_mask": "-fMask",
    "moving_mask": "-mMask",
    "initial_transform": "-t0",
    "fixed_points": "-fp",
    "moving_points": "-mp",
}


def version() -> str:
    """Version of the program, as it says itself."""
    said = subprocess.run(["elastix", "--version"], capture_output=True, text=True, check=True)
    return f"elastix {said.stdout.strip().removeprefix('elastix version: ')}"


def register(folder: str, **files: str) -> None:
    """Run elastix."""
    options = [part for name, file in files.items() for part in (OPTIONS[name], file)]
    _run("elastix", folder, *options)


def warp_image(folder: str, transform: str, moving: str) -> None:
    """Run transformix on an image."""
    _run("transformix", folder, "-tp", transform, "-in", moving)


def map_points(folder: str, transform: str, points: str) -> None:
    """Run transformix on a point file."""
    _run("transformix", folder, "-tp", transform, "-def", points)


def _run(program: str, folder: str, *options: str) -> None:
    # the folder is left to the current one: elastix 5.0 refuses an -out path with a space
    done = subprocess.run(
        [program, "-out", ".", *options],
        cwd=Path(folder),
        stdin=subprocess.DEVNULL,  # ours carries the requests
        stdout=subprocess.DEVNULL,  # the log has it all
        preexec_fn=partial(
            end_with_parent, os.getpid()
        ),  # what the worker asked for is not handed on
    )
    if done.returncode:
        raise RuntimeError(f"{program} ended with {describe_exit(done.returncode)}")
