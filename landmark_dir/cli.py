"""The command line: translates options and errors, computes nothing."""

import logging
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click

from landmark_dir.distributions import simpleitk_conflict, simpleitk_is_whole

if not simpleitk_is_whole():  # everything below needs it
    raise SystemExit(f"Error: {simpleitk_conflict()}")

from landmark_dir import __version__, applying, compare, pipeline
from landmark_dir import info as installation
from landmark_dir.errors import LandmarkDirError
from landmark_dir.options import PRESETS, RegisterOptions
from landmark_dir.rundir import REPORT
from landmark_dir.volume import read_volume

log = logging.getLogger("landmark_dir")

DEFAULTS = RegisterOptions()
CLEAR_LINE = "\r\x1b[K"
INTERRUPTED = 130  # exit code that shells give a program ended by Ctrl-C
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
PATH = click.Path(path_type=Path)
Command = TypeVar("Command", bound=Callable[..., Any])


class Progress(logging.Handler):
    """Progress on stderr: one line rewritten on a terminal, one line a stage elsewhere.

    It also takes the package's warnings, so that both keep to their lines.
    """

    def __init__(self, quiet: bool) -> None:
        super().__init__(logging.WARNING)
        self.quiet = quiet
        self.rewrite = sys.stderr.isatty()
        self.stage = ""
        self.started = time.monotonic()

    def __call__(self, text: str) -> None:
        """Show what is being done, and the seconds since the start."""
        stage = text.split(":")[0]
        if self.quiet or (not self.rewrite and stage == self.stage):
            return
        self.stage = stage
        line = f"{time.monotonic() - self.started:5.0f} s  {text if self.rewrite else stage}"
        if self.rewrite:
            width = shutil.get_terminal_size().columns
            line = f"{CLEAR_LINE}{line[: width - 1]}"  # a line that wraps cannot be rewritten
        click.echo(line, err=True, nl=not self.rewrite, color=self.rewrite)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a warning on a line of its own."""
        self.done()
        click.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)

    def done(self) -> None:
        """Leave the line."""
        if self.rewrite and self.stage and not self.quiet:
            click.echo(CLEAR_LINE, err=True, nl=False, color=True)


def _interrupt(_: int, __: FrameType | None) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # an impatient second one must not stop the tidying
    raise KeyboardInterrupt


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Make a kill and a closed terminal tidy up as Ctrl-C does."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # `nohup` means it
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _errors_as_sentences(quiet: bool = False) -> Iterator[Progress]:
    """Turn errors into one sentence: exit code 1, usage errors 2, an interrupt 130."""
    progress = Progress(quiet)
    log.addHandler(progress)
    try:
        with _signals_as_interrupts():
            yield progress
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except LandmarkDirError as error:
        raise click.ClickException(str(error)) from error
    except (OSError, RuntimeError, MemoryError) as error:  # a full disk or memory, mostly
        raise click.ClickException(_last_line(error)) from error
    except KeyboardInterrupt:
        progress.done()
        click.echo("Aborted, nothing was written", err=True)
        raise SystemExit(INTERRUPTED) from None
    finally:
        progress.done()
        log.removeHandler(progress)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__


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
        "--weights",
        default=DEFAULTS.weights,
        show_default=True,
        help="Shipped name (default, paper) or file.",
    ),
    click.option(
        "--search-mm",
        type=float,
        default=DEFAULTS.search_mm,
        show_default=True,
        help="Through-plane reach, mm, around where a far search leads; paper: around the slice.",
    ),
    click.option(
        "--min-score",
        type=float,
        default=DEFAULTS.min_score,
        show_default=True,
        help="Least score of a pair: probability to be within 2 mm; of paper, its own.",
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
    checked = RegisterOptions(**options)  # before anything is read
    return _volumes(given), checked


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
    "--bending-energy",
    type=float,
    default=DEFAULTS.bending_energy,
    show_default=True,
    help="Weight of the bending energy penalty; 0 leaves it out.",
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
    _notes(result.warnings)
    click.echo(f"{call['out']}: {result.summary()}")


def _notes(warnings: list[str]) -> None:
    """Say at the end what was said on the way."""
    for warning in warnings:
        click.echo(f"note: {warning}", err=True)


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
        applying.warp(run, image, out, labels=labels, backend=backend)
    click.echo(str(out))


@main.command("warp-points")
@click.argument("run", type=PATH)
@click.argument("points", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="elastix point file to write.")
@BACKEND
def warp_points(run: Path, points: Path, out: Path, backend: str) -> None:
    """Map POINTS, an elastix point file in fixed space (mm), to moving space."""
    with _errors_as_sentences():
        count = len(applying.warp_points(run, points, out, backend=backend))
    click.echo(f"{out}: {count} points")


@main.command()
@click.option("-o", "--out", required=True, type=PATH, help="Folder to create.")
@BACKEND
@click.option("--threads", type=int, default=None, help="CPU threads; all by default.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo.")
def demo(out: Path, backend: str, threads: int | None, overwrite: bool) -> None:
    """Register a built-in follow-up pair with and without landmarks; the truth is known."""
    with _errors_as_sentences() as progress:
        options = RegisterOptions(backend=backend, threads=threads)
        comparison = compare.demo(out, options, overwrite=overwrite, say=progress)
    _notes(comparison.results["with"].warnings)
    click.echo(comparison.table())
    click.echo(f"reports: {', '.join(str(out / arm / REPORT) for arm in comparison.results)}")


@main.command()
def info() -> None:
    """Show versions, engines found, weights and device."""
    with _errors_as_sentences():
        click.echo(installation.describe_installation())


if __name__ == "__main__":
    main()
