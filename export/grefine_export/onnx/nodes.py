"""New nodes for a graph that is being rewritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir


class Nodes:
    """Collects new nodes with names that begin alike; calling it gives the output of a new one."""

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self.nodes: list[ir.Node] = []
        self._graph, self._prefix, self._constants = graph, prefix, 0

    def __call__(self, kind: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        name = f"{self._prefix}_{kind}_{len(self.nodes)}"
        node = ir.node(kind, inputs, attributes, domain=domain, name=name)
        node.outputs[0].name = node.name
        self.nodes.append(node)
        return node.outputs[0]

    def const(self, values: Sequence[Any] | np.ndarray, dtype: type | None = None) -> ir.Value:
        array = np.asarray(values, dtype)
        name = f"{self._prefix}_{self._constants}"
        self._constants += 1
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value
