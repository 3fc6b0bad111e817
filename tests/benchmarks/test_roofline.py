"""The least time of a component, the peaks it is made from, and the counting of a run."""

from dataclasses import replace

import onnx
import pytest

from benchmarks import roofline
from grefine_export.onnx.cost import cost_at
from grefine_rt.bundle.store import Bundle


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


def test_bytes_hold_the_weights_once(bundle):
    stored = bundle.manifest.files[bundle.manifest.components["inpaint_decode"]].size
    moved = roofline.moved_bytes(bundle, "inpaint_decode", 128, 1)
    assert moved == stored + 4 * (4 * 16 * 16 + 3 * 128 * 128)
    assert roofline.moved_bytes(bundle, "inpaint_decode", 128, 2) == moved + stored


def test_a_bundle_without_costs_is_one_sentence():
    bare = Bundle.open("mini", "cpu", 1)
    bare.manifest = replace(bare.manifest, costs=None)
    with pytest.raises(SystemExit, match="has no costs"):
        roofline.operations(bare, "inpaint_step", 128)


def test_predictions_are_named_so_and_stand_apart():
    row = roofline.Row("inpaint_step", 0.5, 12.0, 3.0, 12.0, "compute")
    measured, predicted = roofline.markdown([row], [dict.fromkeys(roofline.CARDS, 0.25)]).split("\n\n")
    assert "| inpaint_step | 0.500 | 12.0 | compute | 3.00 | 12.00 | 25 % |" in measured.splitlines()
    assert predicted.startswith("| PREDICTED least ms | RTX 4090 | RTX 5090 | L40S | H200 |\n")
    for table in (measured, predicted):
        assert len({line.count("|") for line in table.splitlines()}) == 1
