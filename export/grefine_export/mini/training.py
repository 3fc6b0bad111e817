"""One training loop for every model of the embedded bundle: resumable, logged, with an averaged copy."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from grefine_export.mini.muon import Muon

COMPILE_FROM = 1000  # steps
TIMED_FROM = 200
"""Steps from which it pays to time both precisions first."""
TIMED_STEPS = 3
ALL_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@dataclass(frozen=True)
class Schedule:
    """`steps` updates; `rate` warms up over `warmup` steps and falls to a hundredth on a cosine.

    With a `muon` rate above 0 the matrices between hidden features (`hidden_weights`) are updated by Muon at that peak
    rate (Jordan 2024, rates as Liu et al. 2502.16982 scale them), all else by AdamW at `rate`; with 0 everything is.
    `compiled` names the submodules that torch.compile fuses (it needs a C++ compiler): 0.9 -> 0.64 s a step of the
    inpainting UNet on one core, after a minute of compiling, so short runs go without. `workers`: processes that make
    the batches of a training on the CPU, 0 for its own.
    """

    steps: int
    rate: float
    warmup: int = 100
    decay: float = 0.01
    average: float = 0.998
    clip: float = 1.0
    save_seconds: float = 120.0
    compiled: tuple[str, ...] = ()
    muon: float = 0.0
    workers: int = 0


def learning_rate(step: int, schedule: Schedule) -> float:
    """Rate at `step`: linear warm-up, then half a cosine down to 1 % of the peak."""
    if step < schedule.warmup:
        return schedule.rate * (step + 1) / schedule.warmup
    done = min(1.0, (step - schedule.warmup) / max(1, schedule.steps - schedule.warmup))
    return schedule.rate * (0.01 + 0.99 * 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi)))))


HIDDEN_FROM = 33
"""Features from which a side of a matrix counts as hidden: pictures, latents and scores have fewer."""


def hidden_weights(model: nn.Module) -> list[nn.Parameter]:
    """Trainable weights of linear layers and convolutions with hidden features on both sides."""
    layers = (module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    return [
        layer.weight
        for layer in layers
        if layer.weight.requires_grad and min(layer.weight.shape[:2]) >= HIDDEN_FROM
    ]


def as_matrix(weight: Tensor) -> Tensor:
    """A weight (out, in) as it is; one (out, in, h, w) as (out, h * w * in), in the same memory where its channels are
    last."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)


def bring_weights(source: Path, work: Path) -> None:
    """Copies `source/**/NAME.safetensors` to where `fit` finds them in `work`, and the tokenizer that they were trained
    with (.json); files that are there stay."""
    for file in sorted([*source.rglob("*.safetensors"), *source.rglob("*.json")]):
        target = work / file.relative_to(source)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def append_line(file: Path, line: Mapping[str, object]) -> None:
    """Adds a line of JSON to a log."""
    with file.open("a") as log:
        log.write(json.dumps(line) + "\n")


def save_weights(model: nn.Module, file: Path, step: int) -> None:
    """Keeps a model after `step` updates, its matrices in float16, as the bundle has them."""
    tensors = {
        name: (value.half() if value.is_floating_point() and value.ndim > 1 else value).contiguous().cpu()
        for name, value in model.state_dict().items()
    }
    partial = file.with_suffix(".partial")
    save_file(tensors, partial, {"step": str(step)})
    partial.replace(file)


def load_weights(model: nn.Module, file: Path) -> int:
    """Reads what `save_weights` wrote into `model`; gives the step."""
    with safe_open(file, "pt") as stored:
        model.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
        return int(stored.metadata()["step"])


def finished(folder: Path, name: str, steps: int) -> bool:
    """Whether `fit` has made all `steps` of this training: it then needs no data."""
    file = folder / f"{name}.safetensors"
    if not file.exists():
        return False
    with safe_open(file, "pt") as stored:
        return int(stored.metadata()["step"]) == steps


Loss = Callable[[nn.Module, object], tuple[Tensor, dict[str, float]]]
Source = Callable[[int], Iterator[object]]
"""Endless batches, on the CPU, for a run that begins at this step: a resumed run gets other data than it had."""


