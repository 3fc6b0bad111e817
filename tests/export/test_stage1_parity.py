"""Stage 1 of the runtime against diffusers' SDXL inpainting pipeline: same weights, noise, mask, prompt."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLInpaintPipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_inpaint as pipeline_module
from torch import nn

from grefine_export.onnx.convert import export
from grefine_rt.diffusion.noise import gaussian
from grefine_rt.diffusion.regenerate import NOISE_STREAM, regenerate
from grefine_rt.diffusion.solver import Schedule
from grefine_rt.engine.onnxruntime import OnnxEngine

HEIGHT, WIDTH, STEPS, SEED = 64, 96, 6, 11
IDS, IDS_2 = tiny_models.token_ids(21), tiny_models.token_ids(22)
SCHEDULERS = {
    "euler": lambda **options: EulerDiscreteScheduler(**options),
    "dpm++2m": lambda **options: DPMSolverMultistepScheduler(**options, algorithm_type="dpmsolver++"),
}


class Encode(nn.Module):
    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, image):
        return self.vae.encode(image)


class Decode(nn.Module):
    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, latent):
        return self.vae.decode(latent)


class FixedTokenizer:
    """Gives the same ids for every prompt: what is compared starts after the words."""

    def __init__(self, ids):
        self._ids = ids[0].numpy()

    def encode_weighted(self, chunks):
        return self._ids, np.ones(len(self._ids), np.float32)


@pytest.fixture(scope="module")
def vae():
    return tiny_models.vae()


@pytest.fixture(scope="module")
def bundle(vae, inpaint_graph, text_graph, graphs):
    image, latent = torch.randn(1, 3, HEIGHT, WIDTH), torch.randn(1, 4, HEIGHT // 8, WIDTH // 8)
    axes = {2: "H", 3: "W"}
    paths = {
        "inpaint_step": inpaint_graph[1],
        "inpaint_text": text_graph[1],
        "inpaint_encode": export(
            Encode(vae), {"image": image}, ["latent"], {"image": axes}, graphs / "encode.onnx"
        ),
        "inpaint_decode": export(
            Decode(vae), {"latent": latent}, ["image"], {"latent": axes}, graphs / "decode.onnx"
        ),
    }
    engines = {name: OnnxEngine(path, "cpu", threads=1) for name, path in paths.items()}
    settings = SimpleNamespace(
        multiple=16,
        steps=STEPS,
        solver="euler",
        guidance=5.0,
        negative="zeros",
        prediction="epsilon",
        schedule=Schedule(1000, 0.00085, 0.012, "leading", 1),
        time_ids=True,
    )
    inputs = [SimpleNamespace(input="ids"), SimpleNamespace(input="ids_2")]
    return SimpleNamespace(
        manifest=SimpleNamespace(stages=(settings, None), tokenizers={"inpaint_text": inputs}),
        engine=engines.__getitem__,
        tokenizer=lambda component: [FixedTokenizer(IDS), FixedTokenizer(IDS_2)],
    )


@pytest.fixture(scope="module")
def picture():
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    return np.stack([y / HEIGHT, x / WIDTH, np.sin(x / 5) * 0.5 + 0.5], axis=-1).astype(np.float32)


@pytest.fixture(scope="module")
def mask():
    region = np.zeros((HEIGHT, WIDTH), bool)
    region[13:41, 30:77] = True
    return region


def reference(vae, unet, pair, solver, picture, mask, strength, guidance, output, monkeypatch):
    """The pipeline's result, with the runtime's noise and the posterior's mean in place of a sample."""
    scheduler = SCHEDULERS[solver](
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        timestep_spacing="leading",
        steps_offset=1,
    )
    pipeline = StableDiffusionXLInpaintPipeline(
        vae=vae.kl,
        text_encoder=pair.first.encoder,
        text_encoder_2=pair.second.encoder,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.from_numpy(gaussian(SEED, NOISE_STREAM, (1, 4, HEIGHT // 8, WIDTH // 8)))
    monkeypatch.setattr(pipeline_module, "randn_tensor", lambda *_, **__: noise.clone())
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    with torch.no_grad():
        one = pair.first.encoder(IDS, output_hidden_states=True)
        two = pair.second.encoder(IDS_2, output_hidden_states=True)
        context = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        return pipeline(
            prompt_embeds=context,
            pooled_prompt_embeds=two.text_embeds,
            negative_prompt_embeds=torch.zeros_like(context),
            negative_pooled_prompt_embeds=torch.zeros_like(two.text_embeds),
            image=torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()),
            mask_image=torch.from_numpy(mask[None, None].astype(np.float32)),
            height=HEIGHT,
            width=WIDTH,
            strength=strength,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            output_type=output,
        ).images


def relative(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("strength", [0.7, 0.99])
@pytest.mark.parametrize("solver", ["euler", "dpm++2m"])
def test_latents_equal_diffusers(
    bundle, vae, inpaint_graph, text_graph, picture, mask, solver, strength, guidance, monkeypatch
):
    expected = reference(
        vae,
        inpaint_graph[0].unet,
        text_graph[0],
        solver,
        picture,
        mask,
        strength,
        guidance,
        "latent",
        monkeypatch,
    )
    result = regenerate(
        bundle, picture, mask, "words", strength=strength, seed=SEED, solver=solver, guidance=guidance
    )
    assert result.calls == int(STEPS * strength)
    assert relative(result.latent, expected.numpy()) < 1e-5


def test_picture_equals_diffusers(bundle, vae, inpaint_graph, text_graph, picture, mask, monkeypatch):
    expected = reference(
        vae, inpaint_graph[0].unet, text_graph[0], "euler", picture, mask, 0.7, 5.0, "np", monkeypatch
    )
    result = regenerate(bundle, picture, mask, "words", strength=0.7, seed=SEED)
    assert relative(result.image, expected[0]) < 1e-5


def test_the_comparison_can_tell(bundle, picture, mask):
    """Another mask, prompt guidance or seed gives latents far outside the tolerance."""
    base = regenerate(bundle, picture, mask, "words", strength=0.7, seed=SEED).latent
    others = [
        regenerate(bundle, picture, ~mask, "words", strength=0.7, seed=SEED),
        regenerate(bundle, picture, mask, "words", strength=0.7, seed=SEED, guidance=1.0),
        regenerate(bundle, picture, mask, "words", strength=0.7, seed=SEED + 1),
        regenerate(bundle, picture, mask, "words", strength=0.7, seed=SEED, solver="dpm++2m"),
    ]
    assert all(relative(other.latent, base) > 5e-3 for other in others)
