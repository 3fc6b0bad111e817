"""Attention over the cells of a whole picture, in graphs that see one tile of it.

The middle block of an autoencoder attends from each latent cell to all of them. A graph rewritten here is told the keys
and values of the cells outside its tile, and tells its own:

    weight (1, 1, h, w): input; as for statistics: the weight of each cell of this tile, 1 in a picture run whole
    others (1, m, 2C + 1): input; keys, values and weights of m other cells; a weight of 0 hides one
    cells (b, h * w, 2C): output; keys and values of this tile's cells

A weight w counts a key w times: its scores are raised by log w. With ones and zeros it is the graph of
before.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from grefine_export.onnx.nodes import Nodes

_HIDDEN = -1e4
"""Score of a key that is not seen; half precision can hold it."""


def share_attention(graph: ir.Graph, weight: ir.Value) -> None:
    """Add `others` and `cells` to a graph whose one attention layer, in any number of chunks, is MatMul, Softmax,
    MatMul; one without attention stays as it is. Raises ValueError for another."""
    softmaxes = [node for node in graph if node.op_type == "Softmax"]
    if not softmaxes:
        return
    products = [(node.inputs[0].producer(), node.outputs[0].consumers()[0]) for node in softmaxes]
    if {node.op_type for pair in products for node in pair} != {"MatMul"}:
        raise ValueError(
            "its attention is not made of matrix products: export it again with this grefine-export"
        )
    sources = {(scores.inputs[1], mixed.inputs[1]) for scores, mixed in products}
    if len(sources) > 1:
        raise ValueError("it has several attention layers, of which tiles can share only one")
    ((keys, values),) = sources  # (b, heads, d, n) and (b, heads, n, d)
    heads, width = keys.shape[1], keys.shape[2]
    channels = heads * width
    single = ir.TensorType(ir.DataType.FLOAT)
    others = ir.Value(name="others", shape=ir.Shape((1, "m", 2 * channels + 1)), type=single)

    new = Nodes(graph, "attention")
    batch = new("Concat", new("Shape", keys, end=1), new.const([1, 1, 1]), axis=0)

    def part(start: int, axes: list[int]) -> ir.Value:
        """Keys or values of `others`, as the graph has its own."""
        found = new("Slice", others, new.const([start]), new.const([start + channels]), new.const([2]))
        found = new("Transpose", new("Reshape", found, new.const([1, -1, heads, width])), perm=axes)
        return new("Expand", new("Cast", found, to=keys.dtype.value), batch)

    all_keys = new("Concat", keys, part(0, [0, 2, 3, 1]), axis=3)
    all_values = new("Concat", values, part(channels, [0, 2, 1, 3]), axis=2)
    counted = new("Slice", others, new.const([2 * channels]), new.const([2 * channels + 1]), new.const([2]))
    counts = new(
        "Concat", *(new("Reshape", each, new.const([1, 1, 1, -1])) for each in (weight, counted)), axis=3
    )
    seen = new("Greater", counts, new.const([0], np.float32))
    logarithm = new("Log", new("Max", counts, new.const([1e-30], np.float32)))
    bias = new("Where", seen, logarithm, new.const([_HIDDEN], np.float32))
    bias = new("Cast", bias, to=keys.dtype.value)
    told = [
        new("Reshape", new("Transpose", each, perm=axes), new.const([0, 0, channels]))
        for each, axes in ((keys, [0, 3, 1, 2]), (values, [0, 2, 1, 3]))
    ]
    cells = new("Cast", new("Concat", *told, axis=2), to=ir.DataType.FLOAT.value)
    cells.name, cells.shape, cells.type = "cells", ir.Shape(("b", None, 2 * channels)), single
    graph.insert_before(products[0][0], new.nodes)
    for softmax, (scores, mixed) in zip(softmaxes, products, strict=True):
        scores.replace_input_with(1, all_keys)
        mixed.replace_input_with(1, all_values)
        raised = ir.node("Add", [scores.outputs[0], bias], name=f"{softmax.name}_raised")
        raised.outputs[0].name = raised.name
        graph.insert_before(softmax, raised)
        softmax.replace_input_with(0, raised.outputs[0])
    graph.inputs.append(others)
    graph.outputs.append(cells)
