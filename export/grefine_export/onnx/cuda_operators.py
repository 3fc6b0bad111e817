"""Group norms and convolutions with channels last, as `com.microsoft` GroupNorm and NhwcConv, for ONNX Runtime CUDA.

GroupNorm's kernel wants channels last and computes a SiLU behind it at once; cuDNN's convolutions in half precision
want them so, too. ONNX Runtime's own way there, `prefer_nhwc`, moves all arithmetic on sizes to the GPU and copies
between the two (release 1.31). Other backends have neither: `on_cpu` gives the same graph with definitions in their
place, that of the norm in double precision.
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
LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
"""The orders of axes: channels behind the axes of a picture, and back."""

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
    "GroupNorm": _HEAD + "    y = CastLike (result, x)\n}",
    "GroupNormSilu": (
        _HEAD
        + """    unit = Constant <value_float: float = 1.0> ()
    unit_exact = Cast <to: int = 11> (unit)
    opposite = Neg (result)
    power = Exp (opposite)
    denominator = Add (unit_exact, power)
    active = Div (result, denominator)
    y = CastLike (active, x)
}"""
    ),
    "NhwcConv": f"""<domain: "{_STATED}", opset_import: ["" : {OPSET}]>
NAME <dilations, group, pads, strides> (x, weight, bias) => (y) {{
    first = Transpose <perm: ints = {FIRST}> (x)
    own = Transpose <perm: ints = {FIRST}> (weight)
    made = Conv <dilations: ints = @dilations, group: int = @group, pads: ints = @pads, strides: ints = @strides> (
        first, own, bias)
    y = Transpose <perm: ints = {LAST}> (made)
}}""",
}
"""Operators on (n, h, w, channels) in ONNX's own."""


def use_cuda_operators(model: ir.Model) -> None:
    """Put a GroupNorm, with the SiLU that alone reads it, in the place of every GroupNormalization of `model`, and an
    NhwcConv in that of every convolution of one group over pictures, each between two Transposes; in place.

    ONNX Runtime takes Transposes away where one meets its opposite. Raises ValueError for factors or weights that are
    no constants.
    """
    graph = model.graph
    for index, node in enumerate(list(graph)):
        if node.op_type == "GroupNormalization":
            _fuse(graph, node, index)
        elif (
            node.op_type == "Conv"
            and node.attributes["group"].as_int() == 1
            and len(_constant(node, 1).shape) == 4
        ):
            _turn(graph, node, index)
    model.opset_imports[DOMAIN] = 1


def _constant(node: ir.Node, index: int) -> ir.TensorProtocol:
    value = node.inputs[index]
    if value is None or value.const_value is None:
        raise ValueError(f"the weights of '{node.name}' are no constants")
    return value.const_value


def _turn(graph: ir.Graph, conv: ir.Node, index: int) -> None:
    new = Nodes(graph, f"conv_{index}")
    x, weight, *bias = conv.inputs
    assert weight is not None
    turned = graph.initializers.get(f"{weight.name}.last")  # of another that shares the weight
    if turned is None:
        turned = _turned(weight.name, _constant(conv, 1))
        graph.register_initializer(turned)
    names = ("dilations", "group", "pads", "strides")
    told = {name: conv.attributes[name].value for name in names if name in conv.attributes}
    inside = new("NhwcConv", new("Transpose", x, perm=LAST), turned, *bias, domain=DOMAIN, **told)
    result = new("Transpose", inside, perm=FIRST)
    graph.insert_before(conv, new.nodes)
    _replace(graph, conv.outputs[0], result)
    graph.remove(conv, safe=True)
    _drop(graph, weight)


def _replace(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Put `new` in the place of `old`, as an output of the graph under its name, too."""
    for index, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[index] = new
            new.name, old.name = old.name, f"{old.name}.old"
            new.type, new.shape = old.type, old.shape
    ir.convenience.replace_all_uses_with(old, new)


def _drop(graph: ir.Graph, *weights: ir.Value | None) -> None:
    """Take `weights` out of the file where nothing reads them any more."""
    for weight in weights:
        if weight is not None and not weight.uses() and weight.name in graph.initializers:
            del graph.initializers[weight.name]


def _turned(name: str | None, kernel: ir.TensorProtocol) -> ir.Value:
    """The weight of a convolution with its input channels last, as an initializer of its own."""
    shape = ir.Shape([kernel.shape[axis] for axis in LAST])
    value = ir.Value(name=f"{name}.last", shape=shape, type=ir.TensorType(kernel.dtype))

    def made() -> ir.Tensor:  # when it is written, so that not all weights are in memory twice
        return ir.Tensor(np.ascontiguousarray(kernel.numpy().transpose(LAST)))

    value.const_value = ir.LazyTensor(made, kernel.dtype, shape, name=value.name)
    return value


def _fuse(graph: ir.Graph, norm: ir.Node, index: int) -> None:
    new = Nodes(graph, f"norm_{index}")
    gamma, beta = (new.const(_constant(norm, place).numpy(), np.float32) for place in (1, 2))
    factors = norm.inputs[1:3]
    silu = _silu(norm.outputs[0])
    inside = new(
        "GroupNorm",
        new("Transpose", norm.inputs[0], perm=LAST),
        gamma,
        beta,
        domain=DOMAIN,
        epsilon=norm.attributes["epsilon"].as_float(),
        groups=norm.attributes["num_groups"].as_int(),
        activation=1 if silu else 0,
        channels_last=1,
    )
    result = new("Transpose", inside, perm=FIRST)
    graph.insert_before(norm, new.nodes)
    replaced = [norm, *silu]
    _replace(graph, replaced[-1].outputs[0], result)
    graph.remove(replaced, safe=True)
    _drop(graph, *factors)


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
    which definitions take the place of such operators. Weights in a file of their own are shared."""
    model = onnx.load(path, load_external_data=False)
    if not any(node.domain == DOMAIN for node in model.graph.node):
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
    """Put definitions in the place of GroupNorm and NhwcConv; in place."""
    used = set()
    for node in model.graph.node:
        if node.domain != DOMAIN:
            continue
        values = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "GroupNorm":
            node.op_type = "GroupNormSilu" if values["activation"].i else "GroupNorm"
            del node.attribute[:]
            node.attribute.extend([values["epsilon"], values["groups"]])
        node.domain = _STATED
        used.add(node.op_type)
    model.opset_import.append(onnx.helper.make_opsetid(_STATED, 1))
    for name in sorted(used):
        model.functions.append(onnx.parser.parse_function(_DEFINITIONS[name].replace("NAME", name)))
