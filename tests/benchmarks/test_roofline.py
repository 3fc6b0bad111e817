"""The least time of a component, the peaks it is made from, and the counting of a run."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from benchmarks import roofline
from grefine_export.onnx.cost import cost_at
from grefine_rt.engine.devices import Choice
from grefine_rt.models.bundle import Bundle


def test_what_is_slower_bounds():
    assert roofline.least_ms(2e9, 1e6, 1e12, 1e9) == (2, "compute")
    assert roofline.least_ms(1e9, 3e6, 1e12, 1e9) == (3, "memory")


def test_peaks_are_plausible_and_of_one_thread():
    peak, bandwidth = roofline.peaks("cpu", 1)
    assert 1e9 < peak < 1e12
    assert 2e8 < bandwidth < 1e12


@pytest.fixture(scope="module")
def bundle():
    return Bundle.open("mini", "cpu", 1)


def test_runs_are_counted_with_their_rows(bundle):
    model = onnx.load(bundle.folder / bundle.manifest.components["inpaint_step"], load_external_data=False)
    one = cost_at(model, {"h": 16, "w": 16, "n": 1}).flops
    assert roofline.operations(bundle, "inpaint_step", 128) == pytest.approx(2 * one, rel=0.01)
    assert roofline.operations(bundle, "inpaint_decode", 256) == pytest.approx(
        4 * roofline.operations(bundle, "inpaint_decode", 128), rel=0.05
    )


def test_what_goes_in_and_out_is_counted(bundle):
    latent = bundle.manifest.stage1.latent_channels * 16 * 16
    assert roofline.passed_bytes(bundle, "inpaint_decode", 128) == 4 * (latent + 3 * 128 * 128)


def test_weights_are_counted_in_the_type_that_computes(tmp_path):
    text = """<ir_version: 10, opset_import: ["" : 18]>
        g (float16[2,2] a, float[2,2] b) => (float16[2,3] x, float[2,6] y) {
        x = MatMul(a, half) wide = Cast<to=1>(stored) z = MatMul(b, wide) y = MatMul(z, single) }"""
    model = onnx.parser.parse_model(text)
    kinds = {"half": (np.float16, (2, 3)), "stored": (np.float16, (2, 5)), "single": (np.float32, (5, 6))}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.zeros(shape, kind), name) for name, (kind, shape) in kinds.items()
    )
    onnx.save(model, tmp_path / "g.onnx")
    found = roofline.Weights.of(tmp_path / "g.onnx")
    assert found == roofline.Weights(half=6, widened=10, single=30)
    assert (found.computed(on_cpu=True), found.computed(on_cpu=False)) == (4 * 46, 2 * 6 + 4 * 40)
    assert not found.in_half(on_cpu=False)
    assert roofline.Weights(7, 3, 3).in_half(on_cpu=False)
    assert not roofline.Weights(7, 3, 3).in_half(on_cpu=True)


def test_weights_of_the_embedded_bundle_are_those_of_its_file(bundle):
    path = bundle.folder / bundle.manifest.components["inpaint_step"]
    found = roofline.Weights.of(path)
    assert 0.9 < (2 * (found.half + found.widened) + 4 * found.single) / path.stat().st_size < 1
    assert found.widened > found.single > found.half == 0


@pytest.mark.parametrize(
    ("backends", "cuda", "plugged", "device"),
    [
        (["onnxruntime-cpu"], False, False, "cpu"),
        (["onnxruntime-cuda", "onnxruntime-cpu"], True, True, "cuda:1"),
        (["onnxruntime-rtx"], False, True, "rtx:1"),
        (["tensorrt", "onnxruntime-cuda"], True, False, "cuda:1"),
        (["tensorrt"], False, True, "rtx:1"),
        (["tensorrt"], False, False, None),
    ],
)
def test_peaks_are_measured_where_the_components_run(monkeypatch, backends, cuda, plugged, device):
    monkeypatch.setattr(roofline, "has_cuda", lambda: cuda)
    monkeypatch.setattr(roofline.plugin, "installed", lambda: plugged)  # type: ignore[attr-defined]
    choices = [
        Choice("step", backend, "cpu" if backend.endswith("cpu") else "cuda:1", "") for backend in backends
    ]
    if device is None:
        with pytest.raises(SystemExit, match=r"pip install \.\[gpu\]. in the checkout"):
            roofline.measuring_device(choices)
    else:
        assert roofline.measuring_device(choices) == device


def test_a_bundle_without_costs_is_one_sentence():
    bare = Bundle.open("mini", "cpu", 1)
    bare.manifest = replace(bare.manifest, costs=None)
    with pytest.raises(SystemExit, match="has no costs"):
        roofline.operations(bare, "inpaint_step", 128)


def test_predictions_are_named_so_and_stand_apart():
    row = roofline.Row("inpaint_step", 0.5, 12.0, 3.0, 12.0, "compute")
    measured, predicted = roofline.markdown([row], [dict.fromkeys(roofline.CARDS, 0.25)]).split("\n\n")
    assert "| inpaint_step | 0.500 | 12.0 | compute | 3.00 | 12.00 | 25 % |" in measured.splitlines()
    assert predicted.startswith("| PREDICTED least ms | RTX 4090 | RTX 5090 | L40S | H100 | H200 |\n")
    for table in (measured, predicted):
        assert len({line.count("|") for line in table.splitlines()}) == 1
