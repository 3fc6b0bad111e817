"""PREDICTED milliseconds of a denoising step on cards that nobody here has, for both kinds of operators of its graph.

    python -m benchmarks.forecast [--only inpaint_step restore_step] [--json FILE]

The exporter's own modules of SDXL-Inpainting and PASD run at full size without weights or memory (PyTorch's device
"meta"); each operation is counted as the nodes that ONNX Runtime's optimiser leaves of it on stub CUDA (docs/gpu.md):

- portable: a group norm is three nodes (InstanceNormalization, factors, offsets), an attention seven (three Transposes,
  scores, softmax, product, Transpose), in chunks where the exporter cuts it.
- onnxruntime-cuda: one each; a SiLU behind a norm costs nothing; layouts change at an upsampling alone.

A node takes the longer of operations / peak and bytes / bandwidth, at the shares of the published figures that are
assumed below, and a launch. Nothing here was measured on such a card. NVIDIA's own figure for SDXL stands beside it:
TensorRT, 82 ms a step at 1024 pixels on an RTX 4090.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import flops
from benchmarks.roofline import CARDS
from grefine_export import inpaint_bundle, pasd_bundle
from grefine_export.choices import Operators
from grefine_export.models.inpaint import inpaint_unet
from grefine_export.models.pasd import PasdUNet

COMPUTE, BANDWIDTH = 0.7, 0.8
"""Assumed shares of the published peak (dense FP16, FP32 accumulation) and bandwidth."""
LAUNCH = 3e-6
"""Seconds from one kernel to the next, without CUDA graphs."""
PUBLISHED = {("inpaint_step", 1024, "RTX 4090"): 82.0}
"""Milliseconds a step that NVIDIA publishes for TensorRT."""
SIDES = (512, 768, 1024)
LATENT_SCALE = 8
STEPS = ("inpaint_step", "restore_step")

_PLAIN = {
    "add",
    "sub",
    "mul",
    "gelu",
    "_softmax",
    "cat",
    "upsample_nearest2d",
    "_to_copy",
    "native_layer_norm",
    "silu",
}
"""Operations that are a node which reads its inputs and writes its output."""


@dataclass(frozen=True)
class Node:
    """A node of a graph: kind, operations (two a multiply-add), bytes read and written."""

    kind: str
    flops: int
    moved: int


@dataclass(frozen=True)
class Forecast:
    """A guided step at one size: nodes, TFLOP, gigabytes moved, and milliseconds by card."""

    nodes: int
    tflop: float
    gigabytes: float
    milliseconds: Mapping[str, float]


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Notes the nodes of everything that runs while it is active."""

    def __init__(self, operators: Operators) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self._own = operators != "portable"
        self._normed: Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        out = result[0] if isinstance(result, tuple | list) else result
        if isinstance(out, Tensor) and out.ndim > 1:
            self._note(str(func).split(".")[1], args, out)
        return result

    def _note(self, kind: str, args: Sequence[Any], out: Tensor) -> None:
        given = list(_tensors(args))
        size = _bytes(out)
        moved = sum(map(_bytes, given)) + size
        if kind == "native_group_norm":
            self._add("GroupNorm", 0, 3 * size)  # read for its statistics, and again
            if not self._own:
                self._add("Mul", 0, 2 * size)
                self._add("Add", 0, 2 * size)
        elif kind == "silu" and self._own and given[0] is self._normed:
            pass
        elif kind in ("transpose", "permute"):
            # Keys are turned in their product; with channels last the others meet their opposites.
            if not self._own and args[1:] not in ((2, 3), (-1, -2), (-2, -1)) and given[0].ndim > 2:
                self._add("Transpose", 0, 2 * size)
        elif kind in ("split", "unbind") and given[0].ndim > 4:
            self._add("Split", 0, 2 * _bytes(given[0]))
        elif kind == "convolution":
            self._add("Conv", 2 * out.numel() * math.prod(given[1].shape[1:]), moved)
        elif kind in ("mm", "bmm", "addmm"):
            first = given[1] if kind == "addmm" else given[0]
            self._add("MatMul", 2 * out.numel() * first.shape[-1], moved)
            if kind == "addmm":
                self._add("Add", 0, 2 * size)
        elif kind == "attention" or "Attention" in kind:
            query, key = given[:2]
            self._add("Attention", 4 * math.prod(query.shape) * key.shape[1], moved)
        elif kind in _PLAIN and not _disappears(kind, args):
            self._add(kind, 0, moved)
            if kind == "upsample_nearest2d" and self._own:
                self._add("Transpose", 0, 2 * _bytes(given[0]))
                self._add("Transpose", 0, 2 * size)
        self._normed = out if kind == "native_group_norm" else None

    def _add(self, kind: str, operations: int, moved: int) -> None:
        self.nodes.append(Node(kind, operations, moved))


