"""CLIPs from every form of checkpoint, in their full size, against transformers' own; other picture sizes."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from grefine_export.models.clip_loading import (
    at_size,
    image_size,
    load_clip,
    name_of,
    patch_side,
    surgery,
)
from grefine_export.models.clip_surgery import MEAN, STD
from tests.support import clip_files
from tests.support.clip_reference import ResNetReference


def pictures(clip, count=2):
    side = image_size(clip)
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(6))


def token_ids(clip):
    """Texts of 0, 4 and 75 tokens, padded with end tokens."""
    vocabulary = clip.text_model.config.vocab_size
    ids = torch.randint(3, vocabulary - 2, (3, 77), generator=torch.Generator().manual_seed(7))
    ids[:, 0], ids[:, -1], ids[0, 1:], ids[1, 5:] = vocabulary - 2, *[vocabulary - 1] * 3
    return ids


def normalised(images):
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def assert_is(loaded, clip, bound=1e-4):
    """Text features, and image features of the original path, as transformers' own CLIP gives them."""
    images, ids = pictures(clip), token_ids(clip)
    with torch.no_grad():
        pairs = [
            (
                surgery(loaded).image_tokens(images)[:, 0],
                clip.get_image_features(normalised(images)).pooler_output,
            ),
            (surgery(loaded).text_features(ids), clip.get_text_features(ids).pooler_output),
            (surgery(loaded).scale, clip.logit_scale.exp()),
        ]
    for got, expected in pairs:
        assert float((got - expected).norm() / expected.norm()) < bound
        assert expected.std() > 0.05 or expected.ndim == 0


def save_transformers(clip, folder):
    clip_files.save_transformers(clip, folder / "model")
    return folder / "model"


def save_transformers_file(clip, folder):
    """The file of weights, with its configuration beside it."""
    clip_files.save_transformers(clip, folder)
    return folder / "model.safetensors"


def save_open_clip(clip, folder):
    return clip_files.save_open_clip(clip, folder / "open_clip_model.safetensors")


def save_open_clip_custom_text(clip, folder):
    apart = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
    state = {
        f"text.{name}" if name.startswith(apart) else name: value
        for name, value in clip_files.openai_state(clip).items()
    }
    save_file(state, folder / "open_clip_model.safetensors")
    clip_files.write_open_clip_config(folder, custom_text=True)
    return folder


def save_openai(clip, folder):
    """OpenAI's archives hold half precision, and three numbers that are no weights."""
    state = {name: value.half() for name, value in clip_files.openai_state(clip).items()}
    state |= clip_files.OPENAI_CONSTANTS
    return clip_files.save_torchscript(state, folder / "ViT.pt")


def save_state_dict(clip, folder):
    """As open_clip's training saves it, with its configuration beside it."""
    state = clip_files.openai_state(clip)
    clip_files.write_open_clip_config(folder)
    torch.save(
        {"epoch": 2, "state_dict": {f"module.{name}": value for name, value in state.items()}},
        folder / "x.pt",
    )
    return folder / "x.pt"


FORMS = (
    save_transformers,
    save_transformers_file,
    save_open_clip,
    save_open_clip_custom_text,
    save_openai,
    save_state_dict,
)


@pytest.mark.parametrize("save", FORMS, ids=lambda save: save.__name__)
def test_every_form(save, tmp_path):
    clip = clip_files.random_clip(clip_files.small_config()).half().float()
    loaded = load_clip(save(clip, tmp_path))
    assert_is(loaded, clip, 1e-5)
    assert (image_size(loaded), patch_side(loaded)) == (64, 16)
    assert not any(
        parameter.requires_grad or parameter.dtype != torch.float32 for parameter in loaded.parameters()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "save"),
    [("ViT-B/16", save_transformers), ("ViT-B/32", save_open_clip), ("ViT-L/14", save_openai)],
)
def test_full_size(name, save, tmp_path):
    clip = clip_files.random_clip(clip_files.full_config(name))
    path = save(clip, tmp_path)
    # One model in memory beside the loaded one, rounded as its file is.
    loaded = load_clip(path)
    assert name_of(loaded) == name
    assert_is(loaded, clip.half().float() if save is save_openai else clip)


