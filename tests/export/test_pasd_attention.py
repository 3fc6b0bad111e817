"""Chunked attention: the same numbers, and no score matrix above the limit at 1024 pixels."""

import onnx
import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import nn

from grefine_export.models.pasd import PasdUNet
from grefine_export.models.pasd_attention import ChunkedAttention, chunk_pasd, chunk_vae
from grefine_export.onnx.convert import export
from grefine_export.onnx.cost import cost_at
from grefine_export.onnx.parity import compare
from tests.support import tiny_pasd

SD15 = {"cross_attention_dim": 768}
HEADS, WIDTH = 2, 16


class Layer(nn.Module):
    """Attention of a picture of any size to control tokens."""

    def __init__(self, processor):
        super().__init__()
        torch.manual_seed(1)
        self.attention = Attention(query_dim=WIDTH, cross_attention_dim=12, heads=HEADS, dim_head=8)
        self.attention.set_processor(processor)

    def forward(self, image, control):
        tokens, source = (feature.flatten(2).transpose(1, 2) for feature in (image, control))
        return self.attention(tokens, encoder_hidden_states=source)


def pictures(rows, height, width):
    generator = torch.Generator().manual_seed(height)
    return {
        name: torch.randn(rows, channels, height, width, generator=generator)
        for name, channels in (("image", WIDTH), ("control", 12))
    }


@pytest.mark.parametrize("chunks", [1, 8])
def test_equals_diffusers_attention(chunks):
    inputs = pictures(2, 8, 16)
    with torch.no_grad():
        expected = Layer(AttnProcessor())(**inputs)
        got = Layer(ChunkedAttention(chunks))(**inputs)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_equals_diffusers_attention_in_the_autoencoder():
    image = torch.rand(1, 3, 64, 32)
    vae = tiny_pasd.vae()
    expected = vae.encode(image).latent_dist.mean
    for module in vae.modules():
        if isinstance(module, Attention):
            module.set_processor(ChunkedAttention(4))
    torch.testing.assert_close(vae.encode(image).latent_dist.mean, expected, rtol=1e-5, atol=1e-5)


def test_an_exported_layer_keeps_its_scores_small_at_any_size(tmp_path):
    """The graph's own count of activations: chunks leave less than half of what one score matrix would take."""
    inputs = pictures(2, 8, 16)
    axes = {name: {0: "n", 2: "h", 3: "w"} for name in inputs}
    layer = Layer(ChunkedAttention(8)).eval()
    path = export(layer, inputs, ["out"], axes, tmp_path / "layer.onnx")
    whole = Layer(AttnProcessor())
    for other in (pictures(1, 24, 8), pictures(3, 8, 8)):
        assert compare(whole, path, other, bound=1e-5)["out"] < 1e-5
    scores = 4 * 2 * HEADS * (64 * 64) ** 2
    assert cost_at(onnx.load(path), {"n": 2, "h": 64, "w": 64}).memory < scores / 2


@pytest.mark.parametrize(("number_bytes", "most"), [(2, 16), (4, 32)])
def test_no_score_matrix_of_sd15_passes_a_gigabyte_at_1024(number_bytes, most):
    with torch.device("meta"):
        pasd = PasdUNet(SD15, SD15)
    chunk_pasd(pasd, 1024, number_bytes)
    largest = dict.fromkeys((320, 640, 1280), 0)
    for name, module in pasd.named_modules():
        if not isinstance(module, Attention):
            continue
        width = module.to_q.in_features
        # The middle block and the deepest control blocks have 1280 channels too, and fewer tokens still.
        tokens = {320: 128 * 128, 640: 64 * 64, 1280: 32 * 32}[width]
        text = name.endswith("attn2") and not name.startswith("paca")
        scores = 2 * 8 * tokens * (77 if text else tokens) * number_bytes
        chunks = module.processor.chunks
        assert scores / chunks < 1e9
        largest[width] = max(largest[width], chunks)
    assert largest == {320: most, 640: number_bytes // 2, 1280: 1}


def test_small_pictures_take_one_chunk():
    with torch.device("meta"):
        pasd, vae = PasdUNet(SD15, SD15), AutoencoderKL(**tiny_pasd.VAE)
    chunk_pasd(pasd, 512, 2)
    chunk_vae(vae, 512, 4)
    chunks = [module.processor.chunks for module in pasd.modules() if isinstance(module, Attention)]
    assert len(chunks) == 2 * (16 + 7 + 12)
    assert {*chunks} == {1}
    assert {module.processor.chunks for module in vae.modules() if isinstance(module, Attention)} == {1}
    chunk_vae(vae, 1024, 4)
    assert {module.processor.chunks for module in vae.modules() if isinstance(module, Attention)} == {2}


def test_a_side_that_needs_tiles_is_refused():
    with torch.device("meta"):
        pasd = PasdUNet(SD15, SD15)
    with pytest.raises(ValueError, match="too large for one pass"):
        chunk_pasd(pasd, 4096, 2)
