"""A finished run as DICOM: its transform as a registration object, its warped image as a series."""

import logging
from pathlib import Path
from typing import NamedTuple

import pydicom

from landmark_dir.dicom_export.deformation import deformable_registration, interpolation_error
from landmark_dir.dicom_export.linear import linear_registration
from landmark_dir.dicom_export.warped_series import stored, warped_slices
from landmark_dir.errors import BadRunFolder, BadVolume
from landmark_dir.evaluation.metrics import Summary
from landmark_dir.io import run_folder
from landmark_dir.io.dicom_headers import SourceSeries, save
from landmark_dir.io.outputs import output_place, replacing
from landmark_dir.options import DicomOptions
from landmark_dir.registration.apply import check_output, opened, outside_value
from landmark_dir.registration.dicom_inputs import check_not_a_source, dicom_input
from landmark_dir.registration.inputs import as_path
from landmark_dir.registration.result import Result

log = logging.getLogger(__name__)

SUFFIXES = (".dcm",)


class RegistrationObject(NamedTuple):
    """What was written of a transform."""

    kind: str  # Deformable Spatial Registration, or Spatial Registration
    off_mm: Summary | None  # the file against T, at places in the fixed image; None: it is exact


class WarpedSeries(NamedTuple):
    """What was written of a warped image."""

    slices: int
    rounding_hu: float  # largest change of a voxel; 0 where all were whole


def export_registration(
    run: str | Path | Result,
    out: str | Path,
    options: DicomOptions = DicomOptions(),  # noqa: B008  # it cannot change
    *,
    fixed_dicom: str | Path | None = None,
    moving_dicom: str | Path | None = None,
) -> RegistrationObject:
    """Write the transform of a run that was made from DICOM as a DICOM registration object.

    A Deformable Spatial Registration; a Spatial Registration where T is linear. Either belongs to
    the exam of the fixed image.

    Parameters
    ----------
    out : path
        `.dcm`.
    fixed_dicom, moving_dicom : path, optional
        Where the series lie now; where `run.json` says, if not given.

    Raises
    ------
    BadArgument, BadRunFolder, BadVolume
    """
    result = opened(run)
    check_output(out, result, SUFFIXES)
    fixed, moving = _sources(result, fixed_dicom, moving_dicom, options)
    check_not_a_source(out, fixed, moving)
    if fixed.frame_of_reference == moving.frame_of_reference:
        log.warning(
            "both series have the same frame of reference: a system that looks at that alone takes "
            "them as aligned as they are; the object names the moving images one by one"
        )
    with replacing(output_place(Path(out))) as file:
        linear = result.chain.as_linear()
        if linear is not None:
            save(linear_registration(linear, fixed, moving), file)
            return RegistrationObject("Spatial Registration", None)
        save(
            deformable_registration(result.chain, result.grid, fixed, moving, options.grid_mm), file
        )
        off_mm = interpolation_error(pydicom.dcmread(file), result.chain, result.grid)
        return RegistrationObject("Deformable Spatial Registration", off_mm)


def export_warped(
    run: str | Path | Result,
    out: str | Path,
    options: DicomOptions = DicomOptions(),  # noqa: B008
    *,
    fixed_dicom: str | Path | None = None,
    moving_dicom: str | Path | None = None,
) -> WarpedSeries:
    """Write the warped image of a run that was made from DICOM as a CT series, a file a slice.

    It belongs to the exam and the frame of reference of the fixed image.

    Parameters
    ----------
    out : path
        A folder that is not there yet, or empty.
    fixed_dicom, moving_dicom : path, optional
        As for `export_registration`.

    Raises
    ------
    BadArgument, BadRunFolder, BadVolume
    """
    result = opened(run)
    place = output_place(as_path(out, "out", "the path of a folder to create"))
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise BadRunFolder(f"{out} exists already; name another folder")
    warped, outside = result.warped, outside_value(result)
    fixed, moving = _sources(result, fixed_dicom, moving_dicom, options)
    kind = moving.series.modality or "no modality"
    source = run_folder.read_run_json(result.folder)["inputs"]["moving"]
    if kind == "CT" and "grey_values" in source:
        kind = "grey values that are no HU"
    if kind != "CT":
        raise BadVolume(
            f"moving series: expected CT, whose HU are written as a series, found {kind}; take "
            f"{result.folder / run_folder.WARPED} instead"
        )
    pixels = stored(warped)
    if pixels.rounding_hu:
        log.warning(
            "the warped image has fractions of HU: rounded to whole ones, by up to %.2g HU",
            pixels.rounding_hu,
        )
    slices = warped_slices(warped, pixels, result.chain, outside, fixed, moving)
    with replacing(place) as folder:
        folder.mkdir()
        for k, made in enumerate(slices, 1):
            save(made, folder / f"{k:04d}.dcm")
    return WarpedSeries(warped.GetDepth(), pixels.rounding_hu)


def _sources(
    result: Result,
    fixed_dicom: str | Path | None,
    moving_dicom: str | Path | None,
    options: DicomOptions,
) -> tuple[SourceSeries, SourceSeries]:
    """Both series of a run, of one patient unless the options say that this does not matter."""
    given = {"fixed": fixed_dicom, "moving": moving_dicom}
    places = {
        side: None if path is None else as_path(path, f"{side}_dicom")
        for side, path in given.items()
    }
    fixed, moving = (dicom_input(result, side, place) for side, place in places.items())
    ids = {fixed.series.patient_id, moving.series.patient_id}
    if len(ids - {""}) > 1 and not options.allow_other_patient:
        raise BadVolume(
            f"{result.folder}: the PatientIDs of both exams differ; if they are of one patient all "
            "the same, say so with --allow-other-patient"
        )
    return fixed, moving
