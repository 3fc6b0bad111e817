"""The inpainting step by diffusers and torch on the weights of a filled skeleton, for `benchmarks.gpu_parts`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu_parts import WARM, apart, graph_inputs, luggage, spread
from benchmarks.skeletons import MADE, models, parameters
from benchmarks.step_profile import step_inputs
from grefine_export.onnx.step import InpaintStep

PRODUCT = 8192
"""Side of the matrices whose product shows the peak."""


def compare(add: Callable[..., None], graph: Path, reference: Path, options: argparse.Namespace) -> None:
    """Time the step as torch runs it: eager, with channels last, as a CUDA graph, compiled.

    add: takes the figures, by name. reference: what our step gave on the same inputs, if there is such a file. Without
    a GPU the step runs on the CPU in single precision, eager alone. SystemExit when any way failed.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    add(torch=torch.__version__, device=device)
    made = json.loads((luggage() / "skeletons" / MADE).read_text(encoding="utf-8"))
    unet = loaded(graph, made["width"]).to(device, torch.float16 if device == "cuda" else torch.float32)
    step = InpaintStep(unet).eval()
    arrays = step_inputs(graph_inputs(graph), options.side)
    given = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    with torch.inference_mode():
        row = timed(lambda: step(**given), options.runs)
        add(eager=_figures(row))
        if reference.is_file():
            add(difference=apart(np.load(reference), row["result"]))
        if device == "cuda" and (failed := tried(add, WAYS, step, given, options.runs)):
            raise SystemExit(f"failed: {', '.join(failed)}")


def tried(add: Callable[..., None], ways: Mapping[str, Callable[..., Any]], *given: Any) -> list[str]:
    """Add the figures of each way, called with `given`; the error of one that fails, whose names are returned."""
    failed = []
    for name, way in ways.items():
        try:
            add(**{name: way(*given)})
        except Exception as error:
            failed.append(name)
            add(**{name: {"error": f"{type(error).__name__}: {error}"[:500]}})
    return failed


def _channels_last(step: Any, given: dict[str, Tensor], runs: int) -> dict[str, Any]:
    step.unet.to(memory_format=torch.channels_last)
    return _figures(timed(lambda: step(**given), runs))


def _cuda_graph(step: Any, given: dict[str, Tensor], runs: int) -> dict[str, Any]:
    with captured(step, given) as launch:
        return _figures(timed(launch, runs))


def _compiled(step: Any, given: dict[str, Tensor], runs: int) -> dict[str, Any]:
    start = time.perf_counter()
    step.unet.compile()
    step(**given)
    first = time.perf_counter() - start
    return {"first_s": first} | _figures(timed(lambda: step(**given), runs))


WAYS: dict[str, Callable[..., dict[str, Any]]] = {
    "channels_last": _channels_last,
    "cuda_graph": _cuda_graph,
    "compiled": _compiled,
}
"""How torch runs a step beside eager, in this order; each keeps the layout of the one before."""


def loaded(graph: Path, width: float) -> nn.Module:
    """diffusers' UNet with the weights of a filled skeleton. Raises ValueError when one is missing."""
    found = joined(parameters(graph))
    with torch.device("meta"):
        unet: nn.Module = models(width).unet()
    # Contiguous as diffusers has them: a transposed matrix would be multiplied by another kernel.
    state = {name: torch.from_numpy(np.array(array, order="C")) for name, array in found.items()}
    if missing := unet.state_dict().keys() ^ state.keys():
        raise ValueError(f"'{min(missing)}' is not both in the graph and in the module")
    unet.load_state_dict(state, assign=True)
    return unet.eval()


def joined(weights: Iterator[tuple[str, Any]]) -> dict[str, Any]:
    """The weights of a UNet by diffusers' names: both halves of a gated layer are one there (`models.gates`)."""
    found = {name.removeprefix("unet."): array for name, array in weights}
    for name in [name for name in found if ".net.0.value." in name]:
        gate, proj = (name.replace(".net.0.value.", f".net.0.{part}.") for part in ("gate", "proj"))
        found[proj] = np.concatenate([found.pop(name), found.pop(gate)])
    return found


def timed(call: Callable[[], Any], runs: int) -> dict[str, Any]:
    """Milliseconds of a call after a few that are not counted, and its `result`, `next` on the host."""
    seconds = []
    result: Any = None
    for _ in range(WARM + runs):
        _wait()
        start = time.perf_counter()
        result = call()
        _wait()
        seconds.append(time.perf_counter() - start)
    return spread(seconds[WARM:]) | {"result": result[0].float().cpu().numpy()}


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "result"}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def captured(step: nn.Module, given: dict[str, Tensor]) -> Iterator[Callable[[], Any]]:
    """The step as torch's own CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(WARM):
            step(**given)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step(**given)

    def launch() -> Any:
        graph.replay()
        return results

    yield launch


def product() -> float:
    """Operations a second of a large FP16 product in torch; 0 without a GPU."""
    if not torch.cuda.is_available():
        return 0.0
    matrix = torch.randn(PRODUCT, PRODUCT, device="cuda", dtype=torch.float16)
    row = timed(lambda: [matrix @ matrix], 10)
    return float(2 * PRODUCT**3 / (row["least_ms"] / 1000))
