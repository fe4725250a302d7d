"""Find how one volume lies to another, wherever their headers put them and however they are turned.

A few axial slices of the shorter volume are described by the `default` network, each turned around
and seen from both sides, and their landmarks are sought in all slices of the other. The network
knows bodies that lie as most do; a view of a slice in which it finds its like says how the patient
was turned. A rigid motion that many landmarks agree with is the start; one that few agree with is
chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from landmark_dir.geometry import Points
from landmark_dir.matching.rigid_fit import Rigid, find_rigid
from landmark_dir.models.default import MAP_PX, SeekNetwork
from landmark_dir.models.device import encode
from landmark_dir.preprocessing.slices import SliceStack, stack_slices

PLACE_PX = 2 * MAP_PX  # descriptors are pooled to places of this side
SPARSE, DENSE_MM = 10, 6.0  # slices of the shorter volume; distance of those of the other
MOST_DENSE = 120  # of the other's slices
LANDMARKS = 40  # of a slice, well spread
BACK_MM = 16.0  # forward-backward check
ROLLS = np.arange(0, 360, 45)
ROLL_DEGREES = 50.0  # how far off a view's turn a fit may be


@dataclass(frozen=True)
class View:
    """How a slice is looked at: turned about its middle, and maybe from the other side."""

    degrees: float
    behind: bool = False

    @cached_property
    def plane(self) -> NDArray[np.float64]:
        """From offsets (x, y) in the view to offsets in the slice, [2, 2]."""
        cos, sin = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))
        side = -1.0 if self.behind else 1.0
        return np.array([[side, 0.0], [0.0, 1.0]]) @ np.array([[cos, -sin], [sin, cos]])

    @cached_property
    def turn(self) -> NDArray[np.float64]:
        """The proper turn in space: seen from behind, the first slice is the last."""
        turn = np.eye(3)
        turn[:2, :2] = self.plane
        turn[2, 2] = -1.0 if self.behind else 1.0
        return turn


@dataclass(frozen=True)
class Described:
    """Places of some slices: where they lie, LPS mm [N, 3], and their descriptors [N, C]."""

    points: Points
    descriptors: Tensor
    landmarks: Tensor  # rows of those that are sought

    def __len__(self) -> int:
        return len(self.points)


def every(image: sitk.Image, step: int, first: int = 0) -> sitk.Image:
    return sitk.DICOMOrient(image, "LPS")[:, :, first::step]


def cut(image: sitk.Image, network: SeekNetwork, step: int, first: int = 0) -> SliceStack:
    """Every `step`-th axial slice."""
    return stack_slices(every(image, step, first), network.stride, network.scale)


@torch.inference_mode()
def describe(network: SeekNetwork, stack: SliceStack, view: View = View(0.0)) -> Described:
    """The places of a stack's slices as a view of them shows them."""
    device = network.log_scale.device
    points, descriptors, landmarks, count = [], [], [], 0
    for k, image in enumerate(stack.images):
        seen, back = _seen(torch.from_numpy(image).to(device), view, network.stride)
        maps = encode(network, seen[None, None])
        pooled = functional.normalize(functional.avg_pool2d(maps.descriptors.float(), 2), dim=1)
        logit = functional.max_pool2d(maps.matchability[None], 2)[0, 0]
        flat = pooled[0].flatten(1).T  # [h w, C]
        body = functional.avg_pool2d(seen[None, None], PLACE_PX)[0, 0] > -0.9
        keep = body.flatten().nonzero()[:, 0]
        best = _spread(logit, body)
        rows, width = keep.cpu().numpy(), logit.shape[1]
        xy = (np.column_stack([rows % width, rows // width]) + 0.5) * PLACE_PX - 0.5
        points.append(stack.to_physical(back(xy), np.full(len(xy), float(k))))
        descriptors.append(flat[keep])
        row_of = torch.zeros(body.numel(), dtype=torch.long, device=device)
        row_of[keep] = torch.arange(len(keep), device=device)
        landmarks.append(row_of[best] + count)
        count += len(keep)
    return Described(np.concatenate(points), torch.cat(descriptors), torch.cat(landmarks))


def _spread(logit: Tensor, body: Tensor) -> Tensor:
    """Places of a map that are the most matchable around and count; the best come first."""
    least = torch.special.logit(torch.tensor(SeekNetwork.landmark_threshold))
    around = functional.max_pool2d(logit[None, None], 3, 1, 1)[0, 0]
    peak = (logit >= around) & body & (logit > least)
    flat = torch.where(peak, logit, -torch.inf).flatten()
    best = flat.topk(min(LANDMARKS, len(flat)))
    return best.indices[best.values > -torch.inf]


def _seen(image: Tensor, view: View, stride: int):
    """A slice as seen, and from pixels (x, y) of that to pixels of the slice."""
    height, width = image.shape
    if view == View(0.0):
        return image, lambda xy: xy
    rows, columns = ((image > -0.9).any(axis).nonzero()[:, 0] for axis in (1, 0))
    if not len(rows):
        return image, lambda xy: xy
    box = [(int(a[0]), int(a[-1])) for a in (columns, rows)]
    middle = np.array([(a + b) / 2 for a, b in box])
    half = np.array([(b - a) / 2 for a, b in box])
    reach = np.abs(view.plane.T) @ half + 8
    size = (np.ceil(2 * reach / stride) * stride).astype(int)  # x, y
    centre = (size - 1) / 2
    y, x = np.mgrid[: size[1], : size[0]]

    def back(xy):
        return (xy - centre) @ view.plane.T + middle

    at = back(np.stack([x, y], -1)) * 2 + 1
    grid = torch.from_numpy(at / [width, height] - 1).to(image)
    seen = functional.grid_sample(image[None, None] + 1, grid[None], align_corners=False) - 1
    return seen[0, 0], back


def pairs_of(one: Described, two: Described) -> tuple[NDArray, NDArray]:
    """Rows of landmarks of `one` and of what is most like them in `two`, forward and backward."""
    start = one.landmarks
    there = _most_like(one.descriptors[start], two.descriptors)
    back = _most_like(two.descriptors[there], one.descriptors)
    rows, home = start.cpu().numpy(), back.cpu().numpy()
    near = np.linalg.norm(one.points[rows] - one.points[home], axis=1) <= BACK_MM
    return rows[near], there.cpu().numpy()[near]


def _most_like(some: Tensor, of: Tensor) -> Tensor:
    best = some.new_full((len(some),), -torch.inf)
    row = torch.zeros(len(some), dtype=torch.long, device=some.device)
    for first in range(0, len(of), 8192):
        value, at = (some @ of[first : first + 8192].T).max(1)
        better = value > best
        best[better], row[better] = value[better], at[better] + first
    return row
