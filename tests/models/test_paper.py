"""The paper network: dimensions, one sampling convention, landmarks."""

import pytest
import torch
from numpy.testing import assert_allclose

from landmark_dir.models.paper import (
    PaperNetwork,
    best_of_each_cell,
    describe,
    local_maxima,
    sample_maps,
)


@pytest.fixture(scope="module")
def network() -> PaperNetwork:
    torch.manual_seed(0)
    return PaperNetwork().eval()


def test_maps_have_the_paper_dimensions(network: PaperNetwork) -> None:
    with torch.no_grad():
        maps = network.encode(torch.zeros(2, 1, 64, 96))
    assert maps.logits.shape == (2, 64, 96)
    assert maps.fine.shape == (2, 128, 8, 12)
    assert maps.coarse.shape == (2, 256, 4, 6)
    assert describe(maps, torch.zeros(2, 5, 2)).shape == (2, 5, 384)


def test_folding_changes_nothing_but_speed() -> None:
    torch.manual_seed(1)
    network = PaperNetwork()
    network.encode(torch.randn(4, 1, 64, 64))  # gives the batch normalisation something to say
    network.eval()
    slices = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        before = network.encode(slices)
        after = network.fold().encode(slices)
    for one, two in zip(before, after, strict=True):
        assert_allclose(one, two, atol=1e-4)  # float32 rounding through 18 layers


def test_sampling_is_exact_on_linear_maps_at_any_stride() -> None:
    """A map of stride s averages s pixels, so a ramp is reproduced at every inner pixel."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    ramps = torch.stack([x, y])[None]
    keypoints = torch.tensor([[[20.3, 10.75], [30.0, 16.0]]])
    for stride in (1, 2, 8):
        maps = torch.nn.functional.avg_pool2d(ramps, stride)
        values = sample_maps(maps, keypoints, (32, 48))
        assert_allclose(values, keypoints, atol=1e-4)  # px, float32 rounding


def test_match_logits_equal_the_layer_on_every_product(network: PaperNetwork) -> None:
    one, two = torch.randn(3, 384), torch.randn(4, 384)
    want = torch.stack([network.match(a * two)[:, 0] for a in one])
    assert_allclose(network.match_logits(one, two).detach(), want.detach(), atol=1e-5)


def test_each_cell_gives_its_best_pixel() -> None:
    logits = torch.zeros(1, 16, 24)
    logits[0, 3, 21] = 2.0  # y, x
    keypoints, best = best_of_each_cell(logits)
    assert keypoints.shape == (1, 6, 2)
    assert keypoints[0, best[0].argmax()].tolist() == [21.0, 3.0]


def test_local_maxima_are_refined_below_the_pixel() -> None:
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    logits = 3 - 0.2 * ((x - 12.3) ** 2 + (y - 19.6) ** 2)
    ((keypoints, probability),) = local_maxima(logits[None], 0.5)
    assert_allclose(keypoints, [[12.3, 19.6]], atol=1e-4)  # px; the peak is a parabola
    assert probability[0] > 0.9


def test_a_cell_border_is_no_peak_and_an_empty_slice_has_none() -> None:
    ramp = torch.arange(32.0).expand(1, 32, 32).clone()
    assert len(local_maxima(ramp, 0.5)[0][0]) == 0
    assert len(local_maxima(torch.full((1, 32, 32), -5.0), 0.5)[0][0]) == 0