def seeded(*seed: int) -> np.random.Generator:
    """A generator for the batches of a run; the last number is the step at which the run begins. Each process that
    makes batches has one of its own."""
    worker = get_worker_info()
    own = () if worker is None else (worker.id + 1,)
    return np.random.default_rng((*seed, *own) if seed[-1] or own else seed[:-1])


class Batches(IterableDataset[object]):
    """The batches of a source, for `DataLoader`, which may make them in other processes."""

    def __init__(self, source: Source, step: int) -> None:
        self._source, self._step = source, step

    def __iter__(self) -> Iterator[object]:
        return self._source(self._step)


def loader(source: Source, step: int, device: torch.device, workers: int) -> Iterator[object]:
    """The batches on the CPU. A GPU is faster than they are made: all other cores then make them."""
    if device.type != "cpu":
        workers = max(1, (os.cpu_count() or 2) - 1)
    return iter(DataLoader(Batches(source, step), batch_size=None, num_workers=workers))


def on_device(batch: object, device: torch.device) -> object:
    """A tensor, or a dataclass with tensors in it, on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
        return dataclasses.replace(
            batch, **{name: on_device(value, device) for name, value in fields.items()}
        )
    return batch


def seconds_a_step(model: nn.Module, batch: object, loss_of: Loss, device: torch.device, half: bool) -> float:
    """Seconds of the fastest of `TIMED_STEPS` forward and backward passes, in bfloat16 with `half`."""
    times = []
    for _ in range(TIMED_STEPS):
        began = time.perf_counter()
        backward(model, batch, loss_of, device, half)
        times.append(time.perf_counter() - began)
    return min(times)


def faster_in_half(
    model: nn.Module, batch: object, loss_of: Loss, device: torch.device
) -> tuple[bool, float]:
    """Whether bfloat16 is the faster precision here, and how many times as long it takes as float32.

    Processors without AVX-512 take 7 to 12 times as long. Neither the model nor the random state changes.
    """
    tried = copy.deepcopy(model).train()
    with torch.random.fork_rng(devices=[]):
        single, half = (seconds_a_step(tried, batch, loss_of, device, chosen) for chosen in (False, True))
    return half < single, half / single


def backward(
    model: nn.Module, batch: object, loss_of: Loss, device: torch.device, half: bool
) -> tuple[float, dict[str, float]]:
    """Adds the gradients of one batch; matrix products in bfloat16 with `half`. Gives the loss and its figures."""
    # On a CPU, sequences this short are faster unfused (0.90 against 1.13 s a step of the inpainting UNet).
    with sdpa_kernel([SDPBackend.MATH] if device.type == "cpu" else ALL_KERNELS):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            loss, figures = loss_of(model, batch)
        loss.backward()
    return float(loss.detach()), figures


def fit(
    name: str,
    model: nn.Module,
    source: Source,
    loss_of: Loss,
    schedule: Schedule,
    folder: Path,
    device: torch.device,
) -> nn.Module:
    """Trains `model` and returns its exponential moving average, in evaluation mode.

    `source(step)` gives the batches of a run that begins at `step`. `loss_of(model, batch)` gives the loss and
    figures for the log. State goes to `folder/name.pt` (model, average, optimiser, step) every `save_seconds`, and a
    line of JSON to `folder/name.jsonl`; an interrupted run goes on from there. The average alone goes to
    `folder/name.safetensors`, small enough to travel: a later call takes it as it is where it has all steps, and goes
    on from it, with a new optimiser, where it has fewer and there is no state. Matrix products run in bfloat16 where
    that is faster, which a run of `TIMED_FROM` steps or more measures and logs first; state stays float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, weights = folder / f"{name}.pt", folder / f"{name}.safetensors"
    model.to(device)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    step = load_weights(average, weights) if weights.exists() else 0
    if step == schedule.steps:
        return average
    if step > schedule.steps:
        raise ValueError(f"'{weights}' was trained for {step} steps, more than {schedule.steps}: remove it.")
    model.load_state_dict(average.state_dict())
    run = _Run(model, average, schedule, step)
    if checkpoint.exists():
        run.load(checkpoint, device)
    log = folder / f"{name}.jsonl"
    batches = loader(source, run.step, device, schedule.workers)
    half, batch = device.type != "cpu", None
    if run.step < schedule.steps:
        batch = on_device(next(batches), device)
        if device.type == "cpu" and schedule.steps - run.step >= TIMED_FROM:
            half, ratio = faster_in_half(model, batch, loss_of, device)
            precision = "bfloat16" if half else "float32"
            append_line(log, {"step": run.step, "precision": precision, "bfloat16_takes": round(ratio, 2)})
    if run.step:  # other noise than before the stop
        torch.manual_seed(run.step)
    started, saved, first = time.monotonic(), time.monotonic(), run.step
    if schedule.steps - run.step > COMPILE_FROM:
        for part in schedule.compiled:
            model.get_submodule(part).compile(dynamic=False)
    model.train()
    while run.step < schedule.steps:
        loss, figures = run.update(batch, loss_of, device, half)
        if run.step % 50 == 0 or run.step == schedule.steps:
            rate = round((run.step - first) / (time.monotonic() - started), 2)
            append_line(log, {"step": run.step, "loss": round(loss, 5), "steps_per_second": rate, **figures})
        if time.monotonic() - saved > schedule.save_seconds:
            run.save(checkpoint, weights)
            saved = time.monotonic()
        if run.step < schedule.steps:
            batch = on_device(next(batches), device)
    run.save(checkpoint, weights)
    load_weights(average, weights)  # the same numbers as a later call gives
    return average


