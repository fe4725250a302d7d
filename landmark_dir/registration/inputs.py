"""Two volumes and what comes with them: read and checked before anything slow is done."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import SimpleITK as sitk

from landmark_dir.errors import BadVolume
from landmark_dir.geometry import centre, distances_mm
from landmark_dir.io.point_files import read_pairs
from landmark_dir.io.run_folder import sha256
from landmark_dir.io.volumes import (
    check_mask,
    check_volume,
    looks_like_ct,
    overlap_fraction,
    read_mask,
    read_volume,
)
from landmark_dir.options import RegisterOptions
from landmark_dir.points import (
    PointPairs,
    check_inside,
)
from landmark_dir.preprocessing.body_mask import body_mask

log = logging.getLogger(__name__)

Volume: TypeAlias = sitk.Image | str | Path
MIN_OVERLAP = 0.05  # share of the fixed image; less gives elastix too few samples


@dataclass(frozen=True)
class Inputs:
    """Two checked volumes and what is known of them."""

    fixed: sitk.Image
    moving: sitk.Image
    fixed_body: sitk.Image
    fixed_mask: sitk.Image | None
    moving_mask: sitk.Image | None
    described: dict[str, Any]
    warnings: list[str]

    def outside_hu(self) -> float:
        """What stands for no data around the moving image: its smallest value."""
        return float(sitk.GetArrayViewFromImage(self.moving).min())


def load_inputs(
    fixed: Volume,
    moving: Volume,
    fixed_mask: Volume | None,
    moving_mask: Volume | None,
    options: RegisterOptions,
) -> Inputs:
    """Read and check everything before anything slow or lasting is done."""
    images = {"fixed": as_volume(fixed, "fixed"), "moving": as_volume(moving, "moving")}
    masks = {
        "fixed": _mask(fixed_mask, images["fixed"], "fixed mask"),
        "moving": _mask(moving_mask, images["moving"], "moving mask"),
    }
    overlap = overlap_fraction(images["fixed"], images["moving"])
    if options.align == "world" and overlap < MIN_OVERLAP:
        distance = float(distances_mm(centre(images["fixed"]), centre(images["moving"]))[0])
        raise BadVolume(
            f"fixed and moving overlap in {overlap:.0%} of the fixed image (their centres are "
            f"{distance:.0f} mm apart), expected at least {MIN_OVERLAP:.0%}; --align centers "
            "starts from the image centres"
        )
    doubts = {name: looks_like_ct(image) for name, image in images.items()}
    warnings = [f"{name}: {doubt}" for name, doubt in doubts.items() if doubt]
    for warning in warnings:
        log.warning(warning)
    body = body_mask(images["fixed"])
    if masks["fixed"] is not None:
        body = sitk.And(body, masks["fixed"])
    sources = {
        "fixed": fixed,
        "moving": moving,
        "fixed_mask": fixed_mask,
        "moving_mask": moving_mask,
    }
    described = {
        name: {**_source(given), **(_grid(images[name]) if name in images else {})}
        for name, given in sources.items()
        if given is not None
    }
    return Inputs(
        images["fixed"],
        images["moving"],
        body,
        masks["fixed"],
        masks["moving"],
        described,
        warnings,
    )


def as_volume(volume: Volume, name: str) -> sitk.Image:
    """Read or check a volume; `name` is what messages call it."""
    if isinstance(volume, sitk.Image):
        return check_volume(volume, name)
    return read_volume(Path(volume))


def _mask(mask: Volume | None, image: sitk.Image, name: str) -> sitk.Image | None:
    if mask is None:
        return None
    if isinstance(mask, sitk.Image):
        return check_mask(mask, image, name)
    return read_mask(Path(mask), image, name)


def _source(given: object) -> dict[str, Any]:
    """What `run.json` says of where an input came from."""
    if not isinstance(given, str | Path):
        return {"path": None}
    return {"path": str(given), "sha256": sha256(Path(given))}


def _grid(image: sitk.Image) -> dict[str, Any]:
    return {"size_xyz": image.GetSize(), "spacing_mm": image.GetSpacing()}


def given_points(
    points: tuple[str | Path, str | Path] | PointPairs | None, inputs: Inputs
) -> PointPairs | None:
    """Read and check a user's points, two files or pairs; None stays None."""
    if points is None:
        return None
    pairs = points if isinstance(points, PointPairs) else read_pairs(*map(Path, points))
    check_inside(pairs, inputs.fixed, inputs.moving)
    sources = (None, None) if isinstance(points, PointPairs) else points
    inputs.described.update(fixed_points=_source(sources[0]), moving_points=_source(sources[1]))
    return pairs
