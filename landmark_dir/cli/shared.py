"""What the commands share: progress, errors as sentences, and options."""

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

from landmark_dir.errors import LandmarkDirError
from landmark_dir.options import RegisterOptions

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
def errors_as_sentences(quiet: bool = False) -> Iterator[Progress]:
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


BACKEND = click.option(
    "--backend",
    type=click.Choice(["auto", "simpleelastix", "itkelastix", "executable"]),
    default="auto",
    show_default=True,
)

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
    click.option(
        "--max-landmarks", type=int, help="Most pairs elastix is given; the preset says, if not."
    ),
    click.option(
        "--passes", type=int, help="How often the network matches; the preset says, if not."
    ),
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
