"""Stage 1 of the runtime against diffusers' SDXL inpainting pipeline, and against a plain torch loop."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_inpaint import rescale_noise_cfg

from grefine_export.onnx.convert import halve_weights
from grefine_rt.diffusion.noise import gaussian
from grefine_rt.diffusion.regenerate import NOISE_STREAM
from grefine_rt.diffusion.solver import guidance_row
from tests.support import sdxl_reference as sdxl
from tests.support.redraw import redraw

SMALL, SQUARE, TALL = (64, 96), (256, 256), (336, 448)
# Each value of one column meets each value of every other.
PAIRWISE = [
    ("euler", 0.3, 1.0, SQUARE),
    ("euler", 0.7, 7.5, TALL),
    ("euler", 0.99, 7.5, SQUARE),
    ("dpm++2m", 0.3, 7.5, TALL),
    ("dpm++2m", 0.7, 1.0, SQUARE),
    ("dpm++2m", 0.99, 1.0, TALL),
]


@pytest.fixture(scope="module")
def bundle(stage1_paths):
    return sdxl.bundle(stage1_paths)


@pytest.fixture
def diffusers_result(monkeypatch, vae_graphs, inpaint_graph, text_graph):
    def run(*arguments, **options):
        models = vae_graphs[0], inpaint_graph[0].unet, text_graph[0]
        return sdxl.diffusers_result(monkeypatch, *models, *arguments, **options)

    return run


@pytest.mark.parametrize(("solver", "strength", "guidance", "size"), PAIRWISE)
def test_latents_equal_diffusers(bundle, diffusers_result, solver, strength, guidance, size):
    picture, mask = sdxl.picture(*size), sdxl.mask(*size)
    options = {"solver": solver, "strength": strength, "guidance": guidance}
    expected = diffusers_result(picture, mask, **options)
    result = redraw(bundle, picture, mask, "words", seed=sdxl.SEED, **options)
    assert result.calls == int(sdxl.STEPS * strength)
    assert sdxl.relative(result.latent, expected) < sdxl.BOUND


def test_lcm_in_four_steps_equals_diffusers(bundle, diffusers_result):
    picture, mask = sdxl.picture(*SMALL), sdxl.mask(*SMALL)
    options = {"solver": "lcm", "guidance": 1.0, "steps": 4}
    for strength in (1.0, 0.8):
        expected = diffusers_result(picture, mask, strength=strength, **options)
        result = redraw(bundle, picture, mask, "words", seed=sdxl.SEED, strength=strength, **options)
        assert sdxl.relative(result.latent, expected) < sdxl.BOUND


def test_few_trailing_steps_equal_diffusers(stage1_paths, diffusers_result):
    """The schedule of Lightning and Turbo models."""
    picture, mask = sdxl.picture(*SMALL), sdxl.mask(*SMALL)
    options = {"solver": "euler", "strength": 0.99, "guidance": 1.0, "steps": 4}
    expected = diffusers_result(picture, mask, spacing="trailing", **options)
    trailing = sdxl.bundle(stage1_paths, spacing="trailing")
    result = redraw(trailing, picture, mask, "words", seed=sdxl.SEED, **options)
    assert sdxl.relative(result.latent, expected) < sdxl.BOUND


def test_guidance_rescale_equals_diffusers(bundle, diffusers_result):
    picture, mask = sdxl.picture(*SMALL), sdxl.mask(*SMALL)
    options = {"solver": "euler", "strength": 0.7, "guidance": 7.5}
    expected = diffusers_result(picture, mask, guidance_rescale=0.7, **options)
    result = redraw(bundle, picture, mask, "words", seed=sdxl.SEED, rescale=0.7, **options)
    assert sdxl.relative(result.latent, expected) < sdxl.BOUND


def test_guidance_interval_equals_a_plain_torch_loop(bundle, vae_graphs, inpaint_graph, text_graph):
    """Guidance and its rescale in the middle calls, one pass in the others."""
    strength, guidance, interval, rescale = 0.9, 7.5, (0.2, 0.7), 0.5
    picture, mask = sdxl.picture(*SMALL), sdxl.mask(*SMALL)
    vae, unet = vae_graphs[0], inpaint_graph[0].unet
    context, pooled = sdxl.prompt_embeds(text_graph[0])
    time_ids = torch.tensor([[*SMALL, 0.0, 0.0, *SMALL]])
    planes = torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()) * 2 - 1
    region = torch.from_numpy(mask[None, None])
    scheduler = sdxl.scheduler("euler")
    scheduler.set_timesteps(sdxl.STEPS)
    timesteps = scheduler.timesteps[1:]
    scheduler.set_begin_index(1)

    def predict(sample, timestep, context, pooled):
        joined = torch.cat([scheduler.scale_model_input(sample, timestep), cells, masked], dim=1)
        added = {"text_embeds": pooled, "time_ids": time_ids}
        return unet(joined, timestep, context, added_cond_kwargs=added).sample

    with torch.no_grad():
        latent, masked = vae.encode(planes), vae.encode(planes * ~region)
        cells = F.interpolate(region.float(), latent.shape[2:], mode="nearest")
        noise = torch.from_numpy(gaussian(sdxl.SEED, NOISE_STREAM, tuple(latent.shape)))
        sample = scheduler.add_noise(latent, noise, timesteps[:1])
        for call, timestep in enumerate(timesteps):
            output = positive = predict(sample, timestep, context, pooled)
            if 2 <= call < 6:  # of nine calls those with a middle between 1.8 and 6.3
                zeros = predict(sample, timestep, torch.zeros_like(context), torch.zeros_like(pooled))
                output = rescale_noise_cfg(zeros + guidance * (positive - zeros), positive, rescale)
            sample = scheduler.step(output, timestep, sample).prev_sample

    assert (guidance_row(guidance, 9, interval) != 1).nonzero()[0].tolist() == [2, 3, 4, 5]
    result = redraw(
        bundle,
        picture,
        mask,
        "words",
        seed=sdxl.SEED,
        strength=strength,
        guidance=guidance,
        interval=interval,
        rescale=rescale,
    )
    assert sdxl.relative(result.latent, sample.numpy()) < sdxl.BOUND


def test_picture_equals_diffusers(bundle, diffusers_result):
    picture, mask = sdxl.picture(*SMALL), sdxl.mask(*SMALL)
    options = {"solver": "euler", "strength": 0.7, "guidance": 7.5}
    expected = diffusers_result(picture, mask, "np", **options)
    result = redraw(bundle, picture, mask, "words", seed=sdxl.SEED, **options)
    assert sdxl.relative(result.image, expected[0]) < sdxl.BOUND


@pytest.mark.parametrize("solver", ["euler", "dpm++2m"])
def test_picture_in_half_precision(stage1_paths, half_graph, diffusers_result, solver, tmp_path):
    """The UNet in FP16, the rest stored in FP16: 40 dB of the FP32 pipeline."""
    paths = {"inpaint_step": half_graph}
    for name in stage1_paths.keys() - paths.keys():
        model = ir.load(stage1_paths[name])
        halve_weights(model)
        paths[name] = tmp_path / f"{name}.onnx"
        ir.save(model, paths[name])
    picture, mask = sdxl.picture(*SMALL), sdxl.mask(*SMALL)
    options = {"solver": solver, "strength": 0.99, "guidance": 7.5}
    expected = diffusers_result(picture, mask, "np", **options)
    result = redraw(sdxl.bundle(paths), picture, mask, "words", seed=sdxl.SEED, **options)
    noise = np.mean((result.image - expected[0]) ** 2)
    assert 1e-12 < noise < 1e-4  # 40 dB; not the single precision graphs


def test_the_comparison_can_tell(bundle):
    """Another mask, prompt guidance, seed, solver or rescale gives latents far outside the tolerance."""
    picture, mask = sdxl.picture(*SMALL), sdxl.mask(*SMALL)

    def latent(region=mask, seed=sdxl.SEED, **options):
        return redraw(bundle, picture, region, "words", strength=0.7, seed=seed, **options).latent

    others = [
        latent(~mask),
        latent(guidance=1.0),
        latent(seed=sdxl.SEED + 1),
        latent(solver="dpm++2m"),
        latent(rescale=0.7),
        latent(interval=(0.0, 0.5)),
    ]
    assert all(sdxl.relative(other, latent()) > 0.1 for other in others)
