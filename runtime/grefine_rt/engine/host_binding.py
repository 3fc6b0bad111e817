"""Bindings whose tensors stay on the host between runs."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from grefine_rt.arrays import Array
from grefine_rt.engine.base import Buffer, Engine


class HostBinding:
    """A `Binding` whose buffers are host arrays: every run is one `Engine.run`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inputs: dict[str, Array] = {}
        self._outputs: dict[str, Array] = {}

    def buffer(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> Array:
        return np.empty(shape, dtype)

    def upload(self, array: Array) -> Array:
        return np.array(array)

    def set_input(self, name: str, value: Buffer) -> None:
        assert isinstance(value, np.ndarray)
        self._inputs[name] = value

    def set_output(self, name: str, value: Buffer) -> None:
        assert isinstance(value, np.ndarray)
        self._outputs[name] = value

    def run(self) -> None:
        for name, result in self._engine.run(self._inputs, list(self._outputs)).items():
            np.copyto(self._outputs[name], result)

    def fetch(self, value: Buffer) -> Array:
        assert isinstance(value, np.ndarray)
        return np.array(value)
