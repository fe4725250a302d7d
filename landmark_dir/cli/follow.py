"""The command for findings of a finished run: where they are in the other scan."""

from pathlib import Path

import click

from landmark_dir.cli.options import PATH
from landmark_dir.cli.shared import errors_as_sentences
from landmark_dir.findings import follow as following
from landmark_dir.findings.places import SIDES


@click.command()
@click.argument("run", type=PATH)
@click.argument("findings", type=PATH)
@click.option(
    "-o",
    "--out",
    required=True,
    type=PATH,
    help="Table to write, .csv; .mrk.json (3D Slicer) and .html (pictures) are written beside it.",
)
@click.option(
    "--of",
    type=click.Choice(SIDES),
    default="fixed",
    show_default=True,
    help="The scan that FINDINGS lie in.",
)
@click.option(
    "--found",
    type=PATH,
    help="Findings of the other scan: paired one to one, with what is new and what is gone.",
)
@click.option("--overwrite", is_flag=True, help="Replace earlier files.")
def follow(
    run: Path, findings: Path, out: Path, of: str, found: Path | None, overwrite: bool
) -> None:
    """Carry FINDINGS of one scan of RUN to the other, each with a radius in mm.

    FINDINGS: points (3D Slicer's .mrk.json and .fcsv, elastix .txt, or .csv with the columns name,
    x, y, z in LPS mm) or structures with a volume (label map, DICOM SEG, RTSTRUCT). Slices are
    counted from 1 in the order of the volume; that is not DICOM's InstanceNumber.
    """
    with errors_as_sentences():
        followed = following.follow(run, findings, out, of=of, found=found, overwrite=overwrite)
    click.echo(followed.table())
    click.echo(f"{out}, pictures: {out.with_suffix('.html')}")


COMMANDS = (follow,)
