"""Commands for many pairs: pairs."""

from pathlib import Path

import click

from landmark_dir.cli.options import PATH
from landmark_dir.cli.shared import errors_as_sentences, show_notes
from landmark_dir.errors import LandmarkDirError
from landmark_dir.study.choose_pairs import WHICH
from landmark_dir.study.find_pairs import find_pairs
from landmark_dir.study.pairs_file import left_out_text, pairs_files, pairs_table, write_pairs


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
    """Find prior / follow-up pairs in FOLDER: DICOM exports, or files with a naming pattern.

    The CSV file is one that `batch` and `compare --cases` read. What is left out, and why, is
    listed beside it. Only headers are read.
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


COMMANDS = (pairs,)