def test_end_token_of_old_configurations(tmp_path):
    """OpenAI's folders say that the end token is 2 and mean the highest id."""
    clip = clip_files.random_clip(clip_files.small_config())
    clip_files.save_transformers(clip, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_is(load_clip(tmp_path), clip, 1e-5)


@pytest.mark.parametrize(("quick", "expected"), [(True, "quick_gelu"), (False, "gelu"), (None, "gelu")])
def test_activation_of_open_clip(tmp_path, quick, expected):
    clip = clip_files.random_clip(clip_files.small_config())
    path = save_open_clip(clip, tmp_path)
    model = {"embed_dim": 40} if quick is None else {"embed_dim": 40, "quick_gelu": quick}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    config = load_clip(path).config
    assert config.vision_config.hidden_act == config.text_config.hidden_act == expected


@pytest.mark.parametrize("grid", [4, 6, 9])
def test_other_sizes_are_transformers_interpolation(grid):
    clip = clip_files.random_clip(clip_files.small_config())
    images = torch.rand(2, 3, 16 * grid, 16 * grid, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        vision = clip.vision_model(normalised(images), interpolate_pos_encoding=True)
        expected = clip.visual_projection(vision.pooler_output)
        resized = at_size(clip, 16 * grid)
        tokens = surgery(resized).image_tokens(images)
    assert tokens.shape == (2, 1 + grid * grid, 40)
    assert image_size(resized) == 16 * grid
    torch.testing.assert_close(tokens[:, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [0, 8, 65, -16])
def test_sizes_that_do_not_fit(size):
    clip = clip_files.random_clip(clip_files.small_config())
    with pytest.raises(ValueError, match="no multiple of this model's patches of 16 pixels: take"):
        at_size(clip, size)


# --- RN50


def resnet_checkpoint(folder, config, **sizes):
    clip = clip_files.random_clip(config)
    resnet = clip_files.random_resnet(projected=config.projection_dim, **sizes)
    state = {
        name: value if value.ndim == 0 else value.half().float()
        for name, value in clip_files.with_text_of(clip, resnet).items()
    }
    halves = {name: value if value.ndim == 0 else value.half() for name, value in state.items()}
    return clip_files.save_torchscript(halves, folder / "RN50.pt"), state


def assert_is_resnet(path, state, count, attention=None):
    loaded = load_clip(path)
    images = pictures(loaded, count)
    with torch.no_grad():
        tokens = surgery(loaded, attention).image_tokens(images).double().numpy()
    reference = ResNetReference(state)
    expected = np.stack([reference.tokens(image, attention or "vv") for image in images.double().numpy()])
    assert tokens.shape == expected.shape
    for part in (np.s_[:, 0], np.s_[:, 1:]):
        assert np.linalg.norm(tokens[part] - expected[part]) < 1e-4 * np.linalg.norm(expected[part])
    return loaded


@pytest.mark.parametrize("attention", [None, "vv-normalised"])
def test_small_resnet(tmp_path, attention):
    path, state = resnet_checkpoint(tmp_path, clip_files.small_config(), layers=(2, 1, 2, 1))
    loaded = assert_is_resnet(path, state, 2, attention)
    assert (image_size(loaded), patch_side(loaded)) == (64, 32)


@pytest.mark.slow
def test_full_size_resnet(tmp_path):
    """RN50 with the text transformer that OpenAI gave it, against numpy in float64."""
    config = clip_files.full_config("ViT-B/32")
    config.vision_config.num_hidden_layers = 1  # only its text side is used
    config.projection_dim = 1024
    path, state = resnet_checkpoint(tmp_path, config, layers=(3, 4, 6, 3), width=64, grid=7)
    loaded = assert_is_resnet(path, state, 1)
    assert (name_of(loaded), image_size(loaded)) == ("RN50", 224)
    ids = token_ids(loaded)
    text = clip_files.random_clip(config)
    with torch.no_grad():
        got = surgery(loaded).text_features(ids)
        expected = text.half().float().get_text_features(ids).pooler_output
    assert float((got - expected).norm() / expected.norm()) < 1e-4


def test_resnet_at_another_size(tmp_path):
    path, _ = resnet_checkpoint(tmp_path, clip_files.small_config())
    loaded = load_clip(path)
    old = loaded.attnpool.positional_embedding.clone()
    at_size(loaded, 160)
    new = loaded.attnpool.positional_embedding
    grid = torch.nn.functional.interpolate(old[1:].T.reshape(1, -1, 2, 2), (5, 5), mode="bicubic")
    torch.testing.assert_close(new[1:], grid.reshape(-1, 25).T)
    torch.testing.assert_close(new[0], old[0])
    with torch.no_grad():
        assert surgery(loaded).image_tokens(pictures(loaded)).shape == (2, 26, 40)
    with pytest.raises(ValueError, match="patches of 32 pixels: take 224"):
        at_size(loaded, 225)


# --- what is no CLIP


def test_no_clip(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="is no CLIP with a vision transformer"):
        load_clip(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["token_embedding.weight", "ln_final.bias", "visual.proj", "logit_scale"])
def test_a_weight_is_missing(tmp_path, name):
    state = clip_files.openai_state(clip_files.random_clip(clip_files.small_config()))
    del state[name]
    save_file(state, tmp_path / "x.safetensors")
    clip_files.write_open_clip_config(tmp_path)
    with pytest.raises(ValueError, match="lacks the weights"):
        load_clip(tmp_path / "x.safetensors")


@pytest.mark.parametrize("save", [save_transformers_file, save_open_clip, save_state_dict])
def test_activation_and_heads_are_not_guessed(save, tmp_path):
    path = save(clip_files.random_clip(clip_files.small_config()), tmp_path)
    for file in ("config.json", "open_clip_config.json"):
        (tmp_path / file).unlink(missing_ok=True)
    with pytest.raises(ValueError, match="says which activation and heads") as error:
        load_clip(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"vision_cfg": {"ls_init_value": 1e-5}}, r"vision_cfg\.ls_init_value"),
        ({"text_cfg": {"pool_type": "last"}}, r"text_cfg\.pool_type"),
        ({"vision_cfg": {"pool_type": "avg"}}, r"vision_cfg\.pool_type"),
        ({"text_cfg": {"no_causal_mask": True}}, r"text_cfg\.no_causal_mask"),
        ({"vision_cfg": {"timm_model_name": "vit_base"}}, r"vision_cfg\.timm_model_name"),
        ({"vision_cfg": {"invented": 3}}, r"vision_cfg\.invented"),
        ({"multimodal_cfg": {}}, "multimodal_cfg"),
    ],
)
def test_settings_of_another_design_are_refused(tmp_path, settings, name):
    path = save_open_clip(clip_files.random_clip(clip_files.small_config()), tmp_path)
    clip_files.write_open_clip_config(tmp_path, **settings)
    with pytest.raises(ValueError, match=f"sets '{name}' to .* OpenAI's design has not"):
        load_clip(path)


