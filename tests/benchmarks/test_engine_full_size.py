"""Engines of the graphs that full_size leaves: built once, each in a process of its own, failures in a sentence."""

import json
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import onnx
import pytest

from benchmarks import engine_full_size

pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def graphs(tmp_path):
    """A step graph as full_size names it, of one layer."""
    value = onnx.helper.make_tensor_value_info
    half = onnx.TensorProto.FLOAT16
    kernel = onnx.numpy_helper.from_array(np.full((4, 4, 3, 3), 0.1, np.float16), "kernel")
    shape = [1, 4, "h", "w"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["sample", "kernel"], ["next"], pads=[1, 1, 1, 1])],
        "step",
        [value("sample", half, shape)],
        [value("next", half, shape)],
        [kernel],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "inpaint_step.onnx")
    return tmp_path


def test_an_engine_is_built_once_with_the_profiles_of_a_bundle(graphs, tmp_path, capsys):
    arguments = ["inpaint_step", "--graphs", str(graphs), "--out", str(tmp_path / "engines")]
    arguments += ["--json", str(tmp_path / "engines.json"), "--inpaint", "768"]
    assert engine_full_size.main(arguments) == 0
    first = (tmp_path / "engines.json").read_text()
    (record,) = json.loads(first)
    assert [ranges["h"][1] for ranges in record["profiles"]] == [96, 56, 64, 168]
    assert (record["precision"], record["targets"]) == ("fp16", ["sm89"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert {line.count("|") for line in lines} == {len(engine_full_size.COLUMNS) + 1}
    assert engine_full_size.main(arguments) == 0  # kept: the very same figures, seconds among them
    assert (tmp_path / "engines.json").read_text() == first


def test_failures_are_one_sentence(graphs, tmp_path, capsys, monkeypatch):
    arguments = ["inpaint_step", "--graphs", str(graphs), "--out", str(tmp_path / "engines")]
    assert engine_full_size.main([*arguments, "--target", "sm1"]) == 1
    assert "cannot build for 'sm1'" in capsys.readouterr().err
    monkeypatch.setattr(ProcessPoolExecutor, "submit", lambda self, *work: _submit(self, os.abort))
    assert engine_full_size.main(arguments) == 1
    said = capsys.readouterr().err
    assert "inpaint_step: the process was killed" in said
    assert said.count("\n") == 1
    with pytest.raises(SystemExit):
        engine_full_size.main(["restore_step", "--graphs", str(graphs), "--out", str(tmp_path)])


_submit = ProcessPoolExecutor.submit
