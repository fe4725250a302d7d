"""Commands for a finished run: its transform, applied to images and points."""

from pathlib import Path

import click
import SimpleITK as sitk

from landmark_dir.cli.options import PATH
from landmark_dir.cli.shared import errors_as_sentences
from landmark_dir.registration import apply
from landmark_dir.registration.result import open_run


@click.command()
@click.argument("run", type=PATH)
@click.argument("image", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Image file to write.")
@click.option("--labels", is_flag=True, help="IMAGE is a label map: nearest neighbour.")
def warp(run: Path, image: Path, out: Path, labels: bool) -> None:
    """Warp IMAGE, on the moving side, onto the fixed grid of RUN."""
    with errors_as_sentences():
        apply.warp(run, image, out, labels=labels)
    click.echo(str(out))


@click.command("warp-points")
@click.argument("run", type=PATH)
@click.argument("points", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Point file to write.")
@click.option("--inverse", is_flag=True, help="Map moving points to fixed space instead.")
def warp_points(run: Path, points: Path, out: Path, inverse: bool) -> None:
    """Map POINTS in fixed space (mm) to moving space.

    Point files: 3D Slicer's (.mrk.json, .fcsv), whose labels are kept, or elastix's (.txt, LPS).
    """
    with errors_as_sentences():
        count = len(apply.warp_points(run, points, out, inverse=inverse))
    click.echo(f"{out}: {count} points")


@click.command()
@click.argument("run", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Vector image to write.")
def field(run: Path, out: Path) -> None:
    """Write the displacement field T(x) - x on the fixed grid, mm, LPS."""
    with errors_as_sentences():
        apply.field(run, out)
    click.echo(str(out))


@click.command()
@click.argument("run", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Image to write.")
def jacobian(run: Path, out: Path) -> None:
    """Write the Jacobian determinant of T on the fixed grid."""
    with errors_as_sentences():
        values = sitk.GetArrayFromImage(apply.jacobian(run, out))
    folded = float((values <= 0).mean())
    click.echo(f"{out}: {values.min():.2f} to {values.max():.2f}, {folded:.2%} folded")


@click.command()
@click.argument("run", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Vector image to write.")
@click.option("--like", type=PATH, help="Image whose grid to take; the run's moving image if none.")
def inverse(run: Path, out: Path, like: Path | None) -> None:
    """Write the inverse (moving to fixed) as a displacement field on the moving grid."""
    with errors_as_sentences():
        found = apply.inverse(run, out, like=like)
    left = found.residual_mm
    click.echo(
        f"{out}: residual mean {left.mean:.4f}, p95 {left.p95:.4f}, max {left.max:.3f} mm over "
        f"{left.points} voxels that lie in the fixed image, {found.unsolved} more than 0.1 mm off"
    )


@click.command()
@click.argument("run", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Transform file: .h5 or .tfm")
def export(run: Path, out: Path) -> None:
    """Write the transform for SimpleITK, ITK and 3D Slicer, checked against transformix."""
    with errors_as_sentences():
        result = open_run(run)
        worst = apply.export(result, out)
        call = apply.resample_call(result, out)
    click.echo(
        f"{out}: within {worst:.1e} mm of transformix inside the fixed image; outside it the "
        "b-splines end, and there programs differ\n"
        f"SimpleITK: {call}\n"
        "3D Slicer: load it as a transform and put it on the moving volume"
    )


COMMANDS = (warp, warp_points, field, jacobian, inverse, export)
