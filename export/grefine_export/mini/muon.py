"""Muon in float32: torch's own makes its updates orthogonal in bfloat16, which a CPU may do much slower."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """`matrix` (m, n) with its singular values brought near 1 by the quintic Newton-Schulz iteration (Jordan 2024)."""
    a, b, c = coefficients
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    found = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found if wide is matrix else found.T


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with updates scaled as AdamW's are (Liu et al. 2502.16982), all in the matrices' precision.

    On a CPU with AVX-512 but without AMX an update of the inpainting UNet takes 0.17 s instead of 0.33 s.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Updates every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in (matrix for matrix in group["params"] if matrix.grad is not None):
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                average = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(
                    matrix.grad.lerp(average, group["momentum"]),
                    group["ns_coefficients"],
                    group["ns_steps"],
                    group["eps"],
                )
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-0.2 * math.sqrt(max(matrix.shape)) * group["lr"])
