"""Graphs of the real sizes without their weights: a few megabytes that travel, and get random numbers where they run.

    python -m benchmarks.skeletons make FOLDER [--width 1] [--side 1024] [--only NAME ...]
    python -m benchmarks.skeletons fill FOLDER TARGET

`make` needs the extra `export`, little memory (1 GiB) and, at full width, 6 GiB of disk for a while: modules are made
without weights, so what the exporter writes holds one number a weight. `--width 0` makes models of a few layers, to
rehearse with. `fill` needs numpy and onnx.

A skeleton is an ONNX file whose weights are external data that is not there. Each says in its doc string, as JSON,
which parameter of the module it is: name, shape, and the order in which the graph has its axes. Constants are in the
file. The same parameter gets the same numbers in every graph, so that results can be compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

LARGEST = 1024
"""Side in pixels of the largest picture, for which attention is cut."""
FIRST = 0x2001
"""The FP16 number, as bits, of the first parameter of a hollow module; each has the next one. It is no round number."""
PAGE = 4096
"""Bytes to which weights are aligned."""
CONSTANT = 1 << 14
"""Numbers of the largest constant of a graph."""
BLOCK = 1 << 24
"""Random numbers that are drawn; weights are pieces of them."""
MADE = "made.json"
"""File beside the skeletons that says how they were made: width and side."""
LAST = [0, 2, 3, 1]
"""The axes of a convolution's weight in graphs for ONNX Runtime CUDA: the input's channels last."""
FLOATS = {onnx.TensorProto.FLOAT16: np.float16, onnx.TensorProto.FLOAT: np.float32}

Floats = NDArray[Any]


# --- making


def models(width: float) -> Any:
    """Modules of the real sizes; `width` below 1 makes them narrow, 0 leaves a few layers of them."""
    from benchmarks.full_size import Random, Shallow

    return Random(width) if width else Shallow(width)


def jobs(width: float, side: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What the exporters make, by name: GRAPH.plain, and GRAPH.fused where they can fuse attention and norms."""
    import torch

    from grefine_export import inpaint_bundle, pasd_bundle
    from grefine_export.vae_component import decode_job, encode_job

    made = models(width)

    def weightless(build: Callable[[], Any]) -> Any:
        with torch.device("meta"):
            return build().eval()

    source: Any = SimpleNamespace(unet=lambda: weightless(made.unet))
    pasd: Any = SimpleNamespace(load=lambda weights: weightless(made.pasd))
    fields = {field.name for field in dataclasses.fields(inpaint_bundle.InpaintOptions)}
    kinds: dict[str, dict[str, Any]] = {"plain": {}}
    if "operators" in fields:
        kinds["fused"] = {"operators": "onnxruntime-cuda"}
    for kind, told in kinds.items():
        inpaint = inpaint_bundle.InpaintOptions(unet_precision="fp16", **told)
        restore = pasd_bundle.RestoreOptions(unet_precision="fp16", **told)
        yield f"inpaint_step.{kind}", lambda o=inpaint: inpaint_bundle.step_job(source, [], o, side)
        yield f"restore_step.{kind}", lambda o=restore: pasd_bundle.step_job(pasd, source, o, side)
        for name, job in (("vae_encode", encode_job), ("vae_decode", decode_job)):
            yield f"{name}.{kind}", lambda j=job, t=told: j(made.vae, "fp16", side, False, **t)


def make(name: str, build: Callable[[], Any], folder: Path) -> Path:
    """Write the skeleton `folder/NAME.onnx` of the job that `build` returns."""
    from grefine_export.onnx.convert import export

    job = build()
    parameters = hollow(job.module)
    told = {"operators": job.operators} if hasattr(job, "operators") else {}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        file = export(job.module, job.inputs, job.outputs, job.axes, Path(temporary) / f"{name}.onnx", **told)
        return strip(file, parameters, folder / file.name)


Parameters = dict[int, tuple[str, tuple[int, ...]]]
"""Name and shape of each parameter of a hollow module, by the bits of its number."""


