"""The training loop: rates, what it keeps, and that a stopped run goes on as if it had not been."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from grefine_export.mini import sizes, training
from grefine_export.mini.critic import PatchCritic, critics_loss, decoders_loss
from grefine_export.mini.pool import open_pool
from grefine_export.mini.train_vae import edge_error, train_decoder, train_vae
from grefine_export.mini.training import Schedule, fit, learning_rate
from grefine_export.models.vae import Vae

CPU = torch.device("cpu")
TEN = Schedule(10, 1e-2, warmup=3)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
        self.register_buffer("seen", torch.zeros(()))


def model():
    torch.manual_seed(31)
    return Small()


def batches(count):
    generator = torch.Generator().manual_seed(32)
    return [torch.randn(16, 6, generator=generator) for _ in range(count)]


def loss_of(model, batch):
    assert model.training
    model.seen += 1
    error = (model.layers(batch)[:, 0].float() - batch[:, 0] + batch[:, 1]).square().mean()
    return error, {"error": float(error.detach())}


def from_step(given):
    """The source of a run: its batches from the step on at which it begins."""
    return lambda step: iter(given[step:])


def stopped_after(count, given):
    """Batches, and then what a user's Ctrl-C does."""
    yield from given[:count]
    raise KeyboardInterrupt


def state_of(folder, name="small"):
    return torch.load(folder / f"{name}.pt", weights_only=True)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- the rate


@given(st.integers(2, 5000), st.integers(1, 300), st.floats(1e-5, 1))
def test_the_rate_rises_and_falls(steps, warmup, rate):
    warmup = min(warmup, steps - 1)
    schedule = Schedule(steps, rate, warmup=warmup)
    assert learning_rate(0, schedule) == pytest.approx(rate / warmup)
    assert learning_rate(warmup - 1, schedule) == pytest.approx(rate)
    assert learning_rate(warmup, schedule) == pytest.approx(rate)
    assert learning_rate(steps, schedule) == pytest.approx(rate / 100, rel=1e-3)
    asked = np.linspace(0, steps, 60).astype(int)
    rates = np.array([learning_rate(int(step), schedule) for step in asked])
    assert (np.diff(rates[asked < warmup]) >= 0).all()
    assert (np.diff(rates[asked >= warmup]) <= 1e-6 * rate).all()
    assert (rates > 0).all()
    assert rates.max() <= rate * (1 + 1e-6)


def test_the_rate_half_way_and_beyond_the_end():
    schedule = Schedule(110, 2.0, warmup=10)
    assert learning_rate(60, schedule) == pytest.approx(2 * (0.01 + 0.99 / 2), rel=1e-5)
    assert learning_rate(500, schedule) == learning_rate(110, schedule)


# --- the loop