class _Run:
    """The state of a training between updates: model, average, optimiser and the updates made, `step`.

    A training that begins at a step above 0 without a state warms its new optimiser up.
    """

    def __init__(self, model: nn.Module, average: nn.Module, schedule: Schedule, step: int) -> None:
        self.step = step
        self._model, self._average, self._schedule = model, average, schedule
        self._trainable = [p for p in model.parameters() if p.requires_grad]
        hidden = hidden_weights(model) if schedule.muon else []
        # Muon takes matrices alone, and a convolution is one in another shape.
        self._matrices = [(weight, nn.Parameter(as_matrix(weight.detach()))) for weight in hidden]
        if any(weight.data_ptr() != matrix.data_ptr() for weight, matrix in self._matrices):
            raise ValueError("Muon needs convolutions in torch.channels_last.")
        others = [p for p in self._trainable if not any(p is weight for weight in hidden)]
        self._optimiser = torch.optim.AdamW(
            others, lr=schedule.rate, betas=(0.9, 0.99), weight_decay=schedule.decay
        )
        self._muon = None
        if hidden:
            matrices = [matrix for _, matrix in self._matrices]
            self._muon = Muon(matrices, lr=schedule.muon, weight_decay=schedule.decay)
        self._fresh = step  # where the optimisers begin

    def load(self, checkpoint: Path, device: torch.device) -> None:
        """Takes up the state that `save` wrote."""
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        self._model.load_state_dict(state["model"])
        self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._muon is not None:
            self._muon.load_state_dict(state["muon"])
        self.step, self._fresh = state["step"], 0

    def save(self, checkpoint: Path, weights: Path) -> None:
        """Writes the whole state, and the average alone."""
        partial = checkpoint.with_suffix(".partial")
        state = {
            "model": self._model.state_dict(),
            "average": self._average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "muon": None if self._muon is None else self._muon.state_dict(),
            "step": self.step,
        }
        torch.save(state, partial)
        partial.replace(checkpoint)
        save_weights(self._average, weights, self.step)

    def update(
        self, batch: object, loss_of: Loss, device: torch.device, half: bool
    ) -> tuple[float, dict[str, float]]:
        """One update of model and average. Gives the loss and its figures."""
        schedule = self._schedule
        rate = min(learning_rate(self.step, schedule), learning_rate(self.step - self._fresh, schedule))
        self._optimiser.param_groups[0]["lr"] = rate
        self._model.zero_grad(set_to_none=True)
        loss, figures = backward(self._model, batch, loss_of, device, half)
        torch.nn.utils.clip_grad_norm_(self._trainable, schedule.clip)
        self._optimiser.step()
        if self._muon is not None:
            self._muon.param_groups[0]["lr"] = rate / schedule.rate * schedule.muon
            for weight, matrix in self._matrices:
                matrix.grad = None if weight.grad is None else as_matrix(weight.grad)
            self._muon.step()
        self.step += 1
        decay = min(schedule.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, new in zip(self._average.parameters(), self._model.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
            for kept, new in zip(self._average.buffers(), self._model.buffers(), strict=True):
                kept.copy_(new)
        return loss, figures
