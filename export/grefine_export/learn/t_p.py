"""Learning T_p (G-Refine 3.1, Eq. 2): four pairs of prompt contexts, the encoders frozen.

A pair's prompt is `[bos] ctx*8 class*3 ctx*8 [eot]`: 16 learned vectors around a class word of 3 tokens, the
layout of the published contexts, with the feature read at position 20.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine_export.models.clip_prompts import CLASS_TOKENS, CONTEXT, POSITION, PUBLISHED_ALPHA
from grefine_export.models.clip_surgery import ClipSurgery
from grefine_export.models.perceptual import pair_probabilities


class PromptContexts(nn.Module):
    """`ctx` (4, 2, 16, w), learned; `class_ids` are the 3 tokens of the class word."""

    def __init__(self, encoder: ClipSurgery, class_ids: Sequence[int], bos: int, eot: int):
        super().__init__()
        if len(class_ids) != CLASS_TOKENS:
            raise ValueError(f"the class word must have {CLASS_TOKENS} tokens, it has {len(class_ids)}")
        self.encoder = encoder.requires_grad_(False)
        with torch.no_grad():
            fixed = encoder.embed_text(torch.tensor([[bos, *class_ids, eot]]))[0]
        self.register_buffer("fixed", fixed)
        self.ctx = nn.Parameter(fixed.std() * torch.randn(4, 2, CONTEXT, fixed.shape[-1]))

    def forward(self) -> Tensor:
        """T_p (4, 2, d), projected, not normalised."""
        ctx = self.ctx.flatten(0, 1)
        half = CONTEXT // 2
        parts = [self.fixed[:1], ctx[:, :half], self.fixed[1:-1], ctx[:, half:], self.fixed[-1:]]
        prompts = torch.cat([part.expand(len(ctx), *part.shape[-2:]) for part in parts], 1)
        states = self.encoder.text_states(prompts)
        return self.encoder.clip.text_projection(states[:, POSITION]).unflatten(0, (4, 2))


@dataclass(frozen=True)
class Rated:
    """Training pictures: `tokens` (k, 1+N, d) L2-normalised; `mos` (k,) in 0..1; `factors` (k, 3) in 0..1, and
    `sound` (k, N, 4) with `weight` of the same shape, the pixel truth of overall and factors, where there is one.
    """

    tokens: Tensor
    mos: Tensor
    factors: Tensor
    sound: Tensor | None = None
    weight: Tensor | None = None


def score(pairs: Tensor, alpha: Tensor) -> Tensor:
    """Eq. 3 on (..., 4): L[0] * prod min(L[i] / alpha[i], 1)."""
    return pairs[..., 0] * (pairs[..., 1:] / alpha).clamp(max=1).prod(-1)


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Linear correlation coefficient of two vectors."""
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-8)


def learn(
    contexts: PromptContexts,
    rated: Rated,
    epochs: int = 50,
    batch: int = 128,
    rate: float = 2e-3,
    rank_weight: float = 0.3,
    map_weight: float = 1.0,
) -> dict[str, float]:
    """Fits the contexts with Adam; returns the last epoch's mean terms.

    Loss: squared error of p and of each factor against the opinion scores, plus `rank_weight` (1 - PLCC), plus,
    where there is pixel truth, `map_weight` times the cross entropy of patch tokens against it.
    """
    alpha = torch.tensor(PUBLISHED_ALPHA)
    scale = contexts.encoder.scale.detach()
    optimiser = torch.optim.Adam([contexts.ctx], lr=rate)
    steps = epochs * max(1, len(rated.mos) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    terms: dict[str, float] = {}
    generator = torch.Generator().manual_seed(4)
    for _ in range(steps):
        rows = torch.randint(len(rated.mos), (batch,), generator=generator)
        pairs = pair_probabilities(rated.tokens[rows], contexts(), scale)
        p = score(pairs[:, 0], alpha)
        error = F.mse_loss(p, rated.mos[rows])
        factors = F.mse_loss(pairs[:, 0, 1:], rated.factors[rows]) + F.mse_loss(
            pairs[:, 0, 0], rated.mos[rows]
        )
        rank = 1 - pearson(p, rated.mos[rows])
        loss = 4 * error + 2 * factors + rank_weight * rank
        places = torch.zeros(())
        if rated.sound is not None and rated.weight is not None:
            raw = F.binary_cross_entropy(
                pairs[:, 1:].clamp(1e-5, 1 - 1e-5), rated.sound[rows], reduction="none"
            )
            bad = (1 - rated.sound[rows]) * rated.weight[rows]
            good = rated.sound[rows] * rated.weight[rows]
            places = (raw * bad).sum() / bad.sum().clamp_min(1) + (raw * good).sum() / good.sum().clamp_min(1)
            loss = loss + map_weight * 0.2 * places
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        terms = {
            "mse": float(error.detach()),
            "plcc": 1 - float(rank.detach()),
            "map": float(places.detach()),
        }
    return terms


@torch.no_grad()
def fit_alpha(rated: Rated, t_p: Tensor, scale: Tensor, quantile: float = 0.05) -> tuple[float, float, float]:
    """alpha of Eq. 3: for each factor the `quantile` of L_raw over all tokens of the pictures without a defect,
    so that sound places are not penalised."""
    sound = rated.tokens[rated.mos > 0.999]
    pairs = pair_probabilities(sound, t_p, scale).flatten(0, 1)
    # `quantile` refuses long tensors: a regular share of the tokens will do.
    values = torch.quantile(pairs[:: max(1, len(pairs) // 100_000), 1:].float(), quantile, dim=0)
    return tuple(float(v) for v in values)  # type: ignore[return-value]
