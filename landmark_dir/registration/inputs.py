"""Two volumes and what comes with them: read and checked before anything slow is done."""

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import SimpleITK as sitk

from landmark_dir.errors import BadArgument, BadPoints, BadVolume
from landmark_dir.evaluation.overlap import check_label_map
from landmark_dir.geometry import centre, distances_mm
from landmark_dir.io.dicom import days_between, describe_series
from landmark_dir.io.dicom_planes import NOT_IN_HU
from landmark_dir.io.point_files import read_pairs
from landmark_dir.io.reading import Reading
from landmark_dir.io.run_folder import describe_file
from landmark_dir.io.volumes import (
    check_labels,
    check_mask,
    checked_volume,
    overlap_fraction,
    read_image,
    read_with_warnings,
)
from landmark_dir.options import RegisterOptions
from landmark_dir.points import PointPairs, check_inside
from landmark_dir.preprocessing.body_mask import body_mask
from landmark_dir.preprocessing.intensity import (
    OntoCt,
    is_cut_out,
    looks_like_ct,
    within_scanner_range,
)
from landmark_dir.preprocessing.padding import padding_mask
from landmark_dir.registration.clock import Clock, Spent
from landmark_dir.transforms.rigid import count_parts

log = logging.getLogger(__name__)

Volume: TypeAlias = sitk.Image | Reading | str | Path
Points: TypeAlias = PointPairs | tuple[str | Path, str | Path]  # pairs, or fixed and moving file
IMAGE_OR_PATH = "a SimpleITK image or a path"
MOST_PARTS = 100  # that move rigidly, each by itself
MIN_OVERLAP = 0.05  # share of the fixed image; less gives elastix too few samples
AUTO = "--align auto looks for a start from landmarks"
CENTERS = "--align centers starts from the image centres"
TAKEN_AS_OTHER = (
    "(taken as another modality, by the distribution of its grey values; --modality ct takes them "
    "as HU)"
)


@dataclass(frozen=True)
class Inputs:
    """Two checked volumes and what is known of them.

    Attributes
    ----------
    fixed, moving : sitk.Image
        As a registration sees them: CT within what a scanner stores, another modality on the scale
        of CT, padding as dark as air.
    original_fixed, original_moving : sitk.Image
        With their own values; the warped image is made from the latter.
    fixed_scale, moving_scale : OntoCt or None
        How their own values came onto the scale of CT; None: they were on it.
    moving_padding : sitk.Image or None
        Its voxels that hold no data, uint8 0 / 1; None: there are none.
    fixed_body : sitk.Image
        Where the body is in the fixed image, and its mask, if there is one.
    fixed_mask, moving_mask : sitk.Image or None
        Where voxels count: the user's mask, without padding and without ignored tissue. None:
        everywhere.
    fixed_ignored, moving_ignored : sitk.Image or None
        Tissue that changed, uint8 0 / 1: no landmark in it counts either. None: there is none.
    rigid : sitk.Image or None
        Label map on the fixed grid of what must not deform; None: nothing.
    points : PointPairs or None
        Points of the user's own; None: none were given.
    sources : mapping
        Path, hash and grid of each input, as in `run.json`.
    warnings : tuple of str
        What is doubtful about them.
    spent : Spent
        What it took to read and check them.
    """

    fixed: sitk.Image
    moving: sitk.Image
    original_fixed: sitk.Image
    original_moving: sitk.Image
    fixed_scale: OntoCt | None
    moving_scale: OntoCt | None
    moving_padding: sitk.Image | None
    fixed_body: sitk.Image
    fixed_mask: sitk.Image | None
    moving_mask: sitk.Image | None
    fixed_ignored: sitk.Image | None
    moving_ignored: sitk.Image | None
    rigid: sitk.Image | None
    points: PointPairs | None
    sources: Mapping[str, Any]
    warnings: tuple[str, ...]
    spent: Spent

    @property
    def comparable(self) -> bool:
        """Whether grey values of both images mean the same: HU."""
        return self.fixed_scale is None and self.moving_scale is None

    def as_seen(self, moved: sitk.Image) -> sitk.Image:
        """The original moving image on another grid, with the values that a registration sees."""
        return moved if self.moving_scale is None else self.moving_scale.apply(moved)

    def outside_hu(self) -> float:
        """What stands for no data around `moving`, and in its padding: its smallest value."""
        return float(sitk.GetArrayViewFromImage(self.moving).min())

    def outside_original(self) -> float:
        """The same of `original_moving`, and so of the warped image."""
        return float(sitk.GetArrayViewFromImage(self.original_moving).min())


