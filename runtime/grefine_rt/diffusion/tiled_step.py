"""A step graph run tile by tile, for latents larger than its own; its results are averaged in every step
(MultiDiffusion, Bar-Tal et al., 2302.08113, Eq. 5, with smooth weights)."""

from collections.abc import Mapping, Sequence

import numpy as np

from grefine_rt.arrays import Array
from grefine_rt.cancel import Cancels, stop_if_cancelled
from grefine_rt.diffusion.loop import OnStep
from grefine_rt.engine.base import Buffer, Engine, TensorSpec
from grefine_rt.engine.host_binding import HostBinding
from grefine_rt.imaging.tiles import Tile

_EVERY_TILE = -1


class TiledStep:
    """A step graph on tiles: an `Engine` for latents larger than the graph's own, so the loop is the same.

    Inputs and outputs of four axes are cut and blended, the others go to every tile. What steps make stays on the host
    between them; what no step writes, such as `control`, goes to the device once a tile and stays there.
    """

    def __init__(
        self,
        engine: Engine,
        tiles: Sequence[Tile],
        calls: int,
        on_step: OnStep | None = None,
        cancel: Cancels | None = None,
    ) -> None:
        """tiles: in latent cells. calls: of `run` that the loop makes. on_step: called after every tile with (tiles
        made, tiles in all). cancel: makes `run` raise Cancelled between two."""
        self._engine, self.tiles, self._cancel = engine, tiles, cancel
        self._on_step, self._made, self._total = on_step, 0, calls * len(tiles)

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self._engine.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self._engine.outputs

    @property
    def largest(self) -> Mapping[str, int]:
        return self._engine.largest

    @property
    def device(self) -> str:
        return self._engine.device

    @property
    def seconds(self) -> float:
        return self._engine.seconds

    def bind(self) -> "TiledBinding":
        return TiledBinding(self, self._engine)

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        binding, made = self.bind(), {}
        for name, array in arrays.items():
            binding.set_input(name, array)
        for name in self.outputs if outputs is None else outputs:
            made[name] = binding.buffer(arrays["sample"].shape)
            binding.set_output(name, made[name])
        binding.run()
        return made

    def before_tile(self) -> None:
        stop_if_cancelled(self._cancel, "between two tiles")

    def after_tile(self) -> None:
        self._made += 1
        if self._on_step is not None:
            self._on_step(self._made, self._total)


class TiledBinding(HostBinding):
    """A loop over steps in tiles: whole tensors are host arrays, the tiles' tensors lie on the engine's device.

    An array that was not an output so far is taken to keep its values.
    """

    def __init__(self, step: TiledStep, engine: Engine) -> None:
        super().__init__(step)
        self._step, self._inner = step, engine.bind()
        self._kept: dict[tuple[int, int], tuple[Array, Buffer]] = {}
        self._targets: dict[tuple[str, tuple[int, ...]], Buffer] = {}
        self._written: set[int] = set()

    def set_output(self, name: str, value: Buffer) -> None:
        super().set_output(name, value)
        self._written.add(id(value))
        self._kept = {key: held for key, held in self._kept.items() if held[0] is not value}

    def run(self) -> None:
        shape = self._inputs["sample"].shape
        blended = {name: np.zeros(shape, np.float32) for name in self._outputs}
        for index, tile in enumerate(self._step.tiles):
            self._step.before_tile()
            for name, array in self._inputs.items():
                self._inner.set_input(name, self._part(index, tile, array, shape))
            targets = {name: self._target(name, tile.of(whole).shape) for name, whole in blended.items()}
            for name, target in targets.items():
                self._inner.set_output(name, target)
            self._inner.run()
            for name, target in targets.items():
                here = tile.of(blended[name])
                here += tile.window * self._inner.fetch(target)
            self._step.after_tile()
        for name, whole in blended.items():
            np.copyto(self._outputs[name], whole)

    def _part(self, index: int, tile: Tile, array: Array, shape: tuple[int, ...]) -> Buffer:
        """The part of an input that a tile sees, on the device."""
        cut = array.ndim == 4
        key = (index if cut else _EVERY_TILE, id(array))
        if key in self._kept and id(array) not in self._written:
            return self._kept[key][1]
        part = np.ascontiguousarray(tile.of(array, array.shape[2] // shape[2])) if cut else array
        sent = self._inner.upload(part)
        if id(array) not in self._written:
            self._kept[key] = array, sent  # with the array, so that no other one gets its identity
        return sent

    def _target(self, name: str, shape: tuple[int, ...]) -> Buffer:
        if (name, shape) not in self._targets:
            self._targets[name, shape] = self._inner.buffer(shape)
        return self._targets[name, shape]
