"""The sampling of a diffusion model: its scheduler configuration, and a user's values instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grefine_rt.contract import Prediction, Schedule, Solver, Spacing

_SOLVERS: dict[str, Solver] = {
    "DDIMScheduler": "ddim",
    "DPMSolverMultistepScheduler": "dpm++2m",
    "DPMSolverSinglestepScheduler": "dpm++2m",
    "LCMScheduler": "lcm",
}
_AS_EULER = (
    *("", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DDPMScheduler", "PNDMScheduler"),
    *("LMSDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "UniPCMultistepScheduler"),
    *("KDPM2AncestralDiscreteScheduler", "DEISMultistepScheduler", "DPMSolverSDEScheduler"),
)
"""Schedulers that solve the same equation by other means; others, such as TCD's, belong to models of their own."""

_STABLE_DIFFUSION = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}

STEPS, FEW_STEPS = 10, 4
"""Steps of a common model (G-Refine 3.3) and of a distilled one."""

GUIDANCE = 7.5


@dataclass(frozen=True)
class Sampling:
    """See `grefine_rt.bundle.manifest.Inpaint`."""

    solver: Solver
    schedule: Schedule
    prediction: Prediction
    steps: int
    guidance: float


def sampling(
    config: Mapping[str, Any],
    consistency: bool = False,
    *,
    solver: Solver | None = None,
    spacing: Spacing | None = None,
    prediction: Prediction | None = None,
    steps: int | None = None,
    guidance: float | None = None,
) -> Sampling:
    """The sampling of `config`, a `scheduler_config.json` or nothing, with each argument in place of its own value.

    consistency: the UNet is a latent consistency model, told of its guidance. Such a model, and one that is sampled
    ancestrally with trailing spacing (SDXL Turbo), is distilled: few steps, no guidance.

    Raises ValueError (one sentence) for a noise schedule that the runtime does not have.
    """
    name = str(config.get("_class_name", ""))
    if "EDM" in name or config.get("beta_schedule", "scaled_linear") != "scaled_linear":
        kind = "EDM" if "EDM" in name else config["beta_schedule"]
        raise ValueError(
            f"the scheduler {name or 'of the checkpoint'} has the noise schedule '{kind}': only 'scaled_linear' can be "
            f"run, so take another checkpoint"
        )
    if config.get("rescale_betas_zero_snr"):
        raise ValueError(
            "the scheduler starts from zero signal, which cannot be run: take another checkpoint"
        )
    if solver is None and not consistency and name not in (*_SOLVERS, *_AS_EULER):
        raise ValueError(
            f"the scheduler {name} has no counterpart here: choose one with --solver, and --steps and --guidance"
        )
    solver = solver or ("lcm" if consistency else _SOLVERS.get(name, "euler"))
    prediction = prediction or config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"the prediction '{prediction}' cannot be run: give --prediction epsilon or v_prediction"
        )
    given = config.get("timestep_spacing", "leading")
    known = {key: config.get(key, value) for key, value in _STABLE_DIFFUSION.items()}
    schedule = Schedule(
        train_steps=int(known["num_train_timesteps"]),
        beta_start=float(known["beta_start"]),
        beta_end=float(known["beta_end"]),
        spacing=spacing or given,
        offset=int(known["steps_offset"]),
    )
    distilled = solver == "lcm" or ("Ancestral" in name and given == "trailing")
    return Sampling(
        solver,
        schedule,
        prediction,
        (FEW_STEPS if distilled else STEPS) if steps is None else steps,
        (1.0 if distilled else GUIDANCE) if guidance is None else guidance,
    )


def differences(used: Sampling, own: Sampling) -> str:
    """The differences of `used` from `own`, in words: "steps 10 instead of 4, ..."; "" for none."""
    pairs = {
        name: (getattr(used, name), getattr(own, name))
        for name in ("solver", "prediction", "steps", "guidance")
    }
    pairs["spacing"] = (used.schedule.spacing, own.schedule.spacing)
    return ", ".join(
        f"{name} {one} instead of {other}" for name, (one, other) in pairs.items() if one != other
    )