class Seen(NamedTuple):
    """An image as a registration sees it, how it came to that, and what is doubtful about it."""

    image: sitk.Image
    scale: OntoCt | None  # of another modality
    padding: sitk.Image | None
    doubt: str | None


def load_inputs(
    fixed: Volume,
    moving: Volume,
    options: RegisterOptions,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    rigid: Volume | None = None,
    ignore: Volume | None = None,
    ignore_moving: Volume | None = None,
    points: Points | None = None,
) -> Inputs:
    """Read and check everything before anything slow or lasting is done.

    Raises
    ------
    BadVolume, BadPoints
        If something is not as expected, or the images hardly overlap.
    """
    clock = Clock()
    read = {"fixed": _read(fixed, "fixed"), "moving": _read(moving, "moving")}
    images = {name: reading.image for name, reading in read.items()}
    seen = {
        name: _seen(reading.image, name, _modality(reading, options))
        for name, reading in read.items()
    }
    masks, ignored = {}, {}
    doubts = {name: [*reading.warnings] for name, reading in read.items()}
    for name, mask, changed in (
        ("fixed", fixed_mask, ignore),
        ("moving", moving_mask, ignore_moving),
    ):
        doubts[name] += filter(None, [seen[name].doubt])
        masks[name], said = _read_mask(mask, images[name], f"{name} mask")
        ignored[name], also_said = _read_mask(changed, images[name], f"ignored {name} tissue")
        masks[name] = _without(masks[name], seen[name].padding, name, "the padding of its image")
        masks[name] = _without(masks[name], ignored[name], name, "what is to be ignored")
        doubts[f"{name} mask"] = [*said]
        doubts[f"ignored {name} tissue"] = [*also_said]
    stiff, doubts["rigid"] = _read_rigid(rigid, images["fixed"])
    doubts["moving"] += _other_patient(read["fixed"], read["moving"])
    warnings = tuple(f"{name}: {doubt}" for name, said in doubts.items() for doubt in said)
    for warning in warnings:
        log.warning(warning)
    if options.align == "world":
        check_overlap(images["fixed"], images["moving"], f"{AUTO}, {CENTERS}")
    given = _given_points(points, images["fixed"], images["moving"])
    files = (None, None) if isinstance(points, PointPairs) or points is None else points
    body = body_mask(seen["fixed"].image)
    if masks["fixed"] is not None:
        body = sitk.And(body, masks["fixed"])
    named = {"fixed": fixed, "moving": moving, "fixed_mask": fixed_mask}
    named |= {"moving_mask": moving_mask}
    named |= {"rigid": rigid, "ignore": ignore, "ignore_moving": ignore_moving}
    sources = {name: _source(one) for name, one in named.items() if one is not None}
    for name, reading in read.items():
        sources[name] |= _grid(reading.image) | _series(reading) | _grey_values(seen[name])
    sources["moving"] |= _days_after(read["fixed"], read["moving"])
    if given is not None:
        sources |= {"fixed_points": _source(files[0]), "moving_points": _source(files[1])}
    return Inputs(
        seen["fixed"].image,
        seen["moving"].image,
        images["fixed"],
        images["moving"],
        seen["fixed"].scale,
        seen["moving"].scale,
        seen["moving"].padding,
        body,
        masks["fixed"],
        masks["moving"],
        ignored["fixed"],
        ignored["moving"],
        stiff,
        given,
        sources,
        warnings,
        clock.spent(),
    )


