"""Stage 2's training: crops first, then whole pictures."""

import pytest
import torch
from torch import nn

from grefine_export.mini import sizes, train_restore
from grefine_export.mini.train_clip import new_clip
from grefine_export.mini.vocabulary import train_tokenizer
from grefine_export.models.pasd_removal import RemovalEmbedding
from grefine_export.models.vae import Vae

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("done", "made"), [(False, {"restore_crops": 6, "restore": 4}), (True, {"restore": 4})]
)
def test_crops_are_left_out_where_the_whole_pictures_are_done(done, made, tmp_path, monkeypatch):
    names = {}

    def fit(name, model, source, loss_of, schedule, folder, device):
        names[name] = schedule.steps
        return model

    monkeypatch.setattr(train_restore, "fit", fit)
    monkeypatch.setattr(
        train_restore, "finished", lambda folder, name, steps: done and (name, steps) == ("restore", 4)
    )
    tokenizer = train_tokenizer(tmp_path / "clip.json")
    channels = sizes.RESTORE_UNET["block_out_channels"][0]
    removal: nn.Module = RemovalEmbedding(channels, sizes.RESTORE_REMOVAL)
    vaes = (Vae(sizes.VAE, sizes.VAE_PATCH), Vae(sizes.RESTORE_VAE, sizes.RESTORE_VAE_PATCH))
    train_restore.train_restore(None, vaes, removal, new_clip(tokenizer), tokenizer, tmp_path, 10, CPU)
    assert names == made
