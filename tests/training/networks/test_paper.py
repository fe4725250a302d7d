"""The sampling layer of the seed paper's training step."""

import torch

from training.networks.paper import sample_landmarks


def _map() -> torch.Tensor:
    """Two peaks in one 8 x 8 cell, and a weaker one in another."""
    logits = torch.full((1, 16, 24), -5.0)
    logits[0, 2, 3], logits[0, 2, 5], logits[0, 9, 20] = 4.0, 3.0, 1.0
    return logits


def test_cells_give_one_landmark_each_best_cells_first() -> None:
    keypoints, logit = sample_landmarks(_map(), 2)
    assert keypoints[0].tolist() == [[3.0, 2.0], [20.0, 9.0]]
    assert logit[0].tolist() == [4.0, 1.0]


def test_without_cells_the_best_pixels_cluster() -> None:
    keypoints, logit = sample_landmarks(_map(), 2, cells=False)
    assert keypoints[0].tolist() == [[3.0, 2.0], [5.0, 2.0]]
    assert logit[0].tolist() == [4.0, 3.0]


def test_fewer_cells_than_k_give_all_cells() -> None:
    assert sample_landmarks(_map(), 400)[0].shape == (1, 6, 2)


def test_the_gradient_reaches_the_sampled_pixels_only() -> None:
    logits = _map().requires_grad_()
    sample_landmarks(logits, 2)[1].sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.nonzero()[:, 1:].tolist() == [[2, 3], [9, 20]]