def _modality(reading: Reading, options: RegisterOptions) -> str:
    """As the options say; `auto` takes DICOM at its word."""
    declared = "" if reading.series is None else reading.series.modality
    if options.modality != "auto" or declared not in ("CT", *NOT_IN_HU):
        return options.modality
    return "ct" if declared == "CT" else "other"


def _seen(image: sitk.Image, name: str, modality: str) -> Seen:
    """CT as it is, another modality on its scale.

    Values that no tissue has would take most of what a metric of grey values can tell apart, so
    CT is clipped to what a scanner stores.
    """
    padding = padding_mask(image)
    doubt = None if modality == "other" else looks_like_ct(image, padding)
    as_hu = doubt is None or is_cut_out(image, padding)
    if modality == "ct" or (modality == "auto" and as_hu):
        return Seen(within_scanner_range(image), None, padding, doubt)
    scale = OntoCt.of(image, name, padding)
    seen = scale.apply(image)
    if padding is not None:
        seen = sitk.Mask(seen, padding, float(sitk.GetArrayViewFromImage(seen).min()), 1)
    said = [doubt and f"{doubt} {TAKEN_AS_OTHER}", scale.doubt(image)]
    return Seen(seen, scale, padding, "; ".join(filter(None, said)) or None)


def _without(
    mask: sitk.Image | None, left_out: sitk.Image | None, side: str, what: str
) -> sitk.Image | None:
    """Where voxels count; None: everywhere."""
    if left_out is None:
        return mask
    counts = left_out == 0 if mask is None else sitk.And(mask, left_out == 0)
    if not sitk.GetArrayViewFromImage(counts).any():
        raise BadVolume(
            f"{side} mask: expected voxels with data, found nothing but {what} there; "
            "give another mask"
        )
    return counts


def check_overlap(fixed: sitk.Image, moving: sitk.Image, otherwise: str = CENTERS) -> None:
    """Refuse two images that hardly overlap where their headers put them; say what may help."""
    overlap = overlap_fraction(fixed, moving)
    if overlap < MIN_OVERLAP:
        distance = float(distances_mm(centre(fixed), centre(moving))[0])
        raise BadVolume(
            f"fixed and moving overlap in {overlap:.0%} of the fixed image (their centres are "
            f"{distance:.0f} mm apart), expected at least {MIN_OVERLAP:.0%}; {otherwise}"
        )


def as_volume(volume: Volume, name: str) -> sitk.Image:
    """Read or check a volume and log what is doubtful; `name` is what messages call it."""
    reading = _read(volume, name)
    for warning in reading.warnings:
        log.warning("%s: %s", volume if isinstance(volume, str | Path) else name, warning)
    return reading.image


def _read(volume: Volume, name: str) -> Reading:
    if isinstance(volume, Reading):
        image, warnings, *_ = checked_volume(volume.image, name)
        return volume._replace(image=image, warnings=volume.warnings + warnings)
    if isinstance(volume, sitk.Image):
        return checked_volume(volume, name)
    return read_with_warnings(as_path(volume, name, IMAGE_OR_PATH))


def files_of(given: object) -> tuple[object, ...]:
    """The two files of a pair of points or label maps; none where there are no files."""
    return tuple(given) if isinstance(given, tuple | list) else ()


def as_path(given: object, name: str, expected: str = "a path") -> Path:
    """A path, or a sentence that names the argument and says what was expected instead."""
    if isinstance(given, str | os.PathLike):
        return Path(given)
    hint = ""
    if type(given).__name__ in ("ndarray", "Tensor"):
        hint = "; an array has no place in space: SimpleITK.GetImageFromArray makes an image, "
        hint += "whose spacing, origin and direction have to be set"
    raise BadArgument(f"{name}: expected {expected}, found {type(given).__name__}{hint}")


