"""Rules are tried on fewer nodes, and rewrite the same."""

import onnx
import onnx_ir as ir
from onnxscript import optimizer
from onnxscript.rewriter import RewriteRule

from grefine_export.onnx.quick_rules import quick_rules

# Something for many rules: a factor of 1, a pad before a convolution, limits one after the other, axes turned and
# turned back, a cast to the same type, a shape that is made twice.
GRAPH = """
<ir_version: 10, opset_import: ["": 20]>
agraph (float[1,4,8,8] x, float[4,4,3,3] weight) => (float[4,64] y)
{
    one = Constant<value_float: float = 1.0>()
    same = Mul(x, one)
    pads = Constant<value_ints: ints = [0, 0, 1, 1, 0, 0, 1, 1]>()
    wide = Pad(same, pads)
    seen = Conv(wide, weight)
    above = Relu(seen)
    low = Constant<value_float: float = -1.0>()
    high = Constant<value_float: float = 6.0>()
    between = Clip(above, low, high)
    last = Transpose<perm: ints = [0, 2, 3, 1]>(between)
    first = Transpose<perm: ints = [0, 3, 1, 2]>(last)
    cast = Cast<to: int = 1>(first)
    flat = Constant<value_ints: ints = [1, 256]>()
    row = Reshape(cast, flat)
    table = Constant<value_ints: ints = [4, 64]>()
    y = Reshape(row, table)
}
"""


def optimised(monkeypatch):
    """(bytes of the optimised graph, its operators, how often a rule was tried)"""
    tried = []
    attempt = RewriteRule.match
    monkeypatch.setattr(
        RewriteRule, "match", lambda rule, *a, **b: tried.append(rule) or attempt(rule, *a, **b)
    )
    model = ir.serde.deserialize_model(onnx.parser.parse_model(GRAPH))
    optimizer.optimize_ir(model)
    monkeypatch.undo()
    written = ir.serde.serialize_model(model)
    return written.SerializeToString(), [node.op_type for node in written.graph.node], len(tried)


def test_the_graph_is_the_same_and_rules_pass_over_other_operators(monkeypatch):
    plain, operators, every = optimised(monkeypatch)
    with quick_rules():
        quick, _, tried = optimised(monkeypatch)
    assert operators == ["Conv", "Clip", "Reshape"]
    assert quick == plain
    assert 0 < tried < every / 5


def test_outside_of_it_nothing_is_changed():
    before = RewriteRule.try_rewrite
    with quick_rules():
        assert RewriteRule.try_rewrite is not before
    assert RewriteRule.try_rewrite is before
