"""PASD-light: one attention over the control feature inside each transformer block of the up path.

PASD adds whole transformer blocks; PASD-light adds to the present ones, between cross-attention and
feed-forward, a norm and a cross-attention (`norm2_plus`, `attn2_plus`), and a 1 x 1 projection of the control feature
in front of the blocks (`proj_in_plus`).
"""

from __future__ import annotations

from typing import Any

from diffusers import Transformer2DModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn


class LightTransformerBlock(BasicTransformerBlock):
    """A transformer block of diffusers with one more cross-attention. `control_dim`: width of the control tokens."""

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int, control_dim: int) -> None:
        super().__init__(dim, heads, head_dim, cross_attention_dim=context_dim)
        self.norm2_plus = nn.LayerNorm(dim)
        self.attn2_plus = Attention(
            query_dim=dim, cross_attention_dim=control_dim, heads=heads, dim_head=head_dim
        )

    def forward(self, hidden: Tensor, context: Tensor, control: Tensor) -> Tensor:
        """`hidden` (n, N, dim), `context` (n, L, D), `control` (n, N, control_dim) -> (n, N, dim)."""
        hidden = hidden + self.attn1(self.norm1(hidden))
        hidden = hidden + self.attn2(self.norm2(hidden), encoder_hidden_states=context)
        hidden = hidden + self.attn2_plus(self.norm2_plus(hidden), encoder_hidden_states=control)
        return hidden + self.ff(self.norm3(hidden))


class LightTransformer(Transformer2DModel):
    """The transformer of a ResNet block of the up path, under the key names of diffusers and PASD-light."""

    def __init__(self, transformer: Transformer2DModel, control_dim: int) -> None:
        """`transformer`: the one whose place it takes and whose sizes it has."""
        config = transformer.config
        super().__init__(**{**_arguments(config), "num_layers": 0})
        dim = config.num_attention_heads * config.attention_head_dim
        self.proj_in_plus = (
            nn.Linear(control_dim, control_dim)
            if config.use_linear_projection
            else nn.Conv2d(control_dim, control_dim, kernel_size=1)
        )
        self.transformer_blocks = nn.ModuleList(
            LightTransformerBlock(
                dim,
                config.num_attention_heads,
                config.attention_head_dim,
                config.cross_attention_dim,
                control_dim,
            )
            for _ in range(config.num_layers)
        )

    def forward(self, hidden: Tensor, context: Tensor, control: Tensor) -> Tensor:
        """`hidden` (n, C, h, w), `context` (n, L, D), `control` (n, control_dim, h, w) -> (n, C, h, w)."""
        size = hidden.shape[2:]
        tokens = _project(self.proj_in, self.norm(hidden))
        control = _project(self.proj_in_plus, control)
        for block in self.transformer_blocks:
            tokens = block(tokens, context, control)
        if isinstance(self.proj_out, nn.Linear):
            tokens = self.proj_out(tokens)
            return hidden + tokens.transpose(1, 2).unflatten(2, size)
        return hidden + self.proj_out(tokens.transpose(1, 2).unflatten(2, size))


def _arguments(config: Any) -> dict[str, Any]:
    names = (
        "num_attention_heads",
        "attention_head_dim",
        "in_channels",
        "cross_attention_dim",
        "norm_num_groups",
        "use_linear_projection",
    )
    return {name: config[name] for name in names}


def _project(layer: nn.Module, feature: Tensor) -> Tensor:
    """(n, C, h, w) -> tokens (n, h * w, C'), by a linear layer or a 1 x 1 convolution."""
    if isinstance(layer, nn.Linear):
        return layer(feature.flatten(2).transpose(1, 2))
    return layer(feature).flatten(2).transpose(1, 2)
