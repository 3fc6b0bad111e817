"""PREDICTED milliseconds of a denoising step on cards that nobody here has, node by node from two graphs of it.

    python -m benchmarks.forecast make FOLDER [--only inpaint_step restore_step]
    python -m benchmarks.forecast table FOLDER [--json FILE]

`make` writes the steps at full size in half precision without their weights, twice: of portable operators, and of
those of ONNX Runtime CUDA. It takes minutes each and 1 GB. `table` reads them in seconds.

A node takes the longer of operations / peak and bytes / bandwidth, at the shares of the published figures that are
assumed below, and a launch. What ONNX Runtime fuses is counted as one node, as its optimiser leaves it on stub CUDA
(docs/gpu.md): a SiLU, a factor in front of a product, Transposes that meet. Nothing here was measured on such a card.
NVIDIA's own figure for SDXL stands beside it: TensorRT, 82 ms a step at 1024 pixels on an RTX 4090.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
from onnx import ModelProto
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.roofline import CARDS
from grefine_export.choices import Operators
from grefine_export.onnx.cost import TEXT_LENGTH, NodeCost, nodes_at

COMPUTE, BANDWIDTH = 0.7, 0.8
"""Assumed shares of the published peak (dense FP16, FP32 accumulation) and bandwidth."""
LAUNCH = 3e-6
"""Seconds between two kernels, without CUDA graphs."""
PUBLISHED = {("inpaint_step", 1024, "RTX 4090"): 82.0}
"""Milliseconds a step that NVIDIA publishes for TensorRT."""
SIDES = (512, 768, 1024)
LATENT_SCALE = 8
FORMS: tuple[Operators, ...] = ("portable", "onnxruntime-cuda")
_TWICE = {"InstanceNormalization", "GroupNorm", "GroupNormalization", "LayerNormalization"}
"""Nodes that read their input for its statistics, and again."""


@dataclass(frozen=True)
class Forecast:
    """A step at one size: nodes that work on activations, TFLOP, gigabytes moved, and milliseconds by card."""

    nodes: int
    tflop: float
    gigabytes: float
    milliseconds: Mapping[str, float]


def remaining(model: ModelProto, nodes: list[NodeCost]) -> list[NodeCost]:
    """`nodes` as ONNX Runtime leaves them: with the Sigmoid of a SiLU in its product, the factor of a matrix product in
    that, and Transposes of feature maps only where one stands at a Resize or at an edge of the graph."""
    maker = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    last = any(node.domain for node in model.graph.node)
    kept = []
    for cost in nodes:
        node = cost.node
        kind, behind = node.op_type, readers.get(node.output[0], [])
        if kind == "Sigmoid" and behind == ["Mul"]:
            continue
        if kind == "Mul" and behind == ["MatMul"] and cost.read < 1.5 * cost.written:  # by one number
            continue
        if kind == "Transpose" and last:
            before = maker[node.input[0]].op_type if node.input[0] in maker else ""
            if "Resize" not in (before, *behind):
                continue
        kept.append(cost)
    return kept


def moved(cost: NodeCost) -> int:
    """Bytes that a node reads and writes."""
    again = cost.written if cost.node.op_type in _TWICE else 0
    return cost.read + cost.written + again


def forecast(model: ModelProto, side: int) -> Forecast:
    """A guided step of the graph `model` at pictures of `side` pixels."""
    cells = side // LATENT_SCALE
    axes = {"h": cells, "w": cells, "H": side, "W": side, "L": TEXT_LENGTH, "n": 2}
    nodes = remaining(model, nodes_at(model, axes))
    times = {}
    for card, (peak, bandwidth) in CARDS.items():
        least = (max(one.flops / (COMPUTE * peak), moved(one) / (BANDWIDTH * bandwidth)) for one in nodes)
        times[card] = 1000 * (sum(least) + LAUNCH * len(nodes))
    tflop, total = sum(one.flops for one in nodes) / 1e12, sum(map(moved, nodes)) / 1e9
    return Forecast(len(nodes), tflop, total, times)


def table(found: Mapping[str, Mapping[int, Mapping[str, Forecast]]]) -> Table:
    """Before and after, by graph and size."""
    out = Table(
        "step", "pixels", "nodes", "TFLOP", "GB moved", *(f"{card}, ms" for card in CARDS), box=MARKDOWN
    )
    for name, sides in found.items():
        for side, (before, after) in ((side, both.values()) for side, both in sides.items()):
            out.add_row(
                name,
                str(side),
                f"{before.nodes} -> {after.nodes}",
                f"{after.tflop:.2f}",
                f"{before.gigabytes:.1f} -> {after.gigabytes:.1f}",
                *(
                    f"{before.milliseconds[card]:.0f} -> {after.milliseconds[card]:.0f}"
                    + (f" ({PUBLISHED[name, side, card]:.0f})" if (name, side, card) in PUBLISHED else "")
                    for card in CARDS
                ),
            )
    return out


def make(folder: Path, name: str, operators: Operators) -> None:
    """Write the step `name` at full size without its weights, as `folder/NAME.OPERATORS.onnx`."""
    import onnx_ir as ir
    import torch

    from benchmarks import flops
    from grefine_export import inpaint_bundle, pasd_bundle
    from grefine_export.models.inpaint import inpaint_unet
    from grefine_export.models.pasd import PasdUNet
    from grefine_export.onnx.convert import traced

    def bare(build: Callable[[], Any]) -> Any:
        with torch.device("meta"):
            return build()

    source: Any = SimpleNamespace(
        unet=lambda: bare(lambda: inpaint_unet(flops.SDXL)),
        load=lambda weights: bare(lambda: PasdUNet(flops.SD15, flops.SD15)),
    )
    if name == "inpaint_step":
        job = inpaint_bundle.step_job(
            source, [], inpaint_bundle.InpaintOptions(operators=operators), SIDES[-1]
        )
    else:
        job = pasd_bundle.step_job(source, source, pasd_bundle.RestoreOptions(operators=operators), SIDES[-1])
    module = job.module.half()
    flops.spread(module)
    model = traced(module, job.inputs, job.outputs, job.axes, operators=operators)
    flops.hollow(model.graph)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(ir.serde.serialize_model(model), folder / f"{name}.{operators}.onnx")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["make", "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=["inpaint_step", "restore_step"], metavar="NAME")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.only or ["inpaint_step", "restore_step"]
    if options.what == "make":
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        for name in names:
            for operators in FORMS:
                make(options.folder, name, operators)
        return
    found: dict[str, dict[int, dict[str, Forecast]]] = {}
    kinds: dict[str, dict[str, int]] = {}
    for name in names:
        files = {form: options.folder / f"{name}.{form}.onnx" for form in FORMS}
        if not all(file.is_file() for file in files.values()):
            continue
        models = {form: onnx.load(file, load_external_data=False) for form, file in files.items()}
        found[name] = {
            side: {form: forecast(model, side) for form, model in models.items()} for side in SIDES
        }
        for form, model in models.items():
            kinds[f"{name} {form}"] = dict(Counter(node.op_type for node in model.graph.node).most_common())
    Console(width=200).print(table(found))
    if options.json:
        numbers = {
            name: {side: {form: asdict(one) for form, one in both.items()} for side, both in sides.items()}
            for name, sides in found.items()
        }
        options.json.write_text(
            json.dumps({"steps": numbers, "nodes": kinds}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
