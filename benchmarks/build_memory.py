"""Memory that TensorRT builds take against what is predicted, on chains of matrix products of known weights.

    python -m benchmarks.build_memory [--side 2048] [--target sm89]

Each chain is built in a process of its own. Prints the Markdown table of docs/engines.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from grefine_rt.bundle.manifest import FileEntry
from grefine_rt.bundle.store import find_bundle, read_manifest
from grefine_rt.engine.tensorrt.build import EngineBuilder
from grefine_rt.engine.tensorrt.weights import Weights
from grefine_rt.files import sha256

Kind = Literal["FP16", "FP16 stored, FP32 computed", "FP32"]
CHAINS: tuple[tuple[int, Kind, bool], ...] = (
    (24, "FP16", True),
    (24, "FP16", False),
    (48, "FP16", False),
    (24, "FP16 stored, FP32 computed", False),
    (24, "FP32", False),
)
"""Products, precision, whether the weights lie in a file of their own."""
GRAPH = "chain.onnx"


def chain(folder: Path, products: int, kind: Kind, external: bool, side: int) -> Weights:
    """Writes `products` products with matrices of `side` x `side`; returns what they weigh."""
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    stored, computed = (single if kind == "FP32" else half), (half if kind == "FP16" else single)
    helper, rng = onnx.helper, np.random.default_rng(0)
    nodes, weights, previous = [], [], "x"
    for index in range(products):
        matrix = rng.standard_normal((side, side), np.float32) / side**0.5
        name = f"w{index}"
        weights.append(
            onnx.numpy_helper.from_array(matrix.astype(np.float32 if stored == single else np.float16), name)
        )
        if stored != computed:
            nodes.append(helper.make_node("Cast", [name], [f"{name}.cast"], to=computed))
            name = f"{name}.cast"
        nodes.append(helper.make_node("MatMul", [previous, name], [f"y{index}"]))
        previous = f"y{index}"
    value = helper.make_tensor_value_info
    edges = value("x", computed, [1, side]), value(previous, computed, [1, side])
    graph = helper.make_graph(nodes, "chain", [edges[0]], [edges[1]], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data = f"{GRAPH}.data" if external else None
    onnx.save(model, folder / GRAPH, save_as_external_data=external, location=data)
    size = products * side**2 * (4 if kind == "FP32" else 2)
    return Weights(
        half=size if kind == "FP16" else 0,
        widened=size if stored != computed else 0,
        single=size if kind == "FP32" else 0,
        inline=(folder / GRAPH).stat().st_size,
        layers=len(nodes) + products,
    )


def row(products: int, kind: Kind, external: bool, side: int, target: str) -> str:
    """A chain's line of the table."""
    mini = read_manifest(find_bundle("mini"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = chain(folder, products, kind, external, side)
        manifest = dataclasses.replace(
            mini,
            components={"inpaint_step": GRAPH},
            files={
                path.name: FileEntry(path.stat().st_size, sha256(path)) for path in folder.glob(f"{GRAPH}*")
            },
        )
        builder = EngineBuilder((target,))
        made = builder.build(folder, manifest, GRAPH, builder.engine_path(folder / "engines", GRAPH))
    stored = weights.half + weights.widened + weights.single
    measured = "-" if made.memory is None else f"{made.memory / 1e9:.2f} GB"
    where = ", external data" if external else ""
    return f"| {products} products, {kind}{where} | {stored / 1e9:.2f} GB | {weights.peak / 1e9:.2f} GB | {measured} |"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.build_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=2048, help="of the matrices")
    parser.add_argument("--target", default="sm89")
    options = parser.parse_args()
    print(
        f"| built for {options.target.upper()} | weights | predicted for the process | taken by the build |"
    )
    print("|---|---|---|---|")
    for one in CHAINS:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            print(pool.submit(row, *one, options.side, options.target).result(), flush=True)


if __name__ == "__main__":
    main()
