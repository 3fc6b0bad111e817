"""CLIP with surgery against a plain float64 numpy version, and its original path against transformers."""

import numpy as np
import pytest
import torch

from grefine_export.models.clip_surgery import MEAN, STD, ClipSurgery
from tests.support import tiny_clip
from tests.support.clip_reference import Reference


@pytest.fixture(scope="module")
def clip():
    return tiny_clip.tiny_clip()


@pytest.mark.parametrize("depth", [1, 3, tiny_clip.BLOCKS])
@pytest.mark.parametrize("attention", ["vv", "vv-normalised"])
def test_image_tokens_against_float64(clip, attention, depth):
    images = tiny_clip.images()
    with torch.no_grad():
        tokens = ClipSurgery(clip, depth, attention).image_tokens(images).double().numpy()
    assert tokens.shape == (2, 1 + 9, tiny_clip.PROJECTED)
    reference = Reference(clip)
    expected = np.stack([reference.tokens(image, depth, attention) for image in images.double().numpy()])
    scale = np.abs(expected).max()
    assert scale > 0.1
    np.testing.assert_allclose(tokens, expected, rtol=0, atol=2e-5 * scale)


def test_the_two_attentions_and_depths_differ(clip):
    """Else the parity above would prove nothing about them."""
    images = tiny_clip.images()
    with torch.no_grad():
        tokens = {
            (attention, depth): ClipSurgery(clip, depth, attention).image_tokens(images)
            for attention in ("vv", "vv-normalised")
            for depth in (2, 3)
        }
    first = tokens["vv", 3]
    for key, other in tokens.items():
        if key != ("vv", 3):
            assert (first - other)[:, 1:].abs().max() > 0.05 * first.abs().max(), key
        torch.testing.assert_close(other[:, 0], first[:, 0])


def test_class_token_is_clips_own(clip):
    images = tiny_clip.images(3)
    encoder = ClipSurgery(clip, depth=4)
    normalised = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        expected = clip.get_image_features(pixel_values=normalised).pooler_output
        got = encoder.image_tokens(images)[:, 0]
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch(clip):
    images = tiny_clip.images(3)
    encoder = ClipSurgery(clip, depth=3)
    with torch.no_grad():
        together = encoder.image_tokens(images)
        alone = encoder.image_tokens(images[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-5, atol=1e-5)


PUBLISHED_END = 2  # in OpenAI's configurations it means the highest id


@pytest.mark.parametrize("eos", [tiny_clip.EOT, PUBLISHED_END])
def test_text_features_are_clips_own(eos):
    clip = tiny_clip.tiny_clip(eos)
    ids = tiny_clip.token_ids()
    with torch.no_grad():
        expected = clip.get_text_features(input_ids=ids).pooler_output
        got = ClipSurgery(clip, depth=3).text_features(ids)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_text_states_are_clips_own(clip):
    ids = tiny_clip.token_ids()
    encoder = ClipSurgery(clip, depth=3)
    with torch.no_grad():
        expected = clip.text_model(input_ids=ids).last_hidden_state
        got = encoder.text_states(encoder.embed_text(ids))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_what_follows_the_end_does_not_matter(clip):
    ids = tiny_clip.token_ids()
    other = ids.clone()
    other[0, 2:], other[1, 6:] = 5, tiny_clip.EOT
    encoder = ClipSurgery(clip, depth=3)
    with torch.no_grad():
        torch.testing.assert_close(encoder.text_features(other), encoder.text_features(ids))
        torch.testing.assert_close(encoder.text_features(ids[1:2, :6]), encoder.text_features(ids)[1:2])


def test_scale_is_the_exponential(clip):
    assert float(ClipSurgery(clip, depth=3).scale.detach()) == pytest.approx(np.exp(1.5))
