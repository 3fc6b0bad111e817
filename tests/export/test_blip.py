"""BLIP and ImageReward: against float64 numpy under the original names, against transformers, and as a bundle."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from grefine_export.blip_bundle import write_bundle
from grefine_export.cli.blip import blip
from grefine_export.models.blip import (
    LENGTH,
    REWARD_MEAN,
    REWARD_STD,
    BlipImage,
    BlipText,
    ImageReward,
    load_blip,
    read_wordpiece,
)
from grefine_export.models.clip_surgery import MEAN, STD, ClipSurgery
from grefine_export.models.perceptual import Perceptual
from grefine_export.onnx.convert import export
from grefine_rt.assess.indicator import AssessOptions
from grefine_rt.assessor import Assessor
from grefine_rt.bundle import store
from grefine_rt.errors import OptionError
from grefine_rt.models.bundle import Bundle
from grefine_rt.text.tokenizer import PromptTokenizer
from tests.support import tiny_clip

SIDE, PATCH, WIDTH, TEXT_WIDTH, POSITIONS, SHARED = 48, 16, 128, 192, 40, 12
HEAD = 64  # channels of an attention head, as in the published models
BLOCKS, LAYERS = 6, 2
HEAD_SIZES = (32, 16, 8, 4, 1)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz.,()"]
WORDS += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
WORDS += ["red", "fox", "meadow", "cafe", "jump", "##ing", "雨"]
ROWS = len(WORDS) + 2  # [DEC] and [ENC] have rows, but are not in the vocabulary file


# --- random checkpoints in the published layouts


def published(blocks=BLOCKS, layers=LAYERS, projections=True):
    """The state dict of ImageReward.pt: its names, at other widths."""
    shapes = {
        "blip.visual_encoder.cls_token": (1, 1, WIDTH),
        "blip.visual_encoder.pos_embed": (1, 1 + (SIDE // PATCH) ** 2, WIDTH),
        "blip.visual_encoder.patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "blip.visual_encoder.patch_embed.proj.bias": (WIDTH,),
        "blip.visual_encoder.norm.weight": (WIDTH,),
        "blip.visual_encoder.norm.bias": (WIDTH,),
        "blip.text_encoder.embeddings.word_embeddings.weight": (ROWS, TEXT_WIDTH),
        "blip.text_encoder.embeddings.position_embeddings.weight": (POSITIONS, TEXT_WIDTH),
        "blip.text_encoder.embeddings.LayerNorm.weight": (TEXT_WIDTH,),
        "blip.text_encoder.embeddings.LayerNorm.bias": (TEXT_WIDTH,),
    }

    def linear(name, d_in, d_out):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (d_out, d_in), (d_out,)

    def norm(name, width):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    for i in range(blocks):
        block = f"blip.visual_encoder.blocks.{i}"
        norm(f"{block}.norm1", WIDTH)
        linear(f"{block}.attn.qkv", WIDTH, 3 * WIDTH)
        linear(f"{block}.attn.proj", WIDTH, WIDTH)
        norm(f"{block}.norm2", WIDTH)
        linear(f"{block}.mlp.fc1", WIDTH, 2 * WIDTH)
        linear(f"{block}.mlp.fc2", 2 * WIDTH, WIDTH)
    for i in range(layers):
        layer = f"blip.text_encoder.encoder.layer.{i}"
        for kind, source in (("attention", TEXT_WIDTH), ("crossattention", WIDTH)):
            linear(f"{layer}.{kind}.self.query", TEXT_WIDTH, TEXT_WIDTH)
            linear(f"{layer}.{kind}.self.key", source, TEXT_WIDTH)
            linear(f"{layer}.{kind}.self.value", source, TEXT_WIDTH)
            linear(f"{layer}.{kind}.output.dense", TEXT_WIDTH, TEXT_WIDTH)
            norm(f"{layer}.{kind}.output.LayerNorm", TEXT_WIDTH)
        linear(f"{layer}.intermediate.dense", TEXT_WIDTH, 2 * TEXT_WIDTH)
        linear(f"{layer}.output.dense", 2 * TEXT_WIDTH, TEXT_WIDTH)
        norm(f"{layer}.output.LayerNorm", TEXT_WIDTH)
    if projections:
        linear("blip.vision_proj", WIDTH, SHARED)
        linear("blip.text_proj", TEXT_WIDTH, SHARED)
    for place, d_in, d_out in zip((0, 2, 4, 6, 7), (TEXT_WIDTH, *HEAD_SIZES), HEAD_SIZES, strict=False):
        linear(f"mlp.layers.{place}", d_in, d_out)
    generator = torch.Generator().manual_seed(21)
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        gain = name.endswith("weight") and "norm" in name.lower()
        state[name] = 1 + 0.2 * value if gain else value * (0.3 if value.dim() == 1 else shape[-1] ** -0.5)
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    return state


@pytest.fixture(scope="module")
def reward_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("reward") / "ImageReward.pt"
    torch.save(published(), path)
    return path


@pytest.fixture(scope="module")
def reward(reward_file):
    return load_blip(reward_file)


def random_retrieval(seed=5, width=WIDTH):
    """A BlipForImageTextRetrieval of transformers in which every weight has a say."""
    from transformers import BlipConfig, BlipForImageTextRetrieval

    torch.manual_seed(seed)
    config = BlipConfig(
        text_config={
            "vocab_size": ROWS,
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 96,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "max_position_embeddings": POSITIONS,
            "bos_token_id": None,
            "sep_token_id": None,
        },
        vision_config={
            "hidden_size": width,
            "intermediate_size": 96,
            "num_hidden_layers": BLOCKS,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        image_text_hidden_size=SHARED,
    )
    model = BlipForImageTextRetrieval(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name.lower():
            parameter.add_(0.2 * torch.randn_like(parameter))
        else:
            parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)
    return model


@pytest.fixture(scope="module")
def retrieval():
    return random_retrieval()


@pytest.fixture(scope="module")
def retrieval_folder(retrieval, tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip-itm")
    retrieval.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return folder


def images(count=2, side=SIDE):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(31))


def token_ids():
    """Texts of 0, 6 and 33 words: (3, 35), [CLS] and [SEP] around each, padded with 0."""
    ids = torch.randint(5, ROWS, (3, LENGTH), generator=torch.Generator().manual_seed(32))
    ids[:, 0] = 2
    for row, words in enumerate((0, 6, LENGTH - 2)):
        ids[row, 1 + words] = 3
        ids[row, 2 + words :] = 0
    return ids


def standardised(image):
    return (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


# --- the reference: nothing but numpy and the original names


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


class Reference:
    """BLIP for one picture and one text without padding, head by head."""

    def __init__(self, state):
        self.state = {name: value.double().numpy() for name, value in state.items()}

    def linear(self, x, name):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, x, name, epsilon):
        centred = x - x.mean(-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        return unit * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    @staticmethod
    def attend(q, k, v):
        parts = [slice(start, start + HEAD) for start in range(0, q.shape[1], HEAD)]
        return np.concatenate(
            [softmax(q[:, part] @ k[:, part].T * HEAD**-0.5) @ v[:, part] for part in parts], 1
        )

    def vision(self, image, depth):
        """Final states of the original path and of value-value attention in the last blocks, both (1 + N, c)."""
        root = "blip.visual_encoder"
        kernel = self.state[f"{root}.patch_embed.proj.weight"].reshape(WIDTH, -1)
        pixels = standardised(image).double().numpy()
        grid = range(0, SIDE, PATCH)
        patches = [kernel @ pixels[:, y : y + PATCH, x : x + PATCH].ravel() for y in grid for x in grid]
        patches = np.stack(patches) + self.state[f"{root}.patch_embed.proj.bias"]
        x = np.concatenate([self.state[f"{root}.cls_token"][0], patches]) + self.state[f"{root}.pos_embed"][0]
        new = None
        for i in range(BLOCKS):
            block = f"{root}.blocks.{i}"
            if i == BLOCKS - depth:
                new = x
            q, k, v = np.split(
                self.linear(self.norm(x, f"{block}.norm1", 1e-6), f"{block}.attn.qkv"), 3, axis=1
            )
            if new is not None:
                new = new + self.linear(self.attend(v, v, v), f"{block}.attn.proj")
            x = x + self.linear(self.attend(q, k, v), f"{block}.attn.proj")
            hidden = gelu(self.linear(self.norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1"))
            x = x + self.linear(hidden, f"{block}.mlp.fc2")
        return tuple(self.norm(path, f"{root}.norm", 1e-6) for path in (x, new))

    def text(self, ids, image_states=None):
        """State of [CLS]: post-norm BERT, with cross-attention where there are states of an image."""
        root = "blip.text_encoder"
        words = self.state[f"{root}.embeddings.word_embeddings.weight"][ids]
        x = words + self.state[f"{root}.embeddings.position_embeddings.weight"][: len(ids)]
        x = self.norm(x, f"{root}.embeddings.LayerNorm", 1e-12)

        def attention(x, source, name):
            q = self.linear(x, f"{name}.self.query")
            k, v = (self.linear(source, f"{name}.self.{part}") for part in ("key", "value"))
            mixed = self.linear(self.attend(q, k, v), f"{name}.output.dense")
            return self.norm(x + mixed, f"{name}.output.LayerNorm", 1e-12)

        for i in range(LAYERS):
            layer = f"{root}.encoder.layer.{i}"
            x = attention(x, x, f"{layer}.attention")
            if image_states is not None:
                x = attention(x, image_states, f"{layer}.crossattention")
            hidden = self.linear(gelu(self.linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
            x = self.norm(x + hidden, f"{layer}.output.LayerNorm", 1e-12)
        return x[0]

    def projected(self, x, name):
        y = self.linear(x, name)
        return y / np.linalg.norm(y, axis=-1, keepdims=True)

    def reward(self, image, ids):
        x = self.text(ids, self.vision(image, BLOCKS)[0])
        for place in (0, 2, 4, 6, 7):
            x = self.linear(x, f"mlp.layers.{place}")
        return (x[0] - 0.16717362830052426) / 1.0333394966054072


@pytest.fixture(scope="module")
def reference():
    return Reference(published())


def unpadded(row):
    return row[row != 0].numpy()


@pytest.mark.parametrize("depth", [1, 6])
def test_image_tokens_against_float64(reward, reference, depth):
    with torch.no_grad():
        tokens = BlipImage(reward.vision, reward.vision_proj, depth)(images()).numpy()
    assert tokens.shape == (2, 1 + (SIDE // PATCH) ** 2, SHARED)
    for image, got in zip(images(), tokens, strict=True):
        original, new = reference.vision(image, depth)
        expected = reference.projected(np.concatenate([original[:1], new[1:]]), "blip.vision_proj")
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)
        assert np.abs(got[1:] - reference.projected(original[1:], "blip.vision_proj")).max() > 0.05


def test_text_features_against_float64(reward, reference):
    ids = token_ids()
    with torch.no_grad():
        features = BlipText(reward.text, reward.text_proj)(ids).numpy()
    for row, got in zip(ids, features, strict=True):
        expected = reference.projected(reference.text(unpadded(row)), "blip.text_proj")
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)
    assert np.abs(features[0] - features[1]).max() > 0.05


def test_reward_against_float64(reward, reference):
    ids, pictures = token_ids(), images(3)
    module = ImageReward(reward.vision, reward.text, reward.reward)
    with torch.no_grad():
        rewards = module(pictures, ids).numpy()
        other = module(pictures.flip(0), ids).numpy()
    assert rewards.shape == (3,)
    expected = [reference.reward(image, unpadded(row)) for image, row in zip(pictures, ids, strict=True)]
    np.testing.assert_allclose(rewards, expected, rtol=0, atol=2e-5)
    assert np.abs(rewards - other).max() > 1e-3  # the picture has a say
    assert REWARD_MEAN == 0.16717362830052426
    assert REWARD_STD == 1.0333394966054072


# --- transformers


def test_dual_encoder_is_transformers_own(retrieval, retrieval_folder):
    blip, ids = load_blip(retrieval_folder), token_ids()
    assert blip.reward is None
    with torch.no_grad():
        expected = retrieval(
            input_ids=ids,
            pixel_values=standardised(images(2)),
            attention_mask=(ids != 0).long(),
            use_itm_head=False,
        ).itm_score
        tokens = BlipImage(blip.vision, blip.vision_proj)(images(2))
        features = BlipText(blip.text, blip.text_proj)(ids)
    assert expected.std() > 0.05
    torch.testing.assert_close(tokens[:, 0] @ features.T, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(tokens.shape[:2]))


def test_text_with_image_is_transformers_own(retrieval, retrieval_folder):
    """The path of the scalar, with the head taken away."""
    blip, ids = load_blip(retrieval_folder), token_ids()
    with torch.no_grad():
        expected = retrieval(
            input_ids=ids, pixel_values=standardised(images(3)), attention_mask=(ids != 0).long()
        ).question_embeds[:, 0]
        module = ImageReward(blip.vision, blip.text, torch.nn.Linear(TEXT_WIDTH, 1))
        got = module(images(3), ids) * REWARD_STD + REWARD_MEAN
        torch.testing.assert_close(got, module.head(expected)[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_full_size_image_encoder_is_transformers_own():
    """ViT-L/16 at 224, 197 tokens, random weights: the class token within 1e-4."""
    from transformers import BlipVisionConfig, BlipVisionModel

    torch.manual_seed(3)
    config = BlipVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=224,
        initializer_range=0.02,
    )
    vision = BlipVisionModel(config).eval().requires_grad_(False)
    projection = torch.nn.Linear(1024, 256).requires_grad_(False)
    image = images(1, 224)
    with torch.no_grad():
        tokens = BlipImage(vision, projection)(image)
        state = projection(vision(standardised(image)).last_hidden_state[:, 0])
    assert tokens.shape == (1, 197, 256)
    torch.testing.assert_close(tokens[:, 0], state / state.norm(), rtol=1e-4, atol=1e-4 / 16)


@pytest.mark.parametrize("side", [32, 96])
def test_position_embedding_is_interpolated_as_in_transformers(retrieval, retrieval_folder, side):
    blip = load_blip(retrieval_folder, side)
    assert blip.vision.config.image_size == side
    with torch.no_grad():
        expected = retrieval.vision_model(standardised(images(1, side)), interpolate_pos_encoding=True)
        got = blip.vision(standardised(images(1, side))).last_hidden_state
        tokens = BlipImage(blip.vision, blip.vision_proj)(images(1, side))
    torch.testing.assert_close(got, expected.last_hidden_state, rtol=1e-5, atol=1e-5)
    assert tokens.shape[1] == 1 + (side // PATCH) ** 2


# --- reading checkpoints


def test_every_published_tensor_is_used(tmp_path):
    """All 625 names of ImageReward.pt: 24 blocks, 12 layers; leaving one out, or adding one, is refused."""
    state = published(24, 12)
    assert len(state) == 625
    torch.save(state, tmp_path / "ImageReward.pt")
    blip = load_blip(tmp_path)  # the folder of a hub snapshot
    parts = (blip.vision, blip.text, blip.vision_proj, blip.text_proj, blip.reward)
    assert sum(len(part.state_dict()) for part in parts) == 624
    held = sum(value.double().sum() for part in parts for value in part.state_dict().values())
    wanted = sum(value.double().sum() for name, value in state.items() if "position_ids" not in name)
    torch.testing.assert_close(held, wanted)
    assert blip.vision.post_layernorm.eps == 1e-6  # too small a difference for the comparisons above
    assert not any(parameter.requires_grad for part in parts for parameter in part.parameters())


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("blip.visual_encoder.blocks.3.attn.qkv.bias", "vision_model.encoder.layers.3.self_attn.qkv.bias"),
        ("blip.visual_encoder.patch_embed.proj.weight", "patch_embedding.weight"),
        (
            "blip.text_encoder.encoder.layer.1.crossattention.self.key.weight",
            "text_encoder.encoder.layer.1.crossattention.self.key.weight",
        ),
        ("mlp.layers.4.weight", "mlp.layers.4.weight"),
        ("mlp.layers.6.bias", "mlp.layers.6.bias"),
        ("blip.text_proj.bias", "text_proj.bias"),
    ],
)
def test_a_missing_tensor_is_named(tmp_path, name, what):
    state = published()
    del state[name]
    torch.save(state, tmp_path / "ImageReward.pt")
    with pytest.raises(ValueError, match=f"lacks .*{what}"):
        load_blip(tmp_path / "ImageReward.pt")


def test_surplus_and_misshapen_tensors_are_named(tmp_path):
    state = published()
    torch.save(state | {"blip.visual_encoder.pool.weight": torch.ones(2)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"no use for the tensor 'vision_model\.pool\.weight'"):
        load_blip(tmp_path / "a.pt")
    torch.save(state | {"blip.visual_encoder.norm.weight": torch.ones(2)}, tmp_path / "b.pt")
    with pytest.raises(
        ValueError, match=r"has a wrong shape for the tensor 'vision_model\.post_layernorm\.weight'"
    ):
        load_blip(tmp_path / "b.pt")


def test_other_models_are_refused(tmp_path, retrieval_folder):
    torch.save({"visual.proj": torch.ones(2, 2)}, tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=r"neither ImageReward's checkpoint nor a BLIP"):
        load_blip(tmp_path / "clip.pt")
    with pytest.raises(ValueError, match="whole folder"):
        load_blip(retrieval_folder / "model.safetensors")
    with pytest.raises(ValueError, match="the size 50 is no multiple of the patch side 16"):
        load_blip(retrieval_folder, 50)
    with pytest.raises(ValueError, match="the size 0 is no multiple"):
        load_blip(retrieval_folder, 0)


# --- tokenizer

TEXTS = [
    "",
    "Red fox, jumping (meadow).",
    "CAFÉ 雨 fox",
    "a red fox " * 20,
    "snowman!",
    "fox\tmeadow\n",
]


@pytest.mark.parametrize("form", ["vocab.txt", "tokenizer.json", "folder"])
def test_ids_are_those_of_transformers_bert_tokenizer(reward, tmp_path, form):
    from transformers import BertTokenizer

    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    bert = BertTokenizer.from_pretrained(tmp_path)
    if form != "vocab.txt":
        bert.save_pretrained(tmp_path)
        assert (tmp_path / "tokenizer.json").is_file()
    source = tmp_path if form == "folder" else tmp_path / form
    read_wordpiece(source, reward.text).save(str(tmp_path / "ours.json"))
    ours = PromptTokenizer.from_file(tmp_path / "ours.json", LENGTH)
    for text in TEXTS:
        expected = bert(text, padding="max_length", truncation=True, max_length=LENGTH).input_ids
        assert ours.encode(text).tolist() == expected, text
    assert bert(TEXTS[1]).input_ids[1:3] == [WORDS.index("red"), WORDS.index("fox")]


def test_wrong_tokenizers_are_refused(reward, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json or vocab\.txt in"):
        read_wordpiece(tmp_path, reward.text)
    for words, problem in (
        (WORDS[:3] + WORDS[4:], r"lacks \[SEP\]"),
        ([WORDS[1], WORDS[0], *WORDS[2:]], r"another id than 0 for \[PAD\]"),
        ([*WORDS, "one", "two", "three"], f"{ROWS + 1} tokens, but the text encoder knows {ROWS}"),
    ):
        (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
        with pytest.raises(ValueError, match=problem):
            read_wordpiece(tmp_path, reward.text)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="cannot be read as a tokenizer"):
        read_wordpiece(tmp_path, reward.text)


# --- bundles


@pytest.fixture(scope="module")
def clip_bundle(tmp_path_factory):
    """A bundle that only assesses: a tiny CLIP's `perceptual` serves `alignment_image` too."""
    folder = tmp_path_factory.mktemp("clip-bundle")
    t_p = torch.randn(4, 2, tiny_clip.PROJECTED, generator=torch.Generator().manual_seed(13))
    module = Perceptual(ClipSurgery(tiny_clip.tiny_clip(), depth=3), t_p)
    names = ["pairs", "published", "tokens"]
    graph = folder / "components" / "perceptual.onnx"
    export(module, {"image": tiny_clip.images()}, names, {"image": {0: "b"}}, graph)
    (folder / "components" / "clip_text.onnx").write_bytes(b"replaced by BLIP's")
    (folder / "clip.json").write_text("{}", encoding="utf-8")
    grid = tiny_clip.SIZE // tiny_clip.PATCH
    manifest = {
        "name": "tiny",
        "version": "1",
        "description": "A tiny CLIP.",
        "weights": [
            {"component": name, "origin": "random", "license": "none"} for name in ("perceptual", "clip_text")
        ],
        "perceptual": {
            "resolution": tiny_clip.SIZE,
            "grid": grid,
            "alpha": [0.9, 0.9, 0.9],
            "scoring": "calibrated",
            "attention": "vv",
        },
        "alignment": {
            "resolution": tiny_clip.SIZE,
            "grid": grid,
            "temperature": 20.0,
            "a_bound": 0.3,
            "beta": 0.3,
            "encoder": "clip",
        },
        "plan": {
            "tau": 0.5,
            "strength_min": 0.3,
            "strength_max": 0.9,
            "joining": "union",
            "strength_rule": "deficit",
            "missing_region": "ancestor",
            "grow": 1.0,
            "feather": 0.5,
            "min_area": 0.01,
            "p_bound": 1.0,
        },
        "inpaint": None,
        "restore": None,
        "tokenizers": {"alignment_text": [{"file": "clip.json", "input": "ids", "length": 24}]},
        "components": {
            "perceptual": "components/perceptual.onnx",
            "alignment_image": "components/perceptual.onnx",
            "alignment_text": "components/clip_text.onnx",
        },
    }
    store.write(folder, manifest)
    return folder


