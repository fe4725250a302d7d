"""Commands for a finished run: its transform, applied to images and points."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import SimpleITK as sitk
from click.core import ParameterSource

from landmark_dir.cli.options import PATH, options_of
from landmark_dir.cli.shared import errors_as_sentences
from landmark_dir.dicom_export.export import export_registration, export_warped
from landmark_dir.options import DicomOptions
from landmark_dir.registration import apply
from landmark_dir.registration.carry import warp_structures
from landmark_dir.registration.result import open_run
from landmark_dir.structures.writing import KINDS

SERIES_OPTIONS = ("allow_other_patient", "fixed_dicom", "moving_dicom")
OPTIONS_OF = {"itk": (), "dicom": ("grid_mm", *SERIES_OPTIONS), "dicom-series": SERIES_OPTIONS}


@click.command()
@click.argument("run", type=PATH)
@click.argument("image", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Image file to write.")
@click.option(
    "--labels",
    is_flag=True,
    help="IMAGE holds structures: a label map, a DICOM SEG or an RTSTRUCT; each keeps its name and "
    "number. OUT ends in .nii.gz, .nrrd, .seg.nrrd, .mha or .dcm.",
)
@click.option("--as", "kind", type=click.Choice(KINDS), help="What a .dcm is to be; with --labels.")
@click.option(
    "--inverse", is_flag=True, help="From the fixed side to the moving grid; with --labels."
)
@click.option("--fixed-dicom", type=PATH, help="Where the fixed DICOM series lies now.")
@click.option("--moving-dicom", type=PATH, help="Where the moving DICOM series lies now.")
def warp(run: Path, image: Path, out: Path, labels: bool, **given: Any) -> None:
    """Warp IMAGE, on the moving side, onto the fixed grid of RUN.

    Structures (--labels) also the other way, with --inverse.
    """
    with errors_as_sentences():
        if not labels:
            if said := [name for name, value in given.items() if value]:
                option = "as" if said[0] == "kind" else said[0].replace("_", "-")
                raise click.UsageError(f"--{option} goes with --labels")
            apply.warp(run, image, out)
            click.echo(str(out))
            return
        for one in warp_structures(run, image, out, **given):
            volumes = f"{one.before_ml:.2f} ml, now {one.structure.volume_ml:.2f} ml"
            click.echo(f"{one.structure.number} {one.structure.name}: {volumes}")
    click.echo(str(out))


@click.command("warp-points")
@click.argument("run", type=PATH)
@click.argument("points", type=PATH)
@click.option("-o", "--out", required=True, type=PATH, help="Point file to write.")
@click.option("--inverse", is_flag=True, help="Map moving points to fixed space instead.")
def warp_points(run: Path, points: Path, out: Path, inverse: bool) -> None:
    """Map POINTS in fixed space (mm) to moving space.

    Point files: 3D Slicer's (.mrk.json, .fcsv) and tables (.csv with the columns x, y, z in LPS mm,
    or r, a, s, and, if wanted, name), whose labels are kept; or elastix's (.txt, LPS mm).
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
@click.option("--like", type=PATH, help="Image whose grid to take; else that of the moving image.")
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
@click.option(
    "-o", "--out", required=True, type=PATH, help="File to write; a folder for dicom-series."
)
@click.option(
    "--to",
    type=click.Choice(list(OPTIONS_OF)),
    default="itk",
    show_default=True,
    help="itk: the transform, as .h5 or .tfm, for SimpleITK, ITK and 3D Slicer; dicom: the "
    "transform as a (Deformable) Spatial Registration object; dicom-series: the warped image as a "
    "CT series.",
)
@options_of(DicomOptions())
@click.option("--fixed-dicom", type=PATH, help="Where the fixed DICOM series lies now.")
@click.option("--moving-dicom", type=PATH, help="Where the moving DICOM series lies now.")
@click.pass_context
def export(context: click.Context, /, run: Path, out: Path, to: str, **given: Any) -> None:
    """Write the transform or the warped image for other programs.

    itk is checked against transformix. Both kinds of DICOM need a run that was made from DICOM.
    """
    for name in given:
        if name not in OPTIONS_OF[to] and _was_given(context, name):
            raise click.UsageError(f"--{name.replace('_', '-')} means nothing for --to {to}")
    with errors_as_sentences():
        click.echo(EXPORTS[to](run, out, given))


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _to_itk(run: Path, out: Path, _: dict[str, Any]) -> str:
    result = open_run(run)
    worst = apply.export(result, out)
    return (
        f"{out}: within {worst:.1e} mm of transformix inside the fixed image; outside it the "
        "b-splines end, and there programs differ\n"
        f"SimpleITK: {apply.resample_call(result, out)}\n"
        f"  {apply.RESAMPLE_NOTE}\n"
        "3D Slicer: load it as a transform and put it on the moving volume"
    )


def _to_dicom(run: Path, out: Path, given: dict[str, Any]) -> str:
    written = export_registration(run, out, _dicom_options(given), **given)
    if written.off_mm is None:
        return f"{out}: {written.kind}, its matrix maps moving to fixed points"
    off_mm = written.off_mm
    return (
        f"{out}: {written.kind}, fixed to moving points; between its vectors it is up to "
        f"{off_mm.max:.2g} mm off the transform (p95 {off_mm.p95:.2g} mm) at {off_mm.points} "
        "places in the fixed image"
    )


def _to_series(run: Path, out: Path, given: dict[str, Any]) -> str:
    written = export_warped(run, out, _dicom_options(given), **given)
    return f"{out}: {written.slices} CT slices in the exam of the fixed image"


def _dicom_options(given: dict[str, Any]) -> DicomOptions:
    """Take the choices out of what was given."""
    return DicomOptions(*(given.pop(one.name) for one in fields(DicomOptions)))


EXPORTS = {"itk": _to_itk, "dicom": _to_dicom, "dicom-series": _to_series}
COMMANDS = (warp, warp_points, field, jacobian, inverse, export)
