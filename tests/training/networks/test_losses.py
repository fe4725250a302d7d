"""The formulas of the seed paper against small cases worked out by hand."""

import math

import pytest
import torch
from numpy.testing import assert_allclose

from training.networks.losses import ground_truth, hinge_loss, landmark_loss, matching_cross_entropy

ALL = torch.ones(1, 3, dtype=torch.bool)


def test_ground_truth_wants_mutual_nearest_within_two_pixels() -> None:
    one = torch.tensor([[[0.0, 0.0], [10.0, 0.0], [11.0, 0.0]]])
    two = torch.tensor([[[1.5, 0.0], [10.6, 0.0], [50.0, 0.0]]])
    truth = ground_truth(one, two, ALL, ALL)
    assert truth.match[0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert truth.landmark_1[0].tolist() == [1, 0, 1]
    assert truth.landmark_2[0].tolist() == [1, 1, 0]


def test_ground_truth_leaves_out_what_is_not_valid() -> None:
    points = torch.tensor([[[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]]])
    valid = torch.tensor([[True, False, True]])
    truth = ground_truth(points, points, valid, ALL)
    assert truth.landmark_1[0].tolist() == [1, 0, 1]


def test_landmark_loss_is_eq_2() -> None:
    p = torch.tensor([[0.8, 0.4]])
    want = ((1 - 0.8) + (1 - 0.4) - math.log(0.8) - math.log(1 - 0.4)) / 2
    loss = landmark_loss(p.logit(), torch.tensor([[1.0, 0.0]]))
    assert float(loss) == pytest.approx(want, abs=1e-6)


def test_hinge_loss_is_eq_3() -> None:
    half = math.sqrt(0.5)
    one = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])  # raw: the loss normalises
    two = torch.tensor([[[half, half], [0.0, 1.0]]])
    near = math.sqrt(2 - 2 * half)  # between the diagonal and either axis
    match = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    positive = (near - 0.1) / 2  # the second positive is at distance 0, inside the margin
    negative = (1 - near) / 2  # the other negative is sqrt(2) away, beyond the margin
    assert float(hinge_loss(one, two, match)) == pytest.approx(positive + negative, abs=1e-3)


def test_cross_entropy_gives_both_classes_half() -> None:
    logits = torch.tensor([[[1.0, -2.0], [-2.0, -2.0]]])
    match = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    want = 0.5 * math.log(1 + math.exp(-1)) + 0.5 * math.log(1 + math.exp(-2))
    assert float(matching_cross_entropy(logits, match)) == pytest.approx(want, abs=1e-6)


def test_no_match_at_all_gives_finite_losses_and_gradients() -> None:
    raw = torch.randn(1, 3, 8, requires_grad=True)
    match = torch.zeros(1, 3, 3)
    loss = hinge_loss(raw, raw, match) + matching_cross_entropy(raw @ raw.transpose(1, 2), match)
    loss.backward()  # type: ignore[no-untyped-call]
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


def test_gradient_pulls_positives_and_pushes_near_negatives() -> None:
    one = torch.tensor([[[1.0, 0.0]]], requires_grad=True)
    two = torch.tensor([[[0.8, 0.6]]])
    for match, sign in ((1.0, -1), (0.0, 1)):
        loss = hinge_loss(one, two, torch.full((1, 1, 1), match))
        loss.backward()  # type: ignore[no-untyped-call]
        assert one.grad is not None
        # a step against the gradient turns towards the positive, away from the negative
        assert math.copysign(1, float(one.grad[0, 0, 1])) == sign
        one.grad = None


def test_invalid_landmarks_are_negatives_for_the_descriptors_too() -> None:
    points = torch.tensor([[[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]]])
    none = torch.zeros(1, 3, dtype=torch.bool)
    assert_allclose(ground_truth(points, points, none, ALL).match, 0)
