"""Graphs without weights cost what the exporter's graphs cost, and counts are held against the figures."""

import json
import sys

import onnx
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import flops
from grefine_export.onnx.convert import export
from grefine_export.onnx.cost import cost_at


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(4, 64, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, 64)
        self.linear = nn.Linear(64, 8)
        self.register_buffer("scaling", torch.tensor(0.5))

    def forward(self, sample, timestep):
        hidden = self.norm(self.convolution(sample * self.scaling)).flatten(2).transpose(1, 2)
        return self.linear(hidden) + timestep


INPUTS = {"sample": torch.zeros(1, 4, 6, 10), "timestep": torch.zeros(1)}


def by_hand(cells):
    return 2 * cells * (4 * 9 * 64 + 64 * 8)


@pytest.fixture(scope="module")
def graph():
    return flops.weightless_graph(Small, INPUTS)


def test_a_graph_without_weights_costs_the_same(graph, tmp_path):
    path = export(Small(), INPUTS, ["y"], {"sample": {2: "h", 3: "w"}}, tmp_path / "small.onnx")
    axes = {"h": 16, "w": 24}
    assert cost_at(graph, axes) == cost_at(onnx.load(path), axes)
    assert cost_at(graph, axes).flops == by_hand(8 * 12)


def test_its_weights_are_data_of_no_file(graph):
    external, embedded = [], []
    for tensor in graph.graph.initializer:
        is_external = tensor.data_location == onnx.TensorProto.EXTERNAL
        (external if is_external else embedded).append(tensor)
    assert {tuple(tensor.dims) for tensor in external} >= {(64, 4, 3, 3), (64, 8)}
    assert all(len(tensor.raw_data) <= 256 for tensor in embedded)


@pytest.mark.parametrize("name", flops.MODELS)
def test_torch_counts_the_figures_in_the_full_structures(name):
    """Graphs of the exporter make what torch counts (tests/export/test_cost.py); these take minutes to export."""
    model = flops.MODELS[name]
    with torch.device("meta"):
        module = model.make().eval()
    inputs = []
    for value in model.inputs.values():
        side = 1024 if value.shape[1:2] == (3,) else 128
        shape = (*value.shape[:2], side, side) if value.ndim == 4 else value.shape
        inputs.append(torch.empty(shape, device="meta"))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs)
    assert flops.is_near(counter.get_total_flops() / flops.TERA, model.figures[1024])


@pytest.mark.parametrize(
    ("counted", "figure", "near"),
    [(6.762, 6.76, True), (6.62, 6.76, True), (6.6, 6.76, False), (0.284, 0.28, True), (0.30, 0.28, False)],
)
def test_counts_may_differ_by_two_percent_and_rounding(counted, figure, near):
    assert flops.is_near(counted, figure) is near


@pytest.mark.parametrize("right", [True, False])
def test_the_command_counts_and_compares(right, graph, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(flops, "weightless_graph", lambda make, inputs: graph)
    monkeypatch.setattr(flops, "TERA", 1e6)
    figure = by_hand(64 * 64) / 1e6 * (1 if right else 1.1)
    monkeypatch.setattr(flops, "MODELS", {"Small": flops.Model(Small, INPUTS, {1024: figure})})
    monkeypatch.setattr(sys, "argv", ["flops", "--json", str(tmp_path / "flops.json")])
    if right:
        flops.main()
    else:
        with pytest.raises(SystemExit, match="Small at 1024 differs by more than 2 %"):
            flops.main()
    counted = json.loads((tmp_path / "flops.json").read_text())
    assert counted == {"Small": {str(side): by_hand((side // 16) ** 2) / 1e6 for side in (512, 768, 1024)}}
    assert f"({figure:.2f})" in capsys.readouterr().out


def test_a_graph_that_was_exported_is_counted_as_it_lies(graph, monkeypatch, tmp_path):
    path = export(Small(), INPUTS, ["y"], {"sample": {2: "h", 3: "w"}}, tmp_path / "small.onnx")
    traced = []
    monkeypatch.setattr(flops, "weightless_graph", lambda make, inputs: traced.append(make) or graph)
    model = flops.Model(Small, INPUTS, {}, component="small")
    counted = flops.tflop(model, path.parent)
    assert counted[1024] == pytest.approx(by_hand(64 * 64) / flops.TERA)
    assert not traced
    assert flops.tflop(model, tmp_path / "elsewhere") == pytest.approx(counted)
    assert traced == [Small], "what does not lie there is traced"
