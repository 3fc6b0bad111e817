"""The comparison with peers: turns, ratios, and that both sides do the whole work with the same result."""

import argparse
import contextlib

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLInpaintPipeline

from benchmarks import peer_calls, peer_models, peers
from grefine_export.mini import sizes
from grefine_rt.diffusion.tiling import tiled_decode
from grefine_rt.models.bundle import Bundle
from grefine_rt.models.warm_up import PROMPT

SIDE = peer_models.RESOLUTION["embedded"]
OPTIONS = argparse.Namespace(size="embedded", device="cpu", runs=1, threads=1, compile=False, optimum=None)


@pytest.fixture(scope="module", autouse=True)
def small():
    """One thread, and shallow encoders: an export takes as long as a model has layers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peer_models, "TEXT_LAYERS", 1)
        patch.setattr(peer_models, "VAE_LAYERS", 1)
        patch.setattr(sizes, "INPAINT_UNET", {**sizes.INPAINT_UNET, "transformer_layers_per_block": 1})
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return peer_models.write_pipeline(tmp_path_factory.mktemp("peers") / "pipeline", "embedded")


@pytest.fixture(scope="module")
def bundle(pipeline):
    return Bundle.open(peers.stage1_bundle(pipeline, pipeline.parent / "bundle"), "cpu", 1)


def test_every_round_begins_with_another():
    order = []

    def call(name, seconds):
        def run():
            order.append(name)
            return seconds

        return run

    seconds = peer_calls.compare({"ours": call("ours", 1.0), "eager": call("eager", 3.0)}, 3)
    assert order == ["ours", "eager", "eager", "ours"] * 2
    assert seconds == {"ours": [1.0] * 3, "eager": [3.0] * 3}


def test_ratios_are_made_round_by_round():
    found = peer_calls.ratios({"ours": [1.0, 2.0, 4.0], "eager": [2.0, 2.0, 2.0]})
    assert found == {"eager": {"median": 1.0, "low": 0.5, "high": 2.0}}


def test_differences_are_shares_of_the_largest_value():
    theirs = np.array([4.0, -8.0], np.float32)
    assert peer_calls.difference(np.array([4.0, -6.0], np.float32), theirs) == 0.25


@pytest.mark.slow  # exports a whole stage 1
def test_both_sides_make_nine_calls_of_two_passes(pipeline, bundle, monkeypatch):
    step = bundle.engine("inpaint_step")
    ours, theirs = [], []
    real = type(step.bind()).run
    monkeypatch.setattr(type(step.bind()), "run", lambda self: (ours.append(1), real(self))[1])
    call = peer_calls.our_stage1(bundle, SIDE)
    assert call() > 0
    assert 0 < call.outside[-1] < 0.5
    diffusers = StableDiffusionXLInpaintPipeline.from_pretrained(pipeline)
    diffusers.unet.register_forward_hook(lambda module, given, made: theirs.append(len(given[0])))
    peer = peer_calls.diffusers_stage1(diffusers, SIDE, compiled=False, prompt=PROMPT)
    assert peer() > 0
    assert len(ours) == len(theirs) == 9
    assert set(theirs) == {2}
    assert call.result.shape == peer.result.shape == (SIDE, SIDE, 3)


@pytest.mark.slow  # the same export
def test_both_sides_decode_alike(pipeline, bundle):
    """The exported decoder is the pipeline's: the comparison is one of speed alone."""
    latent = np.random.default_rng(0).standard_normal((1, 4, 16, 16)).astype(np.float32)
    vae = StableDiffusionXLInpaintPipeline.from_pretrained(pipeline).vae
    with torch.no_grad():
        expected = vae.decode(torch.from_numpy(latent) / vae.config.scaling_factor).sample.numpy()
    got = tiled_decode(bundle.engine("inpaint_decode"), latent, 0)  # (H, W, 3) in [0, 1]
    assert 2 * got.transpose(2, 0, 1)[None] - 1 == pytest.approx(
        expected, abs=2e-2 * float(np.abs(expected).max())
    )


def test_without_a_compiler_the_rest_is_compared():
    def broken():
        raise RuntimeError("no compiler\nat all")

    calls = {"ours": lambda: 1.0, "compiled": broken}
    assert peer_calls.that_work(calls) == ({"ours": calls["ours"]}, {"compiled": "no compiler"})
    assert peer_calls.that_work({"ours": calls["ours"]}) == ({"ours": calls["ours"]}, {})


@pytest.fixture
def shallow(monkeypatch):
    """Models of the same kinds that are exported in seconds."""
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    unet = {**blocks, "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    monkeypatch.setattr(sizes, "RESTORE_UNET", unet)
    monkeypatch.setattr(sizes, "RESTORE_CONTROLNET", blocks)
    monkeypatch.setitem(peer_models.RESTORE_RESOLUTION, "embedded", 64)
    monkeypatch.setattr(sizes, "CLIP_VISION", {**sizes.CLIP_VISION, "num_hidden_layers": 2})
    monkeypatch.setattr(sizes, "CLIP_TEXT", {**sizes.CLIP_TEXT, "num_hidden_layers": 1})


@pytest.mark.parametrize("work", [pytest.param("stage2", marks=pytest.mark.slow), "assess"])
def test_both_sides_give_the_same_result(shallow, tmp_path, work):
    with contextlib.ExitStack() as stack:
        calls = peers.WORK[work](tmp_path, OPTIONS, stack)
    assert [*calls] == ["ours", "eager"]
    assert all(call() > 0 for call in calls.values())
    ours, theirs = (call.result for call in calls.values())  # type: ignore[attr-defined]
    assert ours.shape == ((64, 64, 3) if work == "stage2" else (1,))
    assert ours.std() > 0.01 or work == "assess"
    assert peer_calls.difference(ours, theirs) < peers.AGREED
    assert 0 < calls["ours"].outside[0] < 1  # type: ignore[attr-defined]


def test_a_line_tells_ratio_spread_and_difference():
    found = {
        "seconds": {"ours": [1.0, 2.0, 2.0], "eager": [3.0, 3.0, 3.0]},
        "ratios": {"eager": {"median": 1.5, "low": 1.5, "high": 3.0}},
        "outside": 0.021,
        "differences": {"eager": 3e-4},
        "failed": {"compiled": "no compiler"},
    }
    assert peers.describe("stage2", found).splitlines() == [
        "stage2: ours 2.000 s, 2.10 % of it outside of engine runs",
        "  eager: 3.000 s, 1.50 times ours (1.50 to 3.00); results differ by 3.0e-04",
        "  compiled does not work here: no compiler",
    ]


def test_a_gpu_that_is_not_there_is_said_before_anything_is_exported(monkeypatch):
    monkeypatch.setattr("sys.argv", ["peers", "stage1", "--device", "cuda"])
    monkeypatch.setattr("grefine_rt.engine.tensorrt.sidecar.gpu_target", lambda index=0: None)
    with pytest.raises(SystemExit, match="error: Device 'cuda' was asked for, but no NVIDIA GPU"):
        peers.main()
