"""The `default` network: shapes, windows, folding, scores."""

import pytest
import torch

from landmark_dir.models.default import EVIDENCE, SeekNetwork, scores
from landmark_dir.preprocessing.intensity import CT


@pytest.fixture
def network() -> SeekNetwork:
    torch.manual_seed(0)
    made = SeekNetwork()
    made.train()
    with torch.no_grad():
        made.encode(torch.randn(4, 1, 64, 64))  # gives batch normalisation something to know
    return made.eval()


def test_maps_lie_at_stride_4_and_descriptors_have_unit_length(network: SeekNetwork) -> None:
    maps = network.encode(torch.randn(2, 1, 64, 96))
    assert maps.descriptors.shape == (2, 64, 16, 24)
    assert maps.matchability.shape == (2, 16, 24)
    length = maps.descriptors.norm(dim=1)
    torch.testing.assert_close(length, torch.ones_like(length))


def test_a_slice_moved_by_its_stride_has_its_maps_moved(network: SeekNetwork) -> None:
    image = torch.randn(1, 1, 256, 32)
    moved = image.roll(network.stride, 2)
    with torch.inference_mode():
        one, two = (network.encode(part).descriptors for part in (image, moved))
    rows = network.stride // 4
    inner = slice(24, 40)  # rows of the map that see neither edge
    torch.testing.assert_close(two[:, :, rows:][:, :, inner], one[:, :, inner], atol=1e-4, rtol=0)
    assert (two - one)[:, :, inner].abs().max() > 0.05


def test_windows_are_those_in_hu(network: SeekNetwork) -> None:
    for channel, (low, high) in enumerate(CT.windows):
        hu = torch.tensor([low - 50, low, high, high + 50])
        seen = network.windows(torch.from_numpy(CT.to_network(hu.numpy()))[None, None, None])
        torch.testing.assert_close(seen[0, channel, 0], torch.tensor([-1.0, -1.0, 1.0, 1.0]))


def test_folding_changes_nothing(network: SeekNetwork) -> None:
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        want = network.encode(image)
        got = network.fold().encode(image)
    for one, two in zip(want, got, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=0)  # float32 rounding
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


def test_scores_are_a_logistic_regression() -> None:
    calibration = torch.tensor([1.0, 2.0, 0.0, 0.0, -1.0, 0.0, 0.0])
    evidence = torch.zeros(3, EVIDENCE)
    evidence[1, 0], evidence[2, 3] = 1.0, 1.0
    want = torch.tensor([1.0, 3.0, 0.0]).sigmoid()
    torch.testing.assert_close(scores(calibration, evidence), want)
    assert scores(calibration, evidence[:0]).shape == (0,)


def test_calibration_is_kept_with_the_weights_and_bounds_are_not(network: SeekNetwork) -> None:
    kept = network.state_dict()
    assert kept["calibration"].shape == (2, EVIDENCE + 1)  # of slices, of volumes
    assert "bounds" not in kept
