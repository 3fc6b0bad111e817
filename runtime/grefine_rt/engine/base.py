"""The protocols of a backend: one call on host arrays, or a loop whose tensors stay on the device."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from grefine_rt.arrays import Array
from grefine_rt.errors import BundleError


@dataclass(frozen=True)
class TensorSpec:
    """A declared input or output of a graph.

    `shape` has an int for every fixed axis and a name for every free one, for example `("b", 3, 128, 128)`.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]

    def check(self, graph: str, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        """Raise BundleError, naming the graph, unless a tensor of this dtype and shape fits."""
        fits = (
            dtype == self.dtype
            and len(shape) == len(self.shape)
            and all(isinstance(want, str) or want == got for want, got in zip(self.shape, shape, strict=True))
        )
        if not fits:
            raise BundleError(
                f"{graph}: tensor '{self.name}' must be {self}, but got {dtype} {tuple(shape)}; use the "
                f"sizes that the bundle declares, or export it again for this size with 'grefine-export "
                f"bundle'."
            )

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join(str(axis) for axis in self.shape)})"


class Buffer(Protocol):
    """A tensor in the memory of an engine's device. Only the binding that made it can use it."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...


class Binding(Protocol):
    """One loop on one engine: its tensors live on the device; only `upload` and `fetch` cross to the host.

    A binding belongs to one thread; an engine gives as many as are wanted. Every call but `fetch` raises
    BundleError when a name, dtype, rank or fixed axis differs from what the graph declares.
    """

    def buffer(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> Buffer:
        """An uninitialised tensor on the device."""
        ...

    def upload(self, array: Array) -> Buffer:
        """A copy of `array` on the device."""
        ...

    def set_input(self, name: str, value: Buffer) -> None:
        """Read input `name` from `value` in the following runs, until it is set again."""
        ...

    def set_output(self, name: str, value: Buffer) -> None:
        """Write output `name` into `value` in the following runs. An output never set is not computed."""
        ...

    def run(self) -> None:
        """Run the graph once. All inputs must be set. No buffer may be an input and an output at once."""
        ...

    def fetch(self, value: Buffer) -> Array:
        """A copy of `value` on the host."""
        ...


class Engine(Protocol):
    """A loaded graph. Any number of threads may call it at once."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]: ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]: ...

    @property
    def largest(self) -> Mapping[str, int]:
        """The largest sizes of free axes, by name, where the engine has any."""
        ...

    @property
    def device(self) -> str:
        """The place where it runs: "cpu" or "cuda:N"."""
        ...

    @property
    def seconds(self) -> float:
        """Time spent inside runs since loading, summed over threads."""
        ...

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Run the graph on host arrays and return the named outputs (all of them by default).

        Raises BundleError when a name, dtype, rank or fixed axis differs from what the graph declares, and
        DeviceError when the device fails, for example out of memory.
        """
        ...

    def bind(self) -> Binding:
        """A new binding, for a loop without host copies."""
        ...


def declared(graph: str, specs: Mapping[str, TensorSpec], name: str) -> TensorSpec:
    """The spec of tensor `name`; BundleError when the graph has none of that name."""
    if name not in specs:
        raise BundleError(
            f"{graph}: the graph has no tensor '{name}', only {sorted(specs)}; "
            f"export the bundle again with a matching 'grefine-export bundle'."
        )
    return specs[name]


def check_all_set(graph: str, specs: Mapping[str, TensorSpec], given: Collection[str]) -> None:
    """Raise BundleError when an input in `specs` was never set in a binding; `given` are the names that were set."""
    unset = sorted(specs.keys() - set(given))
    if unset:
        raise BundleError(
            f"{graph}: the graph also wants the inputs {unset}, which this version does not "
            f"give; export the bundle again with a matching 'grefine-export bundle'."
        )


def check_run(
    engine: Engine, name: str, arrays: Mapping[str, Array], outputs: Sequence[str] | None
) -> list[str]:
    """The names of the outputs that a run on `arrays` gives: `outputs`, or all.

    Raises BundleError, with the graph's `name`, for an output that the graph lacks, and as `check_inputs`.
    """
    check_inputs(name, engine.inputs, arrays)
    names = list(engine.outputs) if outputs is None else list(outputs)
    for output in names:
        declared(name, engine.outputs, output)
    return names


def check_inputs(graph: str, specs: Mapping[str, TensorSpec], given: Mapping[str, Array]) -> None:
    """Raise BundleError unless `given` has exactly the inputs in `specs`, each of a fitting kind."""
    if given.keys() != specs.keys():
        missing = sorted(specs.keys() - given.keys())
        unknown = sorted(given.keys() - specs.keys())
        problems = [f"{missing} are missing"] if missing else []
        problems += [f"{unknown} are not known"] if unknown else []
        raise BundleError(
            f"{graph}: the graph takes the inputs {sorted(specs)}, but {' and '.join(problems)}; export the "
            f"bundle again with a matching 'grefine-export bundle'."
        )
    for name, array in given.items():
        specs[name].check(graph, array.dtype, array.shape)


def first_line(error: Exception) -> str:
    """The first line of a library's error, or the error's type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
