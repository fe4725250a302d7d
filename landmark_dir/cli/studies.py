"""Commands for many pairs: pairs, batch, gather."""

import re
from pathlib import Path
from typing import Any

import click

from landmark_dir.cli.options import PATH, TYPES, register_options, split
from landmark_dir.cli.shared import errors_as_sentences, interrupts_told, show_notes
from landmark_dir.errors import LandmarkDirError
from landmark_dir.study.batch import batch as run_batch
from landmark_dir.study.finding.choose_pairs import WHICH
from landmark_dir.study.finding.find_pairs import find_pairs
from landmark_dir.study.finding.pairs_file import (
    left_out_text,
    pairs_files,
    pairs_table,
    write_pairs,
)
from landmark_dir.study.folder import ALL, PARTS, STUDY_HTML
from landmark_dir.study.gather import Study
from landmark_dir.study.gather import gather as gather_study
from landmark_dir.study.how import How, with_workers

SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
PARQUET = click.option("--parquet", is_flag=True, help="Write results.parquet, too.")


@click.command()
@click.argument("folder", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="CSV file to write.")
@click.option(
    "--pattern",
    metavar="PATTERN",
    help="How the paths of files below FOLDER are made, such as '{patient}/{exam}_ct.nii.gz'; "
    "{exam}: a date or a number, *: any text without a /.  [default: DICOM, told by its tags]",
)
@click.option(
    "--which",
    type=click.Choice(list(WHICH)),
    default="consecutive",
    show_default=True,
    help="; ".join(f"{name}: {meaning}" for name, meaning in WHICH.items()) + ".",
)
@click.option("--keep-ids", is_flag=True, help="Write PatientIDs instead of their hashes.")
@click.option("--overwrite", is_flag=True, help="Replace earlier files.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def pairs(
    folder: Path,
    out: Path,
    pattern: str | None,
    which: str,
    keep_ids: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Find the prior / follow-up pairs in a folder of exams.

    FOLDER holds DICOM exports, at any depth, or files with a naming pattern. The CSV file is one
    that `batch` and `compare --cases` read. What is left out, and why, is listed beside it. Only
    headers are read.
    """
    with errors_as_sentences(quiet) as progress:
        _, left_out = pairs_files(out, overwrite)
        found = find_pairs(folder, pattern, which=which, keep_ids=keep_ids, progress=progress)
        write_pairs(found, out, overwrite=overwrite)
        progress.done()
        show_notes(found.notes)
        if found.pairs:
            click.echo(pairs_table(found.pairs))
        if found.left_out:
            click.echo(left_out_text(found.left_out, left_out))
        if not found.pairs:
            raise LandmarkDirError(f"{folder}: no pair found; {left_out.name} says why")
    click.echo(f"{out}: {found.summary()}")


def _shard(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    found = SHARD.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"expected I/N, such as 3/100, found {value!r}")
    return int(found[1]), int(found[2])


def _keep(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(","))


@click.command()
@click.argument("pairs", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Folder of the study.")
@click.option("--compare", is_flag=True, help="Both arms of each pair, measured.")
@click.option(
    "--workers",
    type=TYPES[int],
    help="Processes on this machine, each with one registration at a time.  [default: one for each "
    "core, as far as memory goes]",
)
@click.option("--scheduler", help="Address of a Dask scheduler whose workers do the cases.")
@click.option("--scheduler-file", type=PATH, help="The same, by its scheduler file.")
@click.option(
    "--shard",
    callback=_shard,
    metavar="I/N",
    help="Do each N-th case from the I-th on, without Dask unless --workers is given, and leave "
    "the tables to `gather`: for array jobs.",
)
@click.option(
    "--retries",
    type=TYPES[int],
    default=1,
    show_default=True,
    help="How often a case is tried again that crashed or went beyond a limit.",
)
@click.option("--timeout", type=TYPES[float], metavar="MIN", help="Most minutes a case may take.")
@click.option(
    "--memory", type=TYPES[float], metavar="GB", help="Most memory of all processes of a case."
)
@click.option(
    "--keep",
    callback=_keep,
    default=ALL,
    show_default=True,
    metavar="PARTS",
    help=f"What of a run folder stays: {ALL}, or some of {','.join(PARTS)}, with commas.",
)
@PARQUET
@click.option("--overwrite", is_flag=True, help="Do all cases again.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@register_options()
def batch(**given: Any) -> None:
    """Register the pairs of a CSV file, or compare both arms of each.

    PAIRS has the columns fixed and moving, and any others that `compare --cases` takes; what is
    left is carried along into the results. The same command goes on after any interruption. Exit
    code 1: some failed.
    """
    parquet = given.pop("parquet")
    with errors_as_sentences(given.pop("quiet")) as progress:
        limits = {"timeout_min": given.pop("timeout"), "memory_gb": given.pop("memory")}
        names = ("workers", "scheduler", "scheduler_file", "shard", "retries", "keep")
        how = How(**{name: given.pop(name) for name in names}, **limits)
        how = with_workers(how)
        call, options = split(given)
        with interrupts_told(progress):
            study = run_batch(**call, options=options, how=how, parquet=parquet, progress=progress)
    _show(study, how.shard is None)


@click.command()
@click.argument("study", type=PATH)
@PARQUET
def gather(study: Path, parquet: bool) -> None:
    """Make the tables and the page of STUDY from what its cases have left so far."""
    with errors_as_sentences():
        found = gather_study(study, parquet=parquet)
    _show(found, True)


def _show(study: Study, has_tables: bool) -> None:
    if study.compare and study.pooled:
        click.echo(study.pooled_table())
    click.echo(study.summary())
    if has_tables:
        click.echo(f"page: {study.folder / STUDY_HTML}")
    else:
        click.echo(f"tables: `landmark-dir gather {study.folder}`, when all shards are through")
    if study.counts["failed"]:
        raise click.exceptions.Exit(1)


COMMANDS = (pairs, batch, gather)
