"""The costs of a graph, read from its ONNX file: floating-point operations, and bytes of activations at their peak.

Nothing is run and no weight is read. The free axes of the inputs get a size, and the shape of every tensor follows node
by node: ONNX's own inference, with the small integer tensors that hold shapes computed on the way. Its inference of
whole models gives up at the first Div or Mul between a Shape and a Reshape, of which traced graphs have many.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TypeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_node_outputs

from grefine_export.onnx.cuda_operators import DOMAIN
from grefine_rt.bundle.manifest import Cost, Manifest
from grefine_rt.bundle.store import read_manifest, write
from grefine_rt.contract import HIDDEN, LATENT_SCALE, OTHERS

TEXT_LENGTH = 77
"""Tokens of a prompt, of all of CLIP's text encoders."""

_SIDES = (32, 64, 128, 256)
"""Latent sides that are looked at: 256 to 2048 pixels, whole after the halvings of any UNet."""

_SMALL = 4096
"""Tensors up to this many elements are computed where they can be: shapes, indices, factors."""

_ALIASES = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
"""Operators whose output is their input's memory."""

Array = NDArray[np.generic]


@dataclasses.dataclass(frozen=True)
class GraphCost:
    """One run at given sizes: floating-point operations, two a multiply-add, and bytes of activations at their peak."""

    flops: int
    memory: int


def count(path: str | os.PathLike[str], length: int = TEXT_LENGTH) -> Cost:
    """The costs of one run of the graph `path` at batch 1, as polynomials of its latent cells.

    length: tokens of a prompt, where the graph leaves them free. Counted are multiply-adds alone, two operations each:
    convolutions, matrix products, attention. The operations are exact; the bytes are the tightest polynomial without
    negative coefficients that is nowhere below the peak, at four squares from 256 to 2048 pixels. Weights, and
    values computed from them alone (the casts of weights stored in FP16), are no activations.

    Raises ValueError for a graph with a branch, a loop, an operator or a shape that cannot be followed.
    """
    model = onnx.load(os.fspath(path), load_external_data=False)
    try:
        return _count(model, length)
    except ValueError as error:
        raise ValueError(f"the cost of '{path}' cannot be counted: {error}") from error


def costs_of(bundle: Path) -> dict[str, Cost]:
    """The cost of every graph of a bundle folder, by file as in its manifest. Raises BundleError and ValueError."""
    manifest = read_manifest(bundle)
    lengths = {name: specs[0].length for name, specs in manifest.tokenizers.items() if specs}
    costs: dict[str, Cost] = {}
    for component, file in manifest.components.items():
        if file not in costs:
            costs[file] = count(bundle / file, lengths.get(manifest.reads(component), TEXT_LENGTH))
    return costs


def add_costs(bundle: Path) -> Manifest:
    """Count every graph of a bundle folder and enter the costs into its `bundle.json`; nothing else changes.

    Raises BundleError and ValueError.
    """
    manifest = read_manifest(bundle)
    return write(bundle, dataclasses.replace(manifest, costs=costs_of(bundle)))


def cost_at(model: ModelProto, axes: Mapping[str, int]) -> GraphCost:
    """The cost of one run of `model`, whose external data need not be loaded.

    axes: sizes of the free axes of the inputs, by name; others are 1. Raises ValueError as `count` does.
    """
    graph = _Graph(model, axes)
    return GraphCost(
        flops=sum(2 * _multiply_adds(node, graph) for node in model.graph.node),
        memory=_peak(model, graph),
    )


def _count(model: ModelProto, length: int) -> Cost:
    names = {
        axis.dim_param
        for value in model.graph.input
        for axis in value.type.tensor_type.shape.dim
        if axis.dim_param
    }

    def at(side: int) -> GraphCost:
        pixels = side * LATENT_SCALE
        axes = {"h": side, "w": side, "H": pixels, "W": pixels, "l": length, "L": length}
        cost = cost_at(model, {**axes, "m": HIDDEN})
        if "m" not in names:
            return cost
        # Operations are those of whole pictures; memory has to do for tiles, too.
        return dataclasses.replace(cost, memory=cost_at(model, {**axes, "m": OTHERS * side**2}).memory)

    if not names & {"h", "w", "H", "W"}:
        cost = at(1)
        return Cost((float(cost.flops), 0.0, 0.0), (float(cost.memory), 0.0, 0.0))
    found = {side * side: at(side) for side in _SIDES}
    flops = _interpolate([(cells, cost.flops) for cells, cost in [*found.items()][:3]])
    for cells, cost in found.items():
        if sum(c * cells**power for power, c in enumerate(flops)) != cost.flops:
            raise ValueError("its operations are no polynomial of second degree in the latent cells")
    memory = _above({cells: cost.memory for cells, cost in found.items()})
    return Cost(tuple(map(float, flops)), memory)


