"""Commands for one pair of volumes: register, landmarks."""

from typing import Any

import click

from landmark_dir.cli.options import (
    AFTERWARDS,
    PATH,
    pair_options,
    register_options,
    split,
    tissue_options,
)
from landmark_dir.cli.shared import errors_as_sentences, show_notes
from landmark_dir.registration import pipeline

OF_LANDMARKS = ("landmarks", "on_few_landmarks", *AFTERWARDS)


@click.command()
@click.argument("fixed", type=PATH)
@click.argument("moving", type=PATH)
@pair_options
@tissue_options
@click.option(
    "--points",
    nargs=2,
    type=PATH,
    metavar="FIXED MOVING",
    help="Two files of corresponding points to use instead of the network's (elastix's .txt, "
    ".csv with the columns x, y, z, or 3D Slicer's .mrk.json and .fcsv; mm).",
)
@register_options()
def register(**given: Any) -> None:
    """Register MOVING to FIXED and write a run folder."""
    with errors_as_sentences(given.pop("quiet")) as progress:
        call, options = split(given)
        result = pipeline.register(**call, options=options, progress=progress)
    show_notes(result.warnings)
    click.echo(f"{call['out']}: {result.summary()}")


@click.command()
@click.argument("fixed", type=PATH)
@click.argument("moving", type=PATH)
@pair_options
@register_options(without=OF_LANDMARKS)
def landmarks(**given: Any) -> None:
    """Find corresponding points of FIXED and MOVING, without the deformable stage."""
    with errors_as_sentences(given.pop("quiet")) as progress:
        call, options = split(given)
        pairs = pipeline.write_landmarks(**call, options=options, progress=progress)
    click.echo(f"{call['out']}: {len(pairs)} landmarks")


COMMANDS = (register, landmarks)
