"""Least-squares matching: known places come out below the pixel, whatever the grey values do."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d, map_coordinates
from torch import Tensor

from landmark_dir.matching.patch_alignment import LEVELS, LEVELS_3D, align, blur, sample
from landmark_dir.models.device import torch_threads

SHAPE, SHAPE_3D = (110, 130), (14, 80, 90)
STILL_2D = torch.eye(2).expand(1, -1, -1)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


def _texture(size: int) -> Callable[[Tensor], Tensor]:
    """A smooth function of places [..., D] mm: waves of 10 to 40 mm, twice that in 3D."""
    rng = torch.Generator().manual_seed(size)
    direction = torch.nn.functional.normalize(torch.randn(30, size, generator=rng), dim=1)
    waves = direction * 2 * torch.pi / ((size - 1) * (10 + 30 * torch.rand(30, 1, generator=rng)))
    phase = 6.3 * torch.rand(30, generator=rng)
    return lambda at: 0.1 * torch.sin(at @ waves.T + phase).sum(-1)


def _image(shape: tuple[int, ...], value: Callable[[Tensor], Tensor]) -> Tensor:
    """`value` at the pixels (x, y (, z)) of an image of shape [(z,) y, x]."""
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij")
    return value(torch.stack(axes[::-1], -1))


def _points(shape: tuple[int, ...], edge: int, count: int = 150) -> Tensor:
    rng = torch.Generator().manual_seed(3)
    size = torch.tensor(shape[::-1], dtype=torch.float32)
    low = torch.tensor([edge, edge, 2][: len(shape)])
    return low + torch.rand(count, len(shape), generator=rng) * (size - 1 - 2 * low)


def _near(truth: Tensor, off: float) -> Tensor:
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(4))
    return truth + off * torch.nn.functional.normalize(noise, dim=1)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (1.7, -0.4), (0.6, 0.5)])
@pytest.mark.parametrize(
    "matrix",
    [
        pytest.param([[1.0, 0.0], [0.0, 1.0]], id="shift"),
        pytest.param([[1.05, -0.25], [0.2, 0.9]], id="affine"),
    ],
)
def test_known_places_of_a_slice_come_out(
    matrix: list[list[float]], gain: float, offset: float
) -> None:
    bend, shift = torch.tensor(matrix), torch.tensor([3.4, -2.7])
    texture, back = _texture(2), torch.linalg.inv(torch.tensor(matrix))
    one = _image(SHAPE, texture)
    two = _image(SHAPE, lambda at: gain * texture((at - shift) @ back.T) + offset)
    points = _points(SHAPE, 25)
    truth = points @ bend.T + shift
    count = len(points)
    motion = bend.expand(count, -1, -1)
    found, correlation = align(one, two, points, _near(truth, 2.0), motion, torch.ones(2))
    inside = ((truth > 12) & (truth < torch.tensor([117.0, 97.0]))).all(1)
    assert inside.sum() > 80
    assert (found - truth)[inside].norm(dim=1).max() < 0.05  # px
    assert correlation[inside].min() > 0.99


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (1.7, -0.4)])
def test_known_places_of_a_volume_come_out_though_the_slices_are_apart_otherwise(
    gain: float, offset: float
) -> None:
    spacing_1, spacing_2 = torch.tensor([1.0, 1.0, 3.0]), torch.tensor([1.0, 1.0, 2.0])
    bend = torch.tensor([[1.03, -0.1, 0.05], [0.1, 0.97, 0.0], [0.0, 0.04, 1.05]])  # mm per mm
    shift_mm, back = torch.tensor([2.3, -1.6, 1.7]), torch.linalg.inv(bend)
    texture = _texture(3)
    one = _image(SHAPE_3D, lambda at: texture(at * spacing_1))
    two = _image(
        (24, *SHAPE_3D[1:]),
        lambda at: gain * texture((at * spacing_2 - shift_mm) @ back.T) + offset,
    )
    points = _points(SHAPE_3D, 18)
    truth = ((points * spacing_1) @ bend.T + shift_mm) / spacing_2
    low, high = torch.tensor([12.0, 12.0, 2.0]), torch.tensor([77.0, 67.0, 21.0])
    inside = ((truth > low) & (truth < high)).all(1)
    points, truth = points[inside], truth[inside]
    assert len(points) > 60
    motion = (bend * spacing_1 / spacing_2[:, None]).expand(len(points), -1, -1)
    start = _near(truth, 1.0)
    found, correlation = align(one, two, points, start, motion, spacing_1, LEVELS_3D)
    off = (found - truth).abs()
    assert off.median(0).values.max() < 0.05  # px and slices
    assert off[:, 2].quantile(0.95) < 0.1  # slices
    assert off[:, :2].quantile(0.95) < 0.15  # px; between slices of 3 mm values are only linear
    assert correlation.min() > 0.98


def test_flat_patches_stay_where_they_are() -> None:
    points = _points(SHAPE, 20)
    motion = STILL_2D.expand(len(points), -1, -1)
    rng = torch.Generator().manual_seed(5)
    one, two = (0.3 + 1e-4 * torch.randn(SHAPE, generator=rng) for _ in "12")
    for flat, other in ((torch.full(SHAPE, 0.3), _image(SHAPE, _texture(2))), (one, two)):
        found, correlation = align(flat, other, points, points + 0.7, motion, torch.ones(2))
        assert (found - points - 0.7).abs().max() < 0.02  # px
        assert correlation.abs().max() <= 1 + 1e-5


def test_correlation_tells_what_does_not_correspond() -> None:
    one, two = _image(SHAPE, _texture(2)), _image(SHAPE, lambda at: _texture(2)(at + 500.0))
    points = _points(SHAPE, 20)
    motion = STILL_2D.expand(len(points), -1, -1)
    unlike, like = (
        align(one, other, points, points, motion, torch.ones(2))[1] for other in (two, one)
    )
    assert like.min() > 0.999
    assert unlike.quantile(0.9) < 0.9


def test_no_step_is_longer_than_it_may() -> None:
    one, two = _image(SHAPE, _texture(2)), _image(SHAPE, lambda at: _texture(2)(at + 500.0))
    points = _points(SHAPE, 0)
    motion = STILL_2D.expand(len(points), -1, -1)
    found, _ = align(one, two, points, points, motion, torch.ones(2))
    steps = sum(level.iterations for level in LEVELS)
    assert torch.isfinite(found).all()
    assert (found - points).norm(dim=1).max() <= 1.5 * steps + 1e-3  # px of 1 mm


def test_no_points_give_no_points() -> None:
    image = _image(SHAPE, _texture(2))
    none, motion = torch.zeros(0, 2), torch.zeros(0, 2, 2)
    found, correlation = align(image, image, none, none, motion, torch.ones(2))
    assert found.shape == (0, 2)
    assert correlation.shape == (0,)


@pytest.mark.parametrize("shape", [(40, 33), (3, 20, 37)])
@pytest.mark.parametrize("sigma", [0.6, 1.5])
def test_blur_is_a_gaussian_whose_edges_go_on(shape: tuple[int, ...], sigma: float) -> None:
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    radius = max(1, round(2.5 * sigma))
    want = image
    for axis in (-1, -2):
        want = gaussian_filter1d(want, sigma, axis, mode="nearest", radius=radius)
    got = blur(torch.from_numpy(image), sigma)
    torch.testing.assert_close(got, torch.from_numpy(want), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(20, 31), (7, 20, 31), (1, 20, 31), (2, 20, 31)])
def test_sampling_is_linear_and_edges_go_on(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(size=shape).astype(np.float32)
    size = np.array(shape[::-1])
    points = rng.uniform(-2, size + 1, (50, 6, len(shape))).astype(np.float32)
    points[0], points[1] = 0, size - 1  # the corners themselves
    (got,) = sample(torch.from_numpy(image)[None], torch.from_numpy(points))
    at = np.moveaxis(points[..., ::-1], -1, 0)
    want = map_coordinates(image, at, order=1, mode="nearest")
    torch.testing.assert_close(got, torch.from_numpy(want), atol=1e-4, rtol=0)  # float32 places
