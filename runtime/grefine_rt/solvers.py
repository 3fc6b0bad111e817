"""Noise schedules and solvers: the steps that a solver visits and the coefficients of each, in float64.

All of a solver is in this file: its name, its rows in `coefficients`, and where they differ its steps in `timesteps`
and the form of its sample in `noising`.

Every solver here is linear in what it keeps, so the step graph (ARCHITECTURE.md, "The fused step") needs no
branch:

    model = UNet(input_scale * sample)
    clean = sample_to_clean * sample + model_to_clean * model
    next  = c_sample * sample + c_clean * clean + c_previous * previous + c_noise * noise

with `previous` the clean estimate of the step before. Notation: a diffused latent is `alpha x0 + sigma eps`
with alpha^2 + sigma^2 = 1, and `s = sigma / alpha` is its noise level. DDIM (Song et al., 2010.02502, Eq. 12
with eta 0), DPM-Solver++(2M) (Lu et al., 2211.01095, Algorithm 2) and LCM (Luo et al., 2310.04378, Algorithm 3)
keep that latent; Euler (Karras et al., 2206.00364, Algorithm 1) keeps `x0 + s eps` and scales it for the UNet.
Spacings, offsets and ends are those of diffusers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from grefine_rt.arrays import Doubles
from grefine_rt.errors import OptionError

PathSolver = Literal["euler", "ddim", "dpm++2m"]
"""Solvers that add no noise of their own."""
Solver = Literal[PathSolver, "lcm"]
Prediction = Literal["epsilon", "v_prediction"]
Spacing = Literal["leading", "trailing", "linspace"]

NAMES: tuple[Solver, ...] = get_args(Solver)
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)

_LCM_STEPS = 50  # training steps that LCM distillation kept
_LCM_SKIP, _LCM_SIGMA = 10.0, 0.5  # of its boundary condition: timestep scaling and sigma_data


@dataclass(frozen=True)
class Schedule:
    """The noise schedule that a model was trained with: `train_steps` betas, linear in their square roots.

    spacing: which of the training steps a short run visits; offset: added to them with "leading".
    """

    train_steps: int
    beta_start: float
    beta_end: float
    spacing: Spacing
    offset: int

    def alphas_cumprod(self) -> Doubles:
        """Products of (1 - beta), float64 (train_steps,), falling from almost 1."""
        betas = np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.train_steps) ** 2
        return np.cumprod(1.0 - betas, dtype=np.float64)


def timesteps(schedule: Schedule, solver: Solver, steps: int) -> Doubles:
    """The training steps visited, falling; diffusers' rule for each solver and spacing."""
    total = schedule.train_steps
    # DPM-Solver++ divides the range into one more piece and leaves the last out: its end is the clean image.
    points = steps + 1 if solver == "dpm++2m" else steps
    if points > total:
        raise OptionError(
            f"The schedule has {total} training steps, so it cannot make {steps} steps; use fewer."
        )
    visited: Doubles
    if solver == "lcm":
        if steps > _LCM_STEPS:
            raise OptionError(
                f"The solver 'lcm' makes at most {_LCM_STEPS} steps, but {steps} were asked for."
            )
        kept = np.arange(_LCM_STEPS, 0, -1, dtype=np.float64) * (total // _LCM_STEPS) - 1
        visited = kept[np.linspace(0, _LCM_STEPS, steps, endpoint=False).astype(np.int64)]
    elif schedule.spacing == "linspace":
        visited = np.linspace(0, total - 1, points)[::-1][:steps]
        if solver != "euler":
            visited = np.round(visited)
    elif schedule.spacing == "leading":
        visited = np.arange(points, dtype=np.float64)[::-1][:steps] * (total // points) + schedule.offset
    elif schedule.spacing == "trailing":
        visited = np.round(total - np.arange(steps) * (total / steps)) - 1
    else:
        raise OptionError(f"Unknown spacing '{schedule.spacing}': use 'leading', 'trailing' or 'linspace'.")
    if visited[0] > total - 1:
        raise OptionError(
            f"{steps} steps with an offset of {schedule.offset} leave the schedule; use fewer steps."
        )
    return visited


def coefficients(
    schedule: Schedule, solver: Solver, prediction: Prediction, visited: Doubles, first: int
) -> Doubles:
    """A row for each of the timesteps `visited` (k,), of which those from `first` on are made: `[input_scale,
    sample_to_clean, model_to_clean, c_sample, c_clean, c_previous]`, and `c_noise` where the solver adds noise."""
    noise = levels(schedule, visited)
    if solver == "euler":
        return _euler(noise, prediction)
    if solver == "ddim":
        return _ddim(schedule, visited, prediction)
    if solver == "dpm++2m":
        return _dpm(noise, first, prediction)
    return _lcm(noise, visited, prediction)


def levels(schedule: Schedule, timesteps: Doubles) -> Doubles:
    """Noise levels s at the timesteps, and a last 0 for the clean image: (steps + 1,)."""
    products = schedule.alphas_cumprod()
    levels = np.interp(timesteps, np.arange(len(products)), np.sqrt((1 - products) / products))
    return np.append(levels, 0.0)


def start(
    schedule: Schedule, solver: Solver, levels: Doubles, strength: float, first: int
) -> tuple[float, float]:
    level = float(levels[first])
    if strength < 1.0:
        latent, noise = noising(solver, levels[first])
        return float(latent), float(noise)  # with no step left the level is 0: the latent itself
    if solver != "euler":
        return 0.0, 1.0
    # "leading" does not reach the last training step, so the noise stands for the whole latent at that level.
    return 0.0, (level**2 + 1) ** 0.5 if schedule.spacing == "leading" else level


def noising(solver: Solver, levels: Doubles) -> tuple[Doubles, Doubles]:
    """Factors of a latent and of noise that together are the solver's sample at `levels`."""
    scale = np.ones_like(levels) if solver == "euler" else (1 + levels**2) ** -0.5
    return scale, scale * levels


def _to_clean(alpha: Doubles, sigma: Doubles, prediction: Prediction) -> tuple[Doubles, Doubles]:
    """Factors of sample and model in the clean estimate of a latent `alpha x0 + sigma eps`."""
    if prediction == "epsilon":
        return 1 / alpha, -sigma / alpha
    return alpha, -sigma


def _euler(levels: Doubles, prediction: Prediction) -> Doubles:
    """x' = x + (x - x0) / s * (s' - s), with x = x0 + s eps."""
    level, following = levels[:-1], levels[1:]
    scale = (level**2 + 1) ** -0.5
    sample_to_clean, model_to_clean = _to_clean(scale, scale * level, prediction)
    ratio = following / level
    zero = np.zeros_like(level)
    return np.stack([scale, scale * sample_to_clean, model_to_clean, ratio, 1 - ratio, zero], axis=1)


def _ddim(schedule: Schedule, timesteps: Doubles, prediction: Prediction) -> Doubles:
    """x' = alpha' x0 + sigma' eps. The step goes down by train_steps // steps and ends at training step 0."""
    products = schedule.alphas_cumprod()
    now = products[timesteps.astype(np.int64)]
    then = products[np.maximum(timesteps.astype(np.int64) - schedule.train_steps // len(timesteps), 0)]
    alpha, sigma, alpha_next, sigma_next = now**0.5, (1 - now) ** 0.5, then**0.5, (1 - then) ** 0.5
    sample_to_clean, model_to_clean = _to_clean(alpha, sigma, prediction)
    ratio = sigma_next / sigma
    one, zero = np.ones_like(now), np.zeros_like(now)
    return np.stack([one, sample_to_clean, model_to_clean, ratio, alpha_next - ratio * alpha, zero], axis=1)


def _dpm(levels: Doubles, first: int, prediction: Prediction) -> Doubles:
    """Second order from the two last clean estimates; first order where there is only one, and at the end."""
    level, following = levels[:-1], levels[1:]
    alpha, alpha_next = (level**2 + 1) ** -0.5, (following**2 + 1) ** -0.5
    sigma, sigma_next = alpha * level, alpha_next * following
    sample_to_clean, model_to_clean = _to_clean(alpha, sigma, prediction)
    gain = alpha_next * (1 - following / level)  # alpha' (1 - exp(-h)), where h = log(s / s')
    extrapolate = np.zeros_like(level)  # 1 / (2 r), where r = (previous h) / h
    inner = slice(first + 1, len(level) - 1)
    h = np.log(level[:-1] / level[1:])
    extrapolate[inner] = 0.5 * h[inner] / h[first : len(level) - 2]
    return np.stack(
        [
            np.ones_like(level),
            sample_to_clean,
            model_to_clean,
            sigma_next / sigma,
            gain * (1 + extrapolate),
            -gain * extrapolate,
        ],
        axis=1,
    )


def _lcm(levels: Doubles, timesteps: Doubles, prediction: Prediction) -> Doubles:
    """The consistency function c_skip x + c_out x0 (its Eq. 9), noised afresh to the next level: 7 columns."""
    level, following = levels[:-1], levels[1:]
    alpha, alpha_next = (level**2 + 1) ** -0.5, (following**2 + 1) ** -0.5
    sample_to_clean, model_to_clean = _to_clean(alpha, alpha * level, prediction)
    time = timesteps * _LCM_SKIP
    c_skip = _LCM_SIGMA**2 / (time**2 + _LCM_SIGMA**2)
    c_out = time / (time**2 + _LCM_SIGMA**2) ** 0.5
    return np.stack(
        [
            np.ones_like(level),
            sample_to_clean,
            model_to_clean,
            alpha_next * c_skip,
            alpha_next * c_out,
            np.zeros_like(level),
            alpha_next * following,
        ],
        axis=1,
    )
