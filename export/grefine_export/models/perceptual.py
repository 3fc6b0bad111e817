"""The graphs of the two indicators: T_p baked into the image encoder, and the text encoder beside it."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine_export.models.clip_surgery import ClipEncoder


class Perceptual(nn.Module):
    """`image` (b, 3, R, R) RGB in [0, 1] -> `pairs` (b, 1+N, 4), `published` (b, 1+N, 4, 2), `tokens` (b, 1+N, d).

    `t_p` (4, 2, d): projected text features of the (good, bad) pairs (Eq. 2), a constant of the graph. `pairs`
    is the calibrated probability of "good", softmax over (good, bad) of cosine similarities with CLIP's logit
    scale; `published` follows the authors' script: image features normalised over the token axis, text features
    and scale left as they are. `tokens` are L2-normalised for the alignment indicator.
    """

    def __init__(self, encoder: ClipEncoder, t_p: Tensor):
        super().__init__()
        self.encoder = encoder
        self.register_buffer("t_p", t_p.detach().clone())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raw = self.encoder.image_tokens(image).float()
        tokens = F.normalize(raw, dim=-1)
        pairs = pair_probabilities(tokens, self.t_p, self.encoder.scale)
        over_tokens = raw / torch.linalg.vector_norm(raw, dim=1, keepdim=True)
        published = torch.einsum("btd,fpd->btfp", over_tokens, self.t_p)
        return pairs, published, tokens


def pair_probabilities(tokens: Tensor, t_p: Tensor, scale: Tensor) -> Tensor:
    """Probability of "good" in each pair: `tokens` (..., d) L2-normalised, `t_p` (4, 2, d) -> (..., 4)."""
    text = F.normalize(t_p, dim=-1)
    return torch.sigmoid(scale * (tokens @ (text[:, 0] - text[:, 1]).T))


class ClipText(nn.Module):
    """`ids` int64 (n, L) -> `features` (n, d), L2-normalised, and `context` (n, L, w), the final states.

    The features serve `alignment_text`; the context serves an SD1.5-type UNet (`restore_text`) that was
    trained with this encoder.
    """

    def __init__(self, encoder: ClipEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        states = self.encoder.text_states(self.encoder.embed_text(ids))
        return F.normalize(self.encoder.at_end(states, ids).float(), dim=-1), states.float()


def halved(module: Perceptual | ClipText) -> Perceptual | ClipText:
    """A copy whose encoder computes in half precision; pictures are normalised, and similarities made, in single."""
    made = copy.deepcopy(module).half()
    for name in ("mean", "std"):
        setattr(made.encoder, name, getattr(module.encoder, name).clone())
    made.encoder.clip.logit_scale = module.encoder.clip.logit_scale
    if isinstance(made, Perceptual) and isinstance(module, Perceptual):
        made.t_p = module.t_p.clone()
    return made
