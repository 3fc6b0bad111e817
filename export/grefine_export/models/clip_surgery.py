"""CLIP with architecture surgery (G-Refine 3.1, Eq. 1; CLIP Surgery), on transformers' own CLIP weights.

The last `depth` blocks carry two paths. The original path is untouched. The new path starts at the input of
the first of these blocks and only ever adds value-value attention, computed from the original path's
normalised activations through the same output projection; it has no MLP. The class token comes from the
original path, the patch tokens from the new one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel

from grefine_export.choices import Attention
from grefine_export.models.inpaint import end_of_text

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images, RGB in 0..1
STD = (0.26862954, 0.26130258, 0.27577711)


def heads(x: Tensor, count: int) -> Tensor:
    """(b, t, c) -> (b, heads, t, c / heads)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    """(b, heads, t, c / heads) -> (b, t, c)."""
    return x.transpose(1, 2).flatten(2)


def value_value(v: Tensor, attention: Attention) -> Tensor:
    """softmax(V Vᵀ / sqrt(d_head)) V; `vv-normalised` divides by |V|, its scale is 8 times larger (Eq. 1).

    `v` (b, heads, t, d_head), and so is the result.
    """
    if attention == "vv":
        return F.scaled_dot_product_attention(v, v, v)
    unit = F.normalize(v, dim=-1)
    return F.scaled_dot_product_attention(unit, unit, v, scale=8 * v.shape[-1] ** -0.5)


class ClipEncoder(nn.Module):
    """The parts that CLIPs of either kind share: the text transformer, the logit scale, the normalisation of pictures.

    `clip` has transformers' `text_model`, `text_projection` and `logit_scale`.
    """

    def __init__(self, clip: Any, attention: Attention):
        super().__init__()
        self.clip = clip
        self.attention = attention
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def image_tokens(self, image: Tensor) -> Tensor:
        """`image` (b, 3, R, R) RGB in [0, 1] -> projected tokens (b, 1 + N, d), class token first, not normalised."""
        raise NotImplementedError

    def normalised(self, image: Tensor) -> Tensor:
        """`image` (b, 3, R, R) RGB in [0, 1] as the encoder was trained to see it, in the precision of its weights."""
        return ((image - self.mean) / self.std).to(self.clip.text_projection.weight.dtype)

    def embed_text(self, ids: Tensor) -> Tensor:
        """Token embeddings (n, t, w), without positions."""
        return self.clip.text_model.embeddings.token_embedding(ids)

    def text_states(self, embeddings: Tensor) -> Tensor:
        """Final states (n, t, w) of the causal text transformer for token embeddings (n, t, w)."""
        text = self.clip.text_model
        x = embeddings + text.embeddings.position_embedding.weight[: embeddings.shape[1]]
        for layer in text.encoder.layers:
            attention = layer.self_attn
            normed = layer.layer_norm1(x)
            q, k, v = (
                heads(p(normed), attention.num_heads)
                for p in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            x = x + attention.out_proj(merged(F.scaled_dot_product_attention(q, k, v, is_causal=True)))
            x = x + layer.mlp(layer.layer_norm2(x))
        return text.final_layer_norm(x)

    def at_end(self, states: Tensor, ids: Tensor) -> Tensor:
        """Projected features (n, d) at each text's first end-of-text token, not normalised; `states` (n, t, w)."""
        end = end_of_text(ids, self.clip.text_model.eos_token_id)
        return self.clip.text_projection(states[torch.arange(len(ids), device=ids.device), end])

    def text_features(self, ids: Tensor) -> Tensor:
        """Projected features (n, d) of texts (n, t), not normalised."""
        return self.at_end(self.text_states(self.embed_text(ids)), ids)

    @property
    def scale(self) -> Tensor:
        """CLIP's learned logit scale."""
        return self.clip.logit_scale.exp()


class ClipSurgery(ClipEncoder):
    """Image tokens and text features of a CLIP with a vision transformer, as `perceptual` and `alignment_*` need
    them."""

    def __init__(self, clip: CLIPModel, depth: int = 6, attention: Attention = "vv"):
        super().__init__(clip, attention)
        self.depth = depth

    def image_tokens(self, image: Tensor) -> Tensor:
        vision = self.clip.vision_model
        x = vision.pre_layrnorm(vision.embeddings(self.normalised(image)))
        layers = vision.encoder.layers
        new: Tensor | None = None
        for index, layer in enumerate(layers):
            if index == len(layers) - self.depth:
                new = x
            attention = layer.self_attn
            normed = layer.layer_norm1(x)
            k, v = (heads(p(normed), attention.num_heads) for p in (attention.k_proj, attention.v_proj))
            if new is not None:
                new = new + attention.out_proj(merged(value_value(v, self.attention)))
            if index == len(layers) - 1:  # what follows reads the class token alone
                x, normed = x[:, :1], normed[:, :1]
            q = heads(attention.q_proj(normed), attention.num_heads)
            x = x + attention.out_proj(merged(F.scaled_dot_product_attention(q, k, v)))
            x = x + layer.mlp(layer.layer_norm2(x))
        assert new is not None
        tokens = torch.cat([x, new[:, 1:]], 1)
        return self.clip.visual_projection(vision.post_layernorm(tokens))
