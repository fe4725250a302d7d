"""The command line: translates options and errors, computes nothing."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click

from landmark_dir import __version__, compare, pipeline
from landmark_dir.errors import LandmarkDirError
from landmark_dir.pipeline import PRESETS, RegisterOptions
from landmark_dir.volume import read_volume

DEFAULTS = RegisterOptions()
PATH = click.Path(path_type=Path)
Command = TypeVar("Command", bound=Callable[..., Any])


class Progress:
    """Progress on stderr: one line rewritten on a terminal, one line a stage elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.rewrite = sys.stderr.isatty()
        self.stage = ""

    def __call__(self, text: str) -> None:
        """Show what is being done."""
        stage = text.split(":")[0]
        if self.quiet or (not self.rewrite and stage == self.stage):
            return
        self.stage = stage
        click.echo(f"\r\x1b[K{text}" if self.rewrite else text, err=True, nl=not self.rewrite)

    def done(self) -> None:
        """Leave the line."""
        if self.rewrite and not self.quiet and self.stage:
            click.echo("\r\x1b[K", err=True, nl=False)


def _terminated(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _errors_as_sentences(quiet: bool = False) -> Iterator[Progress]:
    """Turn our errors into exit code 1 and usage errors into 2; a kill cleans up as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _terminated)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    progress = Progress(quiet)
    try:
        yield progress
    except LandmarkDirError as error:
        progress.done()
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        progress.done()
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        progress.done()
        raise
    progress.done()


def _landmark_weight(_: click.Context, __: click.Parameter, value: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"expected a number, or one per resolution with commas, found {value!r}"
        ) from error


SHARED = [
    click.option("-o", "--out", required=True, type=PATH, help="Run folder to create."),
    click.option("--fixed-mask", type=PATH, help="Where fixed voxels count, on FIXED's grid."),
    click.option("--moving-mask", type=PATH, help="Where moving voxels count, on MOVING's grid."),
    click.option("--fixed-series", help="Series to read where FIXED is a folder with several."),
    click.option("--moving-series", help="The same for MOVING."),
    click.option("--affine/--no-affine", default=DEFAULTS.affine, show_default=True),
    click.option(
        "--align",
        type=click.Choice(["world", "centers"]),
        default=DEFAULTS.align,
        show_default=True,
        help="Start from the world coordinates, or from the image centres.",
    ),
    click.option(
        "--backend",
        type=click.Choice(["auto", "simpleelastix", "itkelastix", "executable"]),
        default=DEFAULTS.backend,
        show_default=True,
        help="Registration engine.",
    ),
    click.option(
        "--weights", default=DEFAULTS.weights, show_default=True, help="Shipped name or file."
    ),
    click.option(
        "--search-mm",
        type=float,
        default=DEFAULTS.search_mm,
        show_default=True,
        help="Through-plane reach of the matching, mm.",
    ),
    click.option(
        "--min-score",
        type=float,
        default=DEFAULTS.min_score,
        show_default=True,
        help="Least matching probability of a pair.",
    ),
    click.option("--max-landmarks", type=int, default=DEFAULTS.max_landmarks, show_default=True),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default=DEFAULTS.device,
        show_default=True,
        help="Where the network runs.",
    ),
    click.option("--threads", type=int, default=None, help="CPU threads; all by default."),
    click.option("--seed", type=int, default=DEFAULTS.seed, show_default=True),
    click.option("--overwrite", is_flag=True, help="Replace an earlier run folder."),
    click.option("-q", "--quiet", is_flag=True, help="No progress."),
]


def shared_options(command: Command) -> Command:
    """Options of every command that reads two volumes."""
    for option in reversed(SHARED):
        command = option(command)
    return command


def _volumes(given: dict[str, Any]) -> dict[str, Any]:
    """Read FIXED and MOVING where a series was named; the pipeline reads the rest itself."""
    for side in ("fixed", "moving"):
        series = given.pop(f"{side}_series")
        if series is not None:
            given[side] = read_volume(given[side], series)
    return given


def _split(given: dict[str, Any]) -> tuple[dict[str, Any], RegisterOptions]:
    """Arguments of the call, and the options of the registration."""
    names = set(RegisterOptions.__dataclass_fields__)
    options = {name: given.pop(name) for name in list(given) if name in names}
    return _volumes(given), RegisterOptions(**options)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Landmark-guided deformable registration of CT volumes with elastix."""


@main.command()
@click.argument("fixed", type=PATH)
@click.argument("moving", type=PATH)
@shared_options
@click.option("--landmarks/--no-landmarks", default=True, help="Let landmarks guide.")
@click.option(
    "--points",
    nargs=2,
    type=PATH,
    metavar="FIXED.txt MOVING.txt",
    help="Corresponding points to use instead of the network's (elastix point files, mm).",
)
@click.option(
    "--preset", type=click.Choice(list(PRESETS)), default=DEFAULTS.preset, show_default=True
)
@click.option(
    "--landmark-weight",
    callback=_landmark_weight,
    default=",".join(f"{w:g}" for w in DEFAULTS.landmark_weight),
    show_default=True,
    help="Metric weight of the points: one for the first resolution, or one for each.",
)
@click.option(
    "--on-few-landmarks",
    type=click.Choice(["fail", "register-without"]),
    default=DEFAULTS.on_few_landmarks,
    show_default=True,
)
def register(**given: Any) -> None:
    """Register MOVING to FIXED and write a run folder."""
    with _errors_as_sentences(given.pop("quiet")) as progress:
        call, options = _split(given)
        result = pipeline.register(**call, options=options, say=progress)
    for warning in result.warnings:
        click.echo(f"note: {warning}", err=True)
    click.echo(f"{call['out']}: {result.summary()}")


@main.command()
@click.argument("fixed", type=PATH)
@click.argument("moving", type=PATH)
@shared_options
def landmarks(**given: Any) -> None:
    """Find corresponding points of FIXED and MOVING, without the deformable stage."""
    with _errors_as_sentences(given.pop("quiet")) as progress:
        call, options = _split(given)
        pairs = pipeline.write_landmarks(**call, options=options, say=progress)
    click.echo(f"{call['out']}: {len(pairs)} landmarks")


BACKEND = click.option(
    "--backend",
    type=click.Choice(["auto", "simpleelastix", "itkelastix", "executable"]),
    default="auto",
    show_default=True,
)


@main.command()
@click.argument("run", type=PATH)
@click.argument("image", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Image file to write.")
@click.option("--labels", is_flag=True, help="IMAGE is a label map: nearest neighbour.")
@BACKEND
def warp(run: Path, image: Path, out: Path, labels: bool, backend: str) -> None:
    """Warp IMAGE, on the moving side, onto the fixed grid of RUN."""
    with _errors_as_sentences():
        pipeline.warp(run, image, out, labels=labels, backend=backend)
    click.echo(str(out))


@main.command("warp-points")
@click.argument("run", type=PATH)
@click.argument("points", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="elastix point file to write.")
@BACKEND
def warp_points(run: Path, points: Path, out: Path, backend: str) -> None:
    """Map POINTS, an elastix point file in fixed space (mm), to moving space."""
    with _errors_as_sentences():
        count = len(pipeline.warp_points(run, points, out, backend=backend))
    click.echo(f"{out}: {count} points")


@main.command()
@click.option("-o", "--out", required=True, type=PATH, help="Folder to create.")
@click.option("--backend", default="auto", show_default=True, help="Registration engine.")
@click.option("--threads", type=int, default=None, help="CPU threads; all by default.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo.")
def demo(out: Path, backend: str, threads: int | None, overwrite: bool) -> None:
    """Register a built-in follow-up pair with and without landmarks; the truth is known."""
    with _errors_as_sentences() as progress:
        options = RegisterOptions(backend=backend, threads=threads)
        table = compare.demo(out, options, overwrite=overwrite, say=progress)
    click.echo(table)


@main.command()
def info() -> None:
    """Show versions, engines found, weights and device."""
    with _errors_as_sentences():
        click.echo(pipeline.describe_installation())
