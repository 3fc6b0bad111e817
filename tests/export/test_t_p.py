"""T_p: the layout of the contexts, learning them on frozen encoders, alpha."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from grefine_export.learn.t_p import PromptContexts, Rated, fit_alpha, learn, pearson, score
from grefine_export.models.clip_prompts import POSITION, PUBLISHED_ALPHA
from grefine_export.models.clip_surgery import ClipSurgery
from grefine_export.models.perceptual import pair_probabilities
from tests.support import tiny_clip

CLASS = (7, 8, 9)


@pytest.fixture
def contexts():
    encoder = ClipSurgery(tiny_clip.tiny_clip(), depth=3)
    torch.manual_seed(15)
    return PromptContexts(encoder, CLASS, tiny_clip.BOS, tiny_clip.EOT)


def test_contexts_of_real_tokens_are_that_prompts_features(contexts):
    """8 tokens, the class word, 8 tokens, read at the end token on position 20; padding does not matter."""
    words = torch.randint(3, tiny_clip.BOS, (8, 16), generator=torch.Generator().manual_seed(16))
    prompts = torch.full((8, tiny_clip.LENGTH), 1)
    prompts[:, 0], prompts[:, 20] = tiny_clip.BOS, tiny_clip.EOT
    prompts[:, 1:9], prompts[:, 9:12], prompts[:, 12:20] = words[:, :8], torch.tensor(CLASS), words[:, 8:]
    with torch.no_grad():
        contexts.ctx.copy_(contexts.encoder.embed_text(words).unflatten(0, (4, 2)))
        t_p = contexts()
        expected = contexts.encoder.clip.get_text_features(input_ids=prompts).pooler_output
    assert POSITION == 20
    assert t_p.shape == (4, 2, tiny_clip.PROJECTED)
    torch.testing.assert_close(t_p.flatten(0, 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ids", [(7, 8), (7, 8, 9, 10), ()])
def test_the_class_word_has_three_tokens(ids):
    encoder = ClipSurgery(tiny_clip.tiny_clip(), depth=3)
    with pytest.raises(ValueError, match="3 tokens"):
        PromptContexts(encoder, ids, tiny_clip.BOS, tiny_clip.EOT)


def test_only_the_contexts_can_learn(contexts):
    trainable = [name for name, parameter in contexts.named_parameters() if parameter.requires_grad]
    assert trainable == ["ctx"]
    contexts().square().sum().backward()
    # Each of the 4 x 2 x 16 vectors has a say in its feature.
    assert (contexts.ctx.grad.abs().amax(-1) > 0).all()


def test_score_is_eq_3():
    generator = np.random.default_rng(17)
    pairs = generator.uniform(0.05, 1, (50, 4))
    alpha = (0.9, 0.5, 0.7)
    expected = [
        row[0] * min(row[1] / alpha[0], 1) * min(row[2] / alpha[1], 1) * min(row[3] / alpha[2], 1)
        for row in pairs
    ]
    np.testing.assert_allclose(score(torch.tensor(pairs), torch.tensor(alpha)).numpy(), expected, rtol=1e-6)


def test_published_alpha():
    assert pytest.approx((0.935, 0.5352, 0.6608)) == PUBLISHED_ALPHA


def test_pearson_is_numpys():
    a, b = np.random.default_rng(18).normal(size=(2, 40))
    got = float(pearson(torch.tensor(a), torch.tensor(a + 2 * b)))
    assert got == pytest.approx(np.corrcoef(a, a + 2 * b)[0, 1])
    assert torch.isfinite(pearson(torch.ones(5), torch.arange(5.0)))


def synthetic(places=False):
    """240 pictures whose quality is written on one direction of the class token's feature, factors on others."""
    generator = torch.Generator().manual_seed(19)
    tokens = torch.randn(240, 1 + 4, tiny_clip.PROJECTED, generator=generator)
    factors = torch.sigmoid(2.5 * tokens[:, 0, :3] + 1.5)
    sound = (tokens[:, 1:, :4] > -0.5).float() if places else None
    weight = torch.ones_like(sound) if places else None
    return Rated(F.normalize(tokens, dim=-1), factors.prod(1), factors, sound, weight)


