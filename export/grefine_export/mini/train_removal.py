"""Training of the degradation-removal module before stage 2's ControlNet: plain regression of the sound picture.

As PASD trains its own (section 3.1), but alone and first: a step costs a sixth of the whole network's. It learns
technical defects only; wrong colours, which only the things and the prompt tell, held those back and are the UNet's.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine_export.mini import sizes
from grefine_export.mini.pool import Pool
from grefine_export.mini.restoration_pairs import TECHNICAL_SHARES, Pairs, relative_error, restoration_pairs
from grefine_export.mini.train_vae import STAGE2
from grefine_export.mini.training import Schedule, fit
from grefine_export.models.pasd_removal import RemovalEmbedding

CROP, CROPS = 64, 32
MILD = 0.002
"""Mean squared error of a damaged crop below which its weight grows no more."""


def train_removal(pool: Pool, folder: Path, steps: int, device: torch.device) -> RemovalEmbedding:
    """Trains everything of the module but `conv_out`, which only the ControlNet can teach."""
    torch.manual_seed(6)
    channels = sizes.RESTORE_UNET["block_out_channels"][0]
    model = RemovalEmbedding(channels, sizes.RESTORE_REMOVAL).to(memory_format=torch.channels_last)
    model.conv_out.requires_grad_(False)

    def loss_of(model: nn.Module, batch: object) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(model, RemovalEmbedding)
        assert isinstance(batch, Pairs)
        bad, good = (F.avg_pool2d(image, STAGE2.enlarged) for image in (batch.bad, batch.good))
        error, figures = relative_error(model.restored(batch.bad).float(), bad, good, MILD)
        return error.mean(), figures

    source = partial(restoration_pairs, pool, TECHNICAL_SHARES, None, CROP, CROPS, 43)
    schedule = Schedule(steps, 2e-3, warmup=min(200, steps // 5 + 1), average=0.999, muon=2e-3)
    trained = fit("removal", model, source, loss_of, schedule, folder, device)
    assert isinstance(trained, RemovalEmbedding)
    return trained