def invoke(*arguments):
    app = typer.Typer()
    app.command()(blip)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def reward_bundle(reward_file, retrieval_folder, clip_bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "bundle"
    result = invoke(
        *("--checkpoint", reward_file, "--clip", clip_bundle, "--out", out, "--tokenizer", retrieval_folder),
        *("--size", 64, "--weights", "fp32"),
    )
    assert result.exit_code == 0, result.output
    return out


def test_the_bundle_computes_what_the_modules_do(reward_bundle, reward_file):
    bundle, blip, ids = Bundle.open(reward_bundle, "cpu"), load_blip(reward_file, 64), token_ids()
    pictures = images(3, 64)
    with torch.no_grad():
        expected = {
            "alignment_image": BlipImage(blip.vision, blip.vision_proj)(pictures),
            "alignment_text": BlipText(blip.text, blip.text_proj)(ids),
            "image_reward": ImageReward(blip.vision, blip.text, blip.reward)(pictures, ids),
        }
    for component, wanted in expected.items():
        engine = bundle.engine(component)
        given = {"image": pictures.numpy(), "ids": ids.numpy()}
        (got,) = engine.run({name: given[name] for name in engine.inputs}).values()
        assert got.shape == wanted.shape
        error = np.linalg.norm(got - wanted.numpy()) / np.linalg.norm(wanted.numpy())
        assert error < 1e-4, component


def test_the_manifest_says_what_it_is(reward_bundle, clip_bundle):
    manifest = store.verify(reward_bundle)
    base = store.verify(clip_bundle)
    assert dataclasses.asdict(manifest.alignment) | {"temperature": 0} == {
        "resolution": 64,
        "grid": 4,
        "temperature": 0,
        "a_bound": 0.5,
        "beta": 0.5,
        "encoder": "blip",
    }
    assert manifest.perceptual == base.perceptual
    assert {*manifest.components} == {"perceptual", "alignment_image", "alignment_text", "image_reward"}
    for gone in ("components/clip_text.onnx", "clip.json"):
        assert gone not in manifest.files
    assert manifest.files["components/perceptual.onnx"] == base.files["components/perceptual.onnx"]
    assert {weight.component for weight in manifest.weights} == {
        *("perceptual", "blip_image", "blip_text", "image_reward")
    }
    assert {weight.origin for weight in manifest.weights} == {"random", "ImageReward.pt"}
    assert str(reward_bundle.parent) not in (reward_bundle / store.FILE_NAME).read_text(encoding="utf-8")  # type: ignore[attr-defined]


def test_the_runtime_assesses_with_it(reward_bundle):
    rgb = np.random.default_rng(4).integers(0, 256, (60, 80, 3), np.uint8)
    bundle = Bundle.open(reward_bundle, "cpu")
    result = Assessor(bundle).assess(rgb, "a red fox in a meadow", AssessOptions())
    assert 0 <= result.alignment <= 1
    assert {phrase.noun for phrase in result.phrases} == {"fox", "meadow"}
    assert result.phrases[0].noun_map.shape == (4, 4)
    assert result.phrases[0].noun_map.std() > 0


def test_projections_give_the_text_side(retrieval_folder, clip_bundle, tmp_path):
    random_retrieval(seed=6).save_pretrained(tmp_path / "second")
    out = tmp_path / "out"
    result = invoke(
        *("--checkpoint", retrieval_folder, "--clip", clip_bundle, "--out", out),
        *("--projections", tmp_path / "second", "--tokenizer", retrieval_folder / "vocab.txt"),
    )
    assert result.exit_code == 0, result.output
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:2]] == ["blip_image", "blip_text"]
    first, second = load_blip(retrieval_folder), load_blip(tmp_path / "second")
    bundle, ids = Bundle.open(out, "cpu"), token_ids()
    with torch.no_grad():
        text = BlipText(second.text, second.text_proj)(ids).numpy()
        tokens = BlipImage(first.vision, second.vision_proj)(images()).numpy()
    got = bundle.engine("alignment_text").run({"ids": ids.numpy()})["features"]
    assert np.linalg.norm(got - text) / np.linalg.norm(text) < 2e-2
    cut = bundle.engine("alignment_text").run({"ids": ids[:2, :8].numpy()})["features"]
    np.testing.assert_allclose(cut, got[:2], rtol=0, atol=1e-5)
    got = bundle.engine("alignment_image").run({"image": images().numpy()})["tokens"]
    assert np.linalg.norm(got - tokens) / np.linalg.norm(tokens) < 2e-2
    assert "image_reward" not in bundle.manifest.components
    assert bundle.manifest.weights[-1].origin == f"{retrieval_folder.name} and second"


