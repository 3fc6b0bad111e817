"""T_p from a rated database and a real CLIP: tokens once, opinions in 0..1, contexts in the published layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from grefine_export.checkpoints import read_tensors
from grefine_export.learn.epochs import Pictures, Say
from grefine_export.learn.t_p import PromptContexts, Rated, fit_alpha, learn
from grefine_export.models.clip_prompts import CONTEXT, CONTEXT_FILES
from grefine_export.models.clip_surgery import ClipEncoder

ENDS = 0.05  # share of the pictures at either end whose opinions count as 0 and as 1
SUFFIX = 60  # token embeddings behind the context in a published file: class word, end, padding
BATCH = 32
SOUND = 16 * BATCH  # pictures whose patches fit alpha, at most


def normalised(opinions: NDArray[np.floating], ends: float = ENDS) -> NDArray[np.float32]:
    """Opinions (k,) as 0..1: the worst share `ends` are 0 and the best 1, the others in between in proportion.

    Raises ValueError when they are all the same.
    """
    low, high = np.quantile(opinions, [ends, 1 - ends])
    if not high > low:
        raise ValueError("the opinion scores are all the same: is this the whole database?")
    return np.clip((opinions - low) / (high - low), 0, 1).astype(np.float32)


@torch.no_grad()
def encode(
    encoder: ClipEncoder, paths: Sequence[Path], resolution: int, workers: int, device: torch.device, say: Say
) -> tuple[Tensor, Tensor]:
    """Class tokens (k, 1, d) of all pictures, and all tokens (m, 1 + N, d) of the first m <= `SOUND`, L2-normalised.

    A database's patch tokens would fill gigabytes, and only alpha needs some: give the best pictures first.
    """
    encoder.to(device).eval()
    first, every = [], []
    for number, (images, _) in enumerate(
        DataLoader(Pictures(paths, resolution), BATCH, num_workers=workers), 1
    ):
        tokens = F.normalize(encoder.image_tokens(images.to(device)), dim=-1).cpu()
        first.append(tokens[:, :1])
        if number * BATCH <= SOUND:
            every.append(tokens)
        if number % 20 == 0 or number * BATCH >= len(paths):
            say(f"{min(number * BATCH, len(paths))} of {len(paths)} pictures encoded")
    encoder.cpu()
    return torch.cat(first), torch.cat(every)


def learn_contexts(
    contexts: PromptContexts,
    class_tokens: Tensor,
    sound: Tensor,
    opinions: NDArray[np.float32],
    epochs: int = 50,
) -> tuple[dict[str, float], tuple[float, float, float]]:
    """Fits the contexts to opinions (k,) in 0..1 and alpha to the tokens of `sound` pictures, the ones rated best.

    A database has one opinion on quality, so every pair learns it; the factors differ by their starting texts. Returns
    the last terms of the loss, and alpha.
    """
    mos = torch.from_numpy(opinions)
    terms = learn(contexts, Rated(class_tokens, mos, mos[:, None].expand(-1, 3)), epochs)
    with torch.no_grad():
        t_p = contexts()
    ones = torch.ones(len(sound))
    return terms, fit_alpha(Rated(sound, ones, ones[:, None].expand(-1, 3)), t_p, contexts.encoder.scale)


def save_contexts(contexts: PromptContexts, folder: Path) -> None:
    """Write the four files of the published layout, which `grefine-export clip --contexts` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    bos, end = contexts.fixed[:1], contexts.fixed[-1:]
    word = contexts.fixed[1:-1]
    padding = contexts.encoder.embed_text(torch.zeros(1, 1, dtype=torch.long))[0].detach()
    suffix = torch.cat([word, end, padding.expand(SUFFIX - len(word) - 1, -1)])
    for name, ctx in zip(CONTEXT_FILES, contexts.ctx.detach().cpu(), strict=True):
        parts = {"ctx": ctx, "token_prefix": bos.expand(2, 1, -1), "token_suffix": suffix.expand(2, -1, -1)}
        torch.save(
            {"params": {f"prompt_learner.{part}": value.clone() for part, value in parts.items()}},
            folder / name,
        )


def load_contexts(contexts: PromptContexts, folder: Path) -> None:
    """Start from contexts of the published layout, in place. Raises FileNotFoundError, and ValueError for contexts of
    another text encoder."""
    for row, name in enumerate(CONTEXT_FILES):
        ctx = read_tensors(folder / name).get("prompt_learner.ctx")
        if ctx is None or ctx.shape != (2, CONTEXT, contexts.ctx.shape[-1]):
            raise ValueError(f"the contexts in '{folder / name}' were learned with another text encoder")
        with torch.no_grad():
            contexts.ctx[row].copy_(ctx)
