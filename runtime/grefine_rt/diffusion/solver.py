"""The table of a run: the rows of a solver (`grefine_rt.solvers`) with guidance, strength and blending."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grefine_rt import solvers
from grefine_rt.arrays import Doubles, Floats
from grefine_rt.bundle.sections import Inpaint, Restore
from grefine_rt.contract import COLUMNS, GUIDANCE, RESCALE, Prediction, Schedule, Solver
from grefine_rt.errors import OptionError


@dataclass(frozen=True)
class StepTable:
    """The table of a solver: all that a loop needs of it.

    timesteps: float32 (k,), falling.
    coefficients: float32 (k, 11), rows `[input_scale, sample_to_clean, model_to_clean, c_sample, c_clean,
        c_previous, c_noise, guidance, rescale, blend_latent, blend_noise]`. The last two noise a latent to the
        level of `next`; a UNet that knows no mask gets its surroundings back from them.
    start: the first sample is `start[0] * latent + start[1] * noise`.
    """

    timesteps: Floats
    coefficients: Floats
    start: tuple[float, float]

    @property
    def calls(self) -> int:
        """Number of UNet calls, k."""
        return len(self.timesteps)

    @property
    def guided(self) -> bool:
        """Whether any step needs the negative prompt."""
        return bool((self.coefficients[:, GUIDANCE] != 1).any())


def unet_calls(steps: int, strength: float) -> int:
    """UNet calls of a run at `strength` in [0, 1]: int(steps * strength). Ten steps at 0.99 make nine."""
    if steps < 1:
        raise OptionError(f"The number of steps must be at least 1, but got {steps}.")
    if not 0.0 <= strength <= 1.0:
        raise OptionError(f"The strength must lie between 0 and 1, but got {strength}.")
    return min(int(steps * strength), steps)


def check_steps(schedule: Schedule, solver: Solver, steps: int) -> None:
    """Raise OptionError unless the solver can make so many steps of the schedule, before anything is computed."""
    solvers.timesteps(schedule, solver, steps)


def guidance_row(
    guidance: float | Sequence[float], calls: int, interval: Sequence[float] = (0.0, 1.0)
) -> Doubles:
    """The guidance of each of `calls` UNet calls, float64 (calls,).

    One value applies to the calls whose middle lies in `interval`, two shares of all calls in [0, 1]; the others
    get 1 and cost one pass instead of two (Kynkaanniemi et al., 2404.07724). One value for each call is taken as
    it is. Raises OptionError for another number of values and for an interval that does not rise within [0, 1].
    """
    values = np.asarray(guidance, dtype=np.float64)
    if values.ndim:
        if values.shape != (calls,):
            raise OptionError(
                f"Guidance needs one value or one for each of {calls} UNet calls, but got {values.size}."
            )
        return values
    start, end = interval
    if not 0.0 <= start <= end <= 1.0:
        raise OptionError(
            f"The guidance interval must be two rising shares between 0 and 1, but got {start} and {end}."
        )
    middle = (np.arange(calls) + 0.5) / max(calls, 1)
    return np.where((start <= middle) & (middle < end), values, 1.0)


def step_table(
    schedule: Schedule,
    solver: Solver,
    steps: int,
    strength: float = 1.0,
    prediction: Prediction = "epsilon",
    guidance: float | Sequence[float] = 1.0,
    interval: Sequence[float] = (0.0, 1.0),
    rescale: float = 0.0,
) -> StepTable:
    """The rows for the last `unet_calls(steps, strength)` of `steps` steps.

    With a strength below 1 the start is the latent noised to the level of the first step made; at exactly 1
    it is pure noise. When no step is left the table is empty and the start is the latent itself. `guidance`
    and `interval`: see `guidance_row`. `rescale` in [0, 1]: how much of the contrast that guidance adds is taken
    away. Raises OptionError for a solver, prediction, spacing, number of steps, strength, guidance, interval or
    rescale that is not possible.
    """
    if solver not in solvers.NAMES:
        raise OptionError(f"Unknown solver '{solver}': use {_listed(solvers.NAMES)}.")
    if prediction not in solvers.PREDICTIONS:
        raise OptionError(f"Unknown prediction '{prediction}': use {_listed(solvers.PREDICTIONS)}.")
    if not 0.0 <= rescale <= 1.0:
        raise OptionError(f"The guidance rescale must lie between 0 and 1, but got {rescale}.")
    calls = unet_calls(steps, strength)
    first = steps - calls
    timesteps = solvers.timesteps(schedule, solver, steps)
    levels = solvers.levels(schedule, timesteps)
    own = solvers.coefficients(schedule, solver, prediction, timesteps, first)
    rows = np.zeros((steps, COLUMNS))
    rows[:, : own.shape[1]] = own
    rows[first:, GUIDANCE] = guidance_row(guidance, calls, interval)
    rows[:, RESCALE] = rescale
    rows[:, 9:] = np.stack(solvers.noising(solver, levels[1:]), axis=1)
    return StepTable(
        timesteps[first:].astype(np.float32),
        rows[first:].astype(np.float32),
        solvers.start(schedule, solver, levels, strength, first),
    )


def rows_of(stage: Inpaint | Restore, strength: float) -> StepTable:
    """The table of a stage as its settings say, at a strength; errors as of `step_table`."""
    return step_table(
        stage.schedule,
        stage.solver,
        stage.steps,
        strength,
        stage.prediction,
        stage.guidance,
        stage.interval,
        stage.rescale,
    )


def _listed(names: Sequence[str]) -> str:
    *most, last = (f"'{name}'" for name in names)
    return f"{', '.join(most)} or {last}"
