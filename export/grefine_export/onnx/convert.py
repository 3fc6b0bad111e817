"""From a torch module to an ONNX file: traced by dynamo, optimised, named, the same bytes every time."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from grefine_export.choices import Operators, Weights
from grefine_export.onnx.cuda_operators import OPSET, use_cuda_operators
from grefine_export.onnx.quick_rules import quick_rules

EXTERNAL_DATA_BYTES = 1 << 30
"""Weights above this go into a second file, NAME.onnx.data: one protobuf can not pass 2 GiB."""

_SMALLEST_FP16 = 1024
_FP16_LIMIT = float(np.finfo(np.float16).max)


def export(
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
    path: str | os.PathLike[str],
    opset: int = 20,
    weights: Weights = "fp32",
    operators: Operators = "portable",
) -> Path:
    """Write `module` as `path` (ending in .onnx) and return the path.

    A module that was cast with `half()` computes in half precision, yet inputs and outputs of its graph are
    float32: the casts are inside. Weights are read where the module has them and written one by one, so that an
    export needs little more memory than the module.

    Args:
        example_inputs: one tensor for each argument of `module.forward` that has no default, by name and in
            its order, of the dtype that it takes. Give free axes a size of 2 or more: a tracer may take a 1 for a
            constant, and raise.
        outputs: names of the outputs, in order.
        dynamic_axes: for each input with free axes, axis -> its name. Axes with the same name are equal.
        weights: "fp32", or "fp16" to store the weight matrices in half precision and compute in single
            precision (see `halve_weights`).
        operators: see `choices.Operators`; attention is then the module's own (`models.fused_attention`), and the
            opset at least that which has it.

    The file holds no doc strings and no metadata (torch writes paths of source files there), and exporting
    the same module twice gives the same bytes. Raises ValueError when the names do not fit the module.
    """
    model = traced(module, example_inputs, outputs, dynamic_axes, opset, operators)
    if weights == "fp16":
        halve_weights(model)
    path = Path(path)
    _save(model, path)
    return path


def traced(
    module: nn.Module,
    example_inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
    opset: int = 20,
    operators: Operators = "portable",
) -> ir.Model:
    """The graph that `export` writes, whose weights are still the module's. Arguments and errors are `export`'s."""
    parameters = inspect.signature(module.forward).parameters.values()
    arguments = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    if [*example_inputs] != arguments:
        raise ValueError(f"the inputs must be {arguments}, in this order, but are {[*example_inputs]}")
    if unknown := dynamic_axes.keys() - example_inputs.keys():
        raise ValueError(f"axes are given for {sorted(unknown)}, but the inputs are {arguments}")
    shapes = {name: dict(dynamic_axes.get(name, {})) or None for name in example_inputs}
    with torch.no_grad(), _quiet(), quick_rules():
        program = torch.onnx.export(
            module.eval(),
            tuple(example_inputs.values()),
            dynamo=True,
            dynamic_shapes={
                name: axes and dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for name, axes in shapes.items()
            },
            input_names=[*example_inputs],
            output_names=[*outputs],
            opset_version=opset if operators == "portable" else max(opset, OPSET),
            optimize=True,
            verbose=False,
        )
    model = program.model
    if len(model.graph.outputs) != len(outputs):
        raise ValueError(f"the module has {len(model.graph.outputs)} outputs, but the names are {[*outputs]}")
    _name_axes(model.graph, shapes)
    _single_precision_edges(model.graph)
    _strip(model)
    if operators == "onnxruntime-cuda":
        use_cuda_operators(model)
    return model


def _save(model: ir.Model, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)  # of an earlier export
    ir.save(model, path, external_data=data.name if size > EXTERNAL_DATA_BYTES else None)


def halve_weights(model: ir.Model) -> int:
    """Store the float32 weight matrices of `model` as float16, each followed by a Cast to float32; in place.

    Computation stays in float32; runtimes fold the casts when they load the file, which is half as large.
    Only initialisers of 1024 values or more with two axes or more longer than 1 change: norms, biases and
    scalars keep their precision. Returns how many changed. Raises ValueError when a weight does not fit into
    float16.
    """
    graph = model.graph
    casts = []
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        matrix = sum(axis > 1 for axis in tensor.shape) >= 2
        if tensor.dtype != ir.DataType.FLOAT or tensor.size < _SMALLEST_FP16 or not matrix:
            continue
        array = tensor.numpy()
        if np.isinf(array).any():  # an attention mask, no weight
            continue
        if not np.abs(array).max() <= _FP16_LIMIT:
            raise ValueError(f"the weight '{name}' does not fit into float16: store this model in fp32")
        stored = ir.Value(
            name=f"{name}.fp16",
            type=ir.TensorType(ir.DataType.FLOAT16),
            shape=value.shape,
            const_value=ir.LazyTensor(
                partial(_halved, tensor), ir.DataType.FLOAT16, tensor.shape, name=f"{name}.fp16"
            ),
        )
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT.value}, name=f"{name}.cast")
        cast.outputs[0].shape = value.shape
        cast.outputs[0].type = value.type
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        del graph.initializers[name]
        cast.outputs[0].name = name
        graph.register_initializer(stored)
        casts.append(cast)
    if casts:
        graph.insert_before(graph[0], casts)
    return len(casts)


def _halved(tensor: ir.TensorProtocol) -> ir.Tensor:
    """The tensor in half precision, made when it is written: few weights are in memory twice."""
    return ir.Tensor(tensor.numpy().astype(np.float16))


def _name_axes(graph: ir.Graph, shapes: Mapping[str, Mapping[int, str] | None]) -> None:
    """Give the free axes of inputs and outputs their declared names; leave other shapes to the runtime."""
    names = {}
    for value in graph.inputs:
        for axis, name in (shapes[value.name] or {}).items():
            names[str(value.shape[axis])] = name
            value.shape[axis] = name
    for value in graph.outputs:
        for axis, size in enumerate(value.shape):
            if not isinstance(size, int):
                value.shape[axis] = names.get(str(size), size)
    # Runtimes infer the shapes in between themselves, and the tracer's names for them would only go stale.
    for node in graph.all_nodes():
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = value.type = None


def _single_precision_edges(graph: ir.Graph) -> None:
    """Make the float16 inputs and outputs of a half precision graph float32, with a Cast at each."""
    half, single = ir.TensorType(ir.DataType.FLOAT16), ir.TensorType(ir.DataType.FLOAT)
    for value in graph.inputs:
        if value.dtype == ir.DataType.FLOAT16:
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT16.value}, name=f"{value.name}.cast")
            cast.outputs[0].name, cast.outputs[0].type = f"{value.name}.fp16", half
            uses = [use for use in value.uses() if use.node is not cast]
            value.type = single
            for node, index in uses:
                node.replace_input_with(index, cast.outputs[0])
            graph.insert_before(graph[0], cast)
    for index, value in enumerate(graph.outputs):
        if value.dtype == ir.DataType.FLOAT16:
            name, value.name = value.name, f"{value.name}.fp16"
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value}, name=f"{name}.cast")
            cast.outputs[0].name, cast.outputs[0].type, cast.outputs[0].shape = name, single, value.shape
            graph.append(cast)
            graph.outputs[index] = cast.outputs[0]


def _strip(model: ir.Model) -> None:
    """Remove everything that the exporter writes for people, and with it the paths of this machine."""
    ir.passes.common.ClearMetadataAndDocStringPass()(model)
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the tracer's warnings: they concern its internals, and parity is checked on the result."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