def _interpolate(points: Sequence[tuple[int, int]]) -> tuple[Fraction, Fraction, Fraction]:
    """The polynomial of second degree through three points, exactly: (c0, c1, c2)."""
    (x0, y0), (x1, y1), (x2, y2) = points
    slope = Fraction(y1 - y0, x1 - x0)
    c2 = (Fraction(y2 - y0, x2 - x0) - slope) / (x2 - x1)
    c1 = slope - c2 * (x0 + x1)
    return y0 - c1 * x0 - c2 * x0 * x0, c1, c2


def _above(values: Mapping[int, int]) -> tuple[float, float, float]:
    """The polynomial (c0, c1, c2), none negative, that is nowhere below `values` and exceeds them least, relatively."""
    from scipy.optimize import linprog

    # In units of the largest point each column and the values are of order 1.
    unit, top = max(values), max(values.values())
    powers = np.array([[(cells / unit) ** power for power in range(3)] for cells in values])
    wanted = np.array([*values.values()]) / top
    solution = linprog((powers / wanted[:, None]).sum(axis=0), -powers, -wanted, bounds=(0, None))
    c0, c1, c2 = (abs(solution.x) * top / [1, unit, unit**2]).tolist()  # abs: the solver writes -0.0
    return c0, c1, c2


class _Graph:
    """Shape, bytes an element and, where small and known, value of every tensor of a model at given sizes.

    `derived` are the tensors that depend on an input of the graph by more than its shape: the activations.
    """

    def __init__(self, model: ModelProto, axes: Mapping[str, int]) -> None:
        self.types: dict[str, TypeProto] = {}
        self.values: dict[str, Array] = {}
        self.derived: set[str] = set()
        self._opsets = [*model.opset_import]
        self._ir_version = model.ir_version
        self._versions = {entry.domain: entry.version for entry in self._opsets}
        for tensor in model.graph.initializer:
            self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
            if math.prod(tensor.dims) <= _SMALL and not tensor.external_data:
                self.values[tensor.name] = numpy_helper.to_array(tensor)
        for value in model.graph.input:
            kind = TypeProto()
            kind.CopyFrom(value.type)
            for axis in kind.tensor_type.shape.dim:
                if axis.dim_param:
                    axis.dim_value = axes.get(axis.dim_param, 1)
            self.types[value.name] = kind
            self.derived.add(value.name)
        for node in model.graph.node:
            self._follow(node)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(axis.dim_value for axis in self.types[name].tensor_type.shape.dim)

    def bytes(self, name: str) -> int:
        kind = helper.tensor_dtype_to_np_dtype(self.types[name].tensor_type.elem_type)
        return math.prod(self.shape(name)) * kind.itemsize

    def _follow(self, node: NodeProto) -> None:
        if any(
            attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for attribute in node.attribute
        ):
            raise ValueError(f"it has the branch or loop '{node.op_type}'")
        inputs = [name for name in node.input if name]
        types = {name: self.types[name] for name in inputs}
        if node.domain == DOMAIN:  # ONNX has no schemas of these
            self._follow_channels_last(node)
            return
        known = {name: self.values[name] for name in inputs if name in self.values}
        if node.op_type == "Shape":  # of its input it takes no element
            known = {name: np.broadcast_to(np.float32(0), self.shape(name)) for name in inputs}
        try:
            schema = onnx.defs.get_schema(node.op_type, self._versions[node.domain], node.domain)
            data = (
                {} if node.op_type == "Shape" else {n: numpy_helper.from_array(v) for n, v in known.items()}
            )
            found = infer_node_outputs(
                schema, node, types, data, opset_imports=self._opsets, ir_version=self._ir_version
            )
        except (KeyError, onnx.defs.SchemaError, onnx.shape_inference.InferenceError) as error:
            raise ValueError(f"its operator '{node.op_type}' cannot be followed ({error})") from error
        self.types |= found
        outputs = [name for name in node.output if name]
        if unknown := [name for name in outputs if not self._is_known(name)]:
            raise ValueError(f"the shape of '{unknown[0]}', from '{node.op_type}', cannot be followed")
        if known.keys() == set(inputs) and all(math.prod(self.shape(n)) <= _SMALL for n in outputs):
            results = ReferenceEvaluator(node).run(None, known)
            self.values |= {name: np.asarray(value) for name, value in zip(outputs, results, strict=True)}
        elif self.derived.intersection(inputs):
            self.derived.update(outputs)

    def _follow_channels_last(self, node: NodeProto) -> None:
        """GroupNorm and NhwcConv on (n, h, w, channels)."""
        kind = TypeProto()
        kind.CopyFrom(self.types[node.input[0]])
        if node.op_type == "NhwcConv":  # weight (out, *kernel, in)
            told = {attribute.name: attribute.ints for attribute in node.attribute}
            out, *kernel, _ = self.shape(node.input[1])
            axes = kind.tensor_type.shape.dim
            for index, size in enumerate(kernel):
                reach = told["dilations"][index] * (size - 1) + 1
                free = axes[1 + index].dim_value + told["pads"][index] + told["pads"][2 + index] - reach
                axes[1 + index].dim_value = free // told["strides"][index] + 1
            axes[3].dim_value = out
        self.types[node.output[0]] = kind
        self.derived.add(node.output[0])

    def _is_known(self, name: str) -> bool:
        kind = self.types[name].tensor_type if name in self.types else None
        return (
            kind is not None
            and kind.HasField("shape")
            and all(d.HasField("dim_value") for d in kind.shape.dim)
        )


