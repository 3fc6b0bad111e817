"""Group norms with the statistics of a whole picture, in graphs that see one tile of it.

A convolution needs the surroundings of a pixel alone, so overlapping tiles give the values of the whole picture. A
group norm divides by statistics of the whole picture; with a tile's own, every tile gets colours of its own. A graph
rewritten here is told the other tiles' contributions to its statistics, and tells its own:

    weight (1, 1, h, w): input; each latent cell's weight in the means over this tile, 1 in a picture run whole
    rest (1, K, 2): input; contributions of the other tiles to mean and mean square of the K groups of all norms
    share (b, K, 2): output; contributions of this tile, the means of weight * x and weight * x^2

It normalises by rest + share. With ones and zeros it is the graph of before, as fast as before.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from grefine_export.onnx.nodes import Nodes


def share_statistics(graph: ir.Graph, weight: ir.Value) -> None:
    """Add `rest` and `share` to a graph of `convert.export`, which writes a group norm as Reshape,
    InstanceNormalization, Reshape, Mul, Add. Raises ValueError for a graph without group norms."""
    norms = [node for node in graph if node.op_type == "InstanceNormalization"]
    if not norms:
        raise ValueError("it has no group norms whose statistics tiles could share")
    groups = [norm.inputs[1].const_value.shape[0] for norm in norms]
    count = sum(groups)
    single = ir.TensorType(ir.DataType.FLOAT)
    rest = ir.Value(name="rest", shape=ir.Shape((1, count, 2)), type=single)
    ends = np.cumsum(groups).tolist()
    shares = [
        _rewrite(graph, norm, weight, rest, slice(end - size, end))
        for norm, size, end in zip(norms, groups, ends, strict=True)
    ]
    joined = ir.node("Concat", shares, {"axis": 1}, name="share").outputs[0]
    joined.name, joined.shape, joined.type = "share", ir.Shape(("b", count, 2)), single
    graph.append(joined.producer())
    graph.inputs.append(rest)
    graph.outputs.append(joined)


def _rewrite(graph: ir.Graph, norm: ir.Node, weight: ir.Value, rest: ir.Value, own: slice) -> ir.Value:
    """Put `x * scale + shift` in the place of a group norm; returns its share. own: its groups among all."""
    grouped = norm.inputs[0].producer()
    x = grouped.inputs[0]
    (back,) = norm.outputs[0].consumers()
    (scaled,) = back.outputs[0].consumers()
    (shifted,) = scaled.outputs[0].consumers()
    found = [node.op_type for node in (grouped, back, scaled, shifted)]
    if found != ["Reshape", "Reshape", "Mul", "Add"]:
        raise ValueError(
            f"a group norm has {found} around it: export the graph again with this grefine-export"
        )
    gamma, beta = (node.inputs[1].const_value.numpy() for node in (scaled, shifted))
    own_type = ir.DataType.from_numpy(gamma.dtype)
    groups, channels = own.stop - own.start, len(gamma)
    axes = gamma.ndim - 1  # 2 for a feature map, 1 for the tokens of the middle block's attention
    new = Nodes(graph, f"norm_{own.start}")

    # Moments: a matrix product sums over the pixels without a copy of the feature map.
    if axes == 2:
        sides = new("Concat", new.const([1, 1]), new("Shape", x, start=2), axis=0)
        nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        spread = new("Resize", weight, None, None, sides, **nearest)
    else:
        spread = weight
    column = new("Reshape", spread, new.const([1, -1, 1]))
    mean_of = new("Div", column, new("Cast", new("Size", column), to=ir.DataType.FLOAT.value))
    # Sums over many pixels leave the range of half precision.
    flat = new("Cast", new("Reshape", x, new.const([0, channels, -1])), to=ir.DataType.FLOAT.value)
    means = [new("MatMul", values, mean_of) for values in (flat, new("Mul", flat, flat))]
    split = new("Reshape", new("Concat", *means, axis=2), new.const([0, groups, channels // groups, 2]))
    share = new("ReduceMean", split, new.const([2]), keepdims=0)
    others = new("Slice", rest, new.const([own.start]), new.const([own.stop]), new.const([1]))
    moments = new("Add", share, others)

    mean, square = (new("Gather", moments, new.const([index]), axis=2) for index in (0, 1))
    # Rounding, or tiles that do not agree yet, must not make it negative.
    variance = new("Relu", new("Sub", square, new("Mul", mean, mean)))
    epsilon = new.const([norm.attributes["epsilon"].as_float()], np.float32)
    deviation = new("Sqrt", new("Add", variance, epsilon))
    scale = new("Div", new.const(gamma.reshape(1, groups, -1), np.float32), deviation)
    shift = new("Sub", new.const(beta.reshape(1, groups, -1), np.float32), new("Mul", mean, scale))
    shape = new.const([-1, channels] + axes * [1])
    scale, shift = (new("Cast", new("Reshape", value, shape), to=own_type.value) for value in (scale, shift))
    result = new("Add", new("Mul", x, scale), shift)
    graph.insert_before(norm, new.nodes)
    ir.convenience.replace_all_uses_with(shifted.outputs[0], result)
    return share
