"""The fused denoising step: input scaling, guidance passes, clean estimate and solver update in one graph.

`coefficients` (8,) is one row of `grefine_rt.diffusion.solver.table`:
`[input_scale, sample_to_clean, model_to_clean, c_sample, c_clean, c_previous, c_noise, guidance]`, and

    model = UNet(input_scale * sample, ...), combined over the guidance passes
    clean = sample_to_clean * sample + model_to_clean * model
    next  = c_sample * sample + c_clean * clean + c_previous * previous + c_noise * noise

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
        """Latents (1, 4, h, w), `mask` (1, 1, h, w) 0 or 1, `context` (n, L, D), `pooled` (n, P), `time_ids`
        (n, 6), `timestep` (1,), `coefficients` (8,) -> `next` and `clean` (1, 4, h, w).
        """
        dtype = self.unet.dtype
        joined = torch.cat([coefficients[0] * sample, mask, masked_latent], dim=1)
        joined = joined.expand(context.shape[0], -1, -1, -1)
        # pooled and time_ids stay float32: diffusers joins them with float32 time features, then casts. Half
        # precision here makes the exporter write a Concat of two types, which no runtime loads.
        model = self.unet(
            joined.to(dtype),
            timestep,
            context.to(dtype),
            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
            return_dict=False,
        )[0]
        return _update(model.float(), sample, previous, noise, coefficients)


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
        """Latents (1, 4, h, w), `control` (1, 3, 8h, 8w) RGB in [0, 1], `context` (n, L, D), `timestep` (1,),
        `coefficients` (8,) -> `next` and `clean` (1, 4, h, w).
        """
        dtype = self.pasd.unet.dtype
        scaled = (coefficients[0] * sample).expand(context.shape[0], -1, -1, -1)
        model = self.pasd(
            scaled.to(dtype), timestep, context.to(dtype), control.to(dtype), self.conditioning_scale
        )
        return _update(model.float(), sample, previous, noise, coefficients)


def _update(
    model: Tensor, sample: Tensor, previous: Tensor, noise: Tensor, coefficients: Tensor
) -> tuple[Tensor, Tensor]:
    """Guidance over the batch of `model` (n, 4, h, w), then the clean estimate and the solver's update."""
    _, sample_to_clean, model_to_clean, c_sample, c_clean, c_previous, c_noise, guidance = (
        coefficients.unbind()
    )
    guided = model[:1] + guidance * (model[-1:] - model[:1])
    clean = sample_to_clean * sample + model_to_clean * guided
    following = c_sample * sample + c_clean * clean + c_previous * previous + c_noise * noise
    return following, clean
