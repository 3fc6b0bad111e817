"""Any number of rows through a graph, also one that was exported for a fixed number."""

from collections.abc import Mapping, Sequence

import numpy as np

from grefine_rt.engine.base import Array, Engine


def run_rows(engine: Engine, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
    """The named outputs for `arrays`, all of b rows, 1 or more; every output has b rows too.

    A graph whose batch axis is free runs once. One of a fixed batch runs as often as needed, its last run
    filled up with copies of the last row. Raises as `Engine.run` does.
    """
    rows = len(next(iter(arrays.values())))
    fixed = {axis for name in arrays for axis in engine.inputs[name].shape[:1] if isinstance(axis, int)}
    size = min(fixed, default=rows)
    if size == rows:
        return engine.run(arrays, outputs)
    parts = []
    for start in range(0, rows, size):
        pick = np.minimum(np.arange(start, start + size), rows - 1)
        parts.append(engine.run({name: array[pick] for name, array in arrays.items()}, outputs))
    return {name: np.concatenate([part[name] for part in parts])[:rows] for name in outputs}
