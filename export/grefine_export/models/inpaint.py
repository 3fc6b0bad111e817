"""The SDXL-type inpainting UNet of stage 1 and the text encoders of both stages (G-Refine section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

TIME_IDS = 6
"""Original height and width, crop top and left, target height and width, in pixels."""


def inpaint_unet(config: Mapping[str, Any]) -> UNet2DConditionModel:
    """An untrained SDXL-type UNet that takes the noisy latent, the mask and the masked latent, in this order.

    Args:
        config: sizes, as arguments of diffusers' `UNet2DConditionModel`, `pooled_dim`, the width of the pooled
            text feature, and `latent_channels` where they are not 4. The kind of conditioning is fixed here.
    """
    sizes = dict(config)
    pooled_dim = sizes.pop("pooled_dim")
    time_dim = sizes.setdefault("addition_time_embed_dim", 256)
    channels = sizes.pop("latent_channels", 4)
    return UNet2DConditionModel(
        in_channels=2 * channels + 1,
        out_channels=channels,
        addition_embed_type="text_time",
        projection_class_embeddings_input_dim=pooled_dim + TIME_IDS * time_dim,
        use_linear_projection=True,
        **sizes,
    )


class TextEncoder(nn.Module):
    """One CLIP text encoder: `ids` int64 (n, L) -> `context` (n, L, D) and perhaps `pooled` (n, P).

    Args:
        encoder: its projection layer, if any, gives the pooled output.
        layer: the hidden states that are the context. "penultimate": before the last layer, not normalised
            (SDXL); "last": after the final layer norm (SD1.5, PASD).
    """

    def __init__(
        self,
        encoder: CLIPTextModel | CLIPTextModelWithProjection,
        layer: Literal["penultimate", "last"] = "penultimate",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.layer = layer

    def forward(self, ids: Tensor) -> tuple[Tensor, ...]:
        projection = getattr(self.encoder, "text_projection", None)
        text = self.encoder.text_model if projection is not None else self.encoder
        length = ids.shape[1]
        mask = torch.full((length, length), float("-inf"), device=ids.device).triu(1)[None, None]
        hidden = text.embeddings(input_ids=ids)
        for layer in text.encoder.layers[:-1]:
            hidden = layer(hidden, mask.to(hidden.dtype))
        penultimate = hidden
        last = text.final_layer_norm(text.encoder.layers[-1](hidden, mask.to(hidden.dtype)))
        context = penultimate if self.layer == "penultimate" else last
        if projection is None:
            return (context,)
        rows = torch.arange(ids.shape[0], device=ids.device)
        return context, projection(last[rows, end_of_text(ids, text.config.eos_token_id)])


class TextEncoderPair(nn.Module):
    """SDXL's two text encoders: `ids`, `ids_2` int64 (n, L) -> `context` (n, L, D1 + D2), `pooled` (n, P).

    `pooled` is the second encoder's.
    """

    def __init__(self, first: CLIPTextModel, second: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.first = TextEncoder(first)
        self.second = TextEncoder(second)

    def forward(self, ids: Tensor, ids_2: Tensor) -> tuple[Tensor, Tensor]:
        (context,) = self.first(ids)
        context_2, pooled = self.second(ids_2)
        return torch.cat([context, context_2], dim=-1), pooled


def end_of_text(ids: Tensor, end: int) -> Tensor:
    """Position of the first end token, int64 (n,)."""
    # Old CLIP configurations say 2 and mean the highest id; transformers reads them so too.
    marks = ids.to(torch.int32) if end == 2 else (ids == end).to(torch.int32)
    return marks.argmax(dim=-1)
