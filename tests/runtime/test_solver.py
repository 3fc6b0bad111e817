"""Solver tables against the schedulers of diffusers, stepped with the same made-up model."""

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grefine_rt.contract import COLUMNS, GUIDANCE, NOISE, RESCALE, Schedule
from grefine_rt.diffusion.solver import guidance_row, step_table, unet_calls
from grefine_rt.errors import OptionError
from grefine_rt.solvers import NAMES, PathSolver

SHAPE = (1, 4, 6, 5)
SOLVERS = ["euler", "ddim", "dpm++2m"]
"""Those that keep to the path; "lcm" leaves it with fresh noise."""
SPACINGS = [("leading", 1), ("leading", 0), ("trailing", 0), ("linspace", 0)]


def schedule(spacing="leading", offset=1):
    return Schedule(1000, 0.00085, 0.012, spacing, offset)


def model(sample, timestep):
    """Any smooth function of the scaled sample and the timestep will do."""
    mixed = sample[:, ::-1] * 0.3 + np.roll(sample, 1, axis=3) * 0.5
    return np.tanh(mixed + math.cos(timestep / 200.0)) + 0.3 * sample


def run_table(rows, latent, noise, fresh=(), mask=1.0):
    """The fused step of ARCHITECTURE.md in numpy."""
    sample = rows.start[0] * latent + rows.start[1] * noise
    previous = np.zeros_like(sample)
    for index, (timestep, row) in enumerate(
        zip(rows.timesteps, rows.coefficients.astype(np.float64), strict=True)
    ):
        output = model(row[0] * sample, float(timestep))
        clean = row[1] * sample + row[2] * output
        added = row[6] * fresh[index] if len(fresh) else 0
        sample = row[3] * sample + row[4] * clean + row[5] * previous + added
        sample = mask * sample + (1 - mask) * (row[9] * latent + row[10] * noise)
        previous = clean
    return sample


def run_diffusers(solver, spacing, offset, steps, strength, prediction, latent, noise, mask=None):
    """As the SDXL inpaint and img2img pipelines do it; with `mask`, as the former does it for 4 channels."""
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
    elif solver == "lcm":
        scheduler = diffusers.LCMScheduler(**common)
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
    for index, timestep in enumerate(timesteps):
        scaled = scheduler.scale_model_input(sample, timestep)
        output = torch.from_numpy(model(scaled.numpy().astype(np.float64), float(timestep)))
        sample = scheduler.step(output, timestep, sample).prev_sample
        if mask is not None:
            following = timesteps[index + 1 : index + 2]
            outside = scheduler.add_noise(latent, noise, following) if len(following) else latent
            sample = torch.from_numpy(mask) * sample + torch.from_numpy(1 - mask) * outside
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
            rows = step_table(schedule(spacing, offset), solver, steps, strength, prediction)
            mine = run_table(rows, latent, noise)
            other, timesteps = run_diffusers(
                solver, spacing, offset, steps, strength, prediction, latent, noise
            )
            np.testing.assert_allclose(rows.timesteps, timesteps, rtol=1e-6)
            assert rows.calls == int(steps * strength)
            assert np.abs(mine - other).max() <= 1e-5 * max(1.0, np.abs(other).max()), (steps, strength)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_lcm_matches_diffusers(prediction, monkeypatch):
    lcm = pytest.importorskip("diffusers.schedulers.scheduling_lcm")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    for steps in (1, 2, 3, 4, 8, 50):
        for strength in (1.0, 0.99, 0.6, 0.3):
            if int(steps * strength) == 0:
                continue
            latent, noise = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)
            fresh = rng.standard_normal((steps, *SHAPE))
            given = iter(torch.from_numpy(fresh))
            monkeypatch.setattr(lcm, "randn_tensor", lambda *_, given=given, **__: next(given))
            rows = step_table(schedule(), "lcm", steps, strength, prediction)
            mine = run_table(rows, latent, noise, fresh)
            other, timesteps = run_diffusers("lcm", "leading", 1, steps, strength, prediction, latent, noise)
            np.testing.assert_array_equal(rows.timesteps, timesteps)
            assert np.abs(mine - other).max() <= 1e-5 * max(1.0, np.abs(other).max()), (steps, strength)


@pytest.mark.parametrize(("spacing", "offset"), [("leading", 1), ("trailing", 0)])
@pytest.mark.parametrize("solver", SOLVERS)
def test_blending_matches_diffusers(solver, spacing, offset):
    rng = np.random.default_rng(2)
    mask = (rng.random((1, 1, *SHAPE[2:])) > 0.4).astype(np.float64)
    for steps, strength in ((10, 0.99), (10, 0.3), (7, 1.0), (1, 1.0)):
        latent, noise = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)
        rows = step_table(schedule(spacing, offset), solver, steps, strength)
        mine = run_table(rows, latent, noise, mask=mask)
        other, _ = run_diffusers(solver, spacing, offset, steps, strength, "epsilon", latent, noise, mask)
        assert np.abs(mine - other).max() <= 1e-5 * max(1.0, np.abs(other).max()), (steps, strength)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=25, deadline=None)