def test_training_lowers_the_loss_and_writes_a_log(tmp_path):
    given = batches(120)
    fit("small", model(), from_step(given), loss_of, Schedule(120, 3e-2, warmup=5), tmp_path / "new", CPU)
    lines = [json.loads(line) for line in (tmp_path / "new" / "small.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 100, 120]
    assert all(line.keys() == {"step", "loss", "steps_per_second", "error"} for line in lines)
    assert lines[-1]["loss"] < 0.5 * float(loss_of(model(), given[0])[0].detach())
    assert lines[-1]["loss"] == pytest.approx(lines[-1]["error"], abs=1e-5)
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [
        "small.jsonl",
        "small.pt",
        "small.safetensors",
    ]


def test_the_average_is_returned_in_evaluation_mode(tmp_path):
    trained = model()
    start = {name: value.clone() for name, value in trained.named_parameters()}
    after = []

    def watched(module, batch):
        after.append({name: value.detach().clone() for name, value in module.named_parameters()})
        return loss_of(module, batch)

    average = fit("small", trained, from_step(batches(10)), watched, replace(TEN, average=0.6), tmp_path, CPU)
    assert not average.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
    after = [*after[1:], dict(trained.named_parameters())]
    expected = start
    for step, new in enumerate(after, 1):
        decay = min(0.6, (1 + step) / (10 + step))
        expected = {name: decay * value + (1 - decay) * new[name] for name, value in expected.items()}
    for name, value in average.named_parameters():
        torch.testing.assert_close(value, expected[name].detach(), rtol=5e-4, atol=1e-6)  # kept in float16
        assert not torch.equal(value, after[-1][name])
    # Buffers are not averaged.
    assert float(average.seen) == 10
    for name, value in state_of(tmp_path)["average"].items():
        torch.testing.assert_close(value, average.state_dict()[name], rtol=5e-4, atol=1e-6)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    given = batches(10)
    whole = fit("small", model(), from_step(given), loss_of, TEN, tmp_path / "whole", CPU)
    often = replace(TEN, save_seconds=-1.0)
    with pytest.raises(KeyboardInterrupt):
        fit("small", model(), lambda _: stopped_after(6, given), loss_of, often, tmp_path / "parts", CPU)
    state = state_of(tmp_path / "parts")
    assert state["step"] == 6
    assert all(float(one["step"]) == 6 for one in state["optimiser"]["state"].values())
    torch.manual_seed(33)  # what a new process starts with is replaced
    resumed = fit("small", Small(), from_step(given), loss_of, TEN, tmp_path / "parts", CPU)
    assert equal(resumed.state_dict(), whole.state_dict())
    both = [state_of(tmp_path / part) for part in ("whole", "parts")]
    assert both[0]["step"] == both[1]["step"] == 10
    assert equal(both[0]["model"], both[1]["model"])
    for one, other in zip(*(state["optimiser"]["state"].values() for state in both), strict=True):
        assert equal(one, other)


class Hidden(nn.Module):
    """Layers of each kind that Muon treats, and of each that it does not."""

    def __init__(self):
        super().__init__()
        self.begin = nn.Conv2d(3, 36, 3, padding=1)
        self.middle = nn.Conv2d(36, 40, 3, padding=1)
        self.wide = nn.Linear(40, 36)
        self.end = nn.Linear(36, 2)

    def forward(self, x):
        x = self.middle(self.begin(x).relu()).relu().mean((2, 3))
        return self.end(self.wide(x).relu())


def hidden_model():
    torch.manual_seed(5)
    return Hidden().to(memory_format=torch.channels_last)


def hidden_loss(module, batch):
    loss = (module(batch) - batch.mean((1, 2, 3))[:, None]).pow(2).mean()
    return loss, {}


def images(count):
    generator = torch.Generator().manual_seed(6)
    return [torch.rand((4, 3, 8, 8), generator=generator) for _ in range(count)]


def test_muon_turns_hidden_matrices_by_equal_steps(tmp_path):
    """Its first update of a matrix is nearly orthogonal, whatever the gradient; all else follows AdamW."""
    with_muon = replace(TEN, steps=1, warmup=0, decay=0.0, muon=0.01)
    start, given = hidden_model().state_dict(), images(1)
    both = {}
    for name, schedule in (("muon", with_muon), ("adamw", replace(with_muon, muon=0.0))):
        both[name] = hidden_model()
        fit(name, both[name], from_step(given), hidden_loss, schedule, tmp_path, CPU)
    for layer in ("middle", "wide"):
        change = (both["muon"].state_dict()[f"{layer}.weight"] - start[f"{layer}.weight"]).flatten(1)
        share = torch.linalg.svdvals(change.double()) / (0.01 * 0.2 * max(change.shape) ** 0.5)
        # The gradient of four pictures has few directions; each is gone by as far as the others.
        assert share[:2].tolist() == pytest.approx([1, 1], abs=0.4)
    for name, value in both["adamw"].state_dict().items():
        same = torch.equal(value, both["muon"].state_dict()[name])
        assert same != (name in ("middle.weight", "wide.weight")), name


def test_a_stopped_run_with_muon_goes_on_as_if_it_had_not_been(tmp_path):
    given, schedule = images(10), replace(TEN, muon=0.01)
    whole = fit("small", hidden_model(), from_step(given), hidden_loss, schedule, tmp_path / "whole", CPU)
    often = replace(schedule, save_seconds=-1.0)
    with pytest.raises(KeyboardInterrupt):
        fit(
            "small",
            hidden_model(),
            lambda _: stopped_after(6, given),
            hidden_loss,
            often,
            tmp_path / "parts",
            CPU,
        )
    fresh = Hidden().to(memory_format=torch.channels_last)
    resumed = fit("small", fresh, from_step(given), hidden_loss, schedule, tmp_path / "parts", CPU)
    assert equal(resumed.state_dict(), whole.state_dict())


def test_muon_refuses_matrices_that_it_could_not_change(tmp_path):
    with pytest.raises(ValueError, match="channels_last"):
        fit("small", Hidden(), from_step(images(1)), hidden_loss, replace(TEN, muon=0.01), tmp_path, CPU)


def test_a_stop_before_the_first_checkpoint_starts_anew(tmp_path):
    given = batches(10)
    with pytest.raises(KeyboardInterrupt):
        fit("small", model(), lambda _: stopped_after(4, given), loss_of, TEN, tmp_path, CPU)
    assert not (tmp_path / "small.pt").exists()
    assert float(fit("small", model(), from_step(given), loss_of, TEN, tmp_path, CPU).seen) == 10


def test_a_finished_run_takes_no_more_batches(tmp_path):
    first = fit("small", model(), from_step(batches(10)), loss_of, TEN, tmp_path, CPU)
    log = (tmp_path / "small.jsonl").read_bytes()
    again = fit("small", Small(), from_step([]), loss_of, TEN, tmp_path, CPU)
    assert equal(first.state_dict(), again.state_dict())
    assert (tmp_path / "small.jsonl").read_bytes() == log


def test_a_finished_run_needs_its_weights_alone(tmp_path):
    first = fit("small", model(), from_step(batches(10)), loss_of, TEN, tmp_path, CPU)
    (tmp_path / "small.pt").unlink()
    again = fit("small", Small(), from_step([]), loss_of, TEN, tmp_path, CPU)
    assert equal(first.state_dict(), again.state_dict())
    assert not again.training
    with pytest.raises(ValueError, match="10 steps, more than 8: remove it"):
        fit("small", Small(), from_step([]), loss_of, replace(TEN, steps=8), tmp_path, CPU)


def test_a_run_goes_on_from_weights_alone(tmp_path):
    """From the average, with a new optimiser whose rate rises again, on data of the steps to come."""
    first = fit("small", model(), from_step(batches(10)), loss_of, TEN, tmp_path, CPU)
    (tmp_path / "small.pt").unlink()
    seen = []

    def noting(module, batch):
        seen.append(
            (float(batch.sum()), {name: value.detach().clone() for name, value in module.named_parameters()})
        )
        return loss_of(module, batch)

    longer = batches(14)
    again = fit("small", Small(), from_step(longer), noting, replace(TEN, steps=14), tmp_path, CPU)
    assert [total for total, _ in seen] == [float(batch.sum()) for batch in longer[10:]]
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in seen[0][1].items())
    assert not equal(first.state_dict(), again.state_dict())
    assert state_of(tmp_path)["step"] == 14


def test_weights_of_elsewhere_are_brought(tmp_path):
    first = fit("small", model(), from_step(batches(10)), loss_of, TEN, tmp_path / "there" / "part", CPU)
    (tmp_path / "here" / "part").mkdir(parents=True)
    (tmp_path / "here" / "part" / "own.safetensors").write_bytes(b"own")
    (tmp_path / "there" / "part" / "own.safetensors").write_bytes(b"other")
    (tmp_path / "there" / "clip.json").write_bytes(b"words")
    (tmp_path / "there" / "README.md").write_bytes(b"for people")
    training.bring_weights(tmp_path / "there", tmp_path / "here")
    again = fit("small", Small(), from_step([]), loss_of, TEN, tmp_path / "here" / "part", CPU)
    assert equal(first.state_dict(), again.state_dict())
    assert (tmp_path / "here" / "part" / "own.safetensors").read_bytes() == b"own"
    assert (tmp_path / "here" / "clip.json").read_bytes() == b"words"
    assert not (tmp_path / "here" / "README.md").exists()


def test_names_do_not_meet(tmp_path):
    fit("one", model(), from_step(batches(10)), loss_of, TEN, tmp_path, CPU)
    fit("two", model(), from_step(batches(3)), loss_of, replace(TEN, steps=3), tmp_path, CPU)
    assert (state_of(tmp_path, "one")["step"], state_of(tmp_path, "two")["step"]) == (10, 3)


def test_what_is_frozen_stays(tmp_path):
    trained = model()
    trained.layers[0].requires_grad_(False)
    start = {name: value.clone() for name, value in trained.named_parameters()}
    average = fit("small", trained, from_step(batches(10)), loss_of, TEN, tmp_path, CPU)
    for name, value in average.named_parameters():
        assert torch.allclose(value, start[name], rtol=5e-4, atol=1e-6) == name.startswith("layers.0")


def test_gradients_are_clipped(tmp_path):
    """One enormous batch must not throw the weights away."""

    def huge(model, batch):
        loss, figures = loss_of(model, batch)
        return 1e6 * loss, figures

    trained = model()
    fit("small", trained, from_step(batches(1)), huge, replace(TEN, steps=1), tmp_path, CPU)
    moments = state_of(tmp_path)["optimiser"]["state"].values()
    norm = torch.stack([one["exp_avg"].norm() / (1 - 0.9) for one in moments]).norm()
    assert float(norm) == pytest.approx(TEN.clip, rel=1e-3)


@pytest.mark.parametrize("slower", [True, False])
def test_a_long_run_takes_the_faster_precision_and_logs_it(tmp_path, monkeypatch, slower):
    """Only the first line tells of it, and neither the model nor the random numbers of the run notice."""
    times = {True: 8.0 if slower else 0.5, False: 1.0}
    monkeypatch.setattr(training, "seconds_a_step", lambda *arguments: times[arguments[-1]])
    seen = []

    def noisy(model, batch):
        seen.append(torch.is_autocast_enabled("cpu"))
        loss, figures = loss_of(model, batch + 0.01 * torch.randn_like(batch))
        return loss, figures

    long = replace(TEN, steps=training.TIMED_FROM)
    given = batches(training.TIMED_FROM)
    fit("small", model(), from_step(given), noisy, long, tmp_path, CPU)
    first, *others = [json.loads(line) for line in (tmp_path / "small.jsonl").read_text().splitlines()]
    assert first == {
        "step": 0,
        "precision": "float32" if slower else "bfloat16",
        "bfloat16_takes": times[True],
    }
    assert all("loss" in line for line in others)
    assert seen == [not slower] * training.TIMED_FROM


def test_timing_both_precisions_changes_nothing(tmp_path):
    """Buffers, gradients and the random state are those of before."""
    tried = model()
    state = {name: value.clone() for name, value in tried.state_dict().items()}
    random = torch.get_rng_state()
    _, ratio = training.faster_in_half(tried, batches(1)[0], loss_of, CPU)
    assert ratio > 0
    assert equal(tried.state_dict(), state)
    assert all(parameter.grad is None for parameter in tried.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_resumed_run_gets_other_data_than_it_had():
    begun, again, resumed = (training.seeded(5, 1, step).random(8) for step in (0, 0, 700))
    assert (begun == again).all()
    assert (begun != resumed).all()
    assert (training.seeded(5, 0).random(8) == np.random.default_rng(5).random(8)).all()


def test_processes_that_make_batches_make_other_ones(monkeypatch):
    """Beside a GPU all cores but one make batches; each draws from a generator of its own."""
    monkeypatch.setattr(training.os, "cpu_count", lambda: 3)

    def source(step):
        rng = training.seeded(5, step)
        while True:
            yield torch.from_numpy(rng.random(8))

    batches = training.loader(source, 0, torch.device("cuda"), 0)
    drawn = {tuple(next(batches).tolist()) for _ in range(6)}  # type: ignore[attr-defined]
    assert len(drawn) == 6
    alone = training.loader(source, 0, CPU, 0)
    assert (next(alone).numpy() == np.random.default_rng(5).random(8)).all()  # type: ignore[attr-defined]


def test_a_training_is_finished_with_its_last_step(tmp_path):
    assert not training.finished(tmp_path, "small", 10)
    training.save_weights(nn.Linear(2, 2), tmp_path / "small.safetensors", 9)
    assert not training.finished(tmp_path, "small", 10)
    training.save_weights(nn.Linear(2, 2), tmp_path / "small.safetensors", 10)
    assert training.finished(tmp_path, "small", 10)


# --- the autoencoder


def test_the_decoder_goes_on_alone(tmp_path):
    pool = open_pool(tmp_path, 4)
    vae = train_vae(pool, tmp_path, 1, CPU)
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    trained = train_decoder(vae, pool, tmp_path, 2, CPU).vae.state_dict()
    changed = {
        name.removeprefix("kl.").split(".")[0]
        for name, value in before.items()
        if not torch.equal(value, trained[name])
    }
    assert changed == {"decoder", "post_quant_conv", "unfold"}


def test_the_critic_and_the_decoder_learn_from_losses_of_their_own():
    critic, decoded, true = (
        PatchCritic(8),
        torch.rand(2, 3, 16, 16, requires_grad=True),
        torch.rand(2, 3, 16, 16),
    )
    decoders_loss(critic, decoded).backward()
    assert decoded.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in critic.parameters())
    decoded.grad = None
    critics_loss(critic, decoded, true).backward()
    assert decoded.grad is None
    assert all(weight.grad is not None for weight in critic.parameters())


def test_a_critic_learns_to_tell_blurred_from_sharp():
    torch.manual_seed(0)
    critic = PatchCritic(8)
    optimiser = torch.optim.Adam(critic.parameters(), 3e-3)
    sharp = torch.rand(8, 3, 32, 32) * 2 - 1
    blurred = F.avg_pool2d(sharp, 3, 1, 1)
    for _ in range(60):
        optimiser.zero_grad()
        critics_loss(critic, blurred, sharp).backward()
        optimiser.step()
    assert critic(sharp).mean() > critic(blurred).mean() + 0.5


def test_an_autoencoder_begins_as_principal_components(tmp_path):
    """No linear code of as many numbers a cell does better on the pictures it was made of; its latents are white."""
    pool = open_pool(tmp_path, 6)
    images = torch.from_numpy(pool.images.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    vae = Vae(sizes.VAE, sizes.VAE_PATCH, shortcut=True)
    vae.begin_linear(images)
    with torch.no_grad():
        latent, _ = vae.moments(images)
        back = vae.decode(latent)
    cells = (
        images.numpy()
        .reshape(6, 3, 16, 8, 16, 8)
        .transpose(0, 2, 4, 1, 3, 5)
        .reshape(-1, 192)
        .astype(np.float64)
    )
    spread = np.linalg.svd(cells - cells.mean(0), compute_uv=False)
    least = (spread[sizes.VAE["latent_channels"] :] ** 2).sum() / cells.size
    assert float((back - images).square().mean()) == pytest.approx(least, rel=1e-3)
    white = torch.eye(sizes.VAE["latent_channels"])
    torch.testing.assert_close(torch.cov(latent.movedim(1, 0).flatten(1)), white, atol=5e-3, rtol=0)


def test_edges_that_are_off_cost_more_than_an_even_shift():
    shift = torch.full((1, 3, 16, 16), 0.1)
    striped = shift * (torch.arange(16) % 2 * 2 - 1)
    assert float(edge_error(shift)) == 0
    assert float(edge_error(striped)) == pytest.approx(0.2)


def test_latents_of_the_world_have_unit_variance(tmp_path):
    pool = open_pool(tmp_path, 4)
    vae = train_vae(pool, tmp_path, 1, CPU)
    images = torch.from_numpy(pool.images.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        assert float(vae.encode(images).std()) == pytest.approx(1, rel=1e-3)
