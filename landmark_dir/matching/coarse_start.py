"""Find how one volume lies to another, wherever their headers put them and however they are turned.

A few axial slices of the shorter volume are described by the `default` network, each turned around
and seen from both sides, and their landmarks are sought in all slices of the other. The network
knows bodies that lie as most do; a view of a slice in which it finds its like says how the patient
was turned. A rigid motion that many landmarks agree with is the start; one that few agree with is
chance.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from landmark_dir.geometry import Points, index_to_physical, inside
from landmark_dir.matching.rigid_fit import Rigid, find_rigid
from landmark_dir.models.default import MAP_PX, SeekNetwork
from landmark_dir.models.device import encode, large_pieces, share
from landmark_dir.preprocessing.slices import stack_slices
from landmark_dir.progress import Progress, silent

PLACE_PX = 2 * MAP_PX  # descriptors are pooled to places of this side
SPARSE, DENSE_MM = 10, 6.0  # slices of the shorter volume; distance of those of the other
MOST_DENSE = 100  # of the other's slices
FEW, LIKELY = 5, 3  # slices that are seen in all views, and views that all are seen in
LANDMARKS = 40  # of a slice, well spread
BACK_MM = 16.0  # forward-backward check
CHUNK = 8192  # descriptors compared at a time
ROLLS = np.arange(0, 360, 45)  # degrees; the network bears half a step
ROLL_DEGREES = 50.0  # how far off a view's turn a fit may be
AIR = -0.9  # network units; air and what is hardly more
CHECKED, AROUND_MM = 4, (-12.0, 0.0, 12.0)  # slices of a check, and where the other is cut
ENOUGH = 40  # landmarks, to judge by
LEAST, LEAST_SHARE = 24, 0.3  # landmarks that agree; views that are wrong reach 27 of 106
PLAIN, PLAIN_SHARE = 72, 0.6  # the same, from where on no other view need be looked at
MIRRORED = 1.4  # times as many landmarks agree with a mirrored body


@dataclass(frozen=True)
class View:
    """How a slice is looked at: turned about its middle, and maybe from the other side."""

    degrees: float
    behind: bool = False

    @classmethod
    def like(cls, turn: NDArray[np.float64]) -> "View":
        """The view of a slice that shows it as a body turned so is seen."""
        behind = bool(turn[2, 2] < 0)
        plane = turn[:2, :2] * [-1.0 if behind else 1.0, 1.0]
        angle = np.arctan2(plane[0, 1] - plane[1, 0], plane[0, 0] + plane[1, 1])
        return cls(float(np.degrees(angle)), behind)

    def flipped(self) -> "View":
        """The view that shows a mirrored body as this one shows a body."""
        return View(-self.degrees, not self.behind)

    @cached_property
    def plane(self) -> NDArray[np.float64]:
        """From offsets (x, y) in the view to offsets in the slice, [2, 2]."""
        cos, sin = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))
        side = -1.0 if self.behind else 1.0
        return np.asarray(np.diag([side, 1.0]) @ [[cos, -sin], [sin, cos]])

    @cached_property
    def turn(self) -> NDArray[np.float64]:
        """The proper turn in space: seen from behind, the first slice is the last."""
        turn = np.eye(3)
        turn[:2, :2] = self.plane
        turn[2, 2] = -1.0 if self.behind else 1.0
        return turn


USUAL = [View(roll, behind) for roll in (0.0, 180.0) for behind in (False, True)]
VIEWS = [*USUAL, *(View(float(a), b) for b in (False, True) for a in ROLLS if a % 180)]


@dataclass(frozen=True)
class Described:
    """Places of some slices: where they lie, LPS mm [N, 3], and their descriptors [N, C]."""

    points: Points
    descriptors: Tensor
    landmarks: Tensor  # rows of those that are sought

    def __len__(self) -> int:
        return len(self.points)

    def mirrored(self, normal: NDArray[np.float64]) -> "Described":
        """The same places on the other side of a plane through the origin."""
        return replace(self, points=self.points - 2 * np.outer(self.points @ normal, normal))


@dataclass(frozen=True)
class Found:
    """What a search says.

    Attributes
    ----------
    rigid : Rigid or None
        Fixed to moving points; None where no three landmarks agree.
    agreeing, of : int
        Landmarks that agree with it, of those that were found in the other image.
    tried : int
        Landmarks that were sought.
    """

    rigid: Rigid | None
    agreeing: int
    of: int
    tried: int
    mirrored: bool = False  # far more agree once one of the images is mirrored

    @property
    def judged(self) -> bool:
        """Whether there were landmarks enough to say anything."""
        return self.tried >= ENOUGH

    @property
    def sure(self) -> bool:
        """Whether so many agree by chance only once in very many pairs of images."""
        share = self.agreeing / max(1, self.of)
        return self.rigid is not None and self.agreeing >= LEAST and share >= LEAST_SHARE

    @property
    def plain(self) -> bool:
        """Whether so many agree that no other view can mean more."""
        return self.sure and self.agreeing >= PLAIN and self.agreeing >= PLAIN_SHARE * self.of

    def beside(self, mirrored: "Found") -> "Found":
        """The same, and whether a mirrored body would be more like it."""
        more = mirrored.sure and mirrored.agreeing > MIRRORED * self.agreeing
        return replace(self, mirrored=more)


def check_start(network: SeekNetwork, fixed: sitk.Image, moving: sitk.Image) -> Found:
    """What landmarks of a few slices say of two volumes that should lie as their headers say."""
    fixed = sitk.DICOMOrient(fixed, "LPS")
    shared = _shared_slices(fixed, moving)
    if not len(shared):
        return Found(None, 0, 0, 0)
    chosen = shared[np.unique(np.linspace(0, len(shared) - 1, CHECKED + 2).astype(int))]
    chosen = chosen[1:-1] if len(chosen) > CHECKED else chosen
    one, other_side, others = [], [], []
    for k in chosen.tolist():
        plane = fixed[:, :, k : k + 1]
        one.append(_describe(network, plane))
        other_side.append(_describe(network, plane, View(0.0, behind=True)))
        for off_mm in AROUND_MM:
            beside = sitk.Image(plane)
            normal = np.array(plane.GetDirection())[2::3]
            beside.SetOrigin((np.array(plane.GetOrigin()) + off_mm * normal).tolist())
            air = network.scale.air
            seen = sitk.Resample(moving, beside, sitk.Transform(), sitk.sitkLinear, air)
            others.append(_describe(network, seen))
    axes, around = np.reshape(fixed.GetDirection(), (3, 3)), _joined(others)
    turn = axes @ View(0.0, behind=True).turn.T @ axes.T
    seen, behind = _joined(one), _joined(other_side)
    mirrored = _fitted(behind.mirrored(axes[:, 2]), around, _pairs(behind, around), turn)
    return _fitted(seen, around, _pairs(seen, around), np.eye(3)).beside(mirrored)


def seek_start(
    network: SeekNetwork, fixed: sitk.Image, moving: sitk.Image, progress: Progress = silent
) -> Found:
    """Search for how `moving` lies to `fixed`, wherever that may be."""
    images = [sitk.DICOMOrient(image, "LPS") for image in (fixed, moving)]
    depth = [image.GetSize()[2] * image.GetSpacing()[2] for image in images]
    swapped = depth[1] < depth[0]
    short, long = images[::-1] if swapped else images
    progress("describe", 0.0)
    search = _Search(network, _thinned(short, SPARSE), _thinned(long, MOST_DENSE, DENSE_MM))
    best = search.best(progress)
    if swapped and best.rigid is not None:
        return replace(best, rigid=best.rigid.inverse())
    return best


class _Search:
    """Slices of the shorter volume, seen in many ways, against those of the other."""

    def __init__(self, network: SeekNetwork, sparse: sitk.Image, dense: sitk.Image) -> None:
        self.network, self.sparse = network, sparse
        self.few = sparse[:, :, ::2] if sparse.GetSize()[2] > FEW else sparse
        self.everywhere = _describe(network, dense)
        self.axes = [np.reshape(image.GetDirection(), (3, 3)) for image in (sparse, dense)]

    def best(self, progress: Progress) -> Found:
        """A few slices in all views, then all slices as the likeliest of those fits lie."""
        seen: list[Found] = []
        mirrored: list[Found] = []
        for number, view in enumerate(VIEWS):
            progress("turn", 0.3 + 0.5 * number / len(VIEWS))
            found, other = self._look(view, self.few)
            seen, mirrored = [*seen, found], [*mirrored, other]
            if found.plain:
                break
        likely = _ranked(seen)[: 1 if found.plain else LIKELY]
        if not likely:
            return seen[0]
        progress("turn", 0.8)
        again = _ranked(self._look(self._view(one), self.sparse)[0] for one in likely)
        best = (again or likely)[0]
        views = [self._view(best).flipped(), *map(self._view, _ranked(mirrored)[:1])]
        others = _ranked(self._look(view, self.sparse)[1] for view in views)
        return best.beside(others[0]) if others else best

    def _look(self, view: View, slices: sitk.Image) -> tuple[Found, Found]:
        """What a view of some slices says of the patient, and of a mirrored one."""
        seen = _describe(self.network, slices, view)
        rows = _pairs(seen, self.everywhere)
        turn = self.axes[1] @ view.turn.T @ self.axes[0].T
        other = seen.mirrored(self.axes[0][:, 2])
        return (
            _fitted(seen, self.everywhere, rows, turn),
            _fitted(other, self.everywhere, rows, turn),
        )

    def _view(self, found: Found) -> View:
        """How the slices are seen upright, if they lie as was found."""
        assert found.rigid is not None
        return View.like(self.axes[1].T @ found.rigid.turn @ self.axes[0])


def _ranked(some: Iterable[Found]) -> list[Found]:
    """Those with a motion, the one that most landmarks agree with first."""
    known = [found for found in some if found.rigid is not None]
    return sorted(known, key=lambda found: -found.agreeing)


def _fitted(
    one: Described,
    two: Described,
    rows: tuple[NDArray[np.intp], NDArray[np.intp]],
    turn: NDArray[np.float64],
) -> Found:
    """A rigid motion that turns about so, among rows that belong together."""
    start, there = rows
    rng = np.random.default_rng(0)
    fit = find_rigid(one.points[start], two.points[there], rng, turn, ROLL_DEGREES)
    if fit is None:
        return Found(None, 0, len(start), len(one.landmarks))
    rigid, agree = fit
    return Found(rigid, int(agree.sum()), len(start), len(one.landmarks))


def _shared_slices(fixed: sitk.Image, moving: sitk.Image) -> NDArray[np.intp]:
    """Slices of which a good part lies in the moving image as well."""
    x, y, z = fixed.GetSize()
    steps = [(np.arange(8) + 0.5) * n / 8 - 0.5 for n in (x, y)]
    grid = np.stack(np.meshgrid(*steps, np.arange(z), indexing="ij"), -1)  # [8, 8, z, 3]
    met = inside(moving, index_to_physical(fixed, grid.reshape(-1, 3)))
    return np.asarray(np.flatnonzero(met.reshape(64, z).mean(0) > 0.25))


def _thinned(image: sitk.Image, most: int, step_mm: float = 0.0) -> sitk.Image:
    """Every few axial slices: at most about `most`, and not closer than `step_mm`."""
    count, level_mm = image.GetSize()[2], image.GetSpacing()[2]
    step = max(1, round(step_mm / level_mm), round(count / most))
    return image[:, :, (count - 1) % step // 2 :: step]


def _joined(parts: Sequence[Described]) -> Described:
    """Several as one."""
    first = np.cumsum([0, *(len(part) for part in parts)])
    return Described(
        np.concatenate([part.points for part in parts]),
        torch.cat([part.descriptors for part in parts]),
        torch.cat([part.landmarks + int(n) for part, n in zip(parts, first, strict=False)]),
    )


def _describe(network: SeekNetwork, image: sitk.Image, view: View | None = None) -> Described:
    """The places of all slices of a volume, as a view of them shows them."""
    stack = stack_slices(image, network.stride, network.scale)
    device = network.log_scale.device

    def described(k: int) -> Described:
        xy, descriptors, best = _places(network, torch.from_numpy(stack.images[k]).to(device), view)
        return Described(stack.to_physical(xy, np.full(len(xy), float(k))), descriptors, best)

    with large_pieces(device):
        return _joined(list(share(described, range(len(stack.images)), device)))


@torch.inference_mode()
def _places(
    network: SeekNetwork, slice_: Tensor, view: View | None
) -> tuple[NDArray[np.float64], Tensor, Tensor]:
    """The places of a slice: pixels (x, y), descriptors, and which are landmarks."""
    seen, back = _seen(slice_, view, network.stride)
    maps = encode(network, seen[None, None])
    pooled = functional.normalize(functional.avg_pool2d(maps.descriptors.float(), 2), dim=1)
    logit = functional.max_pool2d(maps.matchability[None], 2)[0, 0]
    flat = pooled[0].flatten(1).T  # [h w, C]
    body = functional.avg_pool2d(seen[None, None], PLACE_PX)[0, 0] > AIR
    keep = body.flatten().nonzero()[:, 0]
    rows, width = keep.cpu().numpy(), logit.shape[1]
    xy = (np.column_stack([rows % width, rows // width]) + 0.5) * PLACE_PX - 0.5
    row_of = torch.zeros(body.numel(), dtype=torch.long, device=flat.device)
    row_of[keep] = torch.arange(len(keep), device=flat.device)
    return back(xy), flat[keep], row_of[_spread(logit, body)]


def _spread(logit: Tensor, body: Tensor) -> Tensor:
    """Places of a map that are the most matchable around and count; the best come first."""
    least = torch.special.logit(torch.tensor(SeekNetwork.landmark_threshold))
    around = functional.max_pool2d(logit[None, None], 3, 1, 1)[0, 0]
    peak = (logit >= around) & body & (logit > least)
    flat = torch.where(peak, logit, -torch.inf).flatten()
    best = flat.topk(min(LANDMARKS, len(flat)))
    return best.indices[best.values > -torch.inf]


def _seen(
    image: Tensor, view: View | None, stride: int
) -> tuple[Tensor, Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """A slice as seen, and from pixels (x, y) of that to pixels of the slice."""
    height, width = image.shape
    rows, columns = ((image > AIR).any(axis).nonzero()[:, 0] for axis in (1, 0))
    if not len(rows):
        return image[:stride, :stride], lambda xy: xy
    box = [(int(a[0]), int(a[-1])) for a in (columns, rows)]
    if view is None:
        return _cut(image, box, stride), lambda xy: np.asarray(xy + [first for first, _ in box])
    middle = np.array([(a + b) / 2 for a, b in box])
    half = np.array([(b - a) / 2 for a, b in box])
    reach = np.abs(view.plane.T) @ half + 8
    size = (np.ceil(2 * reach / stride) * stride).astype(int)  # x, y
    centre = (size - 1) / 2

    def back(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((xy - centre) @ view.plane.T + middle)

    sides = np.array([width, height])
    affine = np.column_stack([view.plane * size / sides[:, None], (2 * middle + 1) / sides - 1])
    shape = [1, 1, int(size[1]), int(size[0])]
    grid = functional.affine_grid(torch.from_numpy(affine[None]).to(image), shape, False)
    seen = functional.grid_sample(image[None, None] + 1, grid, align_corners=False) - 1
    return seen[0, 0], back


def _cut(image: Tensor, box: Sequence[tuple[int, int]], stride: int) -> Tensor:
    """A box (x, y) of a slice, to the last pixel, and as much air as makes its sides whole."""
    (left, right), (top, bottom) = box
    cut = image[top : bottom + 1, left : right + 1]
    height, width = cut.shape
    return functional.pad(cut, (0, -width % stride, 0, -height % stride), value=-1.0)


def _pairs(one: Described, two: Described) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of landmarks of `one` and of what is most like them in `two`, forward and backward."""
    start = one.landmarks
    if not len(start) or not len(two):
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    there = _most_like(one.descriptors[start], two.descriptors)
    back = _most_like(two.descriptors[there], one.descriptors)
    rows, home = start.cpu().numpy(), back.cpu().numpy()
    near = np.linalg.norm(one.points[rows] - one.points[home], axis=1) <= BACK_MM
    return rows[near], there.cpu().numpy()[near]


def _most_like(some: Tensor, of: Tensor) -> Tensor:
    """Row of the most similar of descriptors [M, C] to each of [N, C], [N]."""
    best = some.new_full((len(some),), -torch.inf)
    row = torch.zeros(len(some), dtype=torch.long, device=some.device)
    for first in range(0, len(of), CHUNK):
        value, at = (some @ of[first : first + CHUNK].T).max(1)
        better = value > best
        best[better], row[better] = value[better], at[better] + first
    return row
