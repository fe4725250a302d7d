"""The command line: translates options and errors, computes nothing."""

from pathlib import Path
from typing import Any

import click

from landmark_dir.elastix.distributions import simpleitk_conflict, simpleitk_is_whole

if not simpleitk_is_whole():  # everything below needs it
    raise SystemExit(f"Error: {simpleitk_conflict()}")

from landmark_dir import __version__
from landmark_dir.cli import info as installation
from landmark_dir.cli import runs
from landmark_dir.cli.shared import (
    BACKEND,
    DEFAULTS,
    INTERRUPTED,
    PATH,
    Command,
    Progress,
    errors_as_sentences,
    shared_options,
)
from landmark_dir.comparison import compare, compare_cases
from landmark_dir.comparison.cases import COLUMNS
from landmark_dir.errors import LandmarkDirError
from landmark_dir.io.run_folder import REPORT
from landmark_dir.io.volumes import read_volume
from landmark_dir.options import PRESETS, RegisterOptions
from landmark_dir.registration import pipeline


def _landmark_weight(_: click.Context, __: click.Parameter, value: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"expected a number, or one per resolution with commas, found {value!r}"
        ) from error


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


DEFORMABLE = [
    click.option(
        "--preset", type=click.Choice(list(PRESETS)), default=DEFAULTS.preset, show_default=True
    ),
    click.option(
        "--landmark-weight",
        callback=_landmark_weight,
        default=",".join(f"{w:g}" for w in DEFAULTS.landmark_weight),
        show_default=True,
        help="Metric weight of the points: one for all resolutions, or one for each.",
    ),
    click.option(
        "--start",
        type=click.Choice(["landmarks", "affine"]),
        default=DEFAULTS.start,
        show_default=True,
        help="Where the b-spline stage starts: from the motion that the network's landmarks say, "
        "at its finest level, or from the affine map, as without landmarks.",
    ),
    click.option(
        "--bending-energy",
        type=float,
        default=DEFAULTS.bending_energy,
        show_default=True,
        help="Weight of the bending energy penalty; 0 leaves it out.",
    ),
    click.option(
        "--hold-back",
        type=float,
        default=DEFAULTS.hold_back,
        show_default=True,
        help="Share of the landmarks that only the verdict sees.",
    ),
]


def deformable_options(command: Command) -> Command:
    """Options of the deformable stage, and of what guides it."""
    for option in reversed(DEFORMABLE):
        command = option(command)
    return command


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
@deformable_options
@click.option(
    "--robust", is_flag=True, help="Register without landmarks, too; keep what fits the held-back."
)
@click.option(
    "--on-few-landmarks",
    type=click.Choice(["fail", "register-without"]),
    default=DEFAULTS.on_few_landmarks,
    show_default=True,
)
def register(**given: Any) -> None:
    """Register MOVING to FIXED and write a run folder."""
    with errors_as_sentences(given.pop("quiet")) as progress:
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
    with errors_as_sentences(given.pop("quiet")) as progress:
        call, options = _split(given)
        pairs = pipeline.write_landmarks(**call, options=options, say=progress)
    click.echo(f"{call['out']}: {len(pairs)} landmarks")


OF_ONE_PAIR = (
    *("fixed", "moving", "fixed_mask", "moving_mask", "fixed_series", "moving_series"),
    *("expert", "labels"),
)


@main.command("compare")
@click.argument("fixed", type=PATH, required=False)
@click.argument("moving", type=PATH, required=False)
@shared_options
@deformable_options
@click.option(
    "--expert",
    nargs=2,
    type=PATH,
    metavar="FIXED.txt MOVING.txt",
    help="Corresponding points to measure with (elastix point files, mm); they never guide.",
)
@click.option(
    "--labels",
    nargs=2,
    type=PATH,
    metavar="FIXED MOVING",
    help="Label maps to measure with, each on the grid of its image.",
)
@click.option(
    "--cases",
    type=PATH,
    metavar="CSV",
    help="File of several pairs instead of FIXED and MOVING: the columns fixed and moving, and any "
    f"of {', '.join(COLUMNS)}.",
)
@click.option("--resume", is_flag=True, help="With --cases: keep the finished ones.")
def compare_command(**given: Any) -> None:
    """Register without and with landmarks, and measure what they change."""
    with errors_as_sentences(given.pop("quiet")) as progress:
        cases, resume = given.pop("cases"), given.pop("resume")
        if cases is not None:
            _compare_cases(cases, resume, given, progress)
            return
        if given["fixed"] is None or given["moving"] is None or resume:
            raise ValueError("expected FIXED and MOVING, or --cases, which --resume goes with")
        call, options = _split(given)
        comparison = compare.compare(**call, options=options, say=progress)
    _show(comparison, call["out"])


def _compare_cases(cases: Path, resume: bool, given: dict[str, Any], progress: Progress) -> None:
    if extra := [name for name in OF_ONE_PAIR if given[name] is not None]:
        raise ValueError(f"{extra[0]}: belongs to one pair; with --cases the file names the images")
    call, options = _split(given)
    call = {name: value for name, value in call.items() if name not in OF_ONE_PAIR}
    try:
        comparison = compare_cases.compare_cases(
            cases, options=options, resume=resume, say=progress, **call
        )
    except KeyboardInterrupt:
        progress.done()
        click.echo(f"Aborted; --resume keeps the finished cases of {call['out']}", err=True)
        raise SystemExit(INTERRUPTED) from None
    click.echo(comparison.table())
    if failed := comparison.failed:
        raise LandmarkDirError(f"{len(failed)} of {len(comparison.cases)} cases failed")


def _show(comparison: compare.Comparison, out: Path) -> None:
    """Print a comparison of one pair, and where its report is."""
    _notes(comparison.results["with"].warnings)
    click.echo(comparison.table())
    click.echo(f"report: {out / REPORT}")


@main.command()
@click.option("-o", "--out", required=True, type=PATH, help="Folder to create.")
@BACKEND
@click.option("--threads", type=int, default=None, help="CPU threads; all by default.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo.")
def demo(out: Path, backend: str, threads: int | None, overwrite: bool) -> None:
    """Register a built-in follow-up pair with and without landmarks; the truth is known."""
    with errors_as_sentences() as progress:
        options = RegisterOptions(backend=backend, threads=threads)
        comparison = compare.demo(out, options, overwrite=overwrite, say=progress)
    _show(comparison, out)


@main.command()
def info() -> None:
    """Show versions, engines found, weights and device."""
    with errors_as_sentences():
        click.echo(installation.describe_installation())


for _command in runs.COMMANDS:
    main.add_command(_command)

if __name__ == "__main__":
    main()
