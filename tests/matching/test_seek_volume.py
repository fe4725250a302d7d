"""Seeking in volumes: a known motion comes out in mm, though the slices lie otherwise."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from landmark_dir.matching import seek_volume
from landmark_dir.matching.seek_volume import (
    WIDE,
    Guides,
    Pairs3D,
    Slices,
    encoded,
    seek_volumes,
)
from landmark_dir.models.default import EVIDENCE, SeekMaps
from landmark_dir.models.device import torch_threads
from landmark_dir.progress import silent

Array = NDArray[np.float64]
CPU = torch.device("cpu")
SHAPE = (80, 112)
STILL = np.eye(3)
FILTERS = functional.avg_pool2d(
    torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0)), 9, stride=1
)
FILTERS -= FILTERS.mean((2, 3), keepdim=True)
EVERY = (2.0, 0.0, 17)  # distance, first place mm, and number of slices


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def tissue_mm() -> NDArray[np.float32]:
    """Smooth texture [level, row, column] at 1 mm, larger than what is looked at."""
    noise = np.random.default_rng(0).normal(size=(90, 130, 160)).astype(np.float32)
    fine, coarse = (ndimage.gaussian_filter(noise, sigma) for sigma in (2.5, 7.0))
    texture = 0.2 * fine / fine.std() + 0.25 * coarse / coarse.std()
    return np.asarray(texture.clip(-1, 1))


def _cut(
    tissue_mm: NDArray[np.float32],
    slices: tuple[float, float, int],
    shift: Any = (0.0, 0.0, 0.0),
    matrix: Array = STILL,
) -> Slices:
    """Slices of the tissue after it moved by x -> matrix x + shift, in (level, row, column) mm."""
    level_mm, first_mm, count = slices
    axes = (first_mm + level_mm * np.arange(count), *(0.5 + np.arange(n) for n in SHAPE))
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    at = (grid - shift) @ np.linalg.inv(matrix).T + [30.0, 25.0, 25.0]
    image = ndimage.map_coordinates(tissue_mm, np.moveaxis(at, -1, 0), order=1, mode="nearest")
    return Slices(image.astype(np.float32), level_mm, first_mm)


def _encode(image: Tensor) -> SeekMaps:
    """Answers of random filters of 24 px: enough to tell one texture from another."""
    seen = functional.conv2d(functional.pad(image, (10,) * 4, mode="replicate"), FILTERS, stride=4)
    return SeekMaps(functional.normalize(seen, dim=1), torch.zeros(1, *seen.shape[2:]))


def _everywhere(xy: Tensor, k: int) -> Tensor:
    return torch.ones(len(xy), dtype=torch.bool)


def _seek(fixed: Slices, moving: Slices, **changes: Any) -> Pairs3D:
    asked: dict[str, Any] = {
        "inside": _everywhere,
        "look": WIDE,
        "through_mm": 10.0,
        "threshold": 0.1,
        "progress": silent,
        **changes,
    }
    encode = asked.pop("encode", _encode)
    return seek_volumes(*(encoded(one, encode, CPU, silent) for one in (fixed, moving)), **asked)


def _off(pairs: Pairs3D, fixed: Slices, moving: Slices, shift: Any, matrix: Array) -> Array:
    """Distance of each moving point from the truth, (level, row, column) mm."""
    truth = fixed.points(pairs.fixed) @ matrix.T + shift
    return np.asarray(moving.points(pairs.moving) - truth)


@pytest.fixture(scope="module")
def still(tissue_mm: NDArray[np.float32]) -> tuple[Pairs3D, list[tuple[str, float]]]:
    """A volume sought in itself, and what was said meanwhile."""
    said: list[tuple[str, float]] = []
    fixed = _cut(tissue_mm, EVERY)
    pairs = _seek(fixed, fixed, progress=lambda stage, share: said.append((stage, share)))
    return pairs, said


def test_what_did_not_move_stays(still: tuple[Pairs3D, list[tuple[str, float]]]) -> None:
    pairs, _ = still
    assert len(pairs.fixed) == 9 * 10 * 14  # each cell of every second slice of 2 mm
    assert np.linalg.norm(pairs.moving - pairs.fixed, axis=1).max() < 0.3  # px and slices


@pytest.mark.parametrize(
    ("one", "two", "shift"),
    [
        pytest.param(EVERY, (3.0, -4.0, 13), (3.4, -6.3, 8.6), id="thicker"),
        pytest.param((3.0, 1.0, 12), (2.0, -4.0, 21), (-5.2, 9.7, -14.1), id="thinner"),
    ],
)
def test_a_shift_comes_out(
    tissue_mm: NDArray[np.float32],
    one: tuple[float, float, int],
    two: tuple[float, float, int],
    shift: tuple[float, float, float],
) -> None:
    fixed, moving = _cut(tissue_mm, one), _cut(tissue_mm, two, shift)
    pairs = _seek(fixed, moving)
    assert len(pairs.fixed) > 400
    off = _off(pairs, fixed, moving, shift, STILL)
    assert np.abs(np.median(off, axis=0)).max() < 0.05  # mm
    assert np.median(np.linalg.norm(off, axis=1)) < 0.35  # of single places, not settled
    assert np.mean(np.linalg.norm(off, axis=1) < 2) > 0.9
    assert pairs.evidence.features().shape == (len(off), EVIDENCE)
    assert torch.isfinite(pairs.evidence.features()).all()
    assert pairs.evidence.correlation.median() > 0.98


def test_an_affine_motion_comes_out(tissue_mm: NDArray[np.float32]) -> None:
    matrix = np.array([[1.05, 0.06, 0.0], [0.0, 0.95, 0.08], [0.04, -0.06, 1.03]])
    shift = (-3.0, 4.0, 2.5)
    fixed, moving = _cut(tissue_mm, EVERY), _cut(tissue_mm, (3.0, -4.0, 13), shift, matrix)
    pairs = _seek(fixed, moving)
    assert len(pairs.fixed) > 500
    off = np.linalg.norm(_off(pairs, fixed, moving, shift, matrix), axis=1)
    assert np.median(off) < 0.35  # mm; of single places, not settled
    assert np.mean(off < 2) > 0.9


def test_a_far_motion_is_found_through_the_far_search(
    tissue_mm: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = (18.0, -4.0, 9.0)  # mm; the near search looks 10 through-plane
    fixed, moving = _cut(tissue_mm, EVERY), _cut(tissue_mm, (2.0, 14.0, 17), shift)

    def right() -> int:
        off = _off(_seek(fixed, moving), fixed, moving, shift, STILL)
        return int((np.linalg.norm(off, axis=1) < 1).sum())

    assert right() > 100
    monkeypatch.setattr(seek_volume, "GUIDES", 10_000)  # never so many
    assert right() < 50


def test_only_landmarks_inside_are_sought(tissue_mm: NDArray[np.float32]) -> None:
    fixed = _cut(tissue_mm, (1.5, 0.0, 22))
    asked: list[tuple[int, float]] = []

    def inside(xy: Tensor, k: int) -> Tensor:
        asked.append((k, float(xy.max())))
        return (xy[:, 0] < 70) & torch.full((len(xy),), k > 8)

    pairs = _seek(fixed, fixed, inside=inside)
    x, _, k = pairs.fixed.T
    assert len(x) > 200
    assert x.max() < 70
    assert k.min() > 8
    assert k.max() > 16
    reach = dict(sorted(asked))  # of each slice, as it came, the farthest place
    assert {0, 4, 8, 16, 20} < reach.keys()  # the far search takes every fourth
    assert {0, 3, 6, 18, 21} < reach.keys()  # the near one every third
    assert all(90 < last <= 111 for last in reach.values())


def test_the_matchable_places_are_taken(tissue_mm: NDArray[np.float32]) -> None:
    fixed = _cut(tissue_mm, EVERY)

    def half(image: Tensor) -> SeekMaps:
        maps = _encode(image)
        maps.matchability[:, :, 16:] = -5.0
        return maps

    pairs = _seek(fixed, fixed, encode=half)
    assert len(pairs.fixed) > 300
    assert pairs.fixed[:, 0].max() < 64
    assert pairs.evidence.matchability.min() == 0


@pytest.mark.parametrize("why", ["nothing inside", "nothing matchable", "one slice of air"])
def test_nothing_found_gives_no_pairs(tissue_mm: NDArray[np.float32], why: str) -> None:
    fixed = _cut(tissue_mm, EVERY)
    changes: dict[str, Any] = {}
    if why == "nothing inside":
        changes["inside"] = lambda xy, k: ~_everywhere(xy, k)
    elif why == "nothing matchable":
        changes["threshold"] = 0.9
    else:
        fixed = Slices(np.full((1, *SHAPE), -1.0, np.float32), 2.0)
    pairs = _seek(fixed, fixed, **changes)
    assert pairs.fixed.shape == pairs.moving.shape == (0, 3)
    assert pairs.evidence.features().shape == (0, EVIDENCE)


def test_what_volumes_without_a_common_anatomy_give_looks_bad(
    tissue_mm: NDArray[np.float32],
    still: tuple[Pairs3D, list[tuple[str, float]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fixed, moving = _cut(tissue_mm, EVERY), _cut(tissue_mm[::-1, ::-1].copy(), EVERY)
    assert len(_seek(fixed, moving).fixed) < 0.05 * len(still[0].fixed)
    for name in ("AGREEMENT", "FAR_AGREEMENT"):  # keep clusters that tear off their surroundings
        kept = replace(getattr(seek_volume, name), part_share=0.0)
        monkeypatch.setattr(seek_volume, name, kept)
    chance, alike = _seek(fixed, moving).evidence, still[0].evidence
    assert len(chance.spread) < 0.3 * len(alike.spread)
    assert chance.correlation.median() < 0.7 < 0.99 < alike.correlation.median()
    assert chance.similarity.median() < alike.similarity.median()
    assert chance.spread.median() > 1 > 0.1 > alike.spread.median()  # mm


def test_one_slice_is_a_volume(tissue_mm: NDArray[np.float32]) -> None:
    fixed = _cut(tissue_mm, (5.0, 8.0, 1))
    pairs = _seek(fixed, fixed)
    assert len(pairs.fixed) > 50
    assert_allclose(pairs.moving[:, :2], pairs.fixed[:, :2], atol=0.5)  # px


def test_no_more_than_can_be_used_are_measured(
    tissue_mm: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seek_volume, "MEASURED", 200)
    fixed = _cut(tissue_mm, EVERY)
    pairs = _seek(fixed, fixed)
    assert 100 < len(pairs.fixed) <= 200
    assert np.ptp(pairs.fixed, axis=0).min() >= 12  # still all over the volume


def test_of_thin_slices_every_other_is_encoded(tissue_mm: NDArray[np.float32]) -> None:
    fixed, moving = (
        _cut(tissue_mm, (1.0, 0.0, 33)),
        _cut(tissue_mm, (1.0, 0.0, 33), (3.0, 2.0, -4.0)),
    )
    assert len(encoded(fixed, _encode, CPU, silent).maps.matchability) == 17
    seen: set[int] = set()

    def inside(xy: Tensor, k: int) -> Tensor:
        seen.add(k)
        return _everywhere(xy, k)

    pairs = _seek(fixed, moving, inside=inside)
    assert seen <= set(range(0, 33, 2))
    assert max(seen) == 32
    off = _off(pairs, fixed, moving, (3.0, 2.0, -4.0), STILL)
    assert len(off) > 500
    assert np.median(np.linalg.norm(off, axis=1)) < 0.3  # mm


def test_what_is_done_is_said(still: tuple[Pairs3D, list[tuple[str, float]]]) -> None:
    _, said = still
    stages = list(dict.fromkeys(stage for stage, _ in said))
    assert stages == ["seek far", "seek near", "measure"]
    shares = [share for _, share in said]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1


def test_pixels_and_millimetres_are_inverse() -> None:
    part = Slices(np.zeros((3, 4, 5), np.float32), 2.5, -7.0)
    assert_allclose(part.points(np.array([[1.0, 2.0, 3.0]])), [[0.5, 2.5, 1.5]])
    points = np.random.default_rng(1).uniform(-50, 50, (20, 3))
    assert_allclose(part.points(part.pixels(points)), points, atol=1e-12)


def test_guides_lead_where_most_of_those_nearby_went() -> None:
    fixed = np.random.default_rng(2).uniform(0, 100, (400, 3))
    move = np.where(fixed[:, :1] < 50, [10.0, 0.0, 0.0], [0.0, -5.0, 2.0])
    move[::6] += 60.0  # outliers
    guides = Guides(fixed, fixed + move)
    places = np.array([[10.0, 50.0, 50.0], [90.0, 50.0, 50.0]])
    assert_allclose(guides.moved(places), places + [[10.0, 0.0, 0.0], [0.0, -5.0, 2.0]])
    few = Guides(fixed[:11], fixed[:11] + 9.0)
    assert_allclose(few.moved(places), places)