def test_settings_that_change_nothing_are_read_over(tmp_path):
    clip = clip_files.random_clip(clip_files.small_config())
    path = save_open_clip(clip, tmp_path)
    usual = {"vision_cfg": {"pool_type": "tok", "ls_init_value": None}, "text_cfg": {"no_causal_mask": False}}
    clip_files.write_open_clip_config(tmp_path, **usual)
    assert_is(load_clip(path), clip, 1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "positional_embedding_res",
        "visual.transformer.resblocks.0.ls_1.gamma",
        "visual.attn_pool.query",
        "logit_bias",
    ],
)
def test_a_weight_that_no_clip_has_is_refused(tmp_path, name):
    """Long-CLIP's second table, layer scale, attentional pools, SigLIP."""
    state = clip_files.openai_state(clip_files.random_clip(clip_files.small_config()))
    save_file({**state, name: torch.zeros(4)}, tmp_path / "x.safetensors")
    clip_files.write_open_clip_config(tmp_path)
    with pytest.raises(ValueError, match=r"has the weight '.*', which a CLIP of OpenAI's design has not"):
        load_clip(tmp_path / "x.safetensors")


def test_a_configuration_of_other_sizes(tmp_path):
    clip_files.save_transformers(clip_files.random_clip(clip_files.small_config()), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["projection_dim"] = 48
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"do not fit its configuration \(size mismatch"):
        load_clip(tmp_path)


def test_a_broken_configuration(tmp_path):
    clip_files.save_transformers(clip_files.random_clip(clip_files.small_config()), tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json' is no JSON"):
        load_clip(tmp_path)