def hollow(module: Any) -> Parameters:
    """Give every parameter of `module`, in place, one FP16 number in all its places, which takes no memory.

    Buffers become FP16.
    """
    import torch

    module.half()
    told = {}
    for number, (name, weight) in enumerate([*module.named_parameters()]):
        bits = FIRST + number
        value = torch.tensor(float(np.uint16(bits).view(np.float16)), dtype=torch.float16)
        owner, _, last = name.rpartition(".")
        parameter = torch.nn.Parameter(value.expand(weight.shape), requires_grad=False)
        setattr(module.get_submodule(owner), last, parameter)
        told[bits] = name, tuple(weight.shape)
    return told


def strip(file: Path, parameters: Parameters, skeleton: Path) -> Path:
    """Write the exported graph of a hollow module without its weights as `skeleton`.

    Raises ValueError when a large initialiser is none of `parameters`; these may be more than the graph has.
    """
    model = onnx.load(file, load_external_data=False)
    offset = 0
    for tensor in model.graph.initializer:
        size = math.prod(tensor.dims)
        first = _first(tensor, file.parent)
        bits = int(np.float16(first).view(np.uint16)) if size > 1 and first is not None else 0
        name, shape = parameters.get(bits, ("", ()))
        if not name or size != math.prod(shape):
            if tensor.data_type in FLOATS and size > CONSTANT:
                raise ValueError(f"'{tensor.name}' of {file.name} is as large as a weight, but none is known")
            _inline(tensor, file.parent)
            continue
        is_now = {"name": name, "shape": shape, "order": _order(tensor, name, shape)}
        _leave_out(tensor, f"{skeleton.name}.data", offset, json.dumps(is_now))
        offset += -(-size * np.dtype(FLOATS[tensor.data_type]).itemsize // PAGE) * PAGE
    skeleton.write_bytes(model.SerializeToString())
    return skeleton


def _order(tensor: onnx.TensorProto, name: str, shape: tuple[int, ...]) -> list[int]:
    """The parameter's axes as the graph has them, beside axes of one. Raises ValueError for an order that is none of
    the exporter's."""
    dims, order = [*tensor.dims], [*range(len(shape))]
    if name != tensor.name and dims == [*shape[::-1]] and len(shape) == 2:  # folded, it lost its name
        order = [1, 0]
    elif len(shape) == 4 and tensor.name.endswith(".last"):
        order = LAST
    if [size for size in dims if size > 1] != [shape[axis] for axis in order if shape[axis] > 1]:
        raise ValueError(f"'{tensor.name}' is '{name}' in another layout: {dims} for {[*shape]}")
    return order


def _first(tensor: onnx.TensorProto, folder: Path) -> float | None:
    """The first number of a tensor of floats."""
    if tensor.data_type not in FLOATS:
        return None
    kind = np.dtype(FLOATS[tensor.data_type])
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return float(onnx.numpy_helper.to_array(tensor).reshape(-1)[:1].sum())
    where = onnx.external_data_helper.ExternalDataInfo(tensor)
    with (folder / where.location).open("rb") as data:
        data.seek(where.offset or 0)
        return float(np.frombuffer(data.read(kind.itemsize), kind)[0])


def _inline(tensor: onnx.TensorProto, folder: Path) -> None:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _leave_out(tensor: onnx.TensorProto, location: str, offset: int, told: str) -> None:
    size = math.prod(tensor.dims) * np.dtype(FLOATS[tensor.data_type]).itemsize
    for field in ("raw_data", "float_data", "int32_data"):
        tensor.ClearField(field)
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", size)):
        tensor.external_data.add(key=key, value=str(value))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.doc_string = told


# --- filling


def weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The initialisers that a skeleton leaves out."""
    return [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]


def fill(skeleton: Path, folder: Path, seed: int = 0) -> Path:
    """Write the skeleton with random weights as `folder/NAME.onnx` and `NAME.onnx.data`; return the graph's path.

    The same skeleton and seed give the same weights. They are scaled so that activations stay in FP16's range: by the
    square root of the inputs of each output, norms near 1 and 0.
    """
    model = onnx.load(skeleton, load_external_data=False)
    block = np.random.default_rng(seed).standard_normal(BLOCK, np.float32)
    drawn = np.concatenate([block, block])
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{skeleton.name}.data"
    with data.open("wb") as file, ThreadPoolExecutor() as pool:
        # numpy lets go of the interpreter, and every weight knows its place.
        list(pool.map(lambda tensor: _write(file.fileno(), tensor, drawn), weights(model)))
    target = folder / skeleton.name
    target.write_bytes(skeleton.read_bytes())
    return target


def _write(file: int, tensor: onnx.TensorProto, drawn: Floats) -> None:
    content = memoryview(values(tensor, drawn).tobytes())
    offset = int(onnx.external_data_helper.ExternalDataInfo(tensor).offset or 0)
    while content:
        written = os.pwrite(file, content, offset)
        content, offset = content[written:], offset + written


def values(tensor: onnx.TensorProto, drawn: Floats) -> Floats:
    """Random numbers for a weight, of the graph's layout and type. drawn: two blocks of normal numbers, the same
    twice."""
    told = json.loads(tensor.doc_string)
    name, shape = told["name"], told["shape"]
    size = math.prod(shape)
    start = zlib.crc32(name.encode()) % (len(drawn) // 2)
    piece = drawn[start : start + size]
    if len(piece) < size:
        piece = np.resize(drawn[start : start + len(drawn) // 2], size)
    if sum(axis > 1 for axis in shape) < 2:  # a bias, or the scale of a norm
        scale, middle = (0.1, 1.0) if name.endswith("weight") else (0.02, 0.0)
    else:
        inputs = max(shape) if len(shape) == 2 else size // shape[0]
        scale, middle = inputs**-0.5, 0.0
    found = (piece * np.float32(scale) + np.float32(middle)).astype(FLOATS[tensor.data_type])
    return found.reshape(shape).transpose(told["order"]).reshape(tensor.dims)


def parameters(graph: Path) -> Iterator[tuple[str, Floats]]:
    """The weights of a filled skeleton by the names and in the layout of the module's parameters, mapped."""
    for tensor in weights(onnx.load(graph, load_external_data=False)):
        where = onnx.external_data_helper.ExternalDataInfo(tensor)
        mapped = np.memmap(
            graph.parent / where.location,
            FLOATS[tensor.data_type],
            "r",
            int(where.offset or 0),
            tuple(tensor.dims),
        )
        told = json.loads(tensor.doc_string)
        turned = mapped.reshape([told["shape"][axis] for axis in told["order"]])
        yield told["name"], turned.transpose(np.argsort(told["order"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="export the graphs and leave their weights out")
    making.add_argument("folder", type=Path)
    making.add_argument("--width", type=float, default=1.0)
    making.add_argument("--side", type=int, default=LARGEST)
    making.add_argument("--only", action="append", metavar="NAME", help="for example inpaint_step.plain")
    filling = commands.add_parser("fill", help="give every skeleton of a folder random weights")
    filling.add_argument("folder", type=Path)
    filling.add_argument("target", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.command == "fill":
            for skeleton in sorted(given.folder.glob("*.onnx")):
                print(fill(skeleton, given.target))
            return 0
        told = json.dumps({"width": given.width, "side": given.side})
        given.folder.mkdir(parents=True, exist_ok=True)
        made = given.folder / MADE
        if made.is_file() and made.read_text(encoding="utf-8") != told:
            raise ValueError(f"the skeletons in '{given.folder}' are others: give another folder")
        made.write_text(told, encoding="utf-8")
        for name, build in jobs(given.width, given.side):
            file = given.folder / f"{name}.onnx"
            if given.only is None or name in given.only:
                done = file if file.is_file() else make(name, build, given.folder)
                print(f"{done.name}: {done.stat().st_size / 2**20:.2f} MiB", flush=True)
    except (OSError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
