"""Commands that compare registration without and with landmarks: compare, demo."""

from pathlib import Path
from typing import Any

import click

from landmark_dir.cli.options import (
    PATH,
    TISSUES,
    only,
    pair_options,
    register_options,
    split,
    tissue_options,
)
from landmark_dir.cli.shared import Shown, errors_as_sentences, interrupts_told, show_notes
from landmark_dir.comparison import compare as comparing
from landmark_dir.errors import BadArgument, LandmarkDirError
from landmark_dir.io.run_folder import REPORT
from landmark_dir.options import RegisterOptions
from landmark_dir.study.batch import batch
from landmark_dir.study.cases import COLUMNS, read_cases

OF_ONE_PAIR = (
    *("fixed", "moving", "fixed_mask", "moving_mask", "fixed_series", "moving_series"),
    *("expert", "labels", *TISSUES),
)
OF_THE_DEMO = ("backend", "threads")


@click.command()
@click.argument("fixed", type=PATH, required=False)
@click.argument("moving", type=PATH, required=False)
@pair_options
@tissue_options
@click.option(
    "--expert",
    nargs=2,
    type=PATH,
    metavar="FIXED MOVING",
    help="Two files of corresponding points to measure at (elastix's, tables, or 3D Slicer's, "
    "told by their suffix, mm); they never guide.",
)
@click.option(
    "--labels",
    nargs=2,
    type=PATH,
    metavar="FIXED MOVING",
    help="Two label maps to measure with, each on the grid of its image.",
)
@click.option(
    "--cases",
    type=PATH,
    metavar="CSV",
    help="File of several pairs instead of FIXED and MOVING: the columns fixed and moving, and any "
    f"of {', '.join(COLUMNS)}; other columns are carried along.",
)
@click.option("--resume", is_flag=True, help="With --cases: keep the finished ones.")
@register_options(without=("landmarks", "on_few_landmarks"))
def compare(**given: Any) -> None:
    """Register without and with landmarks, and measure what they change."""
    with errors_as_sentences(given.pop("quiet")) as progress:
        cases, resume = given.pop("cases"), given.pop("resume")
        if cases is not None:
            _compare_cases(cases, resume, given, progress)
            return
        if given["fixed"] is None or given["moving"] is None or resume:
            raise BadArgument("expected FIXED and MOVING, or --cases, which --resume goes with")
        call, options = split(given)
        comparison = comparing.compare(**call, options=options, progress=progress)
    _show(comparison, call["out"])


def _compare_cases(cases: Path, resume: bool, given: dict[str, Any], progress: Shown) -> None:
    if extra := [name for name in OF_ONE_PAIR if given[name] is not None]:
        raise BadArgument(
            f"{extra[0]}: belongs to one pair; with --cases the file names the images"
        )
    call, options = split(given)
    out, overwrite = call["out"], call["overwrite"]
    read_cases(cases)  # all files are there, before anything slow is done
    how = {"compare": True, "resume": resume, "overwrite": overwrite, "progress": progress}
    with interrupts_told(progress):
        study = batch(cases, out, options, **how)
    click.echo(study.table())
    if failed := study.failed:
        raise LandmarkDirError(f"{len(failed)} of {len(study.rows)} cases failed")


def _show(comparison: comparing.Comparison, out: Path) -> None:
    """Print a comparison of one pair, and where its report is."""
    show_notes(comparison.results["with"].warnings)
    click.echo(comparison.table())
    click.echo(f"report: {out / REPORT}")


@click.command()
@click.option("-o", "--out", required=True, type=PATH, help="Folder to create.")
@only(*OF_THE_DEMO)
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo.")
def demo(out: Path, overwrite: bool, **chosen: Any) -> None:
    """Register a built-in follow-up pair with and without landmarks; the truth is known."""
    with errors_as_sentences() as progress:
        options = RegisterOptions.of(**chosen)
        comparison = comparing.demo(out, options, overwrite=overwrite, progress=progress)
    _show(comparison, out)


COMMANDS = (compare, demo)
