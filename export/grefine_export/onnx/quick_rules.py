"""The rewrite rules of onnxscript's optimiser, tried only where they can match.

The optimiser tries every rule on every node, and a rule with several outputs lists all nodes of the graph each time:
the work grows with the square of the graph. A rule whose last operator is not the node's fails in any case, so that is
asked first. The graph is the same, node for node.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import RewriteRule


@contextlib.contextmanager
def quick_rules() -> Iterator[None]:
    """Within it, rules pass over nodes of other operators."""
    attempt = RewriteRule.try_rewrite

    def where_it_can(rule: RewriteRule, model: ir.Model, graph: ir.Graph, node: ir.Node, **how: Any) -> Any:
        last = rule._target_pattern.output_nodes[0]
        if last.op.matches(node.op_type) and last.domain.matches(node.domain):
            return attempt(rule, model, graph, node, **how)
        return None

    RewriteRule.try_rewrite = where_it_can
    try:
        yield
    finally:
        RewriteRule.try_rewrite = attempt
