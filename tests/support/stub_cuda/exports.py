"""Small graphs of every kind that grefine-export writes, in FP32 and FP16, for `python -m tests.support.stub_cuda`.

Run with the export extra installed: `python -m tests.support.stub_cuda.exports FOLDER`. Weights are random.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grefine_export.blip_bundle import _jobs
from grefine_export.models.blip import load_blip
from grefine_export.models.clip_surgery import ClipSurgery
from grefine_export.models.fused_attention import fuse_attention
from grefine_export.models.perceptual import Perceptual
from grefine_export.models.vae_graphs import Decode, Encode
from grefine_export.onnx.convert import export
from grefine_export.onnx.ip_iqa import export_ip_iqa
from tests.export.test_blip import published
from tests.support import tiny_clip, tiny_ip_iqa, tiny_models

Job = tuple[str, nn.Module, dict[str, torch.Tensor], list[str], dict[str, dict[int, str]]]
"""Name, module in FP32, inputs, outputs, free axes."""


def diffusion() -> Iterator[Job]:
    """Stages 1 and 2: what computes in half precision when it is cast."""
    outputs = ["next", "clean"]
    for name, step, axes in (
        ("inpaint_step", tiny_models.inpaint_step(), tiny_models.INPAINT_AXES),
        ("blended_step", tiny_models.blended_step(), tiny_models.BLENDED_AXES),
        ("restore_step", tiny_models.restore_step(), tiny_models.RESTORE_AXES),
    ):
        yield name, step, tiny_models.step_inputs(step, 2, 8, 12), outputs, axes
    vae = tiny_models.vae()
    yield "encode", Encode(vae), {"image": torch.rand(1, 3, 64, 96)}, ["latent"], {"image": {2: "H", 3: "W"}}
    yield "decode", Decode(vae), {"latent": torch.rand(1, 4, 8, 12)}, ["image"], {"latent": {2: "h", 3: "w"}}
    ids = {"ids": tiny_models.token_ids(1, rows=2), "ids_2": tiny_models.token_ids(2, rows=2)}
    axes = {"ids": {0: "n"}, "ids_2": {0: "n"}}
    yield "inpaint_text", tiny_models.text_pair(), ids, ["context", "pooled"], axes


def indicators(folder: Path) -> Iterator[Job]:
    """CLIP and BLIP: what keeps its weights in half precision and computes in single."""
    t_p = torch.randn(4, 2, tiny_clip.PROJECTED, generator=torch.Generator().manual_seed(13))
    clip = Perceptual(ClipSurgery(tiny_clip.tiny_clip(), depth=3), t_p)
    outputs = ["pairs", "published", "tokens"]
    yield "perceptual", clip, {"image": tiny_clip.images()}, outputs, {"image": {0: "b"}}
    file = folder / "ImageReward.pt"
    torch.save(published(), file)
    blip = load_blip(file)
    file.unlink()
    for name, module, inputs, axes, output in _jobs(blip, blip):
        yield name, module, inputs, [output], axes


def fused(folder: Path) -> None:
    """Stages 1 and 2 for ONNX Runtime CUDA, in half precision, as `folder/NAME.onnx`."""
    for name, module, inputs, outputs, axes in diffusion():
        if name.endswith("_text"):  # their attention is causal, and they run once a call
            continue
        fuse_attention(module)
        made = _half(module)
        inputs = _cast(made, inputs, "fp16")
        export(made, inputs, outputs, axes, folder / f"{name}.onnx", operators="onnxruntime-cuda")


def write(folder: Path) -> None:
    """Write all graphs as `folder/PRECISION/NAME.onnx`, and those for ONNX Runtime CUDA alone into `folder/fused`."""
    torch.set_num_threads(1)
    fused(folder / "fused")
    for precision in ("fp32", "fp16"):
        for name, module, inputs, outputs, axes in diffusion():
            made: Any = copy.deepcopy(module)
            made = _half(made) if precision == "fp16" else made
            export(made, _cast(made, inputs, precision), outputs, axes, folder / precision / f"{name}.onnx")
        for name, module, inputs, outputs, axes in indicators(folder):
            path = folder / precision / f"{name}.onnx"
            export(module, inputs, outputs, axes, path, weights=precision)
        export_ip_iqa(tiny_ip_iqa.tiny_ip_iqa(), folder / precision, 96, precision, tiny_ip_iqa.LENGTH)


def _half(module: nn.Module) -> nn.Module:
    for name in ("unet", "pasd"):  # a step's own arithmetic stays in single precision
        if hasattr(module, name):
            getattr(module, name).half()
            return module
    return module.half()


def _cast(module: nn.Module, inputs: dict[str, torch.Tensor], precision: str) -> dict[str, torch.Tensor]:
    if precision == "fp32" or hasattr(module, "unet") or hasattr(module, "pasd"):
        return inputs
    return {name: value.half() if value.is_floating_point() else value for name, value in inputs.items()}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
