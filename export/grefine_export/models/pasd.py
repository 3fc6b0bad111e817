"""The restoration UNet of stage 2: PASD (pixel-aware stable diffusion), G-Refine section 3.3.

An SD1.5-type UNet, a ControlNet that reads the image to be restored, and PACA (pixel-aware cross-attention):
one transformer block after each ResNet block of the up path, reading the control feature of its resolution. PASD-light
has one more cross-attention inside the transformer blocks of the up path instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ControlNetModel, Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

from grefine_export.models.pasd_light import LightTransformer
from grefine_export.models.pasd_removal import Removal, RemovalEmbedding
from grefine_export.models.pasd_rrdb import RrdbEmbedding

# PASD's names for what has no place in diffusers' own models.
_PACA_KEY = "pixel_attentions"
_RGB_HEADS_KEY = "controlnet_cond_embedding.to_rgbs."


class PasdUNet(nn.Module):
    """UNet, ControlNet and PACA as one module; before training it equals the plain UNet.

    Args:
        unet: arguments of diffusers' `UNet2DConditionModel`; for SD1.5 only `cross_attention_dim=768`.
        controlnet: arguments of diffusers' `ControlNetModel`, same blocks. Its conditioning embedding halves
            the image once per entry of `conditioning_embedding_out_channels` after the first: with the
            usual four, from image to latent size (factor 8).
        light: PASD-light.
        rrdb: the ControlNet reads the image through two RRDBs, as the checkpoints named "rrdb" do.
        removal: the ControlNet reads the image through a `RemovalEmbedding` of this size; no checkpoint has one.

    Attributes:
        paca: one `Transformer2DModel` a ResNet block of the up path, in the order in which they run; none in
            PASD-light.
    """

    def __init__(
        self,
        unet: Mapping[str, Any],
        controlnet: Mapping[str, Any],
        light: bool = False,
        rrdb: bool = False,
        removal: Removal | None = None,
    ) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(**unet)
        self.controlnet = ControlNetModel(**controlnet)
        self.light = light
        config = self.controlnet.config
        if removal is not None:
            self.controlnet.controlnet_cond_embedding = RemovalEmbedding(
                config.block_out_channels[0], removal
            )
        elif rrdb:
            self.controlnet.controlnet_cond_embedding = RrdbEmbedding(
                config.block_out_channels[0], config.conditioning_embedding_out_channels
            )
        # ControlNet features in the order in which the up path consumes the skips they are added to.
        control_channels = [conv.out_channels for conv in reversed(self.controlnet.controlnet_down_blocks)]
        resnets = [
            (level, resnet) for level, block in enumerate(self.unet.up_blocks) for resnet in block.resnets
        ]
        if len(resnets) != len(control_channels):
            raise ValueError(
                f"the UNet's up path has {len(resnets)} ResNet blocks and the ControlNet "
                f"{len(control_channels)} features: give both the same blocks and layers_per_block"
            )
        self.paca = nn.ModuleList()
        if light:
            self._lighten(control_channels)
            return
        heads = _heads(self.unet)
        self.paca.extend(
            Transformer2DModel(
                num_attention_heads=heads[level],
                attention_head_dim=resnet.out_channels // heads[level],
                in_channels=resnet.out_channels,
                cross_attention_dim=channels,
                norm_num_groups=self.unet.config.norm_num_groups,
                use_linear_projection=self.unet.config.use_linear_projection,
            )
            for (level, resnet), channels in zip(resnets, control_channels, strict=True)
        )
        for block in self.paca:
            nn.init.zeros_(block.proj_out.weight)
            nn.init.zeros_(block.proj_out.bias)

    def _lighten(self, control_channels: list[int]) -> None:
        """Put PASD-light's transformers in the places of the up path's own."""
        channels = iter(control_channels)
        for block in self.unet.up_blocks:
            widths = [next(channels) for _ in block.resnets]
            if hasattr(block, "attentions"):
                block.attentions = nn.ModuleList(
                    LightTransformer(attention, width)
                    for attention, width in zip(block.attentions, widths, strict=True)
                )

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        context: Tensor,
        control: Tensor,
        conditioning_scale: float | Tensor = 1.0,
    ) -> Tensor:
        """Model output (n, 4, h, w) for `sample` (n, 4, h, w), scaled noisy latents.

        Args:
            timestep: (1,) or (n,), 0..999.
            context: (n, L, D) text context.
            control: (1 or n, 3, 8h, 8w) RGB in [0, 1], the image to be restored.
            conditioning_scale: factor of every control feature.

        h and w must be multiples of 2 to the number of down-samplings.
        """
        unet = self.unet
        timestep = timestep.expand(sample.shape[0])
        embedding = unet.time_embedding(unet.get_time_embed(sample, timestep))

        # The image does not depend on the prompt: one row of it is embedded and serves all guidance passes.
        controls, middle_control = self.controlnet(
            sample, timestep, context, control, conditioning_scale, return_dict=False
        )
        hidden = unet.conv_in(sample)
        skips = [hidden]
        for block in unet.down_blocks:
            hidden, outputs = _run(block, hidden, embedding, context)
            skips.extend(outputs)
        hidden = _run(unet.mid_block, hidden, embedding, context) + middle_control

        paca = iter(self.paca)
        for block in unet.up_blocks:
            attentions = getattr(block, "attentions", [None] * len(block.resnets))
            for resnet, attention in zip(block.resnets, attentions, strict=True):
                feature = controls.pop()
                hidden = resnet(torch.cat([hidden, skips.pop() + feature], dim=1), embedding)
                if self.light:
                    hidden = hidden if attention is None else attention(hidden, context, feature)
                    continue
                if attention is not None:
                    hidden = attention(hidden, encoder_hidden_states=context, return_dict=False)[0]
                tokens = feature.flatten(2).transpose(1, 2)
                hidden = next(paca)(hidden, encoder_hidden_states=tokens, return_dict=False)[0]
            for upsampler in block.upsamplers or ():
                hidden = upsampler(hidden)
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))

    def load_published(self, unet: Mapping[str, Tensor], controlnet: Mapping[str, Tensor]) -> None:
        """Load the two state dicts of a published PASD checkpoint (folders `unet` and `controlnet`).

        The RGB heads of the degradation-removal module served only its training and are left out. Raises
        ValueError (one sentence), naming the first key, where a weight is missing, left over or of another shape.
        """
        places = [
            f"up_blocks.{level}.{_PACA_KEY}.{layer}"
            for level, block in enumerate(self.unet.up_blocks)
            for layer in range(len(block.resnets))
        ]
        wanted = {}
        for name, parameter in self.state_dict().items():
            part, _, key = name.partition(".")
            if part == "paca":
                index, _, key = key.partition(".")
                part, key = "unet", f"{places[int(index)]}.{key}"
            wanted[f"{part}/{key}"] = name, parameter.shape
        given = {f"unet/{key}": value for key, value in unet.items()} | {
            f"controlnet/{key}": value
            for key, value in controlnet.items()
            if not key.startswith(_RGB_HEADS_KEY)
        }
        if lacking := sorted(wanted.keys() - given.keys()):
            raise ValueError(f"the PASD checkpoint lacks the weight '{lacking[0]}': fetch it again")
        if unknown := sorted(given.keys() - wanted.keys()):
            raise ValueError(
                f"the PASD checkpoint has the weight '{unknown[0]}', which no PASD of its sizes has"
            )
        for key, (_, shape) in wanted.items():
            if given[key].shape != shape:
                raise ValueError(
                    f"the PASD checkpoint's '{key}' has shape {tuple(given[key].shape)} where its configuration asks "
                    f"for {tuple(shape)}: fetch it again"
                )
        self.load_state_dict({wanted[key][0]: value.float() for key, value in given.items()}, assign=True)


def _heads(unet: UNet2DConditionModel) -> list[int]:
    """Attention heads of each up block. diffusers keeps the number of heads under `attention_head_dim`."""
    heads = unet.config.num_attention_heads or unet.config.attention_head_dim
    levels = len(unet.config.block_out_channels)
    return list(reversed([heads] * levels if isinstance(heads, int) else list(heads)))


def _run(block: nn.Module, hidden: Tensor, embedding: Tensor, context: Tensor) -> Any:
    if getattr(block, "has_cross_attention", False):
        return block(hidden, embedding, encoder_hidden_states=context)
    return block(hidden, embedding)
