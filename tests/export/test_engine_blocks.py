"""SDXL's down path at full width, one layer a block, in half precision, becomes an engine whose attention is fused."""

import importlib.util
import os
from functools import partial

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D, DownBlock2D
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn

from grefine_export.clip_bundle import Source, write_bundle
from grefine_export.models.clip_loading import surgery
from grefine_export.onnx.component import export_component
from grefine_export.onnx.convert import export
from grefine_export.vae_component import decode_job
from grefine_rt.bundle.store import write
from grefine_rt.engine.tensorrt.build import EngineBuilder
from tests.support import clip_files, tiny

GRAPH = "components/inpaint_step.onnx"
pytestmark = pytest.mark.slow  # exports at full width and builds real engines


class DownPath(nn.Module):
    """The three down blocks of SDXL's UNet, with one ResNet block and one transformer layer each."""

    def __init__(self):
        super().__init__()
        shared = {"temb_channels": 1280, "num_layers": 1}
        crossed = {**shared, "cross_attention_dim": 2048, "use_linear_projection": True}
        self.first = DownBlock2D(in_channels=320, out_channels=320, **shared)
        self.second = CrossAttnDownBlock2D(
            in_channels=320, out_channels=640, num_attention_heads=10, **crossed
        )
        self.third = CrossAttnDownBlock2D(
            in_channels=640, out_channels=1280, num_attention_heads=20, add_downsample=False, **crossed
        )

    def forward(self, sample, time, context):
        hidden, _ = self.first(sample.half(), time.half())
        for block in (self.second, self.third):
            hidden, _ = block(hidden, time.half(), encoder_hidden_states=context.half())
        return hidden.float()


@pytest.fixture(scope="module")
def real_builder():
    """TensorRT for RTX is here."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        if os.environ.get("CI"):
            pytest.fail("TensorRT for RTX is missing: pip install '.[tensorrt]'")
        pytest.skip("TensorRT for RTX is not installed: pip install '.[tensorrt]'")


@pytest.fixture(scope="module")
def built(tmp_path_factory, real_builder):
    """The graph's size in bytes, and the sidecar of its engine."""
    folder = tiny.save(tmp_path_factory.mktemp("blocks") / "bundle")
    torch.manual_seed(0)
    export(
        DownPath().half(),
        {
            "sample": torch.randn(2, 320, 16, 16),
            "time": torch.randn(2, 1280),
            "context": torch.randn(2, 77, 2048),
        },
        ["features"],
        {"sample": {0: "n", 2: "h", 3: "w"}, "time": {0: "n"}, "context": {0: "n"}},
        folder / GRAPH,
    )
    data = tiny.manifest()
    data["inpaint"] |= {"resolution": 1024, "multiple": 64}
    manifest = write(folder, data)
    sidecar = EngineBuilder(("sm89",)).build(folder, manifest, GRAPH, folder / "blocks.engine")
    return manifest.files[GRAPH].size, sidecar


def test_full_width_blocks_stay_in_half_precision_and_take_little_memory(built):
    stored, sidecar = built
    assert (sidecar.precision, sidecar.storage) == ("fp16", "fp16")
    assert sidecar.options["flags"] == "TF32 REQUIRE_USER_ALLOCATION RUNTIME_ACTIVATION_RESIZE_10_10"
    assert stored < sidecar.engine.size < stored + 50e6  # weights as they are, and the code of five profiles
    assert sidecar.memory is not None
    assert sidecar.memory < 3e9


def test_self_and_cross_attention_of_both_transformer_layers_are_fused(built):
    _, sidecar = built
    assert sidecar.attention == (4, 4)


def test_every_bucket_has_a_profile_and_takes_more_memory_than_the_one_before(built):
    _, sidecar = built
    assert [profile["h"] for profile in sidecar.profiles] == [
        (8, 128, 192),
        (32, 64, 96),
        (48, 80, 112),
        (48, 96, 144),
        (192, 224, 320),
    ]
    third, first, wide, second, high = sidecar.activations
    assert first < second < wide < third
    assert high < third


@pytest.mark.parametrize("compute", ["fp16", "fp32"])
def test_a_clip_exported_in_half_precision_is_built_in_it_and_its_attention_fused(
    tmp_path, real_builder, compute
):
    folder = tmp_path / "bundle"
    clip = clip_files.random_clip(clip_files.small_config())
    torch.manual_seed(0)
    source = Source("random weights", "none")
    manifest = write_bundle(
        folder,
        surgery(clip),
        torch.randn(4, 2, 40),
        Tokenizer(WordLevel({"a": 0}, "a")),
        source,
        compute=compute,
    )
    built = [
        EngineBuilder(("sm89",)).build(folder, manifest, graph, tmp_path / f"{index}.engine")
        for index, graph in enumerate(sorted(set(manifest.components.values())))
    ]
    assert {sidecar.precision for sidecar in built} == {compute}
    assert {sidecar.storage for sidecar in built} == {"fp16"}
    # The text's 2 causal ones; the picture's 8 blocks, of which 6 have two paths.
    fused = [sidecar.attention for sidecar in built]
    assert fused == ([(2, 2), (14, 14)] if compute == "fp16" else [(0, 2), (0, 14)])


def test_an_autoencoder_whose_tiles_attend_to_others(tmp_path, real_builder):
    """One head as wide as SDXL's, which no fused kernel takes: its scores are bounded by the sizes of profiles."""
    torch.manual_seed(0)
    levels = 4
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        block_out_channels=[32, 32, 32, 512],
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
    ).eval()
    folder = tiny.save(tmp_path / "bundle")
    graph = "components/inpaint_decode.onnx"
    job = partial(decode_job, lambda: vae, "fp16", 1024, True)
    export_component(folder / graph, job, "fp16", {}, lambda text: None)
    (folder / f"{graph}.json").unlink()
    data = tiny.manifest()
    data["inpaint"] |= {"resolution": 1024, "multiple": 64, "tile": 1024}
    manifest = write(folder, data)
    sidecar = EngineBuilder(("sm89",)).build(folder, manifest, graph, folder / "decode.engine")
    assert "others" in {tensor.name for tensor in sidecar.inputs}
    assert max(sidecar.activations) < 6.5e9
