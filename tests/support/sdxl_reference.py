"""Stage 1 of the runtime and diffusers' SDXL inpainting pipeline on the same weights, noise, mask and prompt."""

from itertools import count
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLInpaintPipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_inpaint as pipeline_module
from diffusers.schedulers import scheduling_lcm as lcm_module

from grefine_rt.bundle.manifest import Inpaint
from grefine_rt.contract import Schedule
from grefine_rt.diffusion.noise import gaussian, step_noise
from grefine_rt.diffusion.regenerate import NOISE_STREAM
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from tests.support import tiny_models

STEPS, SEED = 10, 11
BOUND = 5e-4
"""Relative L2 error; both sides compute in single precision. Another setting changes latents by 0.1 or more."""
IDS, IDS_2 = tiny_models.token_ids(21), tiny_models.token_ids(22)
SCHEDULERS = {
    "euler": EulerDiscreteScheduler,
    "ddim": lambda **options: DDIMScheduler(**options, clip_sample=False, set_alpha_to_one=False),
    "dpm++2m": DPMSolverMultistepScheduler,
    "lcm": LCMScheduler,
}


class _FixedTokenizer:
    """Gives the same ids for every prompt: what is compared starts after the words."""

    def __init__(self, ids):
        self._ids = ids[0].numpy()

    def encode_weighted(self, chunks):
        return self._ids, np.ones(len(self._ids), np.float32)


def bundle(paths, blended=False, spacing="leading"):
    """What stage 1 needs of a bundle, with the graphs at `paths` by component."""
    engines = {name: OnnxEngine(path, "cpu", threads=1) for name, path in paths.items()}
    settings = Inpaint(
        resolution=64,
        multiple=16,
        steps=STEPS,
        solver="euler",
        guidance=7.5,
        drafts=1,
        negative="zeros",
        prediction="epsilon",
        schedule=Schedule(1000, 0.00085, 0.012, spacing, 1),
        time_ids=True,
        blended=blended,
    )
    inputs = [SimpleNamespace(input="ids"), SimpleNamespace(input="ids_2")]
    return SimpleNamespace(
        manifest=SimpleNamespace(stage1=settings, tokenizers={"inpaint_text": inputs}),
        engine=engines.__getitem__,
        tokenizer=lambda component: [_FixedTokenizer(IDS), _FixedTokenizer(IDS_2)],
    )


def picture(height, width):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([y / height, x / width, np.sin(x / 5) * 0.5 + 0.5], axis=-1).astype(np.float32)


def mask(height, width):
    """A box whose sides lie inside latent cells."""
    region = np.zeros((height, width), bool)
    region[height // 5 : 2 * height // 3 - 1, width // 3 - 2 : 4 * width // 5] = True
    return region


def prompt_embeds(pair):
    """Context (1, L, D) and pooled (1, P) of the one prompt."""
    with torch.no_grad():
        one = pair.first.encoder(IDS, output_hidden_states=True)
        two = pair.second.encoder(IDS_2, output_hidden_states=True)
    return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1), two.text_embeds


def scheduler(solver, spacing="leading"):
    return SCHEDULERS[solver](
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        timestep_spacing=spacing,
        steps_offset=1,
    )


def diffusers_result(
    monkeypatch, vae, unet, pair, image, region, output="latent", *, solver, strength, guidance, **options
):
    """What the pipeline gives, with the runtime's noise and the posterior's mean in place of a sample."""
    spacing, steps = options.pop("spacing", "leading"), options.pop("steps", STEPS)
    pipeline = StableDiffusionXLInpaintPipeline(
        vae=vae.kl,
        text_encoder=pair.first.encoder,
        text_encoder_2=pair.second.encoder,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=scheduler(solver, spacing),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    height, width = region.shape
    shape = (1, 4, height // 8, width // 8)
    noise, index = torch.from_numpy(gaussian(SEED, NOISE_STREAM, shape)), count()
    monkeypatch.setattr(pipeline_module, "randn_tensor", lambda *_, **__: noise.clone())
    monkeypatch.setattr(
        lcm_module,
        "randn_tensor",
        lambda *_, **__: torch.from_numpy(step_noise(SEED, NOISE_STREAM, next(index), shape)),
    )
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    context, pooled = prompt_embeds(pair)
    with torch.no_grad():
        images = pipeline(
            prompt_embeds=context,
            pooled_prompt_embeds=pooled,
            negative_prompt_embeds=torch.zeros_like(context),
            negative_pooled_prompt_embeds=torch.zeros_like(pooled),
            image=torch.from_numpy(image.transpose(2, 0, 1)[None].copy()),
            mask_image=torch.from_numpy(region[None, None].astype(np.float32)),
            height=height,
            width=width,
            strength=strength,
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type=output,
            **options,
        ).images
    return np.asarray(images)


def relative(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)
