"""The operations of the real models, counted in their ONNX graphs, beside the figures of method.md, section 5.

    python -m benchmarks.flops [--only NAME ...] [--exported FOLDER] [--json FILE]

Counts 2 operations a multiply-add at batch 1 and pictures of 512, 768 and 1024. The graphs are those of the exporter,
of the full structures, but without weights: every weight is one number, spread over its shape without memory. Exports
take minutes each (the UNets) and less than 1 GB. Graphs that lie in FOLDER, as `benchmarks.full_size` or the exporter
left them, are counted as they are, in seconds. Exits with 1 when a count differs by more than 2 % from its figure.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from grefine_export.models.inpaint import TIME_IDS, inpaint_unet
from grefine_export.models.pasd import PasdUNet
from grefine_export.models.vae import Vae
from grefine_export.models.vae_graphs import Decode, Encode
from grefine_export.onnx.cost import TEXT_LENGTH, cost_at
from grefine_rt.contract import LATENT_SCALE

SIDES = (512, 768, 1024)
TERA = 1e12
TOLERANCE = 0.02
_ROUNDING = 0.005  # the figures have two decimals

_EMBEDDED = 256  # bytes of the largest tensor that keeps its values: shapes and factors
_CONTEXT, _CONTEXT_SDXL, _POOLED = 768, 2048, 1280
SDXL: dict[str, Any] = {
    "sample_size": 128,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),  # diffusers' name for the number of heads
    "cross_attention_dim": _CONTEXT_SDXL,
    "pooled_dim": _POOLED,
}
SD15 = {"cross_attention_dim": _CONTEXT}
_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}


@dataclass(frozen=True)
class Model:
    """A model to be counted: how its graph's module is made, its example inputs, TFLOP by side of the picture as
    method.md has them, and the component of a bundle that is this graph. Axes: "h" and "w" of latents, "H" and "W" of
    pictures."""

    make: Callable[[], nn.Module]
    inputs: Mapping[str, Tensor]
    figures: Mapping[int, float]
    component: str | None = None


class _Unet(nn.Module):
    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        return self.unet(sample, timestep, context, return_dict=False)[0]


class _Sdxl(_Unet):
    def forward(
        self, sample: Tensor, timestep: Tensor, context: Tensor, pooled: Tensor, time_ids: Tensor
    ) -> Tensor:
        added = {"text_embeds": pooled, "time_ids": time_ids}
        return self.unet(sample, timestep, context, added_cond_kwargs=added, return_dict=False)[0]


class _ControlNet(nn.Module):
    def __init__(self, controlnet: ControlNetModel) -> None:
        super().__init__()
        self.controlnet = controlnet

    def forward(self, sample: Tensor, timestep: Tensor, context: Tensor, control: Tensor) -> list[Tensor]:
        features, middle = self.controlnet(sample, timestep, context, control, return_dict=False)
        return [*features, middle]


def _inputs(channels: int = 4, context: int = _CONTEXT) -> dict[str, Tensor]:
    return {
        "sample": torch.zeros(1, channels, 16, 24),
        "timestep": torch.zeros(1),
        "context": torch.zeros(1, TEXT_LENGTH, context),
    }


_CONTROL = {"control": torch.zeros(1, 3, 16 * LATENT_SCALE, 24 * LATENT_SCALE)}

MODELS: dict[str, Model] = {
    "SDXL-inpaint UNet": Model(
        lambda: _Sdxl(inpaint_unet(SDXL)),
        {
            **_inputs(9, _CONTEXT_SDXL),
            "pooled": torch.zeros(1, _POOLED),
            "time_ids": torch.zeros(1, TIME_IDS),
        },
        {512: 1.59, 768: 3.64, 1024: 6.76},
        "inpaint_step",
    ),
    "SD1.5 UNet": Model(
        lambda: _Unet(UNet2DConditionModel(**SD15)),
        _inputs(),
        {512: 0.80, 1024: 4.67},
    ),
    "PASD UNet with PACA and ControlNet": Model(
        lambda: PasdUNet(SD15, SD15),
        {**_inputs(), **_CONTROL},
        {512: 1.13 + 0.28, 768: 3.29 + 0.77, 1024: 7.74 + 1.72},
        "restore_step",
    ),
    "PASD ControlNet": Model(
        lambda: _ControlNet(ControlNetModel(**SD15)),
        {**_inputs(), **_CONTROL},
        {512: 0.28, 768: 0.77, 1024: 1.72},
    ),
    "VAE encoder": Model(
        lambda: Encode(Vae(_VAE)),
        {"image": torch.zeros(1, 3, 16 * LATENT_SCALE, 24 * LATENT_SCALE)},
        {512: 1.12, 768: 2.61, 1024: 4.88},
        "inpaint_encode",
    ),
    "VAE decoder": Model(
        lambda: Decode(Vae(_VAE)),
        {"latent": torch.zeros(1, 4, 16, 24)},
        {512: 2.52, 768: 5.75, 1024: 10.47},
        "inpaint_decode",
    ),
}


def tflop(model: Model, exported: Path | None = None, sides: tuple[int, ...] = SIDES) -> dict[int, float]:
    """TFLOP of one run, by side of the picture in pixels; of the graph in the folder `exported`, where it has one."""
    file = exported / f"{model.component}.onnx" if exported else None
    if file and file.is_file():
        graph = onnx.load(file, load_external_data=False)
    else:
        graph = weightless_graph(model.make, model.inputs)
    counted = {}
    for side in sides:
        cells = side // LATENT_SCALE
        axes = {"h": cells, "w": cells, "H": side, "W": side, "L": TEXT_LENGTH}
        counted[side] = cost_at(graph, axes).flops / TERA
    return counted


def weightless_graph(make: Callable[[], nn.Module], inputs: Mapping[str, Tensor]) -> onnx.ModelProto:
    """The graph that the exporter makes of a module, without its weights: they are external data of no file.

    inputs: by name, in the order of `forward`; those with four axes have free height and width, called "h" and "w", or
    "H" and "W" where there are three channels.
    """
    with torch.device("meta"):
        module = make()
    spread(module)
    pictures = {name: "HW" if x.shape[1] == 3 else "hw" for name, x in inputs.items() if x.ndim == 4}
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes={name: free if name in pictures else None for name in inputs},
            input_names=[*inputs],
            opset_version=20,
            verbose=False,
        )
    assert program is not None
    graph = program.model.graph
    for value in graph.inputs:
        if value.name in pictures:
            value.shape = ir.Shape([*value.shape[:2], *pictures[value.name]])
    hollow(graph)
    return ir.serde.serialize_model(program.model)


def hollow(graph: ir.Graph) -> None:
    """Make the weights of `graph` external data of no file."""
    for value in graph.initializers.values():
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes > _EMBEDDED:
            value.const_value = ir.ExternalTensor(
                "none", 0, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=value.name or ""
            )


def spread(module: nn.Module) -> None:
    """Give every parameter and buffer its shape, and the memory of one number."""
    for part in module.modules():
        for name, tensor in part.named_parameters(recurse=False):
            spread = torch.ones((), dtype=tensor.dtype).expand(tensor.shape)
            setattr(part, name, nn.Parameter(spread, requires_grad=False))
        for name, tensor in part.named_buffers(recurse=False):
            setattr(part, name, torch.ones((), dtype=tensor.dtype).expand(tensor.shape))


def is_near(counted: float, figure: float) -> bool:
    """Whether a count is the figure, within 2 % and its two decimals."""
    return abs(counted - figure) <= TOLERANCE * figure + _ROUNDING


def table(results: Mapping[str, Mapping[int, float]]) -> Table:
    """Counts of `tflop` by model, with the figures of method.md behind them in brackets."""
    out = Table("TFLOP per call (method.md)", *map(str, SIDES), box=MARKDOWN)
    for name, counted in results.items():
        figures = MODELS[name].figures
        known = {side: f" ({figures[side]:.2f})" if side in figures else "" for side in SIDES}
        out.add_row(name, *(f"{counted[side]:.3f}{known[side]}" for side in SIDES))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=MODELS, default=[*MODELS], metavar="NAME")
    parser.add_argument("--exported", type=Path, metavar="FOLDER", help="count the graphs that lie there")
    parser.add_argument("--json", type=Path, help="write the counts here too")
    arguments = parser.parse_args()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    results = {}
    for name in arguments.only:
        start = time.perf_counter()
        results[name] = tflop(MODELS[name], arguments.exported)
        print(f"{name}: counted in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    Console().print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    figures = {name: MODELS[name].figures for name in results}
    if far := [
        f"{name} at {side}"
        for name, known in figures.items()
        for side, figure in known.items()
        if not is_near(results[name][side], figure)
    ]:
        sys.exit(f"error: {', '.join(far)} differs by more than 2 % from method.md")


if __name__ == "__main__":
    main()
