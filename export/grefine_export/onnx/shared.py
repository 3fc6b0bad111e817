"""Weights that several graphs of a bundle have in common, stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

SMALLEST = 1024
"""Bytes of a weight below which it stays in its graph."""


def share_weights(graphs: Sequence[Path], data: Path) -> int:
    """Move the weights of `graphs` into the file `data` beside them, equal ones once; returns the bytes saved.

    `data` must be named after no graph: it then belongs to every component that reads texts (`Manifest.files_of`).
    Raises ValueError for a graph whose weights are in another file already.
    """
    places: dict[str, tuple[int, int]] = {}
    saved = end = 0
    models = [ir.load(path) for path in graphs]
    with data.open("wb") as file:
        for path, model in zip(graphs, models, strict=True):
            for value in model.graph.initializers.values():
                tensor = value.const_value
                if isinstance(tensor, ir.ExternalTensor):
                    raise ValueError(f"'{path.name}' has its weights in '{tensor.location}' already")
                if tensor.nbytes < SMALLEST:
                    continue
                content = tensor.tobytes()
                key = hashlib.sha256(f"{tensor.dtype} {tensor.shape}".encode() + content).hexdigest()
                if key in places:
                    saved += len(content)
                else:
                    places[key] = end, len(content)
                    file.write(content)
                    end += len(content)
                offset, length = places[key]
                value.const_value = ir.ExternalTensor(
                    data.name,
                    offset,
                    length,
                    tensor.dtype,
                    shape=tensor.shape,
                    name=value.name,
                    base_dir=data.parent,
                )
    for path, model in zip(graphs, models, strict=True):
        ir.save(model, path)
    return saved
