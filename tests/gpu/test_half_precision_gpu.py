"""A step of the exporter in half precision on a GPU, through every backend, against single precision on the CPU.

Beside tests/gpu's own needs it takes the exporter: pip install '.[export]'.
"""

import copy
import importlib.util
import shutil
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from grefine_rt.bundle.store import write
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from tests.support import tiny
from tests.support.gpu_work import apart

for needed in ("torch", "diffusers", "onnxscript"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip("the exporter is not installed: pip install '.[export]'", allow_module_level=True)

GRAPH = "components/inpaint_step.onnx"
SIDE = 256


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """SDXL's fused step with a few of its layers and random weights, by precision."""
    return export_steps(tmp_path_factory.mktemp("steps"))


def export_steps(folder):
    import torch

    from grefine_export.inpaint_bundle import InpaintOptions, step_job
    from grefine_export.models.inpaint import inpaint_unet
    from grefine_export.onnx.component import export_component

    torch.manual_seed(0)
    unet = inpaint_unet(
        {
            "block_out_channels": (64, 128),
            "layers_per_block": 1,
            "attention_head_dim": 2,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 256,
            "pooled_dim": 64,
        }
    ).eval()
    source = SimpleNamespace(unet=lambda: copy.deepcopy(unet))  # export changes layers
    files = {}
    for precision in ("fp32", "fp16"):
        files[precision] = folder / precision / "inpaint_step.onnx"
        files[precision].parent.mkdir()
        job = partial(step_job, source, [], InpaintOptions(unet_precision=precision), SIDE)
        export_component(files[precision], job, precision, {}, lambda line: None)
    return files


def agree(engine, steps, sides=(SIDE, SIDE, 2 * SIDE, SIDE)):
    from benchmarks.step_profile import step_inputs

    single = OnnxEngine(steps["fp32"], "cpu")
    for number, side in enumerate(sides):
        arrays = step_inputs(single.inputs, side)
        arrays["sample"] = np.roll(arrays["sample"], number)
        expected, found = single.run(arrays), engine.run(arrays)
        for name, values in expected.items():
            assert apart(found[name], values) < 2e-2, (name, side)


def test_onnxruntime_cuda(cuda, steps):
    agree(OnnxEngine(steps["fp16"], cuda), steps)


def test_cuda_graphs(cuda, steps):
    pytest.importorskip("cuda.core", exc_type=ImportError, reason="pip install cuda-core cuda-bindings")
    from grefine_rt.engine.onnxruntime.replay import ReplayEngine

    agree(ReplayEngine(steps["fp16"], cuda), steps)


def test_the_plugin(rtx, steps):
    agree(OnnxEngine(steps["fp16"], rtx), steps)


@pytest.mark.parametrize("budget", [None, 0])
def test_tensorrt_with_all_weights_there_and_with_none(gpu, steps, tmp_path, budget):
    pytest.importorskip("cuda.core", exc_type=ImportError, reason="pip install '.[tensorrt]'")
    trt = pytest.importorskip("tensorrt_rtx", reason="pip install '.[tensorrt]'")
    if gpu.upper() not in trt.ComputeCapability.__members__:
        pytest.skip(f"TensorRT for RTX knows no {gpu}")
    from grefine_rt.engine.tensorrt.run import TensorRTEngine

    path, sidecar = build(tmp_path, steps, gpu, streaming=budget is not None)
    assert sidecar.precision == "fp16"
    agree(TensorRTEngine(path, sidecar, budget=budget), steps)


def build(folder, steps, target, streaming=False):
    from grefine_rt.engine.tensorrt.build import EngineBuilder

    bundle = tiny.save(folder / "bundle")
    shutil.copy(steps["fp16"], bundle / GRAPH)
    data = tiny.manifest()
    data["inpaint"] |= {"resolution": 2 * SIDE, "multiple": 64}
    for specs in data["tokenizers"].values():
        for spec in specs:
            spec["length"] = 77
    manifest, path = write(bundle, data), folder / "step.engine"
    return path, EngineBuilder((target,), weight_streaming=streaming).build(bundle, manifest, GRAPH, path)
