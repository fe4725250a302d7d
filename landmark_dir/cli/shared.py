"""What the commands share: progress, and errors as sentences."""

import logging
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from landmark_dir.errors import BadArgument, LandmarkDirError

log = logging.getLogger("landmark_dir")

CLEAR_LINE = "\r\x1b[K"
REPEAT_S = 15.0  # the longest silence
INTERRUPTED = 130  # exit code that shells give a program ended by Ctrl-C
SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Shown(logging.Handler):
    """Progress on stderr: one line rewritten on a terminal; elsewhere one line for each stage.

    Where nothing new is to say, the last line is repeated every `REPEAT_S`, with the time that has
    passed and the time left, so that a log shows that work goes on. It also takes the package's
    warnings, so that both keep to their lines.
    """

    def __init__(self, quiet: bool) -> None:
        super().__init__(logging.WARNING)
        self.quiet = quiet
        self.rewrite = sys.stderr.isatty()
        self.stage, self.fraction = "", 0.0
        self.started = self.shown = time.monotonic()
        self._over = threading.Event()
        self._lines = threading.Lock()
        if not quiet:
            threading.Thread(target=self._repeat, daemon=True).start()

    def __call__(self, stage: str, fraction: float) -> None:
        """Show what is being done, the share of the whole that is done, and the time left."""
        new = stage.split(":")[0] != self.stage.split(":")[0]
        self.stage, self.fraction = stage, max(fraction, self.fraction)
        if self.rewrite or new:
            self._show()

    def _repeat(self) -> None:
        while not self._over.wait(1.0):
            if self.stage and (self.rewrite or time.monotonic() - self.shown > REPEAT_S - 1.0):
                self._show()

    def _show(self) -> None:
        if self.quiet or self._over.is_set():
            return
        with self._lines:
            self.shown = time.monotonic()
            line = f"{self.shown - self.started:5.0f} s {self.fraction:4.0%}  {self.stage}"
            line += self._left()
            if self.rewrite:
                width = shutil.get_terminal_size().columns
                line = f"{CLEAR_LINE}{line[: width - 1]}"  # a line that wraps cannot be rewritten
            click.echo(line, err=True, nl=not self.rewrite, color=self.rewrite)

    def _left(self) -> str:
        passed = time.monotonic() - self.started
        if passed < 3 or not 0.03 < self.fraction < 1:
            return ""
        left = passed * (1 - self.fraction) / self.fraction
        return f", about {left:.0f} s left" if left < 100 else f", about {left / 60:.0f} min left"

    def emit(self, record: logging.LogRecord) -> None:
        """Print a warning on a line of its own."""
        self._clear()
        click.echo(f"{record.levelname.lower()}: {record.getMessage()}", err=True)

    def done(self) -> None:
        """Show nothing more, and leave the line."""
        self._over.set()
        self._clear()

    def _clear(self) -> None:
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
def errors_as_sentences(quiet: bool = False) -> Iterator[Shown]:
    """Turn errors into one sentence: exit code 1, usage errors 2, an interrupt 130."""
    progress = Shown(quiet)
    log.addHandler(progress)
    try:
        with _signals_as_interrupts():
            yield progress
    except BadArgument as error:
        raise click.UsageError(str(error)) from error
    except LandmarkDirError as error:
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except (OSError, RuntimeError, MemoryError) as error:  # a full disk or memory, mostly
        raise click.ClickException(_last_line(error)) from error
    except KeyboardInterrupt:
        progress.done()
        click.echo("Aborted, nothing was written", err=True)
        raise SystemExit(INTERRUPTED) from None
    finally:
        progress.done()
        log.removeHandler(progress)


@contextmanager
def interrupts_told(progress: Shown) -> Iterator[None]:
    """Let an interrupt say what stays and how to go on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        progress.done()
        click.echo(str(interrupt) or "Aborted", err=True)
        raise SystemExit(INTERRUPTED) from None


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__


def show_notes(warnings: list[str]) -> None:
    """Say at the end what was said on the way."""
    for warning in warnings:
        click.echo(f"note: {warning}", err=True)
