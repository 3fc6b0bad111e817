"""The fused denoising step: input scaling, guidance passes, clean estimate and solver update in one graph.

`coefficients` is one row of `grefine_rt.diffusion.solver.table`, as wide as the step needs it:
`[input_scale, sample_to_clean, model_to_clean, c_sample, c_clean, c_previous, c_noise, guidance, rescale]`, and

    model = UNet(input_scale * sample, ...), combined over the guidance passes
    clean = sample_to_clean * sample + model_to_clean * model
    next  = c_sample * sample + c_clean * clean + c_previous * previous + c_noise * noise

A blended step also takes `[..., blend_latent, blend_noise]` and keeps the picture outside the mask:

    next  = mask * next + (1 - mask) * (blend_latent * original + blend_noise * original_noise)

The number of guidance passes n is the batch of the text inputs: row 0 the negative prompt, row 1 the prompt.
One row means guidance 1 and costs one UNet pass. All inputs and outputs are float32; the UNet runs in its own
dtype.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from grefine_export.models.pasd import PasdUNet


class InpaintStep(nn.Module):
    """One step of stage 1. `unet`: 9 channels in, SDXL conditioning; float32 or float16."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        sample: Tensor,
        previous: Tensor,
        noise: Tensor,
        mask: Tensor,
        masked_latent: Tensor,
        context: Tensor,
        pooled: Tensor,
        time_ids: Tensor,
        timestep: Tensor,
        coefficients: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Latents (1, c, h, w), `mask` (1, 1, h, w) 0 or 1, `context` (n, L, D), `pooled` (n, P), `time_ids`
        (n, 6), `timestep` (1,), `coefficients` (9,) -> `next` and `clean` (1, c, h, w).
        """
        joined = torch.cat([coefficients[0] * sample, mask, masked_latent], dim=1)
        model = _predict(self.unet, joined, context, pooled, time_ids, timestep)
        return _update(model, sample, previous, noise, coefficients)


class BlendedStep(nn.Module):
    """One step of stage 1 with a UNet that knows no mask. `unet`: 4 channels in, SDXL conditioning; float32 or
    float16."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        sample: Tensor,
        previous: Tensor,
        noise: Tensor,
        mask: Tensor,
        original: Tensor,
        original_noise: Tensor,
        context: Tensor,
        pooled: Tensor,
        time_ids: Tensor,
        timestep: Tensor,
        coefficients: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The results of `InpaintStep`, with `coefficients` (11,), `original` (1, c, h, w) the latent of the picture
        and `original_noise` (1, c, h, w) its noise: the first sample's.
        """
        model = _predict(self.unet, coefficients[0] * sample, context, pooled, time_ids, timestep)
        following, clean = _update(model, sample, previous, noise, coefficients)
        outside = coefficients[9] * original + coefficients[10] * original_noise
        return mask * following + (1 - mask) * outside, clean


class RestoreStep(nn.Module):
    """One step of stage 2. `conditioning_scale`: factor of the control features, a constant of the graph."""

    def __init__(self, pasd: PasdUNet, conditioning_scale: float = 1.0) -> None:
        super().__init__()
        self.pasd = pasd
        self.conditioning_scale = conditioning_scale

    def forward(
        self,
        sample: Tensor,
        previous: Tensor,
        noise: Tensor,
        control: Tensor,
        context: Tensor,
        timestep: Tensor,
        coefficients: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Latents (1, c, h, w), `control` (1, 3, 8h, 8w) RGB in [0, 1], `context` (n, L, D), `timestep` (1,),
        `coefficients` (9,) -> `next` and `clean` (1, c, h, w).
        """
        dtype = self.pasd.unet.dtype
        scaled = (coefficients[0] * sample).expand(context.shape[0], -1, -1, -1)
        model = self.pasd(
            scaled.to(dtype), timestep, context.to(dtype), control.to(dtype), self.conditioning_scale
        )
        return _update(model.float(), sample, previous, noise, coefficients)


def _predict(
    unet: UNet2DConditionModel,
    channels: Tensor,
    context: Tensor,
    pooled: Tensor,
    time_ids: Tensor,
    timestep: Tensor,
) -> Tensor:
    """An SDXL-type UNet's answer to `channels` (1, c, h, w) for each row of text: (n, 4, h, w) float32."""
    # pooled and time_ids stay float32: diffusers joins them with float32 time features, then casts. Half
    # precision here makes the exporter write a Concat of two types, which no runtime loads.
    model: Tensor = unet(
        channels.expand(context.shape[0], -1, -1, -1).to(unet.dtype),
        timestep,
        context.to(unet.dtype),
        added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
        return_dict=False,
    )[0]
    return model.float()


def _update(
    model: Tensor, sample: Tensor, previous: Tensor, noise: Tensor, coefficients: Tensor
) -> tuple[Tensor, Tensor]:
    """Guidance over the batch of `model` (n, 4, h, w), then the clean estimate and the solver's update."""
    _, sample_to_clean, model_to_clean, c_sample, c_clean, c_previous, c_noise, guidance, rescale = (
        coefficients[:9].unbind()
    )
    positive = model[-1:]
    guided = model[:1] + guidance * (positive - model[:1])
    # Lin et al., 2305.08891, Eq. 15 and 16: guidance widens the output, and this takes it back by `rescale`.
    contrast = positive.std(correction=0) / guided.std(correction=0).clamp_min(1e-12)
    guided = guided * (1 + rescale * (contrast - 1))
    clean = sample_to_clean * sample + model_to_clean * guided
    following = c_sample * sample + c_clean * clean + c_previous * previous + c_noise * noise
    return following, clean
