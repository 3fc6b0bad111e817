"""T_p (G-Refine 3.1, Eq. 2) for a real CLIP: the published learned contexts, or hand-written pairs of words."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from grefine_export.checkpoints import read_tensors
from grefine_export.models.clip_surgery import ClipEncoder
from grefine_export.models.clip_tokenizer import ends
from grefine_rt.text.tokenizer import PromptTokenizer

CONTEXT, CLASS_TOKENS = 16, 3
POSITION = 1 + CONTEXT + CLASS_TOKENS  # of the end-of-text token, where the feature is read
PUBLISHED_ALPHA = tuple(share * mean for share, mean in ((1.0, 0.935), (0.6, 0.892), (0.8, 0.826)))

CONTEXT_FILES = ("PQ-overall.pth", "PQ-technical.pth", "PQ-rational.pth", "PQ-natural.pth")
ALPHA_FILE = "alpha.json"
ANTONYMS = (
    ("Good photo.", "Bad photo."),
    ("Sharp photo.", "Blurry photo."),
    ("Real photo.", "Abstract photo."),
    ("Natural photo.", "Synthetic photo."),
)
"""(good, bad) for overall, technical, rationality and naturalness: pairs of CLIP-IQA (Wang et al., AAAI 2023)."""


@torch.no_grad()
def published_t_p(encoder: ClipEncoder, folder: Path) -> Tensor:
    """T_p (4, 2, d), projected, not normalised, from the four files of learned contexts in `folder`.

    A prompt is prefix (1), 8 context vectors, the class word (3), 8 context vectors, end; the class word and the
    end are the first tokens of the suffix. Raises FileNotFoundError where a file is missing, ValueError where one
    has another layout or was learned with another text encoder.
    """
    pairs = []
    for name in CONTEXT_FILES:
        tensors = read_tensors(folder / name)
        try:
            ctx, prefix, suffix = (
                tensors[f"prompt_learner.{part}"].float() for part in ("ctx", "token_prefix", "token_suffix")
            )
        except KeyError as error:
            raise ValueError(
                f"'{folder / name}' lacks {error}: give the folder of published contexts"
            ) from error
        table = encoder.clip.text_model.embeddings.token_embedding.weight
        if ctx.shape[1:] != (CONTEXT, table.shape[1]) or not _is_a_token(prefix[0, 0], table):
            raise ValueError(
                f"the contexts in '{folder / name}' were learned with another text encoder: give that CLIP's "
                f"checkpoint (ViT-B/16 for the published contexts), or leave --contexts out"
            )
        half, word, end = CONTEXT // 2, suffix[:, :CLASS_TOKENS], suffix[:, CLASS_TOKENS : CLASS_TOKENS + 1]
        prompts = torch.cat([prefix, ctx[:, :half], word, ctx[:, half:], end], 1)
        states = encoder.text_states(prompts)[:, POSITION]
        pairs.append(encoder.clip.text_projection(states))
    return torch.stack(pairs)


def read_alpha(folder: Path) -> tuple[float, ...]:
    """alpha of Eq. 3 as it was fitted with the contexts in `folder` (`alpha.json`, three numbers above 0); the paper's
    where there is none, as with the published contexts. Raises ValueError for anything else in that file."""
    if not (folder / ALPHA_FILE).is_file():
        return PUBLISHED_ALPHA
    try:
        alpha = tuple(float(value) for value in json.loads((folder / ALPHA_FILE).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        alpha = ()
    if len(alpha) != len(PUBLISHED_ALPHA) or not all(0 < value < float("inf") for value in alpha):
        raise ValueError(f"'{folder / ALPHA_FILE}' must hold three numbers above 0, as [0.9, 0.5, 0.7]")
    return alpha


@torch.no_grad()
def antonym_t_p(encoder: ClipEncoder, tokenizer: Tokenizer) -> Tensor:
    """T_p (4, 2, d), projected, not normalised, from CLIP-IQA's pairs of antonyms."""
    length = encoder.clip.text_model.config.max_position_embeddings
    bos, eos = ends(tokenizer)
    prompts = PromptTokenizer(tokenizer, length, bos, eos, pad=eos)
    ids = torch.stack([torch.from_numpy(prompts.encode(text)) for pair in ANTONYMS for text in pair])
    return encoder.text_features(ids).unflatten(0, (len(ANTONYMS), 2))


def _is_a_token(embedding: Tensor, table: Tensor) -> bool:
    """Published in float32, while a checkpoint may hold float16."""
    return bool((table - embedding).abs().amax(1).min() < 1e-4)
