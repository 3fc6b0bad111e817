"""The real builder, without a GPU: every component of the embedded bundle becomes an engine for RTX GPUs."""

import hashlib
import importlib.util
import json
import os

import numpy as np
import onnx
import pytest

from grefine_rt.bundle.manifest import Manifest
from grefine_rt.bundle.store import write
from grefine_rt.cancel import CancelToken
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.engine.tensorrt.build import EngineBuilder
from grefine_rt.engine.tensorrt.sidecar import Environment, validity
from grefine_rt.errors import BundleError, Cancelled
from tests.support import tiny

GRAPHS = [
    *(
        "perceptual",
        "clip_text",
        "ip_iqa_image",
        "ip_iqa_text",
        "ip_iqa_fusion",
        "inpaint_text",
        "inpaint_encode",
        "inpaint_step",
        "inpaint_decode",
    ),
    *("restore_encode", "restore_step", "restore_decode"),
]
ONE, MANY = ("sm89",), ("sm80", "sm86", "sm89", "sm120")
STEPS = ("inpaint_step", "restore_step")  # most of a minute each
BUILDS = [
    pytest.param(
        name,
        targets,
        id=f"{name}-{'+'.join(targets)}",
        marks=pytest.mark.slow if name in STEPS or (targets == MANY and name != "inpaint_encode") else (),
    )
    for name in GRAPHS
    for targets in (ONE, MANY)
]


@pytest.fixture(scope="module", autouse=True)
def real():
    if importlib.util.find_spec("tensorrt_rtx") is None:
        if os.environ.get("CI"):
            pytest.fail("TensorRT for RTX is missing: pip install '.[tensorrt]'")
        pytest.skip("TensorRT for RTX is not installed: pip install '.[tensorrt]'")


def read(folder):
    return Manifest.from_json((folder / "bundle.json").read_text())


@pytest.fixture
def small(tmp_path):
    """A bundle of graphs with a few nodes."""
    return tiny.bundle(tmp_path / "bundle")


def test_the_graphs_below_are_those_of_the_embedded_bundle(mini):
    assert {f"components/{name}.onnx" for name in GRAPHS} == {*read(mini).components.values()}


@pytest.mark.parametrize(("name", "targets"), BUILDS)
def test_every_component_of_the_embedded_bundle_builds(mini, tmp_path, name, targets):
    manifest, graph = read(mini), f"components/{name}.onnx"
    builder = EngineBuilder(targets)
    path = builder.engine_path(tmp_path, graph)
    made = builder.build(mini, manifest, graph, path)
    assert validity(made, manifest, Environment("mini", {"tensorrt-rtx": builder.version}, "sm89")) is None
    assert made.targets == targets
    assert made.options["flags"] == "TF32 REQUIRE_USER_ALLOCATION RUNTIME_ACTIVATION_RESIZE_10_10"
    # The file stores FP16 and computes in FP32: the engine holds the weights twice as large.
    assert (made.precision, made.storage) == ("fp32", "fp16")
    assert made.engine.size > 1.9 * manifest.files[graph].size
    assert hashlib.sha256(path.read_bytes()).hexdigest() == made.engine.sha256
    sized = name.startswith(("inpaint", "restore")) and not name.endswith("_text")
    assert len(made.activations) == len(made.profiles) == (3 if sized else 1)
    assert {path.name for path in path.parent.iterdir()} == {f"{name}.engine", f"{name}.json"}


def test_weights_in_an_external_file_are_found_and_proven(small, tmp_path, monkeypatch):
    path = small / "components" / "inpaint_text.onnx"
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="inpaint_text.onnx.data",
        size_threshold=0,
        convert_attribute=False,
    )
    manifest = write(small, json.loads((small / "bundle.json").read_text()))
    monkeypatch.chdir(tmp_path)
    graph = "components/inpaint_text.onnx"
    made = EngineBuilder(("sm89",)).build(small, manifest, graph, tmp_path / "text.engine")
    assert set(made.sources) == {graph, f"{graph}.data"}
    assert made.engine.size > tiny.CONTEXT.nbytes + tiny.POOL.nbytes


