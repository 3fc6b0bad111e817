"""The fused step against the formulas of ARCHITECTURE.md, and its graphs against torch at other sizes."""

from pathlib import Path

import onnx
import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl_inpaint import rescale_noise_cfg

from grefine_export.models.inpaint import inpaint_unet
from grefine_export.onnx.parity import compare
from tests.support import tiny_models

SIZES = [(2, 8, 12), (1, 8, 12), (1, 16, 10), (2, 4, 4)]
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "pooled_dim": 1280,
}


def test_sdxl_inpaint_has_the_published_size():
    with torch.device("meta"):
        unet = inpaint_unet(SDXL)
    assert sum(parameter.numel() for parameter in unet.parameters()) == pytest.approx(2.5675e9, rel=1e-4)


def written_out(step, inputs, predict):
    """The step as the formulas say, one UNet pass at a time."""
    scale, to_clean, model_to_clean, c_sample, c_clean, c_previous, c_noise, guidance, rescale = inputs[
        "coefficients"
    ][:9]
    sample = inputs["sample"]
    passes = [predict(scale * sample, row) for row in range(inputs["context"].shape[0])]
    model = passes[0] + guidance * (passes[-1] - passes[0])
    model = rescale_noise_cfg(model, passes[-1], guidance_rescale=rescale)
    clean = to_clean * sample + model_to_clean * model
    following = (
        c_sample * sample + c_clean * clean + c_previous * inputs["previous"] + c_noise * inputs["noise"]
    )
    return following, clean


@pytest.mark.parametrize("rows", [1, 2])
def test_inpaint_step_is_the_formula(rows):
    step = tiny_models.inpaint_step()
    inputs = tiny_models.step_inputs(step, rows, 8, 6)

    def predict(scaled, row):
        joined = torch.cat([scaled, inputs["mask"], inputs["masked_latent"]], dim=1)
        added = {"text_embeds": inputs["pooled"][[row]], "time_ids": inputs["time_ids"][[row]]}
        return step.unet(joined, inputs["timestep"], inputs["context"][[row]], added_cond_kwargs=added).sample

    with torch.no_grad():
        for got, expected in zip(step(**inputs), written_out(step, inputs, predict), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2])
def test_blended_step_is_the_formula(rows):
    step = tiny_models.blended_step()
    inputs = tiny_models.step_inputs(step, rows, 8, 6)

    def predict(scaled, row):
        added = {"text_embeds": inputs["pooled"][[row]], "time_ids": inputs["time_ids"][[row]]}
        return step.unet(scaled, inputs["timestep"], inputs["context"][[row]], added_cond_kwargs=added).sample

    with torch.no_grad():
        following, clean = written_out(step, inputs, predict)
        blend_latent, blend_noise = inputs["coefficients"][9:]
        outside = blend_latent * inputs["original"] + blend_noise * inputs["original_noise"]
        following = torch.where(inputs["mask"] > 0.5, following, outside)
        for got, expected in zip(step(**inputs), (following, clean), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2])
def test_restore_step_is_the_formula(rows):
    step = tiny_models.restore_step()
    inputs = tiny_models.step_inputs(step, rows, 8, 6)

    def predict(scaled, row):
        return step.pasd(scaled, inputs["timestep"], inputs["context"][[row]], inputs["control"], 0.8)

    with torch.no_grad():
        for got, expected in zip(step(**inputs), written_out(step, inputs, predict), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rows", "height", "width"), SIZES)
def test_inpaint_graph_at_other_sizes(inpaint_graph, rows, height, width):
    step, path = inpaint_graph
    compare(step, path, tiny_models.step_inputs(step, rows, height, width, length=7), bound=1e-5)


@pytest.mark.parametrize(("rows", "height", "width"), SIZES)
def test_blended_graph_at_other_sizes(blended_graph, rows, height, width):
    step, path = blended_graph
    compare(step, path, tiny_models.step_inputs(step, rows, height, width, length=7), bound=1e-5)


@pytest.mark.parametrize(("rows", "height", "width"), SIZES)
def test_restore_graph_at_other_sizes(restore_graph, rows, height, width):
    step, path = restore_graph
    compare(step, path, tiny_models.step_inputs(step, rows, height, width, length=7), bound=1e-5)


def standard_deviations(graph):
    """The nodes from which the square roots over a whole tensor, those of guidance rescale, take their variance."""
    made_by = {name: node for node in graph.node for name in node.output}
    used_by = {name: node.op_type for node in graph.node for name in node.input}
    roots = [node for node in graph.node if node.op_type == "Sqrt"]
    return [
        made_by[root.input[0]].op_type for root in roots if used_by[root.output[0]] in ("Div", "Clip", "Max")
    ]


@pytest.mark.parametrize("kind", ["inpaint", "blended", "restore", "half", "mini inpaint", "mini restore"])
def test_no_step_counts_its_values(kind, request):
    """Bessel's correction counts them with integers, which ONNX Runtime puts on the CPU: four copies a step, and CUDA
    graphs are refused."""
    if kind.startswith("mini"):
        folder = Path(__file__).parents[2] / "engines/mini/components"
        path = folder / f"{kind.removeprefix('mini ')}_step.onnx"
    else:
        path = request.getfixturevalue(f"{kind}_graph")
        path = path if kind == "half" else path[1]
    graph = onnx.load(path).graph
    assert not {"ReduceProd", "Size"} & {node.op_type for node in graph.node}
    assert standard_deviations(graph) == ["ReduceMean", "ReduceMean"]


def test_half_precision_unet_gives_a_valid_graph(half_graph):
    """The sum of half and single precision time features is where exporters go wrong."""
    single = tiny_models.inpaint_step()
    errors = compare(single, half_graph, tiny_models.step_inputs(single, 2, 8, 12), bound=1e-2)
    assert errors["clean"] > 1e-5  # else it was not half precision
