"""CLIP with surgery against a plain float64 numpy version, and its original path against transformers."""

import numpy as np
import pytest
import tiny_clip
import torch

from grefine_export.models.clip_surgery import MEAN, STD, ClipSurgery

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clip():
    return tiny_clip.tiny_clip()


# --- the reference: nothing but numpy and the state's names


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Reference:
    """The whole ViT for one image, token by token, head by head."""

    def __init__(self, clip):
        self.state = {name: value.detach().double().numpy() for name, value in clip.state_dict().items()}

    def linear(self, x, name):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return unit * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def embed(self, image):
        """(3, R, R) in 0..1 -> (1 + N, c): patches row by row behind the class embedding."""
        p = tiny_clip.PATCH
        x = (image - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
        kernel = self.state["vision_model.embeddings.patch_embedding.weight"].reshape(tiny_clip.WIDTH, -1)
        grid = range(0, tiny_clip.SIZE, p)
        patches = [kernel @ x[:, top : top + p, left : left + p].ravel() for top in grid for left in grid]
        tokens = np.stack([self.state["vision_model.embeddings.class_embedding"], *patches])
        tokens = tokens + self.state["vision_model.embeddings.position_embedding.weight"]
        return self.norm(tokens, "vision_model.pre_layrnorm")

    def mix(self, v, weights_of):
        """Joins heads: `weights_of(head slice)` are the attention weights (t, t)."""
        side = tiny_clip.WIDTH // tiny_clip.HEADS
        heads = [slice(h * side, (h + 1) * side) for h in range(tiny_clip.HEADS)]
        return np.concatenate([weights_of(head) @ v[:, head] for head in heads], 1)

    def tokens(self, image, depth, attention):
        side = tiny_clip.WIDTH // tiny_clip.HEADS
        scale = side**-0.5
        x, new = self.embed(image), None
        for index in range(tiny_clip.BLOCKS):
            block = f"vision_model.encoder.layers.{index}"
            if index == tiny_clip.BLOCKS - depth:
                new = x
            normed = self.norm(x, f"{block}.layer_norm1")
            q, k, v = (self.linear(normed, f"{block}.self_attn.{name}_proj") for name in "qkv")

            def original(head, q=q, k=k):
                return softmax(q[:, head] @ k[:, head].T * scale)

            def value_value(head, v=v):
                if attention == "vv":
                    return softmax(v[:, head] @ v[:, head].T * scale)
                unit = v[:, head] / np.linalg.norm(v[:, head], axis=1, keepdims=True)
                return softmax(unit @ unit.T * 8 * scale)  # "the scale is 8 times larger"

            if new is not None:
                new = new + self.linear(self.mix(v, value_value), f"{block}.self_attn.out_proj")
            x = x + self.linear(self.mix(v, original), f"{block}.self_attn.out_proj")
            hidden = self.linear(self.norm(x, f"{block}.layer_norm2"), f"{block}.mlp.fc1")
            x = x + self.linear(hidden / (1 + np.exp(-1.702 * hidden)), f"{block}.mlp.fc2")
        joined = np.concatenate([x[:1], new[1:]])
        return self.norm(joined, "vision_model.post_layernorm") @ self.state["visual_projection.weight"].T


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
