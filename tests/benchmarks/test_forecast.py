"""Predicted milliseconds: counted node by node, on modules that hold no numbers."""

from collections import Counter

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from benchmarks import forecast
from benchmarks.roofline import CARDS
from grefine_export.models.fused_attention import fuse_attention
from grefine_export.models.pasd_attention import ChunkedAttention
from tests.support import tiny_models


class Block(nn.Module):
    """A norm with its SiLU, a convolution, an attention."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3, padding=1)
        self.attention = Attention(8, heads=2, dim_head=4)
        self.attention.set_processor(ChunkedAttention())

    def forward(self, x):
        hidden = self.conv(nn.functional.silu(self.norm(x)))
        return self.attention(hidden.flatten(2).transpose(1, 2))


def block(operators):
    with torch.device("meta"):
        module, x = Block(), torch.empty(2, 8, 4, 4)
    if operators != "portable":
        fuse_attention(module)
    return forecast.nodes_of(module, {"x": x}, operators)


def test_a_block_is_counted_by_hand():
    picture = 2 * 8 * 4 * 4 * 4  # bytes
    scores = 2 * 2 * 16 * 16
    fused = block("onnxruntime-cuda")
    kinds = Counter(node.kind for node in fused)
    assert kinds == {"GroupNorm": 1, "Conv": 1, "MatMul": 4, "Add": 1, "Attention": 1}
    (norm,) = (node for node in fused if node.kind == "GroupNorm")
    (attention,) = (node for node in fused if node.kind == "Attention")
    (conv,) = (node for node in fused if node.kind == "Conv")
    assert norm.moved == 3 * picture
    assert (attention.flops, attention.moved) == (2 * 2 * 4 * scores, 4 * picture)
    assert conv.flops == 2 * 2 * 16 * 8 * 8 * 9
    portable = block("portable")
    more = Counter(node.kind for node in portable) - kinds
    assert more == {"Mul": 1, "Add": 1, "silu": 1, "MatMul": 2, "_softmax": 1, "Transpose": 5}
    (softmax,) = (node for node in portable if node.kind == "_softmax")
    assert softmax.moved == 2 * 4 * scores
    assert sum(node.flops for node in portable) == sum(node.flops for node in fused)


@pytest.mark.parametrize("make", [tiny_models.inpaint_step, tiny_models.restore_step])
def test_a_step_computes_the_same_and_moves_less(make):
    found = []
    for operators in ("portable", "onnxruntime-cuda"):
        module = make().to("meta")
        if operators != "portable":
            fuse_attention(module)
        else:
            for part in module.modules():
                if isinstance(part, Attention):
                    part.set_processor(ChunkedAttention())
        inputs = {
            name: value.to("meta") for name, value in tiny_models.step_inputs(module, 2, 16, 16).items()
        }
        found.append(forecast.forecast(forecast.nodes_of(module, inputs, operators)))
    portable, fused = found
    assert fused.tflop == pytest.approx(portable.tflop)
    assert fused.gigabytes < portable.gigabytes
    assert fused.nodes < 0.75 * portable.nodes
    assert all(0 < fused.milliseconds[card] < portable.milliseconds[card] for card in CARDS)
