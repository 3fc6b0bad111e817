"""Graphs for ONNX Runtime CUDA: what its own optimiser leaves of them, and what a step then asks of CUDA."""

import collections
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from grefine_rt.engine.onnxruntime.replay import ReplayEngine
from grefine_rt.engine.onnxruntime.session import CudaOptions, OnnxEngine
from tests.stub_cuda.conftest import STEPS, inputs
from tests.stub_cuda.test_steps import Loop
from tests.support import tiny
from tests.support.stub_cuda import counts

SNAPSHOT = Path(__file__).with_name("fused.json")
"""Nodes that are left and kernels of a run, by graph and form. STUB_CUDA_WRITE=1 writes it anew."""
EXPORTS = Path(os.environ.get("STUB_CUDA_EXPORTS", "nowhere"))
FORMS = {"portable": "fp16", "onnxruntime-cuda": "fused"}
GRAPHS = (*STEPS, "encode", "decode")
SIDE = 16
OWN = ("com.microsoft:GroupNorm", "com.microsoft:NhwcConv", "Attention")
PARTS = ("InstanceNormalization", "GroupNormalization", "Softmax", "Conv")


@pytest.fixture(scope="module")
def snapshot():
    known = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.is_file() else {}
    yield known
    if "STUB_CUDA_WRITE" in os.environ:
        SNAPSHOT.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def left(path, monkeypatch, folder, nhwc=False):
    """The engine of a graph on CUDA, and the nodes that the optimiser leaves, by kind."""
    import onnxruntime

    class Telling(onnxruntime.SessionOptions):
        def __init__(self):
            super().__init__()
            self.optimized_model_filepath = str(folder / "optimised.onnx")

    monkeypatch.setattr(onnxruntime, "SessionOptions", Telling)
    engine = OnnxEngine(path, "cuda", None, CudaOptions(nhwc=nhwc))
    graph = onnx.load(folder / "optimised.onnx", load_external_data=False).graph
    names = (f"{node.domain}:{node.op_type}" if node.domain else node.op_type for node in graph.node)
    return engine, collections.Counter(names)


def kernels(engine, name):
    """Of a run, from the second on."""
    if name in STEPS:
        loop = Loop(engine, SIDE)
        loop.step()
        return loop.step().kernels
    arrays = inputs(engine.inputs, SIDE)
    engine.run(arrays)
    counts.reset()
    engine.run(arrays)
    return counts.counts().kernels


@pytest.mark.parametrize("name", GRAPHS)
def test_attention_and_norms_are_single_nodes_in_one_layout(name, snapshot, monkeypatch, tmp_path):
    found = {}
    for form, folder in FORMS.items():
        engine, nodes = left(EXPORTS / folder / f"{name}.onnx", monkeypatch, tmp_path)
        found[form] = {
            "nodes": nodes.total(),
            "kernels": kernels(engine, name),
            **{kind: nodes[kind] for kind in (*OWN, *PARTS, "Transpose")},
        }
        assert not any("Memcpy" in kind for kind in nodes)
    if "STUB_CUDA_WRITE" in os.environ:
        snapshot[name] = found
    assert found == snapshot[name]
    before, after = found["portable"], found["onnxruntime-cuda"]
    # As many as there were softmaxes, norms and convolutions, and nothing of them in parts.
    assert after["Attention"] == before["Softmax"] > 0
    assert after["com.microsoft:GroupNorm"] == before["InstanceNormalization"] > 0
    assert after["com.microsoft:NhwcConv"] == before["Conv"] > 0
    assert not any(after[kind] for kind in PARTS)
    assert after["nodes"] < 0.7 * before["nodes"]
    assert after["kernels"] < 0.8 * before["kernels"]


@pytest.mark.parametrize("name", STEPS)
def test_such_a_step_runs_as_a_cuda_graph(name, kept_rules):
    engine = ReplayEngine(EXPORTS / "fused" / f"{name}.onnx", "cuda")
    for side in (8, SIDE):
        loop = Loop(engine, side)
        loop.step()
        step = loop.step()
        assert (step.graph_launches, step.kernels, step.host_copies, step.waits) == (1, 0, 0, 1)


def test_prefer_nhwc_copies_between_cpu_and_gpu(monkeypatch, tmp_path):
    """Why layouts are written into the graph: ONNX Runtime's own rewriting moves arithmetic on sizes to the GPU."""
    path = EXPORTS / "fp16" / "inpaint_step.onnx"
    found = [left(path, monkeypatch, tmp_path, nhwc)[1] for nhwc in (False, True)]
    copies = [sum(count for kind, count in nodes.items() if "Memcpy" in kind) for nodes in found]
    assert copies[0] == 0 < copies[1]


def attention(tokens, heads, width, apart):
    """An Attention over `tokens`, of heads on an axis of their own or not, and its inputs."""
    shape = f"2,{heads},{tokens},{width}" if apart else f"2,{tokens},{heads * width}"
    told = "" if apart else f"<q_num_heads: int = {heads}, kv_num_heads: int = {heads}>"
    text = f"g (float16[{shape}] q, float16[{shape}] k, float16[{shape}] v) => (float16[{shape}] y) "
    text += f"{{ y = Attention {told} (q, k, v) }}"
    arrays = {name: np.zeros([*map(int, shape.split(","))], np.float16) for name in "qkv"}
    return text, arrays


@pytest.mark.parametrize(("heads", "width"), [(10, 64), (8, 40), (1, 512)], ids=str)
def test_an_attention_is_one_kernel_without_a_score_matrix(heads, width, tmp_path):
    tokens = 4096
    launched = []
    for apart in (False, True):
        text, arrays = attention(tokens, heads, width, apart)
        onnx.save(tiny.model(text, opset=23), tmp_path / "attention.onnx")
        engine = OnnxEngine(tmp_path / "attention.onnx", "cuda")
        counts.reset()
        begin = counts.counts().live
        engine.run(arrays)
        seen = counts.counts()
        launched.append(seen.kernels)
        # Inputs, output, and at most the output once more in single precision; the scores would be 8 to 80 such.
        if not apart:
            assert seen.peak - begin < 6.5 * arrays["q"].nbytes
    assert launched[0] == 1 < launched[1]
