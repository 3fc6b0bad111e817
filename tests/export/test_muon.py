"""Muon in float32 against torch's own."""

from __future__ import annotations

import pytest
import torch

from grefine_export.mini.muon import Muon, orthogonal

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (64, 80)])
def test_singular_values_come_near_one_and_the_directions_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    found = orthogonal(matrix, COEFFICIENTS, 5, 1e-7)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.diagonal(left.T @ found @ right.T)
    assert values.min() > 0.5
    assert values.max() < 1.5
    assert torch.allclose(found, left @ torch.diag(values) @ right, atol=1e-9)


def test_updates_are_those_of_torch_but_for_its_bfloat16() -> None:
    torch.manual_seed(1)
    start = torch.randn(48, 120)
    own, other = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimisers = (
        Muon([own], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([other], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(5):
        own.grad = torch.randn(48, 120)
        other.grad = own.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    moved = (other - start).norm()
    assert moved > 1
    assert (own - other).norm() < 0.02 * moved


def test_a_state_that_was_kept_goes_on_with_the_same_updates() -> None:
    torch.manual_seed(2)
    gradients = torch.randn(4, 40, 50)
    whole, stopped = (torch.nn.Parameter(torch.ones(40, 50)) for _ in range(2))
    first, second = Muon([whole], lr=0.1), Muon([stopped], lr=0.1)
    for number, gradient in enumerate(gradients):
        if number == 2:
            kept = second.state_dict()
            second = Muon([stopped], lr=0.1)
            second.load_state_dict(kept)
        whole.grad, stopped.grad = gradient.clone(), gradient.clone()
        first.step()
        second.step()
    assert torch.equal(whole, stopped)
