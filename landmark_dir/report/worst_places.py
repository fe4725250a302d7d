"""The places of a run that a person should look at first."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from landmark_dir.geometry import Points, index_to_physical, inside, physical_to_index
from landmark_dir.report.content import Arm, Content

MOST = 5  # places with a large residual
APART_MM = 20.0  # from each other


class WorstPlace(NamedTuple):
    """A place in the fixed image, LPS mm, and why it is on the list."""

    why: str
    place: Points  # [1, 3]


def worst_places(content: Content) -> list[WorstPlace]:
    """Largest residuals that lie apart from each other, then the extremes of the transform."""
    named = len(content.arms) > 1
    found = [*_far_off(content)]
    for arm in content.arms:
        found += _deformed(arm, content.body, f", {arm.name}" if named else "")
    return found


def _far_off(content: Content) -> Iterator[WorstPlace]:
    if content.residual_mm is None:
        return
    taken = np.empty((0, 3))
    for row in np.argsort(-content.residual_mm, kind="stable"):
        place = content.pairs.fixed[row : row + 1]
        if len(taken) and np.linalg.norm(taken - place, axis=1).min() < APART_MM:
            continue
        kind = "held-back" if content.held_back[row] else "guiding"
        yield WorstPlace(f"{content.residual_mm[row]:.2f} mm off at a {kind} landmark", place)
        taken = np.concatenate([taken, place])
        if len(taken) == MOST:
            return


def _deformed(arm: Arm, body_mask: sitk.Image, of: str) -> Iterator[WorstPlace]:
    """Where the transform compresses and stretches the body most."""
    if arm.jacobian is None:
        return
    values = sitk.GetArrayFromImage(arm.jacobian)
    shown = sitk.Resample(body_mask, arm.jacobian, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    body = sitk.GetArrayFromImage(shown) > 0
    if not body.any():
        return
    least = np.where(body, values, np.inf)
    most = np.where(body, values, -np.inf)
    folded = least.min() <= 0
    words = "folded" if folded else "most compressed"
    yield WorstPlace(f"{words}: volume x {least.min():.2f}{of}", _at(arm.jacobian, least.argmin()))
    yield WorstPlace(
        f"most stretched: volume x {most.max():.2f}{of}", _at(arm.jacobian, most.argmax())
    )


def _at(image: sitk.Image, flat: np.intp) -> Points:
    """The place of a voxel, given by its number in the array."""
    index_zyx = np.unravel_index(flat, image.GetSize()[::-1])
    return index_to_physical(image, [[float(i) for i in index_zyx[::-1]]])


def on_page(grid: sitk.Image, place: Points) -> list[float] | None:
    """The voxel of the page at a place; None where the page does not show it."""
    if not inside(grid, place)[0]:
        return None
    index: list[float] = physical_to_index(grid, place)[0].round(1).tolist()
    return index