def test_sides_that_do_not_fit_are_refused(reward, retrieval_folder, clip_bundle, tmp_path):
    random_retrieval(width=64).save_pretrained(tmp_path / "narrow")
    narrow = load_blip(tmp_path / "narrow")
    tokenizer = read_wordpiece(retrieval_folder, narrow.text)
    with pytest.raises(
        ValueError, match=f"image encoder is {WIDTH} wide, but the projections are for one of 64"
    ):
        write_bundle(tmp_path / "out", clip_bundle, reward, narrow, tokenizer, "x")
    assert not (tmp_path / "out").exists()


def test_failures_are_one_sentence(retrieval_folder, reward_file, clip_bundle, reward_bundle, tmp_path):
    bare = tmp_path / "bare.pt"
    torch.save(published(projections=False), bare)
    common = ("--clip", clip_bundle, "--out", tmp_path / "out")
    cases = [
        (("--checkpoint", tmp_path / "no.pt", *common), "there is no checkpoint"),
        (("--checkpoint", reward_file, *common), "there is no tokenizer.json or vocab.txt"),
        (("--checkpoint", retrieval_folder, *common, "--size", 50), "the size 50 is no multiple"),
        (("--checkpoint", bare, *common, "--tokenizer", retrieval_folder), "give --projections"),
        (("--checkpoint", retrieval_folder, *common[:2], "--out", reward_bundle), "is not empty"),
        (("--checkpoint", retrieval_folder, "--clip", tmp_path, "--out", tmp_path / "out"), "bundle.json"),
    ]
    for arguments, message in cases:
        result = invoke(*arguments)
        assert result.exit_code == 1, arguments
        assert result.stderr.startswith("error: "), arguments
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_config_of_a_folder_counts(retrieval, tmp_path):
    """Heads are not in the tensors: 4 of 32 channels here, not 2 of 64."""
    retrieval.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert load_blip(tmp_path).vision.config.num_attention_heads == 4
    config["vision_config"]["num_attention_heads"] = 2
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load_blip(tmp_path).vision.config.num_attention_heads == 2


