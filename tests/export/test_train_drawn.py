"""The decoder that learns what a denoiser's answers stand for."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from grefine_export.mini import train_drawn
from grefine_export.mini.pool import open_pool
from grefine_export.mini.redrawing_pairs import Latents, Pairs, wanted_pictures
from grefine_export.mini.train_drawn import LEVELS, Drawn, draw, train_on_drawn
from grefine_export.mini.train_inpaint import alphas_cumprod
from grefine_export.mini.train_vae import STAGE1, Judged
from grefine_export.mini.vocabulary import train_tokenizer
from grefine_export.models.vae import Vae

CPU = torch.device("cpu")
COUNT = 6


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return open_pool(tmp_path_factory.mktemp("pool"), COUNT)


def some_pairs(pool):
    """The upper left quarter is to be redrawn; what was found is the picture upside down; every other one is turned."""
    mask = np.zeros((COUNT, 16, 16), bool)
    mask[:, :8, :8] = True
    return Pairs(pool.images[:, ::-1].copy(), mask, np.arange(COUNT) % 2 == 1)


def some_latents():
    start, clean, masked = np.random.default_rng(3).normal(size=(3, COUNT, 8, 16, 16)).astype(np.float16)
    return Latents(
        start, clean, masked, np.zeros((COUNT, 16, 16), bool), np.zeros((COUNT, 2, 8, 8), np.float16)
    )


class Knowing:
    """A denoiser that knows the sound latents, in the order in which it is asked; keeps the levels."""

    def __init__(self, clean):
        self.left, self.levels = torch.from_numpy(clean.astype(np.float32)), []

    def cpu(self):
        return self

    def eval(self):
        return self

    def text(self, ids):
        return SimpleNamespace(last_hidden_state=ids, text_embeds=ids)

    def velocity(self, joined, time, context, pooled):
        assert len(joined) == len(time) == len(context) == len(pooled)
        clean, self.left = self.left[: len(time)], self.left[len(time) :]
        self.levels += time.tolist()
        a = alphas_cumprod()[time][:, None, None, None]
        return (a.sqrt() * joined[:, : clean.shape[1]] - clean) / (1 - a).sqrt()


def test_wanted_is_the_truth_where_stage_1_draws_and_what_it_found_elsewhere(pool):
    wanted = wanted_pictures(pool, some_pairs(pool), slice(0, COUNT))
    for index, picture in enumerate(wanted):
        picture = picture[:, ::-1] if index % 2 else picture
        np.testing.assert_array_equal(picture[:64, :64], pool.images[index][:64, :64])
        np.testing.assert_array_equal(picture[64:], pool.images[index][::-1][64:])
        np.testing.assert_array_equal(picture[:, 64:], pool.images[index][::-1][:, 64:])


def test_answers_of_a_perfect_denoiser_are_the_sound_latents(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(train_drawn, "AT_ONCE", 4)  # the last part is shorter
    latents = some_latents()
    model = Knowing(latents.clean)
    drawn = draw(model, pool, some_pairs(pool), latents, train_tokenizer(tmp_path / "clip.json"))
    np.testing.assert_allclose(drawn.latents, latents.clean, atol=4e-3)
    assert drawn.wanted.shape == (COUNT, 128, 128, 3)
    assert len(set(model.levels)) == COUNT
    assert all(LEVELS[0] <= level < LEVELS[1] for level in model.levels)


def test_decoder_and_critic_learn_and_a_finished_training_makes_nothing(pool, tmp_path):
    torch.manual_seed(5)
    judged = Judged(Vae(STAGE1.config, STAGE1.patch, shortcut=True))
    before = {name: value.clone() for name, value in judged.state_dict().items()}
    drawn = Drawn(some_latents().clean, pool.images.copy())
    vae = train_on_drawn(judged, lambda: drawn, pool, tmp_path, 2, CPU)
    after = {f"vae.{name}": value for name, value in vae.state_dict().items()}
    # Matrices are kept in float16.
    changed = {name for name, value in after.items() if not torch.equal(value.half(), before[name].half())}
    assert {name.removeprefix("vae.kl.").split(".")[0] for name in changed} == {
        "decoder",
        "post_quant_conv",
        "vae",  # `unfold`, which goes around the network
    }

    kept = load_file(tmp_path / "drawn_decoder.safetensors")
    assert any(not torch.equal(kept[name].half(), before[name].half()) for name in kept if "critic" in name)

    def never():
        raise AssertionError("drawn again")

    again = train_on_drawn(
        Judged(Vae(STAGE1.config, STAGE1.patch, shortcut=True)), never, pool, tmp_path, 2, CPU
    )
    latent = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(again.eval().decode(latent), vae.eval().decode(latent))


def test_a_batch_holds_latents_beside_their_own_pictures(pool):
    means = F.avg_pool2d(torch.from_numpy(pool.images.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1, 8)
    batch = next(train_drawn.batches(Drawn(means.half().numpy(), pool.images.copy()), pool, 0))
    assert batch.sound.shape == (train_drawn.SOUND, 3, 128, 128)
    assert len(batch.latents) == train_drawn.DRAWN
    torch.testing.assert_close(F.avg_pool2d(batch.wanted, 8), batch.latents, atol=2e-3, rtol=0)
