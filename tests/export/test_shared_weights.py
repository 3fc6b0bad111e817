"""Weights in common are stored once: the graphs compute what they did, and the bundle knows whose file it is."""

import dataclasses

import numpy as np
import onnx
import pytest

from grefine_export.onnx.shared import share_weights
from grefine_rt.bundle.manifest import FileEntry
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from tests.support import fake_bundle, tiny

RNG = np.random.default_rng(0)
COMMON = RNG.standard_normal((32, 32)).astype(np.float32)
OWN = RNG.standard_normal((32, 32)).astype(np.float32)
SMALL = np.ones(4, np.float32)
TEXT = "g (float[b,32] x) => (float[b,32] y) { a = MatMul(x, common) y = MatMul(a, other) }"


@pytest.fixture
def graphs(tmp_path):
    weights = {"first": COMMON, "second": OWN}
    for name, other in weights.items():
        onnx.save(tiny.model(TEXT, {"common": COMMON, "other": other}), tmp_path / f"{name}.onnx")
    return [tmp_path / f"{name}.onnx" for name in weights]


def test_equal_weights_are_stored_once_and_nothing_changes(graphs, tmp_path):
    x = RNG.standard_normal((3, 32)).astype(np.float32)
    before = [OnnxEngine(path, "cpu").run({"x": x})["y"] for path in graphs]
    assert share_weights(graphs, tmp_path / "both.data") == 2 * COMMON.nbytes
    assert (tmp_path / "both.data").stat().st_size == COMMON.nbytes + OWN.nbytes
    assert all(path.stat().st_size < COMMON.nbytes for path in graphs)
    for path, expected in zip(graphs, before, strict=True):
        assert np.array_equal(OnnxEngine(path, "cpu").run({"x": x})["y"], expected)
    with pytest.raises(ValueError, match=r"'first\.onnx' has its weights in 'both\.data' already"):
        share_weights(graphs, tmp_path / "again.data")


def test_data_that_is_named_after_no_graph_belongs_to_what_reads_texts():
    entry = FileEntry(1, "0" * 64)
    files = dict.fromkeys(("c/a.onnx", "c/a.onnx.data", "c/b.onnx", "c/both.data", "t/a.json"), entry)
    manifest = dataclasses.replace(
        fake_bundle.manifest(), components={"a_text": "c/a.onnx", "b": "c/b.onnx"}, files=files
    )
    assert manifest.files_of("a_text") == ("c/a.onnx", "c/a.onnx.data", "c/both.data")
    assert manifest.files_of("b") == ("c/b.onnx",)
