"""What changes between two examinations, and what image 2 of a training pair shows."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from training.data import changes
from training.data.augment import AugmentOptions
from training.data.changes import AIR_HU, add_gas, blur, change, change_agent, change_kernel, noise
from training.data.dataset import make_pairs, to_network
from training.data.pack import Slice

CPU = torch.device("cpu")
SHAPE = (160, 160)
# nothing but what a test asks for
STILL = AugmentOptions(0, 0, 1, 0, combine=True, brightness=0, contrast=0, noise_hu=0)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _tissue() -> tuple[Tensor, Tensor]:
    """Soft tissue 160 px wide, the left 110 columns of it body."""
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="ij")
    body = torch.zeros(SHAPE, dtype=torch.bool)
    body[10:150, :110] = True
    return 50 + 20 * torch.sin(x / 9) + 20 * torch.cos(y / 11), body


def _series(levels: list[float], name: str = "s") -> list[Slice]:
    """Slices whose HU tells where they lie: 10 HU a mm."""
    body = torch.ones(SHAPE, dtype=torch.bool)
    return [
        Slice(torch.full(SHAPE, round(10 * z), dtype=torch.int16), body, "p", name, z)
        for z in levels
    ]


def test_blur_is_a_gaussian() -> None:
    image = torch.randn(40, 50, generator=_rng())
    want = gaussian_filter(image.numpy(), 1.3, mode="nearest", radius=4)
    torch.testing.assert_close(blur(image, 1.3), torch.from_numpy(want), atol=1e-5, rtol=0)


def test_agent_changes_vessels_more_than_muscle_and_fat_and_bone_never() -> None:
    hu = torch.tensor([-100.0, 40.0, 110.0, 600.0]).repeat_interleave(60)[None].repeat(200, 1)
    body = torch.ones_like(hu, dtype=torch.bool)
    body[:20] = False
    found = []
    for seed in range(20):
        added = change_agent(hu, body, _rng(seed)) - hu
        assert not added[:20].any()  # outside the body
        fat, muscle, vessel, bone = (added[40:, k + 20 : k + 40].mean() for k in (0, 60, 120, 180))
        assert fat == 0
        assert abs(bone) < 1e-3
        assert 0 < abs(muscle) < abs(vessel) / 2
        assert vessel.abs() <= 160
        found.append(float(vessel))
    assert min(found) < -10 < 20 < max(found)  # less agent than before, or more


def test_gas_lies_in_soft_tissue_of_the_body() -> None:
    hu, body = _tissue()
    for seed in range(10):
        gas = add_gas(hu, body, _rng(seed))
        new = gas < -500
        assert 10 < new.sum() < 4 * np.pi * 15.5**2  # px, at most four pockets
        assert gas.min() >= -900 - 1e-3
        reached = blur(body.float(), 8.0) > 1e-4  # a pocket may reach beyond the skin
        assert torch.equal(gas[~reached], hu[~reached])


def test_fluid_lies_below_gas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "GAS_POCKETS", 1)
    hu, body = torch.full(SHAPE, 60.0), torch.ones(SHAPE, dtype=torch.bool)
    levels = 0
    for seed in range(40):
        made = add_gas(hu, body, _rng(seed))
        fluid, gas = (part.nonzero()[:, 0].float() for part in ((made - 15).abs() < 1, made < -800))
        if len(fluid) > 10 and len(gas) > 10:
            levels += 1
            assert fluid.quantile(0.1) > gas.max() - 1  # px; y runs to the back, where it sinks
    assert 5 < levels < 35  # some have no fluid


def test_no_gas_where_there_is_no_soft_tissue() -> None:
    hu, body = _tissue()
    assert torch.equal(add_gas(hu - 500, body, _rng()), hu - 500)
    assert torch.equal(add_gas(hu, torch.zeros_like(body), _rng()), hu)


def test_kernels_are_softer_or_sharper() -> None:
    hu = 50 + 20 * torch.randn(SHAPE, generator=_rng())
    rough = [float((change_kernel(hu, _rng(seed)) - 50).std()) for seed in range(20)]
    assert min(rough) < 15
    assert max(rough) > 24
    flat = torch.full(SHAPE, 40.0)
    torch.testing.assert_close(change_kernel(flat, _rng()), flat)


@pytest.mark.parametrize("grainy", [False, True])
def test_noise_has_a_deviation_of_one_and_its_grain(grainy: bool) -> None:
    made = noise(SHAPE, grainy, _rng())
    assert float(made.std()) == pytest.approx(1, abs=0.02)
    beside = float((made[:, 1:] * made[:, :-1]).mean())
    assert (beside > 0.3) == grainy


def test_changes_happen_as_often_as_they_should() -> None:
    hu, body = _tissue()
    assert torch.equal(change(hu, body, 0.0, _rng()), hu)
    bare = [bool((change(hu, body, 0.3, _rng(s))[155:] == AIR_HU).all()) for s in range(200)]
    assert 0.15 < np.mean(bare) < 0.45  # nothing but air around the body
    all_four = change(hu, body, 1.0, _rng())
    assert (all_four[:, 130:] + 1000).abs().max() < 5
    assert (all_four < -500)[20:140, :100].any()
    assert (all_four - hu)[20:140, :100].abs().median() > 1


def test_the_same_seed_gives_the_same_changes() -> None:
    hu, body = _tissue()
    assert torch.equal(change(hu, body, 1.0, _rng(5)), change(hu, body, 1.0, _rng(5)))
    assert not torch.equal(change(hu, body, 1.0, _rng(5)), change(hu, body, 1.0, _rng(6)))


def _shown_mm(image: Tensor) -> float:
    """Which level of `_series` an image in network units shows."""
    levels = torch.arange(-20.0, 21.0, 0.25)
    return float(levels[(to_network(10 * levels) - image.mean()).abs().argmin()])


def test_a_neighbour_is_shown_and_never_one_too_far() -> None:
    slices = _series([-9.0, -4.0, -2.0, 0.0, 2.0, 4.0, 9.0])
    options = dataclasses.replace(STILL, neighbour_share=1.0, neighbour_mm=4.1)
    made = make_pairs(slices, range(40), (32, 32), options, CPU)
    for source, one, two in zip(made.sources, made.images_1, made.images_2, strict=True):
        assert _shown_mm(one) == source.z_mm
        apart = abs(_shown_mm(two) - source.z_mm)
        alone = abs(source.z_mm) == 9
        assert apart == 0 if alone else apart in (2, 4)


def test_neighbours_are_of_the_same_series() -> None:
    slices = [
        part
        for pair in zip(_series([0.0, 2.0, 4.0]), _series([0.5, 2.5, 4.5], "t"), strict=True)
        for part in pair
    ]
    options = dataclasses.replace(STILL, neighbour_share=1.0)
    made = make_pairs(slices, range(30), (32, 32), options, CPU)
    for source, two in zip(made.sources, made.images_2, strict=True):
        assert (_shown_mm(two) % 1 == 0) == (source.series == "s")


def test_a_thick_slice_is_the_mean_of_all_slices_up_to_one() -> None:
    slices = _series([0.0, 2.0, 4.0, 6.0, 20.0])
    options = dataclasses.replace(
        STILL, neighbour_share=1.0, thicker_share=1.0, neighbour_mm=1.0, thick_mm=6.5
    )
    made = make_pairs(slices, range(40), (32, 32), options, CPU)
    places = {
        (one.z_mm, _shown_mm(two)) for one, two in zip(made.sources, made.images_2, strict=True)
    }
    assert {(0.0, 1.0), (0.0, 2.0), (0.0, 3.0), (6.0, 3.0), (4.0, 5.0)} <= places
    assert {two for one, two in places if one == 20.0} == {20.0}  # no neighbour: the slice itself


def test_a_thicker_slice_is_the_mean_of_two() -> None:
    slices = _series([0.0, 4.0])
    options = dataclasses.replace(STILL, neighbour_share=1.0, thicker_share=1.0)
    made = make_pairs(slices, range(6), (32, 32), options, CPU)
    assert [_shown_mm(two) for two in made.images_2] == [2.0] * 6
    assert {_shown_mm(one) for one in made.images_1} == {0.0, 4.0}


def test_a_share_of_the_pairs_sees_a_neighbour() -> None:
    slices = _series([0.0, 4.0])
    for share in (0.0, 0.5, 1.0):
        options = dataclasses.replace(STILL, neighbour_share=share)
        made = make_pairs(slices, range(60), (32, 32), options, CPU)
        shown = [_shown_mm(two) for two in made.images_2]
        other = np.mean([mm != part.z_mm for mm, part in zip(shown, made.sources, strict=True)])
        assert other == share if share in (0, 1) else 0.3 < other < 0.7


def test_both_images_change_and_each_in_its_own_way() -> None:
    hu, body = _tissue()
    slices = [Slice(hu.to(torch.int16), body, "p", "s", 0.0)]
    plain = make_pairs(slices, range(4), SHAPE, STILL, CPU)
    made = make_pairs(slices, range(4), SHAPE, dataclasses.replace(STILL, changes=1.0), CPU)
    assert torch.equal(plain.images_1, plain.images_2)
    for one, other in (
        (made.images_1, plain.images_1),
        (made.images_2, plain.images_2),
        (made.images_1, made.images_2),
    ):
        assert ((one - other).abs().mean((1, 2, 3)) > 0.01).all()


def test_a_pair_with_changes_depends_on_its_own_seed_only() -> None:
    hu, body = _tissue()
    slices = [Slice((hu + 20 * k).to(torch.int16), body, "p", "s", 2.0 * k) for k in range(5)]
    options = AugmentOptions(
        combine=True, neighbour_share=0.5, thicker_share=0.5, changes=0.5, noise_hu=30
    )
    many = make_pairs(slices, [5, 6, 7], (64, 64), options, CPU)
    for row, seed in ((1, 6), (2, 7)):
        one = make_pairs(slices, [seed], (64, 64), options, CPU)
        assert torch.equal(many.images_1[row], one.images_1[0])
        assert torch.equal(many.images_2[row], one.images_2[0])
