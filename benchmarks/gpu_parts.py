"""The parts of `benchmarks.gpu_session`, each in a process of its own.

    python -m benchmarks.gpu_parts KIND --json FILE [--graph NAME] [--engine ENGINE]

    tests        tests/gpu: counts, failures, reasons of what was skipped
    fill         the skeletons get random weights
    step         a denoising step with two guidance passes: milliseconds, TFLOP/s, whether two runs give the same bits,
                 how far its result is from the same step without CUDA graphs and fusion
    autoencoder  an encoder or decoder on one picture
    torch        the inpainting step by diffusers on the same weights (`benchmarks.gpu_peers`)
    peak         a large FP16 matrix product and a copy
    profile      a step by operator

The file holds what was found so far at any moment. Skeletons and what parts leave for each other lie where the session
says, in GREFINE_SESSION_LUGGAGE and GREFINE_SESSION_WORK.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grefine_rt.arrays import Array
from grefine_rt.engine.base import Engine, TensorSpec

WARM = 3
"""Runs before those that are timed; the first of them captures a CUDA graph."""
REFERENCE = "{stage}.next.npy"
"""What a step gave that ran first: the plain one."""


class Report:
    """Figures of a part in a JSON file, which holds them as soon as they are known."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.figures: dict[str, Any] = {}

    def add(self, **figures: Any) -> None:
        self.figures |= figures
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self.figures), encoding="utf-8")
        part.replace(self._file)
        print(figures, flush=True)


def luggage() -> Path:
    return Path(os.environ["GREFINE_SESSION_LUGGAGE"])


def work() -> Path:
    """The folder for what lasts as long as the session."""
    return Path(os.environ["GREFINE_SESSION_WORK"])


def filled(graph: str) -> Path:
    """The graph with weights. They are made where `fill` did not come so far."""
    from benchmarks.skeletons import fill

    file = work() / "filled" / f"{graph}.onnx"
    return file if file.is_file() else fill(luggage() / "skeletons" / file.name, file.parent)


# --- parts


def tests(report: Report, options: argparse.Namespace) -> None:
    """Run tests of `options.file`; every outcome is in the report at once. SystemExit when any failed, or none ran."""
    import pytest

    class Outcomes:
        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" or report.outcome == "failed":
                counts[report.outcome] += 1
            elif report.outcome == "skipped":
                counts["skipped"] += 1
                reasons.add(str(report.longrepr[-1]) if isinstance(report.longrepr, tuple) else "")
            if report.outcome == "failed":
                lines = str(report.longrepr).strip().splitlines()
                said = [line for line in lines if line.startswith("E ")]
                failures[report.nodeid] = (said or lines[-1:])[:4]
            if report.when == "teardown":
                found.add(**counts, failures=failures, reasons=sorted(reasons))

    found, counts = report, {"passed": 0, "failed": 0, "skipped": 0}
    failures: dict[str, list[str]] = {}
    reasons: set[str] = set()
    arguments = ["-o", "addopts=-q", "-p", "no:cacheprovider", options.file]
    if options.which:
        arguments += ["-k", options.which]
    code = int(pytest.main(arguments, [Outcomes()]))
    report.add(**counts, failures=failures, reasons=sorted(reasons))
    if code or not counts["passed"]:
        sys.exit(code or 1)


def fill(report: Report, options: argparse.Namespace) -> None:
    """Weights for every skeleton."""
    for skeleton in sorted((luggage() / "skeletons").glob("*.onnx")):
        start = time.perf_counter()
        graph = filled(skeleton.stem)
        data = graph.with_name(f"{graph.name}.data")
        row = {"gib": data.stat().st_size / 2**30, "seconds": time.perf_counter() - start}
        report.add(**{skeleton.stem: row})


def step(report: Report, options: argparse.Namespace) -> None:
    """A step of the graph `options.graph`, run as `options.engine` says."""
    from benchmarks.step_profile import step_inputs

    file = filled(options.graph)
    start = time.perf_counter()
    engine = opened(file, options)
    report.add(load_s=time.perf_counter() - start)
    arrays = step_inputs(engine.inputs, options.side)
    results = looped(engine, arrays, options.runs)
    report.add(first_s=results["first_s"], **spread(results["seconds"]))
    first, last = results["results"]
    report.add(same_bits=bool(np.array_equal(first, last)), finite=bool(np.isfinite(last).all()))
    report.add(**cost(file, options, report.figures["ms"]))
    reference = work() / REFERENCE.format(stage=options.graph.partition(".")[0])
    if reference.is_file():
        report.add(difference=apart(last, np.load(reference)))
    else:
        np.save(reference, last)


def autoencoder(report: Report, options: argparse.Namespace) -> None:
    """An encoder or decoder on one picture, from host memory and back."""
    file = filled(options.graph)
    start = time.perf_counter()
    engine = opened(file, options)
    report.add(load_s=time.perf_counter() - start)
    cells = options.side // 8
    shape = (1, 3, options.side, options.side) if "encode" in options.graph else (1, 4, cells, cells)
    (name,) = engine.inputs
    arrays = {name: np.random.default_rng(1).standard_normal(shape, np.float32)}
    seconds, results = [], []
    for _ in range(WARM + options.runs):
        start = time.perf_counter()
        results = [*results[:1], next(iter(engine.run(arrays).values()))]
        seconds.append(time.perf_counter() - start)
    report.add(first_s=seconds[0], **spread(seconds[WARM:]))
    same, finite = np.array_equal(*results), np.isfinite(results[-1]).all()
    report.add(same_bits=bool(same), finite=bool(finite))
    report.add(**cost(file, options, report.figures["ms"]))


