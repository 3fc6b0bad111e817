"""Attention as one operator of the graph, `ai.onnx` Attention (opset 23), for ONNX Runtime CUDA.

Its kernel keeps no score matrix, so nothing is cut into chunks and no size is a limit. It takes tokens as the layers
make them, (n, tokens, heads * width): with heads on an axis of their own ONNX Runtime 1.31 transposes in two more
kernels.
"""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


class FusedAttention:
    """Attention processor of diffusers, for layers without masks and without norms of queries and keys."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
        temb: None = None,
    ) -> Tensor:
        tokens = hidden_states
        if attn.group_norm is not None:  # the autoencoder's; of a feature map, as every other group norm
            tokens = attn.group_norm(tokens)
        if tokens.ndim == 4:
            tokens = tokens.flatten(2).transpose(1, 2)
        source = tokens if encoder_hidden_states is None else encoder_hidden_states
        mixed, *_ = torch.onnx.ops.attention(
            attn.to_q(tokens),
            attn.to_k(source),
            attn.to_v(source),
            q_num_heads=attn.heads,
            kv_num_heads=attn.heads,
            scale=attn.scale,
        )
        out: Tensor = attn.to_out[0](mixed)
        if hidden_states.ndim == 4:
            out = out.transpose(1, 2).unflatten(2, hidden_states.shape[2:])
        if attn.residual_connection:
            out = out + hidden_states
        return out / attn.rescale_output_factor


def fuse_attention(module: nn.Module) -> None:
    """Set a `FusedAttention` in every attention layer of `module`; its results stay the same."""
    for part in module.modules():
        if isinstance(part, Attention):
            part.set_processor(FusedAttention())