def test_a_build_can_be_cancelled(mini, tmp_path):
    token, seen = CancelToken(), []

    def report(done):
        seen.append(done)
        if done > 0.05:
            token.cancel()

    builder = EngineBuilder(("sm89",))
    with pytest.raises(Cancelled):
        builder.build(mini, read(mini), "components/inpaint_step.onnx", tmp_path / "x.engine", report, token)
    assert max(seen) < 0.5
    assert not list(tmp_path.iterdir())


UNKNOWN = "g (float[b,4,4] image) => (float[b] y) { y = Det(image) }"  # an operator that the parser lacks


OWN = "g (float[b,4,4,4] image) => (float[b,4,4,4] y) { y = com.microsoft.NhwcConv (image, w) }"  # ONNX Runtime's


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"no graph at all", "'grefine-export'."),
        (tiny.model(UNKNOWN).SerializeToString(), "'grefine-export'."),
        (
            tiny.model(
                OWN, {"w": np.ones((4, 1, 1, 4), np.float32)}, domains=("com.microsoft",)
            ).SerializeToString(),
            "'grefine-export' and '--operators portable'.",
        ),
    ],
    ids=["none", "unknown", "onnxruntime"],
)
def test_what_cannot_become_an_engine_is_one_sentence(small, tmp_path, content, advice):
    (small / "components" / "perceptual.onnx").write_bytes(content)
    manifest = write(small, json.loads((small / "bundle.json").read_text()))
    builder = EngineBuilder(("sm89",))
    with pytest.raises(BundleError, match="cannot be parsed") as caught:
        builder.build(small, manifest, "components/perceptual.onnx", tmp_path / "x.engine")
    assert "\n" not in str(caught.value)
    assert "gave no reason" not in str(caught.value)
    assert str(caught.value).endswith(advice)
    assert not (tmp_path / "x.engine").exists()


def test_a_graph_in_half_precision_stays_in_half_precision(small, tmp_path):
    text = (
        "g (float[b,4,h,w] latent) => (float[b,4,h,w] image) {"
        " x = Cast<to=10>(latent) y = Conv(x, k) image = Cast<to=1>(y) }"
    )
    kernel = np.ones((4, 4, 1, 1), np.float16)
    onnx.save(tiny.model(text, {"k": kernel}), small / "components" / "inpaint_decode.onnx")
    manifest = write(small, json.loads((small / "bundle.json").read_text()))
    builder = EngineBuilder(("sm89",), weight_streaming=True)
    made = builder.build(small, manifest, "components/inpaint_decode.onnx", tmp_path / "x.engine")
    assert (made.precision, made.storage) == ("fp16", "fp16")
    assert made.options["flags"] == "TF32 WEIGHT_STREAMING RUNTIME_ACTIVATION_RESIZE_10_10"


def test_the_sidecar_declares_the_tensors_of_the_graph_file(mini, small, tmp_path):
    for folder, graph in ((small, "components/inpaint_step.onnx"), (mini, "components/ip_iqa_text.onnx")):
        made = EngineBuilder(("sm89",)).build(folder, read(folder), graph, tmp_path / "x.engine")
        there = OnnxEngine(folder / graph, "cpu")
        assert {tensor.name: tensor.spec for tensor in made.inputs} == there.inputs
        for tensor in made.outputs:
            assert tensor.spec.dtype == there.outputs[tensor.name].dtype
            fixed = [axis if isinstance(axis, int) else "?" for axis in there.outputs[tensor.name].shape]
            assert [*tensor.spec.shape] == fixed
        assert len(made.outputs) == len(there.outputs)


def test_the_memory_of_a_build_is_without_what_the_process_held_before(small, tmp_path):
    held = np.ones(200_000_000, np.float32)
    builder = EngineBuilder(("sm89",))
    manifest = read(small)
    made = builder.build(small, manifest, "components/inpaint_decode.onnx", tmp_path / "x.engine")
    assert made.memory is not None
    assert 0 < made.memory < held.nbytes
