"""Group norms as one operator of the graph, `com.microsoft` GroupNorm, for ONNX Runtime CUDA.

Its kernel wants channels last and computes a SiLU behind it at once. Other backends have none: `on_cpu` gives the same
graph with the operator's definition, in double precision, in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from grefine_export.onnx.nodes import Nodes

OPSET = 23
"""The first with Attention; group norms are then written as GroupNormalization."""
DOMAIN = "com.microsoft"

_STATED = "stated"
_HEAD = f"""<domain: "{_STATED}", opset_import: ["" : {OPSET}]>
NAME <epsilon, groups> (x, gamma, beta) => (y) {{
    groups = Constant <value_int: int = @groups> ()
    channels = Size (gamma)
    each = Div (channels, groups)
    zero = Constant <value_ints: ints = [0]> ()
    one = Constant <value_ints: ints = [1]> ()
    rest = Constant <value_ints: ints = [-1]> ()
    groups_1 = Reshape (groups, one)
    each_1 = Reshape (each, one)
    apart = Concat <axis: int = 0> (zero, rest, groups_1, each_1)
    exact = Cast <to: int = 11> (x)
    grouped = Reshape (exact, apart)
    axes = Constant <value_ints: ints = [1, 3]> ()
    mean = ReduceMean (grouped, axes)
    centred = Sub (grouped, mean)
    squares = Mul (centred, centred)
    variance = ReduceMean (squares, axes)
    least = Constant <value_float: float = @epsilon> ()
    least_exact = Cast <to: int = 11> (least)
    safe = Add (variance, least_exact)
    deviation = Sqrt (safe)
    normal = Div (centred, deviation)
    shape = Shape (x)
    joined = Reshape (normal, shape)
    scale = Cast <to: int = 11> (gamma)
    shift = Cast <to: int = 11> (beta)
    scaled = Mul (joined, scale)
    result = Add (scaled, shift)
"""
_DEFINITIONS = {
    0: ("GroupNorm", _HEAD + "    y = CastLike (result, x)\n}"),
    1: (
        "GroupNormSilu",
        _HEAD
        + """    unit = Constant <value_float: float = 1.0> ()
    unit_exact = Cast <to: int = 11> (unit)
    opposite = Neg (result)
    power = Exp (opposite)
    denominator = Add (unit_exact, power)
    active = Div (result, denominator)
    y = CastLike (active, x)
}""",
    ),
}
"""By activation: the operator's definition on (n, h, w, channels), and its name."""


def fuse_norms(model: ir.Model) -> int:
    """Put a GroupNorm with channels last, and a Transpose before and behind it, in the place of every
    GroupNormalization of `model`, with the SiLU that alone reads it; in place. Returns how many there are.

    ONNX Runtime takes Transposes away where one meets its opposite. Raises ValueError for a norm whose factors are not
    constant.
    """
    graph = model.graph
    norms = [node for node in graph if node.op_type == "GroupNormalization"]
    for index, norm in enumerate(norms):
        _fuse(graph, norm, index)
    if norms:
        model.opset_imports[DOMAIN] = 1
    return len(norms)


def _fuse(graph: ir.Graph, norm: ir.Node, index: int) -> None:
    new = Nodes(graph, f"norm_{index}")
    x, *factors = norm.inputs
    if any(factor is None or factor.const_value is None for factor in factors):
        raise ValueError(f"the factors of the group norm '{norm.name}' are no constants")
    gamma, beta = (new.const(factor.const_value.numpy(), np.float32) for factor in factors if factor)
    silu = _silu(norm.outputs[0])
    inside = new(
        "GroupNorm",
        new("Transpose", x, perm=[0, 2, 3, 1]),
        gamma,
        beta,
        domain=DOMAIN,
        epsilon=norm.attributes["epsilon"].as_float(),
        groups=norm.attributes["num_groups"].as_int(),
        activation=1 if silu else 0,
        channels_last=1,
    )
    result = new("Transpose", inside, perm=[0, 3, 1, 2])
    graph.insert_before(norm, new.nodes)
    replaced = [norm, *silu]
    ir.convenience.replace_all_uses_with(replaced[-1].outputs[0], result)
    graph.remove(replaced, safe=True)


def _silu(value: ir.Value) -> list[ir.Node]:
    """Both nodes of the SiLU of `value`, where nothing else reads `value`."""
    readers = {node.op_type: node for node, _ in value.uses()}
    if readers.keys() != {"Sigmoid", "Mul"} or len(value.uses()) != 2:
        return []
    gate, product = readers["Sigmoid"], readers["Mul"]
    inside = gate.outputs[0].uses()
    return [gate, product] if len(inside) == 1 and inside[0].node is product else []


@contextmanager
def on_cpu(path: Path) -> Iterator[Path]:
    """A graph that computes the same and has kernels on a CPU: `path` itself, or while this lasts a file beside it in
    which the definition of GroupNorm takes its place. Weights in a file of their own are shared."""
    model = onnx.load(path, load_external_data=False)
    norms = [node for node in model.graph.node if (node.domain, node.op_type) == (DOMAIN, "GroupNorm")]
    if not norms:
        yield path
        return
    state(model)
    stated = path.with_name(f"{path.stem}.stated.onnx")
    onnx.save(model, stated)
    del model
    try:
        yield stated
    finally:
        stated.unlink()


def state(model: onnx.ModelProto) -> None:
    """Put the definition of GroupNorm in the place of its nodes; in place."""
    used = set()
    for node in model.graph.node:
        if (node.domain, node.op_type) == (DOMAIN, "GroupNorm"):
            values = {attribute.name: attribute for attribute in node.attribute}
            used.add(values["activation"].i)
            node.domain, node.op_type = _STATED, _DEFINITIONS[values["activation"].i][0]
            del node.attribute[:]
            node.attribute.extend([values["epsilon"], values["groups"]])
    model.opset_import.append(onnx.helper.make_opsetid(_STATED, 1))
    for activation in sorted(used):
        name, text = _DEFINITIONS[activation]
        model.functions.append(onnx.parser.parse_function(text.replace("NAME", name)))
