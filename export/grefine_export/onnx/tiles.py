"""Autoencoder graphs that see one tile of a picture and compute their part of the whole.

Their convolutions do, given enough overlap. Operators that reach further are rewritten here, the statistics of group
norms (`statistics.py`) and the attention of the middle block (`tile_attention.py`); `grefine_rt.diffusion.tiling`
carries the tiles' values from one to the other.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common  # not loaded by onnx_ir itself

from grefine_export.onnx.convert import EXTERNAL_DATA_BYTES
from grefine_export.onnx.statistics import share_statistics
from grefine_export.onnx.tile_attention import share_attention


def connect_tiles(path: Path) -> None:
    """Rewrite the encoder or decoder graph at `path`, one of `convert.export`, in place.

    A graph that was rewritten before stays as it is. Raises ValueError for a graph that cannot be rewritten.
    """
    model = ir.load(path)
    graph = model.graph
    if any(value.name == "rest" for value in graph.inputs):
        return
    weight = ir.Value(name="weight", shape=ir.Shape((1, 1, "h", "w")), type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(weight)
    ir.passes.common.ShapeInferencePass()(model)
    try:
        share_statistics(graph, weight)
        share_attention(graph, weight)
    except ValueError as error:
        raise ValueError(f"'{path.name}' cannot be run in tiles: {error}") from error
    ir.passes.common.RemoveUnusedNodesPass()(model)
    size = sum(value.const_value.nbytes for value in graph.initializers.values())
    ir.save(model, path, external_data=f"{path.name}.data" if size > EXTERNAL_DATA_BYTES else None)
