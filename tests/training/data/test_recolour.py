"""Grey values made anew: shapes stay, and who asks for none gets none."""

import torch

from training.data.recolour import KNOTS, Colouring, draw_colourings


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_share_of_the_pairs_is_recoloured_and_half_of_those_alike() -> None:
    drawn = [draw_colourings(0.5, _rng(seed)) for seed in range(400)]
    asked = [pair for pair in drawn if any(pair)]
    assert 0.4 < len(asked) / len(drawn) < 0.6
    same = sum(one is two for one, two in asked)
    plain = sum(one is None or two is None for one, two in asked)
    assert 0.4 < same / len(asked) < 0.6
    assert 0.15 < plain / len(asked) < 0.35


def test_nothing_is_drawn_where_nothing_is_asked_for() -> None:
    rng, untouched = _rng(3), _rng(3)
    assert draw_colourings(0.0, rng) == (None, None)
    assert torch.equal(torch.rand(4, generator=rng), torch.rand(4, generator=untouched))


def test_a_falling_curve_inverts_and_keeps_edges() -> None:
    image = torch.full((1, 64, 64), -0.2)
    image[:, 16:48, 16:48] = 0.4
    made = Colouring(torch.linspace(1, -1, KNOTS)).apply(image, _rng(1))
    assert made.abs().max() <= 1
    assert made[0, 20:44, 20:44].mean() < made[0, :12].mean() - 0.2
    step = (made[0, :, 1:] - made[0, :, :-1])[20:44].mean(0).abs()
    assert set(step.topk(2).indices.tolist()) == {15, 47}


def test_both_images_of_one_curve_differ_in_bias_and_texture() -> None:
    curve = Colouring(torch.linspace(-1, 1, KNOTS))
    image, rng = torch.zeros(1, 64, 64), _rng()
    assert not torch.equal(curve.apply(image, rng), curve.apply(image, rng))
