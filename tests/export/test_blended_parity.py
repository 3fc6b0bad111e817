"""Stage 1 with a UNet that knows no mask, against diffusers, whose pipeline blends between the steps."""

import pytest

from grefine_rt.imaging.mask import to_latent
from tests.support import sdxl_reference as sdxl
from tests.support.redraw import redraw

SMALL, SQUARE, TALL = (64, 96), (256, 256), (336, 448)
CASES = [
    ("euler", 0.3, 7.5, SQUARE, 10),
    ("euler", 1.0, 1.0, SMALL, 10),
    ("dpm++2m", 0.99, 1.0, TALL, 10),
    ("dpm++2m", 0.7, 7.5, SMALL, 10),
    ("ddim", 0.99, 7.5, SMALL, 10),
    ("lcm", 0.8, 1.0, SMALL, 4),
]


@pytest.fixture(scope="module")
def bundle(stage1_paths, blended_graph):
    return sdxl.bundle({**stage1_paths, "inpaint_step": blended_graph[1]}, blended=True)


@pytest.mark.parametrize(("solver", "strength", "guidance", "size", "steps"), CASES)
def test_latents_equal_diffusers(
    bundle, vae_graphs, blended_graph, text_graph, monkeypatch, solver, strength, guidance, size, steps
):
    picture, mask = sdxl.picture(*size), sdxl.mask(*size)
    options = {"solver": solver, "strength": strength, "guidance": guidance, "steps": steps}
    models = vae_graphs[0], blended_graph[0].unet, text_graph[0]
    expected = sdxl.diffusers_result(monkeypatch, *models, picture, mask, **options)
    result = redraw(bundle, picture, mask, "words", seed=sdxl.SEED, **options)
    assert result.calls == int(steps * strength)
    assert sdxl.relative(result.latent, expected) < sdxl.BOUND


def test_the_latent_outside_the_mask_stays(bundle):
    picture, mask = sdxl.picture(*SMALL), sdxl.mask(*SMALL)
    untouched = redraw(bundle, picture, mask, "words", seed=sdxl.SEED, strength=0.0)
    assert untouched.calls == 0
    result = redraw(bundle, picture, mask, "words", seed=sdxl.SEED, strength=0.9)
    inside = to_latent(mask, result.latent.shape[2:]) > 0.5
    change = abs(result.latent - untouched.latent)[0]
    assert change[:, ~inside].max() < 1e-6
    assert change[:, inside].mean() > 0.1