def _tensors(args: Sequence[Any]) -> Iterator[Tensor]:
    for value in args:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _disappears(kind: str, args: Sequence[Any]) -> bool:
    """A factor of a matrix product, which ONNX Runtime takes into it; one tensor joined to nothing."""
    return (kind == "mul" and not isinstance(args[1], Tensor)) or (kind == "cat" and len(args[0]) == 1)


def _bytes(tensor: Tensor) -> int:
    return int(tensor.numel() * tensor.element_size())


def forecast(nodes: Sequence[Node]) -> Forecast:
    """What `nodes` take, one after the other."""
    times = {}
    for card, (peak, bandwidth) in CARDS.items():
        least = (max(one.flops / (COMPUTE * peak), one.moved / (BANDWIDTH * bandwidth)) for one in nodes)
        times[card] = 1000 * (sum(least) + LAUNCH * len(nodes))
    tflop, gigabytes = sum(one.flops for one in nodes) / 1e12, sum(one.moved for one in nodes) / 1e9
    return Forecast(len(nodes), tflop, gigabytes, times)


def nodes_of(module: nn.Module, inputs: Mapping[str, Tensor], operators: Operators) -> list[Node]:
    """The nodes of one run of `module` on `inputs`, all on the device "meta"."""
    recorder = Recorder(operators)
    with torch.no_grad(), recorder:
        module(*inputs.values())
    return recorder.nodes


def step(name: str, operators: Operators) -> Any:
    """The exporter's job of a step at full size, in half precision and without weights."""

    def bare(build: Callable[[], Any]) -> Any:
        with torch.device("meta"):
            return build()

    source: Any = SimpleNamespace(
        unet=lambda: bare(lambda: inpaint_unet(flops.SDXL)),
        unet_config=dict,
        load=lambda weights: bare(lambda: PasdUNet(flops.SD15, flops.SD15)),
    )
    largest = SIDES[-1]
    if name == "inpaint_step":
        job = inpaint_bundle.step_job(source, [], inpaint_bundle.InpaintOptions(operators=operators), largest)
    else:
        job = pasd_bundle.step_job(source, source, pasd_bundle.RestoreOptions(operators=operators), largest)
    job.module.half()
    return job


def sized(job: Any, side: int) -> dict[str, Tensor]:
    """Inputs of a step at pictures of `side` pixels."""
    sizes = {"h": side // LATENT_SCALE, "w": side // LATENT_SCALE, "H": side, "W": side}
    return {
        name: torch.empty(
            [sizes.get(job.axes.get(name, {}).get(axis, ""), n) for axis, n in enumerate(value.shape)],
            dtype=value.dtype,
            device="meta",
        )
        for name, value in job.inputs.items()
    }


def table(found: Mapping[str, Mapping[int, Mapping[str, Forecast]]]) -> Table:
    """Portable graphs and those for ONNX Runtime CUDA, by step and size."""
    out = Table(
        "step", "pixels", "nodes", "TFLOP", "GB moved", *(f"{card}, ms" for card in CARDS), box=MARKDOWN
    )
    for name, sides in found.items():
        for side, forms in sides.items():
            before, after = forms.values()
            cells = []
            for card in CARDS:
                told = PUBLISHED.get((name, side, card))
                cells.append(f"{before.milliseconds[card]:.0f} -> {after.milliseconds[card]:.0f}")
                cells[-1] += f" (TensorRT, published: {told:.0f})" if told else ""
            nodes, moved = (
                f"{before.nodes} -> {after.nodes}",
                f"{before.gigabytes:.1f} -> {after.gigabytes:.1f}",
            )
            out.add_row(name, str(side), nodes, f"{after.tflop:.2f}", moved, *cells)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS, metavar="NAME")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, dict[int, dict[str, Forecast]]] = {}
    for name in options.only:
        jobs = {operators: step(name, operators) for operators in get_args(Operators)}
        found[name] = {
            side: {form: forecast(nodes_of(job.module, sized(job, side), form)) for form, job in jobs.items()}
            for side in SIDES
        }
    Console(width=220).print(table(found))
    if options.json:
        numbers = {
            name: {side: {form: asdict(one) for form, one in both.items()} for side, both in sides.items()}
            for name, sides in found.items()
        }
        options.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
