"""Graphs that several tests use are exported once a session: tracing takes seconds even for tiny models."""

import pytest
import tiny_models

from grefine_export.onnx.convert import export


@pytest.fixture(scope="session")
def graphs(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="session")
def inpaint_graph(graphs):
    """(module, path) of a tiny stage 1 step, float32."""
    step = tiny_models.inpaint_step()
    inputs = tiny_models.step_inputs(step, rows=2, height=8, width=12)
    return step, export(
        step, inputs, ["next", "clean"], tiny_models.INPAINT_AXES, graphs / "inpaint_step.onnx"
    )


@pytest.fixture(scope="session")
def restore_graph(graphs):
    """(module, path) of a tiny stage 2 step, float32."""
    step = tiny_models.restore_step()
    inputs = tiny_models.step_inputs(step, rows=2, height=8, width=12)
    return step, export(
        step, inputs, ["next", "clean"], tiny_models.RESTORE_AXES, graphs / "restore_step.onnx"
    )


@pytest.fixture(scope="session")
def text_graph(graphs):
    """(module, path) of a tiny pair of text encoders."""
    pair = tiny_models.text_pair()
    inputs = {"ids": tiny_models.token_ids(1, rows=2), "ids_2": tiny_models.token_ids(2, rows=2)}
    axes = {"ids": {0: "n"}, "ids_2": {0: "n"}}
    return pair, export(pair, inputs, ["context", "pooled"], axes, graphs / "inpaint_text.onnx")