def _read_mask(
    mask: Volume | None, image: sitk.Image, name: str
) -> tuple[sitk.Image | None, tuple[str, ...]]:
    """The mask of `image`, or None if there is none, and what is doubtful about its file."""
    if mask is None:
        return None, ()
    if isinstance(mask, sitk.Image):
        return check_mask(mask, image, name), ()
    if not isinstance(mask, Reading):
        path = as_path(mask, name, IMAGE_OR_PATH)
        mask, name, *_ = read_image(path), f"{name} {path}"
    return check_mask(mask.image, image, name), mask.warnings


def _read_rigid(labels: Volume | None, fixed: sitk.Image) -> tuple[sitk.Image | None, list[str]]:
    """The label map of what must not deform, and what is doubtful about its file."""
    if labels is None:
        return None, []
    if isinstance(labels, sitk.Image):
        labels = Reading(labels)
    elif not isinstance(labels, Reading):
        labels = read_image(as_path(labels, "rigid", IMAGE_OR_PATH))
    name = f"rigid {labels.path}" if labels.path else "rigid"
    found = check_label_map(check_labels(labels.image, name), fixed, name)
    if (count := count_parts(found)) > MOST_PARTS:
        raise BadVolume(
            f"{name}: expected at most {MOST_PARTS} connected parts, found {count}; leave out the "
            "small ones"
        )
    return found, [*labels.warnings]


def _source(given: object) -> dict[str, Any]:
    """What `run.json` says of where an input came from."""
    path = given.path if isinstance(given, Reading) else given
    if not isinstance(path, str | os.PathLike):
        return {"path": None}
    return describe_file(Path(path))


def _series(reading: Reading) -> dict[str, Any]:
    """What `run.json` says of a DICOM series: nothing that names a person."""
    return {} if reading.series is None else {"dicom": describe_series(reading.series)}


def _grey_values(seen: Seen) -> dict[str, Any]:
    """What `run.json` says of the values of another modality."""
    return {} if seen.scale is None else {"grey_values": asdict(seen.scale)}


def _days_after(fixed: Reading, moving: Reading) -> dict[str, Any]:
    """How many days `moving` was taken after `fixed`, where both say when: never the dates."""
    if fixed.series is None or moving.series is None:
        return {}
    return {"days_after_fixed": days_between(fixed.series, moving.series)}


def _other_patient(fixed: Reading, moving: Reading) -> list[str]:
    """Say it if the DICOM headers name two patients; neither name nor number is told."""
    ids = {one.series.patient_id for one in (fixed, moving) if one.series is not None}
    if len(ids - {""}) < 2:
        return []
    return ["its PatientID is not that of the fixed image; check that both are of one patient"]


def _grid(image: sitk.Image) -> dict[str, Any]:
    """To the last bit: a file keeps single precision only."""
    return {
        "size_xyz": image.GetSize(),
        "spacing_mm": image.GetSpacing(),
        "origin_mm": image.GetOrigin(),
        "direction": image.GetDirection(),
    }


def _given_points(
    points: Points | None, fixed: sitk.Image, moving: sitk.Image
) -> PointPairs | None:
    """Read and check a user's points; None stays None."""
    if points is None:
        return None
    pairs = as_pairs(points, "points")
    if not len(pairs):
        raise BadPoints("points: expected at least one pair, found none")
    check_inside(pairs, fixed, moving)
    return pairs


def as_pairs(points: Points, name: str) -> PointPairs:
    """Pairs, or two point files; `name` is what messages call them."""
    if isinstance(points, PointPairs):
        return points
    expected = "PointPairs, or two point files, fixed first"
    if not isinstance(points, tuple | list) or len(points) != 2:
        raise BadArgument(f"{name}: expected {expected}, found {type(points).__name__}")
    return read_pairs(*(as_path(one, name, expected) for one in points))
