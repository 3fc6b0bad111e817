"""The denoising loop of both stages: one engine call a step, nothing copied to the host in between."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from grefine_rt.arrays import Floats
from grefine_rt.bundle.sections import Inpaint, Restore
from grefine_rt.cancel import Cancels, stop_if_cancelled
from grefine_rt.contract import GUIDANCE, LATENT_SCALE, NOISE, PREVIOUS, RESCALE
from grefine_rt.diffusion.solver import StepTable
from grefine_rt.engine.base import Binding, Buffer, Engine
from grefine_rt.errors import BundleError, OptionError

OnStep = Callable[[int, int], None]
"""Called after each step with (steps made, steps in all)."""


@dataclass(frozen=True)
class StageResult:
    """The result of a stage.

    image: float32 (H, W, 3) in [0, 1]. latent: float32 (1, c, H/8, W/8), c the latent channels of the
    bundle. calls: UNet calls made.
    """

    image: Floats
    latent: Floats
    calls: int


Settings = TypeVar("Settings", Inpaint, Restore)


def with_given(settings: Settings, **given: Any) -> Settings:
    """The settings of a stage with those values of a call that are not None over its own."""
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def denoise(
    step: Engine,
    table: StepTable,
    latent: Floats,
    noise: Floats,
    constants: Mapping[str, Floats],
    conditioning: Mapping[str, Floats],
    on_step: OnStep | None = None,
    cancel: Cancels | None = None,
    fresh: Callable[[int], Floats] | None = None,
) -> Floats:
    """The latent (1, c, h, w) after all steps of `table`, from `latent` and `noise` of that shape.

    constants: inputs that stay the same, such as `mask` or `control`. conditioning: inputs with one row a guidance
    pass, the last row the prompt; a step whose guidance is 1 gets that row alone and so costs one UNet pass. fresh: the
    noise (1, c, h, w) that step 0, 1, ... adds, asked for where the solver adds any. Inputs that the graph does not
    declare are left out. Raises Cancelled, OptionError for a solver that wants `fresh` without it, BundleError when the
    graph declares an input that nobody gives or lacks one that solver or rescale need, and DeviceError.
    """
    if table.calls == 0:
        return latent
    rows, adds_noise = _fitting_rows(step, table), _adds_noise(table, fresh is not None)
    binding = step.bind()
    # The first step multiplies `previous` by 0, which must not be a stray NaN; nor may unused noise be one.
    zeros = np.zeros_like(latent)
    fixed = {**constants, "noise": zeros}
    for name in step.inputs.keys() & fixed.keys():
        binding.set_input(name, binding.upload(fixed[name]))

    # Everything that changes between steps goes to the device before the first one.
    told = _told(step, binding, table, conditioning)
    timesteps = [binding.upload(row) for row in table.timesteps[:, None]]
    coefficients = [binding.upload(row) for row in rows]
    noises = [
        binding.upload(fresh(index)) if fresh and adds else None for index, adds in enumerate(adds_noise)
    ]
    start = np.float32(table.start[0]) * latent + np.float32(table.start[1]) * noise
    sample, following = binding.upload(start), binding.buffer(latent.shape)
    previous, clean = binding.upload(zeros), binding.buffer(latent.shape)

    for index in range(table.calls):
        stop_if_cancelled(cancel, f"after {index} of {table.calls} steps")
        for name, buffer in told[_passes(table.coefficients[index, GUIDANCE])].items():
            binding.set_input(name, buffer)
        binding.set_input("timestep", timesteps[index])
        binding.set_input("coefficients", coefficients[index])
        if (added := noises[index]) is not None:
            binding.set_input("noise", added)
        binding.set_input("sample", sample)
        if "previous" in step.inputs:
            binding.set_input("previous", previous)
            binding.set_output("clean", clean)
        binding.set_output("next", following)
        binding.run()
        sample, following = following, sample
        previous, clean = clean, previous
        if on_step is not None:
            on_step(index + 1, table.calls)
    result: Floats = binding.fetch(sample)
    return result


def _told(
    step: Engine, binding: Binding, table: StepTable, conditioning: Mapping[str, Floats]
) -> dict[int, dict[str, Buffer]]:
    """The conditioning on the device, by how many guidance passes a step makes."""
    names = step.inputs.keys() & conditioning.keys()
    counts = {_passes(guidance) for guidance in table.coefficients[:, GUIDANCE]}
    return {count: {name: binding.upload(conditioning[name][-count:]) for name in names} for count in counts}


def _adds_noise(table: StepTable, given: bool) -> npt.NDArray[np.bool_]:
    """The steps that add noise, bool (k,). OptionError where none is given."""
    adds: npt.NDArray[np.bool_] = table.coefficients[:, NOISE] != 0
    if adds.any() and not given:
        raise OptionError("The solver adds noise in every step, which is not given here; use another one.")
    return adds


def _fitting_rows(step: Engine, table: StepTable) -> Floats:
    """The coefficients in the graph's width: 8 columns without guidance rescale, 9 with it, 11 with blending. Raises
    BundleError where the rows need a column that the graph lacks."""
    for name, column in (("previous", PREVIOUS), ("noise", NOISE)):
        if name not in step.inputs and table.coefficients[:, column].any():
            raise BundleError(
                f"The step graph has no input '{name}', which this solver needs; use 'euler' or 'ddim'."
            )
    shape = step.inputs["coefficients"].shape
    width = shape[0] if shape and isinstance(shape[0], int) else None
    if width is not None and width <= RESCALE and table.coefficients[:, RESCALE].any():
        raise BundleError(
            "The step graph was exported without guidance rescale; use a rescale of 0, or export the bundle again "
            "with 'grefine-export bundle'."
        )
    return table.coefficients[:, :width]


def _passes(guidance: float) -> int:
    return 1 if guidance == 1.0 else 2


def latent_size(picture: Floats, multiple: int) -> tuple[int, int]:
    """(h, w) of the latent of a picture (H, W, 3); OptionError unless H and W are multiples of `multiple`."""
    if (
        picture.ndim != 3
        or picture.shape[2] != 3
        or 0 in picture.shape
        or any(n % multiple for n in picture.shape[:2])
    ):
        raise OptionError(
            f"A stage needs an image (H, W, 3) with sides that are multiples of {multiple}, but got "
            f"{picture.shape}; resize it first."
        )
    height, width = picture.shape[:2]
    return height // LATENT_SCALE, width // LATENT_SCALE


def to_planes(picture: Floats) -> Floats:
    """(H, W, 3) to (1, 3, H, W), float32."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], dtype=np.float32)
