"""Graphs that several tests use are exported once a session: tracing takes seconds even for tiny models."""

import pytest
import torch

from grefine_export.models.vae_graphs import Decode, Encode
from grefine_export.onnx import convert
from tests.support import graph_store, tiny_models


@pytest.fixture(autouse=True, scope="session")
def store(tmp_path_factory):
    """All workers of this run share one folder of traced graphs."""
    folder = graph_store.of_run(tmp_path_factory)
    with graph_store.shared(folder):
        yield folder


@pytest.fixture(scope="module")
def own_traces():
    """Every graph that this module exports is traced, whatever the store holds."""
    with graph_store.bypassed():
        yield


@pytest.fixture(scope="session")
def export(store, tmp_path_factory):
    """Exports into a folder of the session, through the store even beside a module with `own_traces`."""
    folder = tmp_path_factory.mktemp("graphs")

    def through_the_store(module, inputs, outputs, axes, name):
        with graph_store.shared(store):
            return convert.export(module, inputs, outputs, axes, folder / name)

    return through_the_store


@pytest.fixture(scope="session")
def inpaint_graph(export):
    """(module, path) of a tiny stage 1 step, float32."""
    step = tiny_models.inpaint_step()
    inputs = tiny_models.step_inputs(step, rows=2, height=8, width=12)
    return step, export(step, inputs, ["next", "clean"], tiny_models.INPAINT_AXES, "inpaint_step.onnx")


@pytest.fixture(scope="session")
def half_graph(export):
    """The path of that step with its UNet in half precision."""
    step = tiny_models.inpaint_step(torch.float16)
    inputs = tiny_models.step_inputs(step, rows=2, height=8, width=12)
    return export(step, inputs, ["next", "clean"], tiny_models.INPAINT_AXES, "half_step.onnx")


@pytest.fixture(scope="session")
def blended_graph(export):
    """(module, path) of a tiny stage 1 step whose UNet knows no mask, float32."""
    step = tiny_models.blended_step()
    inputs = tiny_models.step_inputs(step, rows=2, height=8, width=12)
    return step, export(step, inputs, ["next", "clean"], tiny_models.BLENDED_AXES, "blended_step.onnx")


@pytest.fixture(scope="session")
def restore_graph(export):
    """(module, path) of a tiny stage 2 step, float32."""
    step = tiny_models.restore_step()
    inputs = tiny_models.step_inputs(step, rows=2, height=8, width=12)
    return step, export(step, inputs, ["next", "clean"], tiny_models.RESTORE_AXES, "restore_step.onnx")


@pytest.fixture(scope="session")
def text_graph(export):
    """(module, path) of a tiny pair of text encoders."""
    pair = tiny_models.text_pair()
    inputs = {"ids": tiny_models.token_ids(1, rows=2), "ids_2": tiny_models.token_ids(2, rows=2)}
    axes = {"ids": {0: "n"}, "ids_2": {0: "n"}}
    return pair, export(pair, inputs, ["context", "pooled"], axes, "inpaint_text.onnx")


@pytest.fixture(scope="session")
def vae_graphs(export):
    """(autoencoder, path of the encoder, path of the decoder), tiny, float32."""
    vae = tiny_models.vae()
    image, latent = {"image": torch.randn(1, 3, 64, 96)}, {"latent": torch.randn(1, 4, 8, 12)}
    return (
        vae,
        export(Encode(vae), image, ["latent"], {"image": {2: "H", 3: "W"}}, "encode.onnx"),
        export(Decode(vae), latent, ["image"], {"latent": {2: "h", 3: "w"}}, "decode.onnx"),
    )


@pytest.fixture(scope="session")
def stage1_paths(vae_graphs, inpaint_graph, text_graph):
    """The graphs of stage 1 by component, float32."""
    _, encode, decode = vae_graphs
    return {
        "inpaint_text": text_graph[1],
        "inpaint_encode": encode,
        "inpaint_step": inpaint_graph[1],
        "inpaint_decode": decode,
    }