def test_the_reward_can_stand_for_a(reward_bundle, reward_file, retrieval_folder, clip_bundle):
    rgb = np.random.default_rng(4).integers(0, 256, (64, 64, 3), np.uint8)
    bundle = Bundle.open(reward_bundle, "cpu")
    plain = Assessor(bundle).assess(rgb, "a red fox", AssessOptions())
    other = Assessor(bundle).assess(rgb, "a red fox", AssessOptions(alignment_score="reward"))
    blip = load_blip(reward_file, 64)
    (tok,) = bundle.tokenizer("alignment_text")
    image = torch.from_numpy(rgb.transpose(2, 0, 1)[None] / np.float32(255))
    with torch.no_grad():
        reward = ImageReward(blip.vision, blip.text, blip.reward)
        raw = float(reward(image, torch.from_numpy(tok.encode("a red fox")[None])))
    assert (
        plain.scores["image_reward"].value
        == pytest.approx(raw, abs=1e-4)
        == other.scores["image_reward"].value
    )
    assert other.alignment == pytest.approx(1 / (1 + np.exp(-REWARD_STD * raw)), abs=1e-4)
    assert plain.alignment != other.alignment
    assert np.array_equal(plain.alignment_map, other.alignment_map)
    with pytest.raises(OptionError, match="has no ImageReward"):
        Assessor(Bundle.open(clip_bundle, "cpu")).assess(
            rgb, "a red fox", AssessOptions(alignment_score="reward")
        )
