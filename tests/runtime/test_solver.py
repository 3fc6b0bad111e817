"""Solver tables against the schedulers of diffusers, stepped with the same made-up model."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grefine_rt.diffusion.solver import GUIDANCE, Schedule, table, unet_calls
from grefine_rt.errors import OptionError

SHAPE = (1, 4, 6, 5)
SOLVERS = ["euler", "ddim", "dpm++2m"]
SPACINGS = [("leading", 1), ("leading", 0), ("trailing", 0), ("linspace", 0)]


def schedule(spacing="leading", offset=1):
    return Schedule(1000, 0.00085, 0.012, spacing, offset)


def model(sample, timestep):
    """Any smooth function of the scaled sample and the timestep will do."""
    mixed = sample[:, ::-1] * 0.3 + np.roll(sample, 1, axis=3) * 0.5
    return np.tanh(mixed + math.cos(timestep / 200.0)) + 0.3 * sample


def run_table(rows, latent, noise):
    """The fused step of ARCHITECTURE.md in numpy."""
    sample = rows.start[0] * latent + rows.start[1] * noise
    previous = np.zeros_like(sample)
    for timestep, row in zip(rows.timesteps, rows.coefficients.astype(np.float64), strict=True):
        output = model(row[0] * sample, float(timestep))
        clean = row[1] * sample + row[2] * output
        sample = row[3] * sample + row[4] * clean + row[5] * previous
        previous = clean
    return sample


def run_diffusers(solver, spacing, offset, steps, strength, prediction, latent, noise):
    """As the SDXL inpaint and img2img pipelines do it."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    common = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction,
        "timestep_spacing": spacing,
        "steps_offset": offset,
    }
    if solver == "euler":
        scheduler = diffusers.EulerDiscreteScheduler(**common)
    elif solver == "ddim":
        scheduler = diffusers.DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=False)
    else:
        scheduler = diffusers.DPMSolverMultistepScheduler(**common, lower_order_final=True)
    scheduler.set_timesteps(steps)
    first = steps - min(int(steps * strength), steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    latent, noise = torch.from_numpy(latent), torch.from_numpy(noise)
    if strength == 1.0:
        sample = noise * scheduler.init_noise_sigma
    else:
        sample = scheduler.add_noise(latent, noise, timesteps[:1])
    for timestep in timesteps:
        scaled = scheduler.scale_model_input(sample, timestep)
        output = torch.from_numpy(model(scaled.numpy().astype(np.float64), float(timestep)))
        sample = scheduler.step(output, timestep, sample).prev_sample
    return sample.numpy(), timesteps.numpy()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("spacing", "offset"), SPACINGS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_matches_diffusers(solver, spacing, offset, prediction):
    rng = np.random.default_rng(0)
    for steps in (1, 2, 3, 4, 7, 10, 20, 30):
        for strength in (1.0, 0.99, 0.6, 0.3, 0.15):
            if int(steps * strength) == 0:
                continue
            latent, noise = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)
            rows = table(schedule(spacing, offset), solver, steps, strength, prediction)
            mine = run_table(rows, latent, noise)
            other, timesteps = run_diffusers(
                solver, spacing, offset, steps, strength, prediction, latent, noise
            )
            np.testing.assert_allclose(rows.timesteps, timesteps, rtol=1e-6)
            assert rows.calls == int(steps * strength)
            assert np.abs(mine - other).max() <= 1e-5 * max(1.0, np.abs(other).max()), (steps, strength)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=25, deadline=None)
@given(steps=st.integers(1, 60), strength=st.floats(0.0, 0.999))
def test_a_perfect_model_gives_the_latent_back(solver, prediction, steps, strength):
    """Whatever the solver, a model that knows the noise must lead from the noised latent to the latent."""
    rng = np.random.default_rng(steps)
    latent, noise = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)
    rows = table(schedule(), solver, steps, strength, prediction)
    products = schedule().alphas_cumprod()
    sample = rows.start[0] * latent + rows.start[1] * noise
    previous = np.zeros_like(latent)
    for timestep, row in zip(rows.timesteps, rows.coefficients.astype(np.float64), strict=True):
        alpha, sigma = products[int(timestep)] ** 0.5, (1 - products[int(timestep)]) ** 0.5
        np.testing.assert_allclose(row[0] * sample, alpha * latent + sigma * noise, atol=2e-5)
        output = noise if prediction == "epsilon" else alpha * noise - sigma * latent
        clean = row[1] * sample + row[2] * output
        np.testing.assert_allclose(clean, latent, atol=2e-4)
        sample = row[3] * sample + row[4] * clean + row[5] * previous
        previous = clean
    if solver == "ddim" and rows.calls:
        # It ends at training step 0, which still has a little noise (set_alpha_to_one is false).
        latent = products[0] ** 0.5 * latent + (1 - products[0]) ** 0.5 * noise
    np.testing.assert_allclose(sample, latent, atol=2e-4)


def test_ten_steps_at_099_make_nine_calls():
    assert unet_calls(10, 0.99) == 9
    assert table(schedule(), "euler", 10, 0.99).coefficients.shape == (9, 8)


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_step_left_starts_and_ends_at_the_latent(solver):
    rows = table(schedule(), solver, 10, 0.09)
    assert rows.calls == 0
    assert rows.start == (1.0, 0.0)
    assert not rows.guided


def test_full_strength_starts_from_noise_alone():
    assert table(schedule(), "ddim", 10, 1.0).start == (0.0, 1.0)
    start = table(schedule(), "euler", 10, 1.0).start
    assert start[0] == 0.0
    assert start[1] == pytest.approx(8.450065)  # sqrt(s^2 + 1) at training step 901


def test_guidance_is_one_value_or_one_a_call():
    assert (table(schedule(), "euler", 4, 1.0, guidance=4.5).coefficients[:, GUIDANCE] == 4.5).all()
    rows = table(schedule(), "euler", 4, 0.8, guidance=[4.0, 4.0, 1.0])
    assert rows.coefficients[:, GUIDANCE].tolist() == [4.0, 4.0, 1.0]
    assert rows.guided
    assert not table(schedule(), "euler", 4, 1.0, guidance=1.0).guided
    with pytest.raises(OptionError, match="one for each of 3 UNet calls"):
        table(schedule(), "euler", 4, 0.8, guidance=[4.0] * 4)


def test_no_solver_adds_noise_between_steps():
    for solver in SOLVERS:
        assert not table(schedule(), solver, 10).coefficients[:, 6].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("heun", 10), "Unknown solver 'heun'"),
        (("euler", 0), "at least 1"),
        (("euler", 1001), "cannot make 1001 steps"),
        (("dpm++2m", 1000), "cannot make 1000 steps"),
        (("euler", 1000), "leave the schedule"),
        (("euler", 10, 1.5), "between 0 and 1"),
        (("euler", 10, -0.1), "between 0 and 1"),
        (("euler", 10, math.nan), "between 0 and 1"),
        (("euler", 10, 1.0, "sample"), "Unknown prediction 'sample'"),
    ],
)
def test_impossible_options_are_refused(arguments, message):
    with pytest.raises(OptionError, match=message):
        table(schedule(), *arguments)


def test_unknown_spacing_is_refused():
    with pytest.raises(OptionError, match="Unknown spacing"):
        table(schedule("karras"), "euler", 10)
