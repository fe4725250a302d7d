"""Commands for a finished run: its transform, applied to images and points."""

from pathlib import Path

import click

from landmark_dir import applying
from landmark_dir.cli_shared import BACKEND, PATH, errors_as_sentences


@click.command()
@click.argument("run", type=PATH)
@click.argument("image", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Image file to write.")
@click.option("--labels", is_flag=True, help="IMAGE is a label map: nearest neighbour.")
@BACKEND
def warp(run: Path, image: Path, out: Path, labels: bool, backend: str) -> None:
    """Warp IMAGE, on the moving side, onto the fixed grid of RUN."""
    with errors_as_sentences():
        applying.warp(run, image, out, labels=labels, backend=backend)
    click.echo(str(out))


@click.command("warp-points")
@click.argument("run", type=PATH)
@click.argument("points", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="elastix point file to write.")
@BACKEND
def warp_points(run: Path, points: Path, out: Path, backend: str) -> None:
    """Map POINTS, an elastix point file in fixed space (mm), to moving space."""
    with errors_as_sentences():
        count = len(applying.warp_points(run, points, out, backend=backend))
    click.echo(f"{out}: {count} points")


COMMANDS = (warp, warp_points)
