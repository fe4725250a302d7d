"""Random transformations: exact both ways, and the images follow the points."""

import pytest
import torch
from numpy.testing import assert_allclose

from landmark_dir.preprocessing.intensity import CT
from training.data.augment import AugmentOptions, random_warp, sample_slice, stack_warps
from training.data.dataset import PairBatch, make_pairs, to_network
from training.data.pack import Slice

SHAPE = (96, 80)
WILD = AugmentOptions(combine=True)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _blobs(size: int = 200) -> Slice:
    """A smooth slice whose HU is a known function of place."""
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    hu = 100 * torch.sin(x / 9) + 100 * torch.cos(y / 11)
    return Slice(
        hu.round().to(torch.int16), torch.ones(size, size, dtype=torch.bool), "made", "made", 0.0
    )


def test_warp_and_its_inverse_agree() -> None:
    warp = random_warp(torch.full((3, 2), 100.0), SHAPE, WILD, _rng())
    points = torch.rand(3, 50, 2) * 79
    back = warp.from_source(warp.to_source(points))
    assert (warp.to_source(points) - points).abs().max() > 3
    assert_allclose(back, points, atol=2e-3)  # px, float32 fixed-point iteration


def test_dense_grid_equals_the_points() -> None:
    warp = random_warp(torch.full((2, 2), 100.0), SHAPE, WILD, _rng(1))
    grid = warp.grid_to_source(SHAPE).view(2, *SHAPE, 2)
    points = torch.tensor([[[5.0, 7.0], [79.0, 95.0]]]).expand(2, -1, -1)
    want = torch.stack([grid[:, 7, 5], grid[:, 95, 79]], 1)
    assert_allclose(warp.to_source(points), want, atol=1e-3)  # px, float32


def test_images_agree_at_corresponding_points() -> None:
    options = AugmentOptions(combine=True, brightness=0, contrast=0, noise_hu=0)
    pairs: PairBatch = make_pairs([_blobs()], [2, 3], SHAPE, options, torch.device("cpu"))
    points_2 = 20 + torch.rand(2, 40, 2) * 40
    points_1 = pairs.project_2_to_1(points_2)
    assert (points_1 - points_2).norm(dim=-1).max() > 3
    inside = pairs.in_view(points_1, pairs.warp_1, 0)
    for b in range(2):
        one = sample_slice(pairs.images_1[b, 0], points_1[b])
        two = sample_slice(pairs.images_2[b, 0], points_2[b])
        # network units; two linear interpolations of a smooth image
        assert_allclose(one[inside[b]], two[inside[b]], atol=0.02)


def test_one_kind_at_a_time_moves_less_than_all() -> None:
    centre = torch.full((200, 2), 100.0)
    one, all_kinds = (
        random_warp(centre, SHAPE, AugmentOptions(combine=c), _rng(3)) for c in (False, True)
    )
    still = (one.matrix - torch.eye(2)).abs().amax((1, 2)) == 0
    elastic = one.bump_height.abs().amax((1, 2)) > 0
    assert (still | ~elastic).all()
    assert not ((all_kinds.matrix - torch.eye(2)).abs().amax((1, 2)) == 0).any()


def test_the_same_seed_gives_the_same_pairs() -> None:
    made = [make_pairs([_blobs()], [5, 6], SHAPE, WILD, torch.device("cpu")) for _ in range(2)]
    assert torch.equal(made[0].images_2, made[1].images_2)


def test_valid_mask_leaves_out_air_and_view_the_border() -> None:
    part = _blobs()
    part.body[:, 100:] = False
    still = AugmentOptions(rotation_deg=0, shear=0, scale=1, elastic_px=0)
    pairs = make_pairs([part], [0], (200, 200), still, torch.device("cpu"))
    points = torch.tensor([[[50.0, 50.0], [150.0, 50.0], [3.0, 50.0]]])
    assert pairs.in_body(points, pairs.warp_1)[0].tolist() == [True, False, True]
    assert pairs.in_view(points, pairs.warp_1, border_px=8)[0].tolist() == [True, True, False]


def test_network_units_agree_with_the_package() -> None:
    hu = torch.linspace(-2000, 3000, 101)
    assert_allclose(to_network(hu), CT.to_network(hu.numpy()), atol=1e-5)


def test_stacked_warps_are_the_warps() -> None:
    warps = [random_warp(torch.full((2, 2), 100.0), SHAPE, WILD, _rng(seed)) for seed in (1, 2)]
    points = torch.rand(4, 10, 2) * 79
    want = torch.cat([warps[0].to_source(points[:2]), warps[1].to_source(points[2:])])
    assert_allclose(stack_warps(warps).to_source(points), want, atol=1e-4)  # px, float32


@pytest.mark.parametrize("options", [AugmentOptions(), WILD])
def test_warps_never_fold(options: AugmentOptions) -> None:
    warp = random_warp(torch.full((16, 2), 100.0), (192, 192), options, _rng(7))
    grid = warp.grid_to_source((192, 192)).view(16, 192, 192, 2)
    dx, dy = grid.diff(dim=2)[:, :-1], grid.diff(dim=1)[:, :, :-1]
    assert (dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]).min() > 0
