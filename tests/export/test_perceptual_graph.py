"""The graphs of the two indicators: formulas against numpy, ONNX against torch."""

import numpy as np
import onnx
import pytest
import torch

from grefine_export.models.clip_surgery import ClipSurgery
from grefine_export.models.perceptual import ClipText, Perceptual, pair_probabilities
from grefine_export.onnx.convert import export
from grefine_export.onnx.parity import compare
from tests.support import tiny_clip


@pytest.fixture(scope="module")
def encoder():
    return ClipSurgery(tiny_clip.tiny_clip(), depth=3)


@pytest.fixture(scope="module")
def t_p():
    return torch.randn(4, 2, tiny_clip.PROJECTED, generator=torch.Generator().manual_seed(13))


@pytest.fixture(scope="module")
def outputs(encoder, t_p):
    with torch.no_grad():
        return [value.double().numpy() for value in Perceptual(encoder, t_p)(tiny_clip.images())]


@pytest.fixture(scope="module")
def raw(encoder):
    with torch.no_grad():
        return encoder.image_tokens(tiny_clip.images()).double().numpy()


def test_tokens_are_of_length_one(outputs, raw):
    tokens = outputs[2]
    np.testing.assert_allclose(tokens, raw / np.linalg.norm(raw, axis=2, keepdims=True), atol=1e-6)


def test_pairs_are_the_softmax_over_good_and_bad(outputs, raw, t_p):
    """Calibrated: CLIP's usual probability, of cosines times the logit scale."""
    pairs = outputs[0]
    assert pairs.shape == (2, 10, 4)
    text = t_p.double().numpy()
    for factor in range(4):
        cosines = [
            raw @ text[factor, side] / np.linalg.norm(raw, axis=2) / np.linalg.norm(text[factor, side])
            for side in (0, 1)
        ]
        good, bad = np.exp(np.exp(1.5) * np.stack(cosines))
        np.testing.assert_allclose(pairs[..., factor], good / (good + bad), atol=1e-6)


def test_published_is_normalised_over_the_token_axis(outputs, raw, t_p):
    published = outputs[1]
    assert published.shape == (2, 10, 4, 2)
    over_tokens = raw / np.sqrt((raw**2).sum(1, keepdims=True))
    expected = np.stack([[over_tokens @ side for side in pair] for pair in t_p.double().numpy()])
    np.testing.assert_allclose(published, expected.transpose(2, 3, 0, 1), atol=1e-5)


def test_exchanging_good_and_bad_gives_the_rest_to_one():
    generator = torch.Generator().manual_seed(14)
    tokens = torch.nn.functional.normalize(torch.randn(5, 6, generator=generator), dim=-1)
    t_p = torch.randn(4, 2, 6, generator=generator)
    scale = torch.tensor(20.0)
    total = pair_probabilities(tokens, t_p, scale) + pair_probabilities(tokens, t_p.flip(1), scale)
    torch.testing.assert_close(total, torch.ones_like(total))
    longer = pair_probabilities(tokens, 3 * t_p, scale)
    torch.testing.assert_close(longer, pair_probabilities(tokens, t_p, scale))


def test_t_p_is_a_copy(encoder, t_p):
    own = t_p.clone()
    module = Perceptual(encoder, own)
    own.zero_()
    torch.testing.assert_close(module.t_p, t_p)
    assert not module.t_p.requires_grad


@pytest.fixture(scope="module")
def perceptual_graph(encoder, t_p, tmp_path_factory):
    module = Perceptual(encoder, t_p)
    path = tmp_path_factory.mktemp("perceptual") / "perceptual.onnx"
    names = ["pairs", "published", "tokens"]
    return module, export(module, {"image": tiny_clip.images()}, names, {"image": {0: "b"}}, path)


def test_perceptual_graph_equals_torch(perceptual_graph):
    module, path = perceptual_graph
    for count in (1, 3):
        errors = compare(module, path, {"image": tiny_clip.images(count)}, bound=1e-5)
        assert set(errors) == {"pairs", "published", "tokens"}


def test_perceptual_graph_holds_no_text_encoder(perceptual_graph):
    """T_p is a constant: what made it stays behind."""
    initialisers = onnx.load(perceptual_graph[1]).graph.initializer
    shapes = {tuple(tensor.dims) for tensor in initialisers}
    assert (tiny_clip.VOCABULARY, 16) not in shapes
    held = sum(int(np.prod(tensor.dims)) for tensor in initialisers)
    vision = perceptual_graph[0].encoder.clip.vision_model
    assert held < 1.1 * sum(parameter.numel() for parameter in vision.parameters())


def test_text_graph_equals_torch_and_clip(encoder, tmp_path):
    module, ids = ClipText(encoder), tiny_clip.token_ids()
    path = export(module, {"ids": ids}, ["features", "context"], {"ids": {0: "n"}}, tmp_path / "text.onnx")
    compare(module, path, {"ids": ids}, bound=1e-5)
    compare(module, path, {"ids": ids[1:2]}, bound=1e-5)
    with torch.no_grad():
        features, context = module(ids)
        text = encoder.clip.text_model(input_ids=ids)
        expected = encoder.clip.text_projection(text.pooler_output)
    torch.testing.assert_close(context, text.last_hidden_state, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features, expected / expected.norm(dim=-1, keepdim=True), rtol=1e-5, atol=1e-5)
