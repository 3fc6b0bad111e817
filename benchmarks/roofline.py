"""How far each component is from what the device could do at best, and what other cards could do.

    python -m benchmarks.roofline [--bundle mini] [--device auto] [--resolution N] [--runs 10] [--json FILE]
                                  [--markdown FILE]

The least time of a component is the larger of operations / peak and bytes / bandwidth. Operations are counted from the
graph (`costs` in bundle.json, two a multiply-add). Bytes are what no implementation can avoid: every weight once, in
the type that it is computed in, every input and output once. Peak and bandwidth are those that ONNX Runtime reaches on
the same device in the same run with a large matrix product, FP16 for graphs that compute in it, and with an operation
that only copies. TensorRT's engines are held against those of ONNX Runtime CUDA or of the plugin; of FP32 graphs these
compute in TF32, and may pass 100 %.

The times for other cards are PREDICTIONS of the least time, from peaks that their makers publish (dense FP16 with FP32
accumulation, two bytes a weight). No such card was measured.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from grefine_rt import Refiner, bench
from grefine_rt.arrays import Array
from grefine_rt.engine.devices import ORDER, Choice
from grefine_rt.engine.onnxruntime import plugin
from grefine_rt.engine.onnxruntime.session import OnnxEngine, has_cuda
from grefine_rt.errors import HERE
from grefine_rt.models.bundle import Bundle
from grefine_rt.models.warm_up import example_inputs
from grefine_rt.plan import graph_costs as costs

CARDS = {
    "RTX 4090": (165e12, 1008e9),
    "RTX 5090": (209e12, 1792e9),
    "L40S": (362e12, 864e9),
    "H100": (989e12, 3350e9),
    "H200": (989e12, 4800e9),
}
"""Published operations and bytes a second."""

SIDE = {"cpu": 2048, "cuda": 8192}
"""Of the matrices that are multiplied."""


@dataclass(frozen=True)
class Row:
    """A component: operations, bytes, least and measured milliseconds, and what bounds the least time."""

    component: str
    gflop: float
    megabytes: float
    least: float
    measured: float
    bound: str


def least_ms(operations: float, moved: float, peak: float, bandwidth: float) -> tuple[float, str]:
    """The least time in milliseconds, and whether "compute" or "memory" bounds it."""
    compute, memory = operations / peak, moved / bandwidth
    return 1000 * max(compute, memory), "compute" if compute >= memory else "memory"


def peaks(device: str, threads: int | None, half: bool = False) -> tuple[float, float]:
    """Operations a second of a matrix product, bytes a second of a copy, on ONNX Runtime.

    device: one of its own. half: in FP16.
    """
    side = SIDE["cpu" if device == "cpu" else "cuda"]
    kind = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    square = [side, side]
    matrix = np.random.default_rng(0).standard_normal(square).astype(np.float16 if half else np.float32)
    product = _best(_graph("MatMul", ["a", "b"], kind, square), device, threads, {"a": matrix, "b": matrix})
    copy = _best(_graph("Neg", ["a"], kind, square), device, threads, {"a": matrix})
    return 2 * side**3 / product, 2 * matrix.nbytes / copy


def _graph(operator: str, names: list[str], kind: int, shape: list[int]) -> bytes:
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, names, ["y"])],
        "peak",
        [tensor(name, kind, shape) for name in names],
        [tensor("y", kind, shape)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString()


def _best(graph: bytes, device: str, threads: int | None, arrays: Mapping[str, Array]) -> float:
    """Seconds of the fastest of several runs whose tensors stay on the device."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peak.onnx"
        path.write_bytes(graph)
        binding = OnnxEngine(path, device, threads).bind()
    buffers = {name: binding.upload(array) for name, array in arrays.items()}
    for name, buffer in buffers.items():
        binding.set_input(name, buffer)
    first = next(iter(arrays.values()))
    output = binding.buffer(first.shape, first.dtype)
    binding.set_output("y", output)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        binding.run()
        times.append(time.perf_counter() - start)
    return min(times)


def measuring_device(choices: Sequence[Choice]) -> str:
    """The device of ONNX Runtime on which the peaks of what `choices` run on can be measured."""
    fastest = min(choices, key=lambda choice: ORDER.index(choice.backend))
    if fastest.backend == "onnxruntime-cpu":
        return "cpu"
    index = fastest.device.partition(":")[2]
    if fastest.backend == "onnxruntime-cuda" or (fastest.backend == "tensorrt" and has_cuda()):
        return f"cuda:{index}"
    if fastest.backend == "onnxruntime-rtx" or plugin.installed():
        return f"rtx:{index}"
    sys.exit(f"error: the device's peak is measured with ONNX Runtime: run 'pip install .[gpu]' {HERE}.")


