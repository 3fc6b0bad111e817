"""Graphs for ONNX Runtime CUDA: one node an attention and a group norm, and the numbers of the modules."""

import copy
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from grefine_export.models.fused_attention import fuse_attention
from grefine_export.onnx.component import Job, export_component
from grefine_export.onnx.convert import export
from grefine_export.onnx.cost import count
from grefine_export.onnx.cuda_operators import DOMAIN, on_cpu, state
from grefine_export.vae_component import decode_job
from tests.support import tiny_models


def silent(text):
    pass


def kinds(path):
    """The nodes of a graph by kind; a fused norm by its activation, too."""
    found = []
    for node in onnx.load(path).graph.node:
        silu = [attribute.i for attribute in node.attribute if attribute.name == "activation"]
        found.append(f"{node.domain}:{node.op_type}{silu or ''}" if node.domain else node.op_type)
    return found


def layers(module, kind):
    return sum(isinstance(part, kind) for part in module.modules())


def step(make, axes):
    """A fused step as a job, and its module."""
    module = make()
    fuse_attention(module)
    inputs = tiny_models.step_inputs(module, 2, 8, 12)
    check = tiny_models.step_inputs(module, 1, 16, 8)
    return module, Job(module, inputs, check, ["next", "clean"], axes, operators="onnxruntime-cuda")


@pytest.mark.parametrize(
    ("make", "axes"),
    [
        (tiny_models.inpaint_step, tiny_models.INPAINT_AXES),
        (tiny_models.restore_step, tiny_models.RESTORE_AXES),
    ],
    ids=["inpaint", "restore"],
)
def test_a_step_has_one_node_an_attention_and_a_norm_and_computes_what_its_module_does(tmp_path, make, axes):
    module, job = step(make, axes)
    # The module as it is, before its attention is exchanged, is what the numbers are held against.
    expected = [part.numpy() for part in run(make(), job.check)]
    error = export_component(tmp_path / "step.onnx", lambda: job, "fp32", {}, silent)
    assert error < 1e-5
    with on_cpu(tmp_path / "step.onnx") as path:
        got = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
            None, {name: value.numpy() for name, value in job.check.items()}
        )
    for one, other in zip(got, expected, strict=True):
        assert np.linalg.norm(one - other) < 1e-5 * np.linalg.norm(other)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["step.onnx", "step.onnx.json"]
    found = kinds(tmp_path / "step.onnx")
    assert found.count("Attention") == layers(module, Attention)
    norms = [kind for kind in found if kind.startswith(f"{DOMAIN}:GroupNorm")]
    assert len(norms) == layers(module, nn.GroupNorm)
    assert found.count(f"{DOMAIN}:NhwcConv") == layers(module, nn.Conv2d)
    assert not {"Softmax", "InstanceNormalization", "GroupNormalization", "Conv"} & set(found)
    # Every norm but those in front of transformers has a SiLU behind it; of those that stay, one is the time's.
    transformers = len(norms) - norms.count(f"{DOMAIN}:GroupNorm[1]")
    assert 0 < transformers < len(norms) / 2


def run(module, inputs):
    with torch.no_grad():
        return module(*inputs.values())


def test_a_decoder_in_half_precision_is_held_against_its_module_and_counted(tmp_path):
    vae = tiny_models.vae().kl
    job = partial(decode_job, lambda: copy.deepcopy(vae), "fp16", 1024, False)
    for name, operators in (("portable", "portable"), ("fused", "onnxruntime-cuda")):
        export_component(tmp_path / f"{name}.onnx", partial(job, operators), "fp16", {}, silent)
    found = kinds(tmp_path / "fused.onnx")
    assert found.count("Attention") == 1
    assert found.count(f"{DOMAIN}:GroupNorm[1]") == layers(vae.decoder, nn.GroupNorm) - 1
    plain, fused = (count(tmp_path / f"{name}.onnx") for name in ("portable", "fused"))
    assert fused.flops == plain.flops


def test_what_tiles_share_lies_inside_of_portable_norms(tmp_path):
    vae = tiny_models.vae().kl
    assert decode_job(lambda: vae, "fp32", 1024, True, "onnxruntime-cuda").operators == "portable"


@pytest.mark.parametrize("silu", [False, True])
def test_the_definition_of_the_norm_is_torch_s_own_in_double_precision(silu, tmp_path):
    node = onnx.helper.make_node(
        "GroupNorm",
        ["x", "gamma", "beta"],
        ["y"],
        domain=DOMAIN,
        epsilon=1e-6,
        groups=4,
        activation=int(silu),
        channels_last=1,
    )
    double = onnx.TensorProto.DOUBLE
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "norm",
        [value("x", double, [2, 3, 5, 8]), value("gamma", double, [8]), value("beta", double, [8])],
        [value("y", double, [2, 3, 5, 8])],
    )
    versions = [onnx.helper.make_opsetid("", 23), onnx.helper.make_opsetid(DOMAIN, 1)]
    model = onnx.helper.make_model(graph, opset_imports=versions, ir_version=10)
    state(model)
    torch.manual_seed(0)
    x, gamma, beta = 30 + torch.randn(2, 3, 5, 8).double(), torch.randn(8).double(), torch.randn(8).double()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x.numpy(), "gamma": gamma.numpy(), "beta": beta.numpy()})
    expected = nn.functional.group_norm(x.movedim(-1, 1), 4, gamma, beta, 1e-6)
    expected = nn.functional.silu(expected) if silu else expected
    assert np.abs(got - expected.movedim(1, -1).numpy()).max() < 1e-6


class Gates(nn.Module):
    """Norms of every kind of reader: a SiLU alone, a SiLU and something else, another product, an output; and a
    convolution that is used twice."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(2, 4) for _ in range(4))
        self.conv = nn.Conv2d(4, 4, 3, stride=2, padding=1, bias=False)
        for parameter in self.parameters():  # equal ones would become one node
            nn.init.normal_(parameter)

    def forward(self, x):
        alone, both, product, last = (norm(x) for norm in self.norms)
        mixed = nn.functional.silu(alone) + nn.functional.silu(both) * both
        return mixed + product * x.sigmoid(), self.conv(self.conv(last))


def test_a_silu_is_taken_in_only_where_nothing_else_reads_the_norm(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    module = Gates().eval()
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    path = export(module, {"x": x}, ["y", "z"], axes, tmp_path / "g.onnx", operators="onnxruntime-cuda")
    found = kinds(path)
    assert (found.count(f"{DOMAIN}:GroupNorm[1]"), found.count(f"{DOMAIN}:GroupNorm[0]")) == (1, 3)
    graph = onnx.load(path).graph
    read = [name for node in graph.node for name in node.input]
    assert {tensor.name for tensor in graph.initializer} <= set(read)
    assert read.count("conv.weight.last") == found.count(f"{DOMAIN}:NhwcConv") == 2
    with on_cpu(path) as stated:
        got = onnxruntime.InferenceSession(stated, providers=["CPUExecutionProvider"]).run(
            None, {"x": x.numpy()}
        )
    for one, other in zip(got, run(module, {"x": x}), strict=True):
        assert np.abs(one - other.numpy()).max() < 1e-6 * np.abs(other.numpy()).max()
