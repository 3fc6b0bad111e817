"""Epochs over pictures on disk with plain Adam, as IP-IQA trains: resumable to the bit, with a line an epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from grefine_rt.imaging.image import encoder_input, load

Say = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """The settings of a training. The defaults are IP-IQA's (4.1.2): Adam at a constant rate, 100 epochs of batches
    of 40.

    resolution: side that pictures are resized to, pixels; a multiple of 32.
    seed: decides order, mirroring, dropout and new weights.
    workers: processes that read pictures; 0 reads them in between.
    bfloat16: matrix products in half the precision, about twice as fast where a processor has them.
    head_rate: factor of the rate for the weights of `head`; 1 in the paper, 10 in the authors' code.
    """

    epochs: int = 100
    batch: int = 40
    rate: float = 1e-5
    resolution: int = 512
    seed: int = 0
    workers: int = 0
    bfloat16: bool = False
    head_rate: float = 1.0


class Pictures(Dataset[tuple[Tensor, int]]):
    """(picture float32 (3, R, R), RGB in [0, 1], its row), resized as the runtime does, bicubic without a crop."""

    def __init__(self, paths: Sequence[Path], resolution: int):
        self.paths = paths
        self.resolution = resolution

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return torch.from_numpy(encoder_input(load(self.paths[row]).rgb, self.resolution)[0]), row


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The state that training changes: learned parameters, and buffers such as the statistics of batch norms."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def run_epochs(
    model: nn.Module,
    pictures: Pictures,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    recipe: Recipe,
    checkpoint: Path,
    device: torch.device,
    say: Say,
    after_epoch: Callable[[], None] | None = None,
) -> nn.Module:
    """Trains what `model` leaves trainable, in place, and returns it in evaluation mode.

    `loss_of(images, rows)` gives the loss of a batch; half of the pictures are mirrored, as the authors do. State goes
    to `checkpoint` after every epoch; order and dropout follow from seed and epoch alone, so a run that was stopped
    ends where an undisturbed one does. `say` gets a line an epoch. `after_epoch` is called before the state of an epoch
    is kept: a run that stops in between calls it again.
    """
    model.to(device, memory_format=torch.channels_last)  # convolutions are a third faster so
    optimiser = torch.optim.Adam(_groups(model, recipe), lr=recipe.rate)
    done = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"], strict=False)
        optimiser.load_state_dict(state["optimiser"])
        done = state["epochs"]
    for epoch in range(done, recipe.epochs):
        started = time.monotonic()
        torch.manual_seed(recipe.seed * 100_003 + epoch)
        order = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
        loader = DataLoader(pictures, recipe.batch, shuffle=True, generator=order, num_workers=recipe.workers)
        model.train()
        total = 0.0
        for images, rows in loader:
            mirrored = torch.rand(len(images)) < 0.5
            images[mirrored] = images[mirrored].flip(-1)
            images = images.to(device, memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bfloat16):
                loss = loss_of(images, rows.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(images)
        if after_epoch is not None:
            after_epoch()
        _save(checkpoint, model, optimiser, epoch + 1)
        seconds = time.monotonic() - started
        say(f"epoch {epoch + 1} of {recipe.epochs}: loss {total / len(pictures):.4f}, {seconds:.0f} s")
    return model.eval()


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The parameters that learn, and the head apart if it has a rate of its own."""
    learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if recipe.head_rate == 1:
        return [{"params": [p for _, p in learning]}]
    head = [p for name, p in learning if name.startswith("head.")]
    body = [p for name, p in learning if not name.startswith("head.")]
    return [{"params": body}, {"params": head, "lr": recipe.rate * recipe.head_rate}]


def _save(checkpoint: Path, model: nn.Module, optimiser: torch.optim.Optimizer, epochs: int) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    partial = checkpoint.with_suffix(".partial")
    state = {"model": trained_state(model), "optimiser": optimiser.state_dict(), "epochs": epochs}
    torch.save(state, partial)
    partial.replace(checkpoint)