def torch_peers(report: Report, options: argparse.Namespace) -> None:
    from benchmarks.gpu_peers import compare

    compare(
        report.add, filled("inpaint_step.plain"), work() / REFERENCE.format(stage="inpaint_step"), options
    )


def peak(report: Report, options: argparse.Namespace) -> None:
    """What the GPU reaches with a large FP16 product and a copy, on ONNX Runtime and on torch."""
    from benchmarks.gpu_peers import product
    from benchmarks.roofline import peaks

    flops, bandwidth = peaks("cuda:0", None, half=True)
    report.add(onnxruntime_tflops=flops / 1e12, onnxruntime_gbs=bandwidth / 1e9)
    report.add(torch_tflops=product() / 1e12)


def profile(report: Report, options: argparse.Namespace) -> None:
    """A step by operator, whose kernels wait for one another."""
    os.environ["CUDA_LAUNCH_BLOCKING"] = "1"  # before CUDA starts
    from benchmarks.step_profile import profile as by_operator
    from benchmarks.step_profile import step_inputs
    from grefine_rt.engine.onnxruntime.session import CudaOptions

    file = filled(options.graph)
    inputs = step_inputs(graph_inputs(file), options.side)
    report.add(operators=by_operator(file, "cuda:0", inputs, CudaOptions()))


# --- what they share


def opened(file: Path, options: argparse.Namespace) -> Engine:
    """The engine of a graph, as `options.engine` says."""
    from grefine_rt.engine.onnxruntime.replay import ReplayEngine
    from grefine_rt.engine.onnxruntime.session import CudaOptions, OnnxEngine

    nhwc = options.engine.startswith("nhwc")
    if options.engine.endswith("graphs"):
        return ReplayEngine(file, options.device, nhwc=nhwc)
    return OnnxEngine(file, options.device, cuda=CudaOptions(nhwc=nhwc))


def looped(engine: Engine, arrays: dict[str, Array], runs: int) -> dict[str, Any]:
    """A loop on the device: seconds of its runs after the warm ones, and `next` of the first and of the last."""
    binding = engine.bind()
    for name, array in arrays.items():
        binding.set_input(name, binding.upload(array))
    outputs = {name: binding.buffer(arrays["sample"].shape) for name in engine.outputs}
    for name, buffer in outputs.items():
        binding.set_output(name, buffer)
    seconds, results = [], []
    for number in range(WARM + runs):
        start = time.perf_counter()
        binding.run()
        seconds.append(time.perf_counter() - start)
        if number in (0, WARM + runs - 1):
            results.append(binding.fetch(outputs["next"]))
    return {"first_s": seconds[0], "seconds": seconds[WARM:], "results": results}


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds: the median, the least, the most."""
    return {
        "ms": 1000 * statistics.median(seconds),
        "least_ms": 1000 * min(seconds),
        "most_ms": 1000 * max(seconds),
    }


def cost(file: Path, options: argparse.Namespace, ms: float) -> dict[str, float]:
    """Operations of a run, their speed, and the GPU's memory in use, by all processes."""
    import onnx

    from grefine_export.onnx.cost import cost_at
    from grefine_rt.engine import nvidia

    cells = options.side // 8
    axes = {"b": 1, "n": 2, "L": 77, "h": cells, "w": cells, "H": options.side, "W": options.side}
    flops = cost_at(onnx.load(file, load_external_data=False), axes).flops
    told = {"tflop": flops / 1e12, "tflops": flops / ms / 1e9}
    gpus = nvidia.gpus()
    return told | ({"gpu_gib": gpus[0].used / 2**30} if gpus else {})


def graph_inputs(file: Path) -> dict[str, TensorSpec]:
    """The inputs that a graph declares, read from its file."""
    import onnx

    return {
        value.name: TensorSpec(
            value.name,
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
            tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim),
        )
        for value in onnx.load(file, load_external_data=False).graph.input
    }


def apart(found: Array, expected: Array) -> float | None:
    """The largest difference of two results, by the largest value expected; None where any is no number, or all that
    is expected is 0."""
    largest = float(np.abs(expected).max())
    distance = float(np.abs(found - expected).max())
    return distance / largest if largest and np.isfinite([distance, largest]).all() else None


KINDS: dict[str, Callable[[Report, argparse.Namespace], None]] = {
    "tests": tests,
    "fill": fill,
    "step": step,
    "autoencoder": autoencoder,
    "torch": torch_peers,
    "peak": peak,
    "profile": profile,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 0; what fails raises."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--graph", help="name of a skeleton")
    parser.add_argument("--engine", default="plain", help="see `gpu_session.ENGINES`")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--side", type=int, default=1024, help="of the picture, in pixels")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--file", help="of tests")
    parser.add_argument("--which", default="", help="tests, as for pytest's -k")
    options = parser.parse_args(arguments)
    KINDS[options.kind](Report(options.json), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
