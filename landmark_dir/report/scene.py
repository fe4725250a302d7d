"""What the viewer of a page draws: volumes, maps and landmarks on one grid."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk

from landmark_dir.geometry import Points, physical_to_index
from landmark_dir.parallel import share
from landmark_dir.report.content import Content
from landmark_dir.report.volumes import (
    GREY_HU,
    packed,
    packed_bends,
    packed_jacobian,
    place_colours,
)

RESIDUAL_SHARE = 0.98  # of the landmarks; the colours of residuals end there


class Picture(NamedTuple):
    """An image of the viewer."""

    name: str
    image: sitk.Image
    beside: bool = True  # shown side by side with others
    raw: bool = False  # not registered, so no map belongs on it


class Mark(NamedTuple):
    """A place of the viewer, in voxels of the page, in the fixed and in the moving image."""

    fixed: list[float]
    moving: list[float]
    colour: str
    words: str
    residual: float | None = None  # mm
    held: bool = False  # a ring, not a dot


def scene(
    grid: sitk.Image,
    pictures: Sequence[Picture],
    marks: Sequence[Mark],
    *,
    maps: Sequence[dict[str, Any]] = (),
    worst_mm: float | None = None,
    called: str = "landmarks",
    shown: str = "off",
    unit: str = " HU",
) -> dict[str, Any]:
    """All that the script of the viewer is given.

    Parameters
    ----------
    worst_mm : float, optional
        Where the colours of residuals end.
    called, shown : str
        What the marks are, and how they are shown at first.
    unit : str
        Of the grey values, with a space before it; nothing where they are those of no CT.
    """
    volumes = share(lambda picture: packed(picture.image, grid), pictures)
    named = [{"name": one.name, "beside": one.beside, "raw": one.raw} for one in pictures]
    return {
        "size": grid.GetSize(),
        "spacing": grid.GetSpacing(),
        "origin": grid.GetOrigin(),
        "direction": grid.GetDirection(),
        "greys": GREY_HU,
        "unit": unit,
        "images": [volume | name for volume, name in zip(volumes, named, strict=True)],
        "maps": list(maps),
        "marks": [mark._asdict() for mark in marks],
        "worst_mm": worst_mm,
        "called": called,
        "shown": shown,
    }


def run_scene(content: Content, grid: sitk.Image) -> dict[str, Any]:
    """The same of a run or a comparison."""
    beside = {"fixed", "moving", *(arm.name for arm in content.arms)}
    if len(content.arms) < 2:
        beside.add("affine only")
    pictures = [
        Picture(name, image, name in beside, name == "moving")
        for name, image in named_images(content).items()
    ]
    maps = []
    for arm in content.arms:
        if arm.bends is not None:
            maps.append(packed_bends(f"displacement, {arm.name}", arm.bends, grid))
        if arm.jacobian is not None:
            maps.append(packed_jacobian(f"Jacobian, {arm.name}", arm.jacobian, grid))
    marks = _landmarks(content, grid)
    inputs = content.arms[0].run.get("inputs", {})
    is_ct = not any("grey_values" in inputs.get(side, {}) for side in ("fixed", "moving"))
    unit = " HU" if is_ct else ""
    return scene(grid, pictures, marks, maps=maps, worst_mm=_worst_mm(content), unit=unit)


def named_images(content: Content) -> dict[str, sitk.Image]:
    """Fixed, moving as it lay, and what became of it, in the order of the page."""
    warped = {arm.name: arm.warped for arm in content.arms if arm.warped is not None}
    found = {"fixed": content.fixed, "moving": content.before, "affine only": content.affine}
    return {name: image for name, image in (found | warped).items() if image is not None}


def _worst_mm(content: Content) -> float | None:
    if content.residual_mm is None or not len(content.residual_mm):
        return None
    return round(float(max(np.quantile(content.residual_mm, RESIDUAL_SHARE), 0.1)), 2)


def _landmarks(content: Content, grid: sitk.Image) -> list[Mark]:
    pairs = content.pairs
    residual = [None] * len(pairs)
    if content.residual_mm is not None:
        residual = content.residual_mm.round(3).tolist()
    return [
        Mark(fixed, moving, colour, _words(score, left, bool(held)), left, bool(held))
        for fixed, moving, colour, score, left, held in zip(
            voxels(grid, pairs.fixed),
            voxels(grid, content.moving_before),
            place_colours(pairs.fixed),
            pairs.score.tolist(),
            residual,
            content.held_back,
            strict=True,
        )
    ]


def voxels(grid: sitk.Image, points: Points) -> list[list[float]]:
    """Voxels of the page at points, LPS mm."""
    found: list[list[float]] = physical_to_index(grid, points).round(2).tolist()
    return found


def _words(score: float, residual_mm: float | None, held: bool) -> str:
    left = "" if residual_mm is None else f", residual {residual_mm:.2f} mm"
    return f"landmark, score {score:.2f}{left}{', held back' if held else ''}"
