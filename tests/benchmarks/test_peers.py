"""The comparison with peers: turns, ratios, and that both sides do the whole work."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLInpaintPipeline

from benchmarks import peers
from benchmarks.peer_models import RESOLUTION, write_pipeline
from grefine_rt.bundle.store import Bundle
from grefine_rt.diffusion.tiling import tiled_decode


def test_every_round_begins_with_another():
    order = []

    def call(name, seconds):
        def run():
            order.append(name)
            return seconds

        return run

    seconds = peers.compare({"ours": call("ours", 1.0), "eager": call("eager", 3.0)}, 3)
    assert order == ["ours", "eager", "eager", "ours"] * 2
    assert seconds == {"ours": [1.0] * 3, "eager": [3.0] * 3}


def test_ratios_are_made_round_by_round():
    found = peers.ratios({"ours": [1.0, 2.0, 4.0], "eager": [2.0, 2.0, 2.0]})
    assert found == {"eager": {"median": 1.0, "low": 0.5, "high": 2.0}}


def test_both_sides_make_nine_calls_of_two_passes(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    pipeline = write_pipeline(tmp_path / "pipeline", "embedded")
    bundle = Bundle.open(peers.make_bundle(pipeline, tmp_path / "bundle"), "cpu", 1)
    side = RESOLUTION["embedded"]
    step = bundle.engine("inpaint_step")
    ours, theirs = [], []
    real = type(step.bind()).run
    monkeypatch.setattr(type(step.bind()), "run", lambda self: (ours.append(1), real(self))[1])
    call, outside = peers.ours(bundle, side)
    assert call() > 0
    assert 0 < outside() < 0.5
    diffusers = StableDiffusionXLInpaintPipeline.from_pretrained(pipeline)
    diffusers.unet.register_forward_hook(lambda module, given, made: theirs.append(len(given[0])))
    assert peers.diffusers_call(diffusers, side)() > 0
    assert len(ours) == len(theirs) == 9
    assert set(theirs) == {2}


def test_both_sides_decode_alike(tmp_path):
    """The exported decoder is the pipeline's: the comparison is one of speed alone."""
    torch.set_num_threads(1)
    pipeline = write_pipeline(tmp_path / "pipeline", "embedded")
    bundle = Bundle.open(peers.make_bundle(pipeline, tmp_path / "bundle"), "cpu", 1)
    latent = np.random.default_rng(0).standard_normal((1, 4, 16, 16)).astype(np.float32)
    vae = StableDiffusionXLInpaintPipeline.from_pretrained(pipeline).vae
    with torch.no_grad():
        expected = vae.decode(torch.from_numpy(latent) / vae.config.scaling_factor).sample.numpy()
    got = tiled_decode(bundle.engine("inpaint_decode"), latent, 0)  # (H, W, 3) in [0, 1]
    assert 2 * got.transpose(2, 0, 1)[None] - 1 == pytest.approx(
        expected, abs=2e-2 * float(np.abs(expected).max())
    )