@given(steps=st.integers(1, 60), strength=st.floats(0.0, 0.999))
def test_a_perfect_model_gives_the_latent_back(solver, prediction, steps, strength):
    """Whatever the solver, a model that knows the noise must lead from the noised latent to the latent."""
    rng = np.random.default_rng(steps)
    latent, noise = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)
    rows = step_table(schedule(), solver, steps, strength, prediction)
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
    assert step_table(schedule(), "euler", 10, 0.99).coefficients.shape == (9, COLUMNS)


@pytest.mark.parametrize("solver", [*SOLVERS, "lcm"])
def test_no_step_left_starts_and_ends_at_the_latent(solver):
    rows = step_table(schedule(), solver, 10, 0.09)
    assert rows.calls == 0
    assert rows.start == (1.0, 0.0)
    assert not rows.guided


def test_full_strength_starts_from_noise_alone():
    assert step_table(schedule(), "ddim", 10, 1.0).start == (0.0, 1.0)
    start = step_table(schedule(), "euler", 10, 1.0).start
    assert start[0] == 0.0
    assert start[1] == pytest.approx(8.450065)  # sqrt(s^2 + 1) at training step 901


def test_guidance_is_one_value_or_one_a_call():
    assert (step_table(schedule(), "euler", 4, 1.0, guidance=4.5).coefficients[:, GUIDANCE] == 4.5).all()
    rows = step_table(schedule(), "euler", 4, 0.8, guidance=[4.0, 4.0, 1.0])
    assert rows.coefficients[:, GUIDANCE].tolist() == [4.0, 4.0, 1.0]
    assert rows.guided
    assert not step_table(schedule(), "euler", 4, 1.0, guidance=1.0).guided
    with pytest.raises(OptionError, match="one for each of 3 UNet calls"):
        step_table(schedule(), "euler", 4, 0.8, guidance=[4.0] * 4)


def test_only_lcm_adds_noise_between_steps():
    for solver in SOLVERS:
        assert not step_table(schedule(), solver, 10).coefficients[:, 6].any()
    assert step_table(schedule(), "lcm", 4).coefficients[:, 6].astype(bool).tolist() == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("interval", "guided"),
    [
        ((0.0, 1.0), range(9)),
        ((0.0, 0.5), range(4)),
        ((0.5, 1.0), range(4, 9)),
        ((0.2, 0.7), range(2, 6)),
        ((0.4, 0.4), []),
    ],
)
def test_guidance_in_an_interval_of_the_calls(interval, guided):
    row = guidance_row(7.5, 9, interval)
    assert row.tolist() == [7.5 if call in guided else 1.0 for call in range(9)]
    rows = step_table(schedule(), "euler", 10, 0.99, guidance=7.5, interval=interval)
    np.testing.assert_array_equal(rows.coefficients[:, GUIDANCE], row)


@settings(max_examples=50, deadline=None)
@given(calls=st.integers(0, 60), cut=st.floats(0, 1))
def test_intervals_side_by_side_share_the_calls(calls, cut):
    first, second = guidance_row(3.0, calls, (0.0, cut)), guidance_row(3.0, calls, (cut, 1.0))
    assert (first + second == 4.0).all()


def test_one_guidance_a_call_knows_no_interval():
    assert guidance_row([2.0, 3.0], 2, (0.0, 0.0)).tolist() == [2.0, 3.0]


def test_rescale_is_a_column():
    assert (step_table(schedule(), "euler", 4, rescale=0.25).coefficients[:, RESCALE] == 0.25).all()
    assert not step_table(schedule(), "euler", 4).coefficients[:, RESCALE].any()


@pytest.mark.parametrize("interval", [(0.7, 0.2), (-0.1, 1.0), (0.0, 1.1), (math.nan, 1.0)])
def test_impossible_intervals_are_refused(interval):
    with pytest.raises(OptionError, match="guidance interval"):
        step_table(schedule(), "euler", 4, interval=interval)


@pytest.mark.parametrize("rescale", [-0.1, 1.5, math.nan])
def test_impossible_rescales_are_refused(rescale):
    with pytest.raises(OptionError, match="guidance rescale"):
        step_table(schedule(), "euler", 4, rescale=rescale)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("heun", 10), "Unknown solver 'heun'"),
        (("euler", 0), "at least 1"),
        (("euler", 1001), "cannot make 1001 steps"),
        (("dpm++2m", 1000), "cannot make 1000 steps"),
        (("euler", 1000), "leave the schedule"),
        (("lcm", 51), "at most 50 steps"),
        (("euler", 10, 1.5), "between 0 and 1"),
        (("euler", 10, -0.1), "between 0 and 1"),
        (("euler", 10, math.nan), "between 0 and 1"),
        (("euler", 10, 1.0, "sample"), "Unknown prediction 'sample'"),
    ],
)
def test_impossible_options_are_refused(arguments, message):
    with pytest.raises(OptionError, match=message):
        step_table(schedule(), *arguments)


def test_unknown_spacing_is_refused():
    with pytest.raises(OptionError, match="Unknown spacing"):
        step_table(schedule("karras"), "euler", 10)


@pytest.mark.parametrize("solver", NAMES)
def test_only_solvers_of_a_path_add_no_noise(solver):
    added = step_table(schedule(), solver, 8).coefficients[:, NOISE]
    assert (not added.any()) == (solver in get_args(PathSolver))