def quality(contexts, rated):
    with torch.no_grad():
        pairs = pair_probabilities(rated.tokens, contexts(), contexts.encoder.scale)
        p = score(pairs[:, 0], torch.tensor(PUBLISHED_ALPHA))
        return pairs, float(pearson(p, rated.mos)), float(F.mse_loss(p, rated.mos))


def test_learning_raises_plcc_and_lowers_the_error_with_frozen_encoders(contexts):
    rated = synthetic()
    before = {name: value.clone() for name, value in contexts.encoder.state_dict().items()}
    ctx = contexts.ctx.detach().clone()
    _, plcc, mse = quality(contexts, rated)
    terms = learn(contexts, rated, epochs=50, batch=60, rate=2e-2)
    _, plcc_after, mse_after = quality(contexts, rated)
    assert plcc_after > max(0.6, plcc + 0.2)
    assert mse_after < 0.6 * mse
    assert terms["plcc"] > 0.5
    assert terms["map"] == 0
    after = contexts.encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in contexts.encoder.parameters())
    assert (contexts.ctx.detach() - ctx).abs().max() > 0.05


def test_pixel_truth_teaches_the_patches(contexts):
    rated = synthetic(places=True)

    def separation():
        pairs, _, _ = quality(contexts, rated)
        patches = pairs[:, 1:]
        return float(patches[rated.sound > 0.5].mean() - patches[rated.sound < 0.5].mean())

    before = separation()
    terms = learn(contexts, rated, epochs=25, batch=60, rate=2e-2, map_weight=5.0)
    assert terms["map"] > 0
    assert separation() > before + 0.1


def test_learning_is_the_same_at_every_run():
    results = []
    for _ in range(2):
        encoder = ClipSurgery(tiny_clip.tiny_clip(), depth=3)
        torch.manual_seed(20)
        contexts = PromptContexts(encoder, CLASS, tiny_clip.BOS, tiny_clip.EOT)
        learn(contexts, synthetic(), epochs=2, batch=60)
        results.append(contexts.ctx.detach())
    assert torch.equal(*results)


def test_fewer_pictures_than_a_batch(contexts):
    rated = synthetic()
    few = Rated(rated.tokens[:7], rated.mos[:7], rated.factors[:7])
    assert np.isfinite(list(learn(contexts, few, epochs=3).values())).all()


def test_alpha_is_a_quantile_over_the_tokens_of_sound_pictures():
    rated = synthetic()
    mos = torch.where(torch.arange(240) % 3 == 0, 1.0, 0.5)
    t_p = torch.randn(4, 2, tiny_clip.PROJECTED, generator=torch.Generator().manual_seed(21))
    scale = torch.tensor(4.0)
    alpha = fit_alpha(Rated(rated.tokens, mos, rated.factors), t_p, scale, quantile=0.1)
    pairs = pair_probabilities(rated.tokens[::3], t_p, scale).numpy().reshape(-1, 4)
    assert alpha == pytest.approx([np.quantile(pairs[:, k], 0.1) for k in (1, 2, 3)], rel=1e-5)
    # So a tenth of what is sound is penalised, at most.
    assert np.mean(pairs[:, 1] < alpha[0]) == pytest.approx(0.1, abs=0.01)


def test_alpha_of_very_many_tokens():
    """torch's quantile refuses more than 16 million values; a regular share must give the same."""
    values = torch.linspace(-1, 1, 240_000)
    tokens = torch.stack([values, (1 - values**2).sqrt()], 1)[:, None]
    t_p = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]]).expand(4, 2, 2)
    count = len(tokens)
    alpha = fit_alpha(Rated(tokens, torch.ones(count), torch.ones(count, 3)), t_p, torch.tensor(1.0), 0.25)
    assert alpha == pytest.approx([float(torch.sigmoid(torch.tensor(-1.0)))] * 3, abs=1e-3)
