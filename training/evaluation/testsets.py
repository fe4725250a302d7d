"""The test sets of 2D image pairs for evaluation: three of [paper] sec. 3.2, and two of ours.

Image 1 is an untouched slice, image 2 is made from it (`followup`: from its neighbour in the same
series) by a `Warp` that is known at every point, so correspondences are exact and continuous. In
`appearance` the motion is that of `elastic`, and the grey values of one image or both are drawn
anew. A pixel is 1 mm.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from landmark_dir.preprocessing.intensity import CT, SCANNER_HU
from training.data.augment import Warp
from training.data.pack import Slice
from training.data.recolour import draw_colourings
from training.evaluation.appearance import (
    Floats,
    Hu,
    Mask,
    add_contrast_agent,
    add_gas,
    add_noise,
    change_kernel,
    jitter_intensity,
    soft_depth,
)
from training.evaluation.motion import body_points, draw_warp, resample, to_source

CT_SETS = ("intensity", "affine", "elastic", "followup")
SETS = (*CT_SETS, "appearance")
MIN_BODY_PX = 10_000  # less is a limb or the top of a head; a series of limbs is let off
NEIGHBOUR_MM = (1.9, 5.1)  # through-plane, about 2-5 mm: 1-3 slices of most series


class Quartiles(NamedTuple):
    """Median and interquartile range, mm."""

    q1: float
    median: float
    q3: float

    def __str__(self) -> str:
        return f"{self.median:.0f} ({self.q1:.0f}-{self.q3:.0f})"


PAPER_MM = {"affine": Quartiles(14, 29, 51), "elastic": Quartiles(9, 12, 15)}  # [paper] sec. 3.2


@dataclass(frozen=True)
class SlicePair:
    """Two images of the same slice, and where each point of one lies in the other.

    Attributes
    ----------
    hu_1, hu_2 : ndarray, shape (H, W), float32
        HU at 1 mm.
    body_1 : ndarray, shape (H, W), bool
        The valid mask of image 1.
    warp : Warp
        A batch of one: image 2 -> image 1.
    patient : str
    """

    hu_1: Hu
    hu_2: Hu
    body_1: Mask
    warp: Warp
    patient: str

    def project_2_to_1(self, xy_2: NDArray[np.floating]) -> Floats:
        """Image 2 -> image 1, px [N, 2]; N may be 0."""
        return to_source(self.warp, xy_2)


def choose_slices(slices: Sequence[Slice], per_patient: int) -> list[int]:
    """Take slices spread evenly over each patient's series, fit for every set.

    Each has a neighbour for `followup` and more than `MIN_BODY_PX` of body, or, in a series of
    limbs, more than half of what the fullest slice has. A patient with fewer gives fewer.

    Returns
    -------
    list of int
        Rows of `slices`, patient by patient.
    """
    series: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, part in enumerate(slices):
        series[part.patient, part.series].append(i)
    fit: dict[str, list[int]] = defaultdict(list)
    for (patient, _), rows in sorted(series.items()):
        rows.sort(key=lambda i: slices[i].z_mm)
        size = np.array([int(slices[i].body.sum()) for i in rows])
        full = size > min(MIN_BODY_PX, size.max() / 2)
        fit[patient] += [
            i for i, enough in zip(rows, full, strict=True) if enough and _near(slices, rows, i)
        ]
    return [i for rows in fit.values() for i in _spread(rows, per_patient)]


def _spread(rows: list[int], count: int) -> list[int]:
    """At most `count` of `rows`, each from the middle of an equal share."""
    count = min(count, len(rows))
    return [rows[int((k + 0.5) * len(rows) / count)] for k in range(count)]


def _near(slices: Sequence[Slice], rows: Iterable[int], i: int) -> list[int]:
    """Those of `rows` that are neighbours of slice `i` in its series."""
    here, (least, most) = slices[i], NEIGHBOUR_MM
    return [
        j
        for j in rows
        if (slices[j].patient, slices[j].series) == (here.patient, here.series)
        and least <= abs(slices[j].z_mm - here.z_mm) <= most
    ]


def make_pair(kind: str, slices: Sequence[Slice], i: int, seed: int) -> SlicePair:
    """Make the test pair of slice `i`; the same arguments give the same pair.

    Parameters
    ----------
    kind : str
        One of `SETS`.
    slices : sequence of Slice
        `followup` makes image 2 from another slice of the same series.
    i : int
        Row of the slice that becomes image 1, best from `choose_slices`.
    seed : int
        Not negative.

    Raises
    ------
    ValueError
        If the kind is unknown, or there is no neighbour for `followup`.
    """
    if kind not in SETS:
        raise ValueError(f"kind: expected one of {', '.join(SETS)}, found {kind}")
    rng = np.random.default_rng([SETS.index(kind), i, seed])
    part = slices[i]
    hu_1, body = _hu(part), np.asarray(part.body, dtype=bool)
    warp = draw_warp("elastic" if kind == "appearance" else kind, hu_1, body, rng)
    if kind == "intensity":
        hu_2 = jitter_intensity(hu_1, rng)
    elif kind == "followup":
        hu_2 = _follow_up(slices[_neighbour(slices, i, rng)], warp, rng)
    else:
        hu_2 = resample(hu_1, warp)
    if kind == "appearance":
        hu_1, hu_2 = _recoloured(hu_1, hu_2, int(rng.integers(2**31)))
    return SlicePair(hu_1, hu_2.clip(*SCANNER_HU).astype(np.float32), body, warp, part.patient)


def _hu(part: Slice) -> Hu:
    return np.asarray(part.hu, dtype=np.float32).clip(*SCANNER_HU)


def _neighbour(slices: Sequence[Slice], i: int, rng: np.random.Generator) -> int:
    near = _near(slices, range(len(slices)), i)
    if not near:
        least, most = NEIGHBOUR_MM
        raise ValueError(
            f"slice {i} of series {slices[i].series}: expected another slice {least:g} to "
            f"{most:g} mm away, found none; take slices from choose_slices"
        )
    return int(rng.choice(near))


def _follow_up(part: Slice, warp: Warp, rng: np.random.Generator) -> Hu:
    """Another examination of a slice: first what changed in the patient, then the scanner."""
    hu, body = _hu(part), np.asarray(part.body, dtype=bool)
    hu = add_gas(add_contrast_agent(hu, body, rng), soft_depth(hu, body), rng)
    return add_noise(change_kernel(resample(hu, warp), rng), rng)


def _recoloured(hu_1: Hu, hu_2: Hu, seed: int) -> tuple[Hu, Hu]:
    """Both images with grey values as in training, put on the scale of CT."""
    rng = torch.Generator().manual_seed(seed)
    made = []
    for hu, colouring in zip((hu_1, hu_2), draw_colourings(1.0, rng), strict=True):
        units = torch.from_numpy(CT.to_network(hu))[None]
        seen = units if colouring is None else colouring.apply(units, rng)
        made.append(CT.from_network(seen[0].numpy()).astype(np.float32))
    return made[0], made[1]


def displacements(pairs: Iterable[SlicePair]) -> Floats:
    """How far every 4th body pixel of image 1 (along x and y) lies from its place in image 2, mm.

    All pairs together, shape (N,).
    """
    found = [np.zeros(0)]
    for pair in pairs:
        xy = body_points(pair.body_1, 4)
        moved = pair.warp.from_source(torch.from_numpy(xy)[None])[0].numpy()
        found.append(np.linalg.norm(moved - xy, axis=1))
    return np.concatenate(found)


def quartiles(values_mm: Floats) -> Quartiles:
    """Median and interquartile range of displacements [N], mm."""
    return Quartiles(*np.percentile(values_mm, (25, 50, 75)).tolist())


def displacement_table(sets: Mapping[str, Iterable[SlicePair]]) -> str:
    """A Markdown table of the displacements of each set beside those of the paper."""
    rows = ["| set | displacement mm, median (IQR) | paper |", "|---|---|---|"]
    for kind, pairs in sets.items():
        rows.append(f"| {kind} | {quartiles(displacements(pairs))} | {PAPER_MM.get(kind, '')} |")
    return "\n".join(rows)
