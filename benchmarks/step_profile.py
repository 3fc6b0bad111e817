"""Where the time of a denoising step goes: onnxruntime's profile by operator."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from grefine_rt.arrays import Array
from grefine_rt.engine.base import Engine, TensorSpec
from grefine_rt.engine.devices import parse_device
from grefine_rt.engine.onnxruntime.session import CudaOptions, cuda_settings

LENGTH, TOP = 77, 15
"""Tokens of a prompt; operators that are told."""


def step_inputs(specs: Mapping[str, TensorSpec], side: int) -> dict[str, Array]:
    """Random inputs of a step graph, two guidance passes; the step gives the UNet's own output, unguided."""
    sizes: dict[Any, int] = {"h": side // 8, "w": side // 8, "H": side, "W": side, "n": 2, "L": LENGTH}
    rng = np.random.default_rng(1)
    arrays: dict[str, Array] = {
        name: rng.random([sizes.get(axis, axis) for axis in spec.shape], np.float32)
        for name, spec in specs.items()
    }
    arrays["coefficients"] = np.array([1, 0, 1, 0, 1, 0, 0, 1, 0], np.float32)
    arrays["timestep"] = np.array([421], np.float32)
    return arrays


def by_operator(step: Engine, file: Path, side: int, cuda: CudaOptions) -> list[dict[str, Any]]:
    """`profile` of the graph `file` at `side` pixels, in a process whose kernels wait for one another: without that,
    onnxruntime sees their launches alone."""
    os.environ["CUDA_LAUNCH_BLOCKING"] = "1"
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(profile, file, step.device, step_inputs(step.inputs, side), cuda).result()
    finally:
        del os.environ["CUDA_LAUNCH_BLOCKING"]


def profile(file: Path, device: str, inputs: Mapping[str, Array], cuda: CudaOptions) -> list[dict[str, Any]]:
    """The operators that take longest in the second run of a step graph: name, nodes, milliseconds, share.

    device: "cpu" or "cuda:N".
    """
    settings = onnxruntime.SessionOptions()
    settings.enable_profiling = True
    providers: list[Any] = ["CPUExecutionProvider"]
    if device != "cpu":
        onnxruntime.preload_dlls()
        providers.insert(0, ("CUDAExecutionProvider", cuda_settings(parse_device(device).index, cuda)))
    with tempfile.TemporaryDirectory() as folder:
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(file), settings, providers=providers)
        for _ in range(2):
            session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text())
    start = max(event["ts"] for event in events if event["name"] == "model_run")
    spent: dict[str, list[float]] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= start:
            spent.setdefault(event["args"]["op_name"], []).append(event["dur"] / 1000)
    total = sum(map(sum, spent.values()))
    longest = sorted(spent.items(), key=lambda item: -sum(item[1]))[:TOP]
    return [
        {"operator": name, "nodes": len(times), "ms": sum(times), "share": sum(times) / total}
        for name, times in longest
    ]
