"""Attention whose score matrix stays small: queries in chunks, for pictures up to a size that is known at export.

PACA at 1024 pixels would need 16384 x 16384 scores for each of 8 heads and both guidance passes: 8.6 GB in FP16. The
queries of such a layer are cut into equal chunks, written out one after the other in the graph: no score matrix passes
`LIMIT`, nothing branches on shapes, and each chunk is the plain pattern (queries scaled, product, softmax, product)
that TensorRT fuses. Layers that stay below the limit at the largest picture keep one chunk.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from grefine_export.models.pasd import PasdUNet

LIMIT = 2**29
"""Bytes of a layer's score matrix, over all heads and guidance passes. The softmax has as much again beside it."""

_PASSES = 2  # with guidance
_CELL = 8  # pixels along the side of a latent cell


class ChunkedAttention:
    """Attention processor of diffusers: `chunks` equal parts of the queries, one after the other.

    The number of queries must be a multiple of `chunks`. For layers without masks and without norms of queries and
    keys, as Stable Diffusion's are.
    """

    def __init__(self, chunks: int = 1) -> None:
        self.chunks = chunks

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
        temb: None = None,
    ) -> Tensor:
        tokens = hidden_states
        if tokens.ndim == 4:  # the autoencoder's
            tokens = tokens.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            tokens = attn.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
        source = tokens if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            layer(rows).unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for layer, rows in ((attn.to_q, tokens), (attn.to_k, source), (attn.to_v, source))
        )
        # Scaled before the product: otherwise TensorRT does not fuse, and FP16 comes nearer to its limit.
        query, key = query * attn.scale, key.transpose(2, 3)
        parts = [query] if self.chunks == 1 else query.unflatten(2, (self.chunks, -1)).unbind(2)
        mixed = torch.cat([torch.softmax(part @ key, dim=-1) @ value for part in parts], dim=2)
        out = attn.to_out[0](mixed.transpose(1, 2).flatten(2))
        if hidden_states.ndim == 4:
            out = out.transpose(1, 2).unflatten(2, hidden_states.shape[2:])
        if attn.residual_connection:
            out = out + hidden_states
        return out / attn.rescale_output_factor


def chunk_pasd(pasd: PasdUNet, side: int, number_bytes: int) -> None:
    """Set the attention of all layers, for pictures up to `side` x `side` pixels.

    number_bytes: 4 for computation in FP32, 2 in FP16. Raises ValueError when the picture is too large for the limit.
    """
    for model in (pasd.unet, pasd.controlnet):
        chunk_unet(model, side, number_bytes)
    top = len(pasd.unet.up_blocks) - 1
    levels = [top - index for index, block in enumerate(pasd.unet.up_blocks) for _ in block.resnets]
    for transformer, level in zip(pasd.paca, levels, strict=False):  # PASD-light has none
        for _, attention in _attentions(transformer):
            _set(attention, side, level, top, number_bytes)


def chunk_unet(unet: UNet2DConditionModel | ControlNetModel, side: int, number_bytes: int) -> None:
    """Cut attention up as `chunk_pasd` does, in a UNet or ControlNet alone; cross-attention to a text keeps one
    chunk."""
    top = len(unet.down_blocks) - 1
    blocks = [*enumerate(unet.down_blocks), (top, unet.mid_block)]
    blocks += [(top - index, block) for index, block in enumerate(getattr(unet, "up_blocks", ()))]
    for level, block in blocks:
        for name, attention in _attentions(block):
            if name.endswith("attn2"):
                attention.set_processor(ChunkedAttention())
            else:
                _set(attention, side, level, top, number_bytes)


def chunk_vae(vae: AutoencoderKL, side: int, number_bytes: int, others: int = 0) -> None:
    """Cut up the one attention layer in the encoder and in the decoder of an autoencoder as `chunk_pasd` does; with
    more than one chunk sides must be multiples of 32, as the UNets want them. others: keys of each query beside the
    picture's own, by the number of these."""
    for _, attention in _attentions(vae):
        _set(attention, side, 0, 2, number_bytes, passes=1, spread=1 + others)


def _set(
    attention: Attention,
    side: int,
    level: int,
    top: int,
    number_bytes: int,
    passes: int = _PASSES,
    spread: int = 1,
) -> None:
    """spread: keys for each query."""
    tokens = (side // _CELL) ** 2 >> 2 * level
    chunks = 1
    while passes * attention.heads * tokens**2 * spread * number_bytes > chunks * LIMIT:
        chunks *= 2
    # Height and width of every picture are multiples of the deepest level's cells, hence the tokens of 4 ** below.
    if chunks > 4 ** (top - level):
        raise ValueError(f"pictures of {side} pixels are too large for one pass: export for a smaller side")
    attention.set_processor(ChunkedAttention(chunks))


def _attentions(module: nn.Module) -> list[tuple[str, Attention]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, Attention)]