@dataclass(frozen=True)
class Weights:
    """Numbers among the weights of a graph. half: computed in FP16; widened: stored so and computed in FP32; single."""

    half: int
    widened: int
    single: int

    @classmethod
    def of(cls, graph: Path) -> Weights:
        """Those of an ONNX file, whose external data is not read."""
        model = onnx.load(graph, load_external_data=False)
        cast = {node.input[0] for node in model.graph.node if node.op_type == "Cast"}
        counts = {"half": 0, "widened": 0, "single": 0}
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT16:
                counts["widened" if tensor.name in cast else "half"] += math.prod(tensor.dims)
            elif tensor.data_type == onnx.TensorProto.FLOAT:
                counts["single"] += math.prod(tensor.dims)
        return cls(**counts)

    @property
    def count(self) -> int:
        return self.half + self.widened + self.single

    def computed(self, on_cpu: bool) -> int:
        """Bytes in the types that are computed in; a CPU computes FP16 in FP32."""
        return 4 * self.count - (0 if on_cpu else 2 * self.half)

    def in_half(self, on_cpu: bool) -> bool:
        """Whether most of the graph computes in FP16."""
        return not on_cpu and 2 * self.half > self.count


def passed_bytes(bundle: Bundle, component: str, side: int | None) -> float:
    """Inputs and outputs of one run."""
    inputs = example_inputs(bundle, component, side)
    outputs = bundle.engine(component).run(inputs)
    return sum(array.nbytes for array in (*inputs.values(), *outputs.values()))


def operations(bundle: Bundle, component: str, side: int | None) -> float:
    """Of one run on `example_inputs`."""
    inputs = example_inputs(bundle, component, side)
    shape = next((inputs[name].shape for name in ("sample", "latent") if name in inputs), None)
    if shape is None and "image" in inputs:
        shape = tuple(n // 8 for n in inputs["image"].shape)
    size = (8 * shape[3], 8 * shape[2]) if shape else (8, 8)
    rows = len(inputs["context"]) if component.endswith("_step") else 1
    if component.endswith("_text"):
        rows = len(inputs["ids"])
    found = costs.flops(bundle.manifest, component, size, rows)
    if found is None:
        sys.exit(f"error: '{bundle.manifest.name}' has no costs: make it again with 'grefine-export bundle'.")
    return found


def markdown(rows: Sequence[Row], predicted: Sequence[Mapping[str, float]]) -> str:
    """Both tables: this device, and the predictions for other cards."""
    lines = ["component | GFLOP | MB | bound | least ms | measured ms | share of the limit"]
    lines.append("---|---|---|---|---|---|---")
    lines += [
        f"{row.component} | {row.gflop:.3f} | {row.megabytes:.1f} | {row.bound} | {row.least:.2f} | "
        f"{row.measured:.2f} | {100 * row.least / row.measured:.0f} %"
        for row in rows
    ]
    cards = [f"PREDICTED least ms | {' | '.join(CARDS)}", "---|" + "|".join("---" for _ in CARDS)]
    cards += [
        f"{row.component} | " + " | ".join(f"{times[card]:.4f}" for card in CARDS)
        for row, times in zip(rows, predicted, strict=True)
    ]
    return "\n\n".join("\n".join(f"| {line} |" for line in table) for table in (lines, cards))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.roofline", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="file to write the tables to")
    options = parser.parse_args()
    refiner = Refiner.load(options.bundle, options.device, options.threads)
    bundle = refiner.bundle
    timed = bench.measure(refiner, options.resolution, options.runs)
    side, device = options.resolution, measuring_device(bundle.choices)
    weights = {
        name: Weights.of(bundle.folder / bundle.manifest.components[name]) for name in timed["components"]
    }
    on_cpu = device == "cpu"
    reached = {
        half: peaks(device, options.threads, half)
        for half in sorted({count.in_half(on_cpu) for count in weights.values()})
    }
    rows, predicted = [], []
    for name, row in timed["components"].items():
        flop, count, through = operations(bundle, name, side), weights[name], passed_bytes(bundle, name, side)
        moved = count.computed(on_cpu) + through
        least, bound = least_ms(flop, moved, *reached[count.in_half(on_cpu)])
        rows.append(Row(name, flop / 1e9, moved / 1e6, least, row["median"], bound))
        moved = 2 * count.count + through
        predicted.append({card: least_ms(flop, moved, *published)[0] for card, published in CARDS.items()})
    told = [
        f"{'FP16' if half else 'FP32'}: {peak / 1e9:.0f} GFLOP/s in a matrix product, {bandwidth / 1e9:.1f} GB/s in a "
        f"copy"
        for half, (peak, bandwidth) in reached.items()
    ]
    share = statistics.median(row.least / row.measured for row in rows)
    text = f"{device}, {'; '.join(told)}\n\n{markdown(rows, predicted)}\n\n"
    text += f"median share of the limit: {100 * share:.0f} %"
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n", encoding="utf-8")
    if options.json:
        result = {
            "device": device,
            "peaks": {"fp16" if half else "fp32": values for half, values in reached.items()},
            "components": [asdict(row) for row in rows],
            "predicted": {row.component: times for row, times in zip(rows, predicted, strict=True)},
            "machine": timed["machine"],
        }
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
