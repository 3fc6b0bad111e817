"""Any number of rows through graphs of a free and of a fixed batch."""

import numpy as np
import pytest

from grefine_rt.engine.base import TensorSpec
from grefine_rt.engine.batch import run_rows
from tests.support.fake_bundle import Engine


def engine(batch, largest=None):
    seen = []

    def run(a, b):
        seen.append(len(a))
        return {"sum": a.sum(axis=1) + b, "unused": a}

    made = Engine(run)
    made.largest = largest or {}
    made.inputs = {
        "a": TensorSpec("a", np.dtype(np.float32), (batch, 3)),
        "b": TensorSpec("b", np.dtype(np.float32), (batch,)),
    }
    return made, seen


@pytest.mark.parametrize(("rows", "runs"), [(3, [3]), (4, [4]), (9, [4, 4, 1])])
def test_an_engine_gets_no_more_rows_than_it_takes(rows, runs):
    graph, seen = engine("b", {"b": 4, "h": 1})
    a, b = np.ones((rows, 3), np.float32), np.arange(rows, dtype=np.float32)
    np.testing.assert_array_equal(run_rows(graph, {"a": a, "b": b}, ["sum"])["sum"], b + 3)
    assert seen == runs


@pytest.mark.parametrize(
    ("batch", "rows", "runs"),
    [("b", 5, [5]), (5, 5, [5]), (1, 3, [1, 1, 1]), (4, 6, [4, 4]), (4, 1, [4])],
)
def test_every_row_has_its_own_result(batch, rows, runs):
    graph, seen = engine(batch)
    a = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    b = np.arange(rows, dtype=np.float32) * 100
    out = run_rows(graph, {"a": a, "b": b}, ["sum"])
    assert list(out) == ["sum"]
    np.testing.assert_array_equal(out["sum"], a.sum(axis=1) + b)
    assert seen == runs