def _multiply_adds(node: NodeProto, graph: _Graph) -> int:
    """Multiply-adds of one run of a node; those of other operators are small beside these and not counted."""
    if node.output[0] not in graph.derived:
        return 0
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    shapes = [graph.shape(name) if name else () for name in node.input]
    size = math.prod(graph.shape(node.output[0]))
    match node.op_type:
        case (
            "Conv" | "NhwcConv"
        ):  # weight (out, in / group, *kernel), or with channels last (out, *kernel, in)
            return size * math.prod(shapes[1][1:])
        case "ConvTranspose":  # weight (in, out / group, *kernel): each input element reaches so many outputs
            return math.prod(shapes[0]) * math.prod(shapes[1][1:])
        case "MatMul":
            return size * shapes[0][-1]
        case "Gemm":
            return size * shapes[0][0 if attributes.get("transA") else 1]
        case "Einsum":
            terms = attributes["equation"].decode().replace(" ", "").split("->")[0].split(",")
            if len(terms) == 1 or any("." in term for term in terms):
                raise ValueError("it has an Einsum of one operand or with an ellipsis")
            lengths = {
                axis: length
                for term, shape in zip(terms, shapes, strict=True)
                for axis, length in zip(term, shape, strict=True)
            }
            return math.prod(lengths.values()) * (len(terms) - 1)
        case "Attention":  # Q (b, heads, s, d) or (b, s, heads * d), likewise K and V
            return _attention(node, shapes, attributes)
        case _:
            return 0


def _attention(node: NodeProto, shapes: Sequence[tuple[int, ...]], attributes: Mapping[str, int]) -> int:
    query, key, value = shapes[:3]
    if len(shapes) > 4 and shapes[4]:
        raise ValueError("it has an Attention with keys of earlier runs")
    if len(query) == 4:
        batch, heads, queries, width = query
        return batch * heads * queries * key[2] * (width + value[3])
    kv_heads, heads = attributes["kv_num_heads"], attributes["q_num_heads"]
    return query[0] * query[1] * key[1] * (query[2] + value[2] // kv_heads * heads)


def _peak(model: ModelProto, graph: _Graph) -> int:
    """Bytes of all activations alive at once, at most, when the nodes run in the order of the file.

    An activation lives from its node to its last reader; inputs and outputs of the graph belong to the caller and live
    throughout.
    """
    nodes = model.graph.node
    root = {name: name for name in graph.derived}
    for node in nodes:
        if node.op_type in _ALIASES and node.output[0] in graph.derived:
            root[node.output[0]] = root[node.input[0]]
    last: dict[str, int] = {}
    for index, node in enumerate(nodes):
        last |= {root[name]: index for name in node.input if name in root}
    kept = {root[value.name] for value in (*model.graph.input, *model.graph.output) if value.name in root}
    alive = peak = sum(graph.bytes(name) for name in kept)
    for index, node in enumerate(nodes):
        own = [name for name in node.output if root.get(name) == name and name not in kept]
        alive += sum(map(graph.bytes, own))
        peak = max(peak, alive + _scratch(node, graph))
        done = {root[name] for name in (*node.input, *own) if name in root} - kept
        alive -= sum(graph.bytes(name) for name in done if last.get(name, index) == index)
    return peak


def _scratch(node: NodeProto, graph: _Graph) -> int:
    """Bytes that a node needs beside its outputs: the scores of an attention that is not fused."""
    if node.op_type != "Attention":
        return 0
    query, key = (graph.shape(name) for name in node.input[:2])
    heads = query[1] if len(query) == 4 else next(a.i for a in node.attribute if a.name == "q_num_heads")
    scores = query[0] * heads * query[-2] * key[-2]
    return scores * graph.bytes(node.input[0]) // math.prod(query)
