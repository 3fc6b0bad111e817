"""What an exported file holds and what it does not, text encoders among them."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn
from transformers import CLIPTextModel

from grefine_export.models.inpaint import TextEncoder
from grefine_export.onnx import convert
from grefine_export.onnx.parity import ParityError, compare, results
from tests.support import tiny_models

pytestmark = pytest.mark.usefixtures("own_traces")


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(16, 32, 3, padding=1)
        self.norm = nn.GroupNorm(4, 32)
        self.linear = nn.Linear(32, 32)
        self.bias = nn.Parameter(torch.randn(1, 2048, 1))

    def forward(self, image, scale):
        hidden = self.norm(self.convolution(image)).flatten(2).transpose(1, 2)
        return (self.linear(hidden) * scale).transpose(1, 2), self.bias.mean() + scale


AXES = {"image": {0: "b", 2: "h", 3: "w"}}


def small_inputs(batch=2, height=4, width=6):
    return {"image": torch.randn(batch, 16, height, width), "scale": torch.tensor([1.5])}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    module = Small()
    return module, convert.export(module, small_inputs(), ["tokens", "sum"], AXES, path)


def shapes(values):
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def test_names_axes_and_opset(small):
    graph = onnx.load(small[1])
    onnx.checker.check_model(graph, full_check=True)
    assert shapes(graph.graph.input) == {"image": ["b", 16, "h", "w"], "scale": [1]}
    assert [value.name for value in graph.graph.output] == ["tokens", "sum"]
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 20)]


def test_latent_axes_of_a_step_are_named_alike_in_and_out(inpaint_graph):
    graph = onnx.load(inpaint_graph[1]).graph
    axes = shapes([*graph.input, *graph.output])
    assert [*axes] == [*tiny_models.step_inputs(inpaint_graph[0], 1, 2, 2), "next", "clean"]
    assert axes["sample"] == axes["next"] == axes["clean"] == [1, 4, "h", "w"]
    assert axes["mask"] == [1, 1, "h", "w"]
    assert axes["context"] == ["n", "L", tiny_models.CONTEXT]
    assert axes["coefficients"] == [9]


def test_parity_at_another_size(small):
    module, path = small
    assert max(compare(module, path, small_inputs(3, 5, 2)).values()) < 1e-5


def test_same_module_same_bytes(small, tmp_path):
    again = convert.export(Small(), small_inputs(), ["tokens", "sum"], AXES, tmp_path / "other_name.onnx")
    assert again.read_bytes() == small[1].read_bytes()


def test_no_path_of_this_machine(small, inpaint_graph, restore_graph, text_graph):
    roots = {sys.prefix, str(Path.home()), str(Path(__file__).parents[2]), torch.__path__[0], "site-packages"}
    for _, path in (small, inpaint_graph, restore_graph, text_graph):
        content = path.read_bytes()
        found = [
            text
            for text in (*roots - {"/"}, ".py", "stack_trace", str(path.parent))
            if text.encode() in content
        ]
        assert not found, path.name


def test_no_metadata(inpaint_graph):
    model = onnx.load(inpaint_graph[1])
    assert not model.metadata_props
    assert not model.doc_string
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_fp16_storage_halves_the_file_and_hardly_changes_the_result(inpaint_graph, tmp_path):
    step, path = inpaint_graph
    model = ir.load(path)
    assert convert.halve_weights(model) > 20
    halved = tmp_path / "halved.onnx"
    ir.save(model, halved)
    onnx.checker.check_model(halved, full_check=True)
    assert halved.stat().st_size < 0.56 * path.stat().st_size
    errors = compare(step, halved, tiny_models.step_inputs(step, 2, 8, 12), bound=5e-3)
    assert errors["clean"] > 1e-6


def test_fp16_storage_takes_matrices_only(tmp_path):
    path = convert.export(
        Small(), small_inputs(), ["tokens", "sum"], AXES, tmp_path / "small.onnx", weights="fp16"
    )
    stored = onnx.load(path).graph.initializer
    half = [list(tensor.dims) for tensor in stored if tensor.data_type == onnx.TensorProto.FLOAT16]
    assert sorted(half) == [[32, 16, 3, 3], [32, 32]]
    compare(Small(), path, small_inputs(), bound=2e-3)


def test_a_weight_too_large_for_fp16_is_refused(tmp_path):
    module = Small()
    with torch.no_grad():
        module.convolution.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match="does not fit into float16"):
        convert.export(
            module, small_inputs(), ["tokens", "sum"], AXES, tmp_path / "large.onnx", weights="fp16"
        )


def test_large_weights_go_into_a_second_file(tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "EXTERNAL_DATA_BYTES", 1000)
    module = Small()
    path = convert.export(module, small_inputs(), ["tokens", "sum"], AXES, tmp_path / "split.onnx")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["split.onnx", "split.onnx.data"]
    compare(module, path, small_inputs())


def test_large_half_precision_model(tmp_path, monkeypatch):
    """As large models go: results first, then cast in place and exported, weights once in one data file."""
    monkeypatch.setattr(convert, "EXTERNAL_DATA_BYTES", 1000)
    module, inputs = Small(), small_inputs()
    expected = results(module, inputs)
    module.half()
    size = 2 * (module.convolution.weight.numel() + module.linear.weight.numel())
    half = {name: tensor.half() for name, tensor in inputs.items()}
    paths = [
        convert.export(module, half, ["tokens", "sum"], AXES, tmp_path / folder / "half.onnx")
        for folder in "ab"
    ]
    for suffix in ("", ".data"):
        first, second = (path.with_name(path.name + suffix).read_bytes() for path in paths)
        assert first == second
    assert len(second) == size
    graph = onnx.load(paths[0]).graph
    assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {
        onnx.TensorProto.FLOAT
    }
    assert shapes(graph.input) == {"image": ["b", 16, "h", "w"], "scale": [1]}
    assert [value.name for value in graph.output] == ["tokens", "sum"]
    assert compare(expected, paths[0], inputs, bound=5e-3)["tokens"] > 1e-6
    other = small_inputs(3, 5, 2)
    compare(Small(), paths[0], other, bound=5e-3)


def test_a_smaller_model_leaves_no_old_data_file(tmp_path, monkeypatch):
    path = tmp_path / "again.onnx"
    (tmp_path / "again.onnx.data").write_bytes(b"old")
    convert.export(Small(), small_inputs(), ["tokens", "sum"], AXES, path)
    assert [file.name for file in tmp_path.iterdir()] == ["again.onnx"]


def test_attention_is_scaled_before_its_product(inpaint_graph):
    """TensorRT fuses an attention whose queries or keys are scaled first; the other order it takes apart."""
    graph = ir.load(inpaint_graph[1]).graph
    softmaxes = [node for node in graph if node.op_type == "Softmax"]
    assert len(softmaxes) > 4
    for softmax in softmaxes:
        product = softmax.inputs[0].producer()
        assert product.op_type == "MatMul"
        assert all(value.producer().op_type == "Mul" for value in product.inputs)
        assert [use.node.op_type for use in softmax.outputs[0].uses()] == ["MatMul"]


@pytest.mark.parametrize("names", [["scale", "image"], ["image"], ["picture", "scale"]])
def test_wrong_input_names(names, tmp_path):
    inputs = dict(zip(names, small_inputs().values(), strict=False))
    with pytest.raises(ValueError, match="inputs must be"):
        convert.export(Small(), inputs, ["tokens", "sum"], AXES, tmp_path / "wrong.onnx")


def test_axes_of_an_unknown_input(tmp_path):
    axes = {**AXES, "picture": {0: "b"}}
    with pytest.raises(ValueError, match="picture"):
        convert.export(Small(), small_inputs(), ["tokens", "sum"], axes, tmp_path / "wrong.onnx")


def test_wrong_number_of_outputs(tmp_path):
    with pytest.raises(ValueError, match="outputs"):
        convert.export(Small(), small_inputs(), ["tokens"], AXES, tmp_path / "wrong.onnx")


def test_parity_notices_other_weights(small):
    other = Small()
    nn.init.normal_(other.linear.weight)
    with pytest.raises(ParityError, match="'tokens' differs"):
        compare(other, small[1], small_inputs())


def test_parity_notices_what_is_not_finite(small):
    broken = Small()
    nn.init.constant_(broken.linear.weight, float("nan"))
    with pytest.raises(ParityError):
        compare(broken, small[1], small_inputs())


def test_text_encoder_pair_is_sdxl_conditioning(text_graph):
    """Penultimate states of both encoders side by side, and the projected end token of the second."""
    pair, path = text_graph
    ids, ids_2 = tiny_models.token_ids(7, rows=3), tiny_models.token_ids(8, rows=3)
    first, second = pair.first.encoder, pair.second.encoder
    with torch.no_grad():
        context, pooled = pair(ids, ids_2)
        one = first(ids, output_hidden_states=True)
        two = second(ids_2, output_hidden_states=True)
    expected = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
    torch.testing.assert_close(context, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pooled, two.text_embeds, rtol=1e-4, atol=1e-5)
    compare(pair, path, {"ids": ids, "ids_2": ids_2}, bound=1e-5)


@pytest.mark.parametrize("end", [tiny_models.VOCABULARY - 1, 2])
def test_single_text_encoder(end):
    config = tiny_models.text_config()
    config.eos_token_id = end  # 2 is what old configurations say
    torch.manual_seed(5)
    encoder = CLIPTextModel(config).eval()
    ids = tiny_models.token_ids(9, rows=2)
    with torch.no_grad():
        (context,) = TextEncoder(encoder, layer="last")(ids)
        expected = encoder(ids).last_hidden_state
    assert np.isfinite(context.numpy()).all()
    torch.testing.assert_close(context, expected, rtol=1e-4, atol=1e-5)
