"""What the viewer of a page draws: volumes, maps and landmarks on one grid."""

from typing import Any

import numpy as np
import SimpleITK as sitk

from landmark_dir.geometry import Points, physical_to_index
from landmark_dir.report.content import Content
from landmark_dir.report.volumes import (
    GREY_HU,
    packed,
    packed_bends,
    packed_jacobian,
    place_colours,
)

RESIDUAL_SHARE = 0.98  # of the landmarks; the colours of residuals end there


def scene(content: Content, grid: sitk.Image) -> dict[str, Any]:
    """All that the script of the page is given."""
    images = named_images(content)
    beside = {"fixed", "moving", *(f"{arm.name}" for arm in content.arms)}
    if len(content.arms) < 2:
        beside.add("affine only")
    maps = []
    for arm in content.arms:
        if arm.bends is not None:
            maps.append(packed_bends(f"displacement, {arm.name}", arm.bends, grid))
        if arm.jacobian is not None:
            maps.append(packed_jacobian(f"Jacobian, {arm.name}", arm.jacobian, grid))
    return {
        "size": grid.GetSize(),
        "spacing": grid.GetSpacing(),
        "origin": grid.GetOrigin(),
        "direction": grid.GetDirection(),
        "greys": GREY_HU,
        "images": [
            packed(image, grid) | {"name": name, "beside": name in beside, "raw": name == "moving"}
            for name, image in images.items()
        ],
        "maps": maps,
        "landmarks": _landmarks(content, grid),
        "worst_mm": _worst_mm(content),
    }


def named_images(content: Content) -> dict[str, sitk.Image]:
    """Fixed, moving as it lay, and what became of it, in the order of the page."""
    warped = {arm.name: arm.warped for arm in content.arms if arm.warped is not None}
    found = {"fixed": content.fixed, "moving": content.before, "affine only": content.affine}
    return {name: image for name, image in (found | warped).items() if image is not None}


def _worst_mm(content: Content) -> float | None:
    if content.residual_mm is None or not len(content.residual_mm):
        return None
    return round(float(max(np.quantile(content.residual_mm, RESIDUAL_SHARE), 0.1)), 2)


def _landmarks(content: Content, grid: sitk.Image) -> list[dict[str, Any]]:
    """Places in voxels of the page, in the fixed and in the moving image as it lay."""
    pairs = content.pairs

    def places(points: Points) -> list[list[float]]:
        found: list[list[float]] = physical_to_index(grid, points).round(2).tolist()
        return found

    residual = [None] * len(pairs) if content.residual_mm is None else content.residual_mm.round(3)
    return [
        {
            "fixed": fixed,
            "moving": moving,
            "colour": colour,
            "score": score,
            "residual": None if left is None else float(left),
            "held": bool(held),
        }
        for fixed, moving, colour, score, left, held in zip(
            places(pairs.fixed),
            places(pairs.moving - content.before_shift_mm),
            place_colours(pairs.fixed),
            pairs.score.round(3).tolist(),
            residual,
            content.held_back,
            strict=True,
        )
    ]
