"""Any number of rows through a graph, also one that was exported for a fixed number."""

from collections.abc import Mapping, Sequence

import numpy as np

from grefine_rt.arrays import Array
from grefine_rt.engine.base import Engine


def run_rows(engine: Engine, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
    """The named outputs for `arrays`, all of b rows, 1 or more; every output has b rows too.

    A graph whose batch axis is free runs once, or in parts as large as its engine takes. One of a fixed batch runs as
    often as needed, its last run filled up with copies of the last row. Raises as `Engine.run` does.
    """
    rows = len(next(iter(arrays.values())))
    axes = {axis for name in arrays for axis in engine.inputs[name].shape[:1]}
    fixed = [axis for axis in axes if isinstance(axis, int)]
    most = [engine.largest.get(axis, rows) for axis in axes if isinstance(axis, str)]
    size = min(fixed, default=min([rows, *most]))
    if size == rows:
        return engine.run(arrays, outputs)
    parts = []
    for start in range(0, rows, size):
        end = start + size if fixed else min(start + size, rows)
        pick = np.minimum(np.arange(start, end), rows - 1)
        parts.append(engine.run({name: array[pick] for name, array in arrays.items()}, outputs))
    return {name: np.concatenate([part[name] for part in parts])[:rows] for name in outputs}
