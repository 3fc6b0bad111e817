"""Sizes of the embedded models: the real architectures, narrower and shallower."""

from __future__ import annotations

from typing import Any

from grefine_export.models.pasd_removal import Removal

LATENT = 16  # side of a latent, 128 / 8

VAE_PATCH = 4
VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (96, 128),
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 16,
    "mid_block_add_attention": False,
    "scaling_factor": 1.0,
}

# Stage 2 has an autoencoder of its own, as SD1.5 has, and works on the picture enlarged to this side: four pixels
# to a latent cell instead of eight keep what it has to repair.
RESTORE_SIDE = 256
RESTORE_VAE_PATCH = 8
RESTORE_VAE: dict[str, Any] = {
    **VAE,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",),
    "up_block_types": ("UpDecoderBlock2D",),
    "block_out_channels": (96,),
}

CLIP_LENGTH = 48
VOCABULARY = 1600
CLIP_SURGERY_DEPTH = 4
CLIP_WIDTH = 128
CLIP_VISION: dict[str, Any] = {
    "image_size": 128,
    "patch_size": 16,
    "hidden_size": 160,
    "intermediate_size": 640,
    "num_hidden_layers": 8,
    "num_attention_heads": 5,
    "hidden_act": "quick_gelu",
}
CLIP_TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": CLIP_LENGTH,
    "hidden_act": "quick_gelu",
}

INPAINT_UNET: dict[str, Any] = {
    "latent_channels": VAE["latent_channels"],
    "sample_size": LATENT,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (64, 128),
    "layers_per_block": 1,
    "transformer_layers_per_block": 2,
    "attention_head_dim": 4,
    "cross_attention_dim": CLIP_WIDTH,
    "norm_num_groups": 16,
    "addition_time_embed_dim": 32,
    "pooled_dim": CLIP_WIDTH,
}

_RESTORE: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "block_out_channels": (32, 64, 64),  # with 96 the whole bundle would have more than 40 MB
    "layers_per_block": 1,
    "attention_head_dim": (1, 2, 2),  # diffusers' name for the number of heads
    "cross_attention_dim": CLIP_TEXT["hidden_size"],
    "norm_num_groups": 16,
}
RESTORE_UNET: dict[str, Any] = {
    **_RESTORE,
    "sample_size": RESTORE_SIDE // 8,
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}
RESTORE_CONTROLNET: dict[str, Any] = _RESTORE
RESTORE_REMOVAL = Removal(width=64, blocks=4)
