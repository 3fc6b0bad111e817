"""Where ONNX Runtime puts the nodes of every graph: on the GPU, but for arithmetic on sizes."""

import collections
import json
import os
from pathlib import Path

import onnx
import pytest

from grefine_rt.engine.onnxruntime.session import CudaOptions, OnnxEngine
from tests.stub_cuda.conftest import graphs
from tests.support import tiny

SNAPSHOT = Path(__file__).with_name("placement.json")
"""Nodes on the CPU and copies between the two, by graph. STUB_CUDA_WRITE=1 writes it anew."""


@pytest.fixture(scope="module")
def snapshot():
    known = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.is_file() else {}
    yield known
    if "STUB_CUDA_WRITE" in os.environ:
        SNAPSHOT.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def placed(path, monkeypatch, folder):
    """Kinds of nodes with their numbers: on the CPU, and those that copy between CPU and GPU."""
    import onnxruntime

    class Telling(onnxruntime.SessionOptions):
        def __init__(self):
            super().__init__()
            self.optimized_model_filepath = str(folder / "optimised.onnx")
            self.add_session_config_entry("session.record_ep_graph_assignment_info", "1")

    monkeypatch.setattr(onnxruntime, "SessionOptions", Telling)
    session = OnnxEngine(path, "cuda", None, CudaOptions())._session
    here = collections.Counter(
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == "CPUExecutionProvider"
        for node in part.get_nodes()
    )
    optimised = onnx.load(folder / "optimised.onnx", load_external_data=False)
    copies = collections.Counter(node.op_type for node in optimised.graph.node if "Memcpy" in node.op_type)
    return {"cpu": dict(sorted(here.items())), "copies": dict(sorted(copies.items()))}


@pytest.mark.parametrize("graph", graphs(), ids=str)
def test_nodes_lie_where_they_lay(graph, snapshot, monkeypatch, tmp_path):
    found = placed(graph.path, monkeypatch, tmp_path)
    if "STUB_CUDA_WRITE" in os.environ:
        snapshot[graph.name] = found
    assert found == snapshot[graph.name]
    assert not graph.is_step or not found["copies"]


def test_counting_values_with_integers_is_what_brings_copies(monkeypatch, tmp_path):
    """The defect that steps had: the standard deviation with Bessel's correction."""
    head = "g (float[1,4,h,w] x) => (float[1,4,h,w] y) { mean = ReduceMean(x) d = Sub(x, mean) "
    head += "s = Mul(d, d) v = ReduceMean(s) "
    counted = "size = Shape(x) n = ReduceProd(size) f = Cast<to=1>(n) a = Mul(v, f) one = Constant<value_float=1.0>() "
    counted += "m = Sub(f, one) c = Div(a, m) "
    found = []
    for text in (head + counted + "r = Sqrt(c) y = Div(x, r) }", head + "r = Sqrt(v) y = Div(x, r) }"):
        onnx.save(tiny.model(text), tmp_path / "deviation.onnx")
        found.append(placed(tmp_path / "deviation.onnx", monkeypatch, tmp_path)["copies"])
    assert found[0]
    assert not found[1]
