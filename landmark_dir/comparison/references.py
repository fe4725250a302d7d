"""What both arms of a comparison are measured at: points and label maps that guide neither."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmark_dir.errors import BadVolume
from landmark_dir.evaluation.metrics import (
    Summary,
    summarise,
)
from landmark_dir.evaluation.overlap import Overlap, check_label_map, overlaps, present
from landmark_dir.evaluation.statistics import Difference, paired_difference
from landmark_dir.evaluation.verdict import residual_mm
from landmark_dir.io.volumes import check_labels, read_labels
from landmark_dir.points import (
    PointPairs,
    check_inside,
)
from landmark_dir.registration.inputs import Inputs, Points, Volume, as_pairs, as_path
from landmark_dir.registration.session import Session
from landmark_dir.transforms.chain import Chain
from landmark_dir.transforms.warp import warp_image

LabelMaps: TypeAlias = tuple[sitk.Image, sitk.Image]  # fixed, moving


@dataclass(frozen=True)
class References:
    """Independent truth of a pair, read and checked."""

    expert: PointPairs  # may be empty
    labels: LabelMaps | None
    files: dict[str, Path]  # where it came from, named as the columns of a file of cases


@dataclass(frozen=True)
class AtPoints:
    """Distances at points that guided neither arm, and what the landmarks change there."""

    distances_mm: dict[str, NDArray[np.float64]]  # before, affine, without, with: [N], N > 0

    @property
    def summaries(self) -> dict[str, Summary]:
        """The distances in short."""
        return {state: summarise(values) for state, values in self.distances_mm.items()}

    @property
    def difference(self) -> Difference:
        """With - without, mm, over the points."""
        return paired_difference(self.distances_mm["with"], self.distances_mm["without"])


def load_references(
    expert: Points | None, labels: tuple[Volume, Volume] | None, inputs: Inputs
) -> References:
    """Read and check what both arms are measured at, before anything slow is done.

    Raises
    ------
    BadPoints, BadVolume
        If the points do not fit the images, or a label map is not on the grid of its image.
    """
    points = PointPairs.empty() if expert is None else as_pairs(expert, "expert")
    files = {} if expert is None or isinstance(expert, PointPairs) else _files(expert, "points")
    check_inside(points, inputs.fixed, inputs.moving)
    if labels is None:
        return References(points, None, files)
    maps = (
        _label_map(labels[0], inputs.fixed, "fixed labels"),
        _label_map(labels[1], inputs.moving, "moving labels"),
    )
    if not present(maps[0]) & present(maps[1]):
        raise BadVolume("fixed and moving label maps have no label in common")
    return References(points, maps, files | _files(labels, "labels"))


def _files(given: tuple[Any, Any], what: str) -> dict[str, Path]:
    named = zip((f"fixed_{what}", f"moving_{what}"), given, strict=True)
    return {name: Path(one) for name, one in named if isinstance(one, str | Path)}


def _label_map(given: Volume, image: sitk.Image, name: str) -> sitk.Image:
    if isinstance(given, sitk.Image):
        return check_label_map(check_labels(given, name), image, name)
    path = as_path(given, name, "a SimpleITK image or a path")
    return check_label_map(read_labels(path), image, f"{name} {path}")


def at_points(chains: dict[str, Chain], pairs: PointPairs) -> AtPoints | None:
    """Measure how far each transform leaves the pairs; None if there are none."""
    if not len(pairs):
        return None
    return AtPoints({state: residual_mm(chain, pairs) for state, chain in chains.items()})


def at_labels(chains: dict[str, Chain], maps: LabelMaps | None) -> dict[str, dict[int, Overlap]]:
    """Overlap of the labels that both maps have, through each transform; none without maps."""
    if maps is None:
        return {}
    fixed, moving = maps
    labels = sorted(present(fixed) & present(moving))
    warped = {
        state: warp_image(moving, chain, fixed, labels=True) for state, chain in chains.items()
    }
    return {state: overlaps(fixed, image, labels) for state, image in warped.items()}


def warn_of_single_labels(session: Session, maps: LabelMaps | None) -> None:
    """Say which labels are left out because only one of the maps has them."""
    if maps is None:
        return
    single = sorted(present(maps[0]) ^ present(maps[1]))
    if single:
        labels = ", ".join(map(str, single))
        session.record.warn(f"labels in only one of the two label maps are left out: {labels}")
