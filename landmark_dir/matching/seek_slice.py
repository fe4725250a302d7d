"""Seek landmarks of one slice in another with the `default` network.

Landmarks are picked in slice 1, each is sought in the whole of slice 2 and must come back; what
contradicts its neighbours is dropped; the place below the pixel is measured in the images.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landmark_dir.matching.local_affine import LocalMotion, local_motion, with_neighbours
from landmark_dir.matching.outliers import agreeing
from landmark_dir.matching.patch_alignment import align
from landmark_dir.models.default import MAP_PX, SeekMaps
from landmark_dir.models.device import has_bfloat16, share
from landmark_dir.models.paper import CELL_PX, parabola_peak
from landmark_dir.options import OutlierOptions

PER_CELL = CELL_PX // MAP_PX  # places of the map along a cell
LANDMARKS = 2  # of each cell of a slice; a volume has enough with one
BACK_PX = 6.0  # forward-backward check: largest distance from the start
AT_ONCE = 1 << 21  # similarities held at once, so that they stay in the cache of the processor
AGREEMENT = OutlierOptions(  # slices may be turned by 45 degrees
    neighbours=16, coarse_mm=30.0, factor=3.0, floor_mm=2.0, rounds=2, strain=1.0
)
MANY, FEW = 48, 24  # neighbours of places found on the map, and in the images
LEAST_MM = 0.05  # distances below this say nothing more
BEND_MM = 0.3  # how far true motion bends away from the affine fit to a landmark's neighbours
LOST_PX = 3.0  # where the images pull a landmark farther from its neighbours, they misled it


class MatchFeatures(NamedTuple):
    """What speaks for a pair; each [N]."""

    matchability: Tensor  # logit
    similarity: Tensor  # of the descriptors, -1..1
    correlation: Tensor  # of the patches, -1..1
    spread: Tensor  # of the neighbours around their common motion, mm
    apart: Tensor  # the pair itself from that motion, mm

    def features(self) -> Tensor:
        """[N, 6], as `models.default.scores` takes them."""
        spread, apart = ((mm + LEAST_MM).log() for mm in (self.spread, self.apart))
        columns = [self.matchability, self.similarity, self.correlation]
        return torch.stack([*columns, spread, spread.square(), apart], 1).float()


class Measured(NamedTuple):
    """Places below the pixel, [N, D] and [N] each."""

    moving: NDArray[np.float64]
    fit: NDArray[np.float64]  # where the neighbours' motion puts them
    spread: NDArray[np.float64]

    @property
    def apart(self) -> NDArray[np.float64]:
        """How far each is from where its neighbours put it [N]."""
        return np.asarray(np.linalg.norm(self.moving - self.fit, axis=1))

    def combined(self) -> NDArray[np.float64]:
        """Where each place and the fit to its neighbours, weighed by their variances, agree."""
        share = BEND_MM**2 / (BEND_MM**2 + self.spread**2)
        return np.asarray(self.fit + share[:, None] * (self.moving - self.fit))


def best_places(matchability: Tensor, threshold: float, count: int = 1) -> tuple[Tensor, Tensor]:
    """The most matchable places of each 8 x 8 px cell of a map [h, w] of logits.

    Returns
    -------
    flat : Tensor, shape (N,), rows of the flattened map
    logit : Tensor, shape (N,), of a probability above `threshold`
    """
    height, width = (side // PER_CELL for side in matchability.shape)
    cells = matchability[: height * PER_CELL, : width * PER_CELL]
    cells = (
        cells.reshape(height, PER_CELL, width, PER_CELL).transpose(1, 2).reshape(-1, PER_CELL**2)
    )
    best, which = cells.topk(count, dim=1)
    cell = torch.arange(len(best), device=best.device)[:, None]
    y = cell // width * PER_CELL + which // PER_CELL
    x = cell % width * PER_CELL + which % PER_CELL
    keep = best.sigmoid() > threshold
    return (y * matchability.shape[1] + x)[keep], best[keep]


def places_xy(flat: Tensor, width: int) -> Tensor:
    """Pixel places [N, 2] of rows of a flattened map."""
    xy = torch.stack([flat % width, flat // width], -1)
    return (xy + 0.5) * MAP_PX - 0.5


def most_similar(descriptors: Tensor, places: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Similarity [N] and row [N] of the most similar of the places [M, C] of a map.

    Similarities of all places are products in half precision where that is fast; the best of them
    and its neighbours are looked at once more in full.
    """
    half = torch.bfloat16 if has_bfloat16(places.device.type) else places.dtype
    quick = places.to(half).T
    parts = torch.split(descriptors.to(half), max(1, AT_ONCE // len(places)))
    found = share(lambda part: best_columns(part @ quick), parts, places.device)
    near = _around(torch.cat(list(found)), len(places), width)
    exact = (places[near] * descriptors[:, None]).sum(-1)
    best, which = exact.max(1)
    return best, near.gather(1, which[:, None])[:, 0]


def best_columns(similarity: Tensor) -> Tensor:
    """Column [N] of the largest of each row [N, M], which must not be negative."""
    if similarity.device.type != "cpu":
        return similarity.argmax(1)
    # ten times as fast: NumPy searches with vector instructions, and bfloat16 that are not
    # negative are in the order of their bits
    bits = similarity.view(torch.int16) if similarity.dtype == torch.bfloat16 else similarity
    return torch.from_numpy(bits.numpy().argmax(1))


def _around(flat: Tensor, count: int, width: int) -> Tensor:
    """Rows [N, 9] of the places around rows of a flattened map of `count` places."""
    one = torch.tensor([-1, 0, 1], device=flat.device)
    y = (flat // width)[:, None] + one
    x = flat[:, None] % width + one
    y, x = y.clamp(0, count // width - 1), x.clamp(0, width - 1)
    return (y[:, :, None] * width + x[:, None]).flatten(1)


def below_place(descriptors: Tensor, places: Tensor, flat: Tensor, width: int) -> Tensor:
    """Where similarity peaks around rows `flat` of the places [M, C] of a map, px [N, 2].

    A parabola through the similarities of a descriptor [N, C] with the place and its neighbours,
    along x and y apart.
    """
    xy = places_xy(flat, width)
    last = torch.tensor([width - 1, len(places) // width - 1], device=flat.device)
    place = torch.stack([flat % width, flat // width], 1)
    inner = (place > 0) & (place < last)
    near = (places[_around(flat, len(places), width)] * descriptors[:, None]).sum(-1)
    for axis, (before, after) in enumerate(((3, 5), (1, 7))):  # rows of 3 x 3 places
        peak = parabola_peak(near[:, before], near[:, 4], near[:, after])
        xy[:, axis] += MAP_PX * peak * inner[:, axis]
    return xy


class Coarse(NamedTuple):
    """Landmarks found on the map; each with a leading axis of N."""

    xy_1: Tensor
    xy_2: Tensor
    matchability: Tensor
    similarity: Tensor


def find(one: SeekMaps, two: SeekMaps, threshold: float) -> Coarse:
    """Seek the landmarks of slice 1 in slice 2, with a forward-backward check.

    Parameters
    ----------
    one, two : SeekMaps of one slice each, with a leading axis of 1
    threshold : float
        Least matchability, 0..1.
    """
    width_1, width_2 = one.descriptors.shape[3], two.descriptors.shape[3]
    places_1, places_2 = (
        maps.descriptors[0].permute(1, 2, 0).flatten(0, 1).contiguous() for maps in (one, two)
    )
    start, matchability = best_places(one.matchability[0], threshold, LANDMARKS)
    similarity, there = most_similar(places_1[start], places_2, width_2)
    _, back = most_similar(places_2[there], places_1, width_1)
    xy_1 = places_xy(start, width_1)
    keep = (places_xy(back, width_1) - xy_1).norm(dim=1) <= BACK_PX
    xy_2 = below_place(places_1[start[keep]], places_2, there[keep], width_2)
    return Coarse(xy_1[keep], xy_2, matchability[keep], similarity[keep])


@torch.inference_mode()
def seek(
    images: tuple[Tensor, Tensor], maps: tuple[SeekMaps, SeekMaps], threshold: float
) -> tuple[Tensor, Tensor, MatchFeatures]:
    """Correspondences of two slices.

    Parameters
    ----------
    images : two Tensors, shape (H, W), network units
    maps : their SeekMaps, with a leading axis of 1
    threshold : float
        Least matchability, 0..1.

    Returns
    -------
    xy_1, xy_2 : Tensor, shape (N, 2), px
    evidence : MatchFeatures
    """
    found = find(*maps, threshold)
    fixed, moving = (xy.double().cpu().numpy() for xy in (found.xy_1, found.xy_2))
    kept = agreeing(fixed, moving, AGREEMENT)
    rows = torch.from_numpy(kept).to(found.xy_1.device)
    found = Coarse(*(part[rows] for part in found))
    if not len(kept):
        return (
            found.xy_1,
            found.xy_2,
            MatchFeatures(*[found.similarity] * len(MatchFeatures._fields)),
        )
    measured, correlation = measure(images, fixed[kept], moving[kept])
    xy_2, spread, apart = (
        torch.from_numpy(part).to(found.xy_2)
        for part in (measured.combined(), measured.spread, measured.apart)
    )
    evidence = MatchFeatures(found.matchability, found.similarity, correlation, spread, apart)
    return found.xy_1, xy_2, evidence


def measure(
    images: tuple[Tensor, Tensor], fixed: NDArray[np.float64], found: NDArray[np.float64]
) -> tuple[Measured, Tensor]:
    """The places [N, 2] below the pixel, from the images or from the map.

    Returns
    -------
    measured : Measured
    correlation : Tensor, shape (N,), of the patches
    """
    rows = with_neighbours(fixed, MANY)
    around = local_motion(fixed, fixed, found, rows)
    near = fixed + around.displacement
    at_1, at_2, bend = (
        torch.from_numpy(values).to(images[0])
        for values in (fixed, near, np.eye(2) + around.gradient)
    )
    pulled, correlation = align(*images, at_1, at_2, bend, at_1.new_ones(2))
    measured = pulled.double().cpu().numpy()
    lost = np.linalg.norm(measured - near, axis=1) > LOST_PX
    measured[lost] = found[lost]
    return better_reading(fixed, found, around, measured, rows), correlation


def better_reading(
    fixed: NDArray[np.float64],
    found: NDArray[np.float64],
    around: LocalMotion,
    measured: NDArray[np.float64],
    rows: NDArray[np.intp],
) -> Measured:
    """Of two readings of the moving points [N, D], take around each the one that scatters less.

    Measuring in the images is ten times as exact as the map where the images show the same, and
    worse where they do not (another slice, other contrast).

    Parameters
    ----------
    found, measured : ndarray, shape (N, D)
    around : LocalMotion, of `found`
    rows : ndarray, shape (N, M)
        Neighbours, from near to far.
    """
    around_measured = local_motion(fixed, fixed, measured, rows[:, :FEW])
    better = around_measured.spread < around.spread
    pick = better[:, None]
    fit = fixed + np.where(pick, around_measured.displacement, around.displacement)
    spread = np.where(better, around_measured.spread, around.spread)
    return Measured(np.where(pick, measured, found), fit, spread)
