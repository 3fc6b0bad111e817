"""Random models of the real architectures, small enough to be exported within a test."""

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from grefine_export.models.inpaint import TIME_IDS, TextEncoderPair, inpaint_unet
from grefine_export.models.pasd import PasdUNet
from grefine_export.models.vae import Vae
from grefine_export.onnx.step import BlendedStep, InpaintStep, RestoreStep

LENGTH, CONTEXT, POOLED, VOCABULARY = 9, 32, 24, 60
BLOCKS = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "cross_attention_dim": CONTEXT,
    "attention_head_dim": 2,
}
UP = {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}

LATENT_AXES = {2: "h", 3: "w"}
INPAINT_AXES = {
    **dict.fromkeys(("sample", "previous", "noise", "mask", "masked_latent"), LATENT_AXES),
    "context": {0: "n", 1: "L"},
    "pooled": {0: "n"},
    "time_ids": {0: "n"},
}
BLENDED_AXES = {
    **dict.fromkeys(("sample", "previous", "noise", "mask", "original", "original_noise"), LATENT_AXES),
    **{name: INPAINT_AXES[name] for name in ("context", "pooled", "time_ids")},
}
RESTORE_AXES = {
    **dict.fromkeys(("sample", "previous", "noise"), LATENT_AXES),
    "control": {2: "H", 3: "W"},
    "context": {0: "n", 1: "L"},
}


def inpaint_step(dtype=torch.float32):
    torch.manual_seed(1)
    config = {**BLOCKS, **UP, "pooled_dim": POOLED, "addition_time_embed_dim": 8}
    return InpaintStep(inpaint_unet({**config, "transformer_layers_per_block": (1, 2)}).to(dtype)).eval()


def blended_step():
    torch.manual_seed(6)
    unet = UNet2DConditionModel(
        **BLOCKS,
        **UP,
        in_channels=4,
        out_channels=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=POOLED + TIME_IDS * 8,
        use_linear_projection=True,
        transformer_layers_per_block=(1, 2),
    )
    return BlendedStep(unet).eval()


def pasd(active=True):
    """`active`: with random numbers where training starts from zeros, so that every part has a say."""
    torch.manual_seed(2)
    model = PasdUNet({**BLOCKS, **UP}, BLOCKS).eval()
    if active:
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.05)
    return model


def restore_step():
    return RestoreStep(pasd(), conditioning_scale=0.8).eval()


def step_inputs(step, rows, height, width, length=LENGTH):
    """Inputs of a step in the order of its forward; `height` and `width` of the latent."""
    torch.manual_seed(rows + height + 2 * width + 3 * length)
    latents = {name: torch.randn(1, 4, height, width) for name in ("sample", "previous", "noise")}
    blended = isinstance(step, BlendedStep)
    coefficients = torch.tensor([0.9, 1.1, -0.4, 0.7, 0.3, 0.1, 0.05, 4.0, 0.6, 0.8, 0.35])
    tail = {
        "timestep": torch.tensor([421.0]),
        "coefficients": coefficients if blended else coefficients[:9].clone(),
    }
    context = torch.randn(rows, length, CONTEXT)
    if isinstance(step, RestoreStep):
        control = torch.rand(1, 3, 8 * height, 8 * width)
        return {**latents, "control": control, "context": context, **tail}
    known = ("original", "original_noise") if blended else ("masked_latent",)
    return {
        **latents,
        "mask": (torch.rand(1, 1, height, width) > 0.5).float(),
        **{name: torch.randn(1, 4, height, width) for name in known},
        "context": context,
        "pooled": torch.randn(rows, POOLED),
        "time_ids": torch.tensor([[128.0, 96.0, 0.0, 0.0, 128.0, 96.0]]).repeat(rows, 1),
        **tail,
    }


def text_config():
    return CLIPTextConfig(
        hidden_size=CONTEXT // 2,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=LENGTH,
        projection_dim=POOLED,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
        pad_token_id=0,
    )


def text_pair():
    torch.manual_seed(3)
    pair = TextEncoderPair(CLIPTextModel(text_config()), CLIPTextModelWithProjection(text_config())).eval()
    for parameter in pair.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.3)
    return pair


def token_ids(seed, rows=1):
    """Begin, some words, end, padding with the end token in row 0 and with another id in the others."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCABULARY - 2, (rows, LENGTH), generator=generator)
    ids[:, 0] = VOCABULARY - 2
    ids[:, 5] = VOCABULARY - 1
    ids[:, 6:] = 0
    ids[0, 6:] = VOCABULARY - 1
    return ids


def vae():
    torch.manual_seed(4)
    levels = 4
    return Vae(
        {
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "block_out_channels": (8, 8, 16, 16),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "scaling_factor": 0.7,
        }
    ).eval()
