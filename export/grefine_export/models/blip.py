"""BLIP and ImageReward on transformers' own modules: the dual encoder of AQ-Map and the ImageReward scalar.

G-Refine 3.2 starts the image encoder of its alignment map from ImageReward, which is BLIP ViT-L/16 with a BERT that
also attends to the image, and a regression head. Such a checkpoint gives two models:

- `BlipImage` and `BlipText`, the dual encoder: BLIP's image-text-contrastive projections (256 values) of both sides.
- `ImageReward`, the scalar: BERT over text and image together, class token through the head.

Forms of checkpoints (`load_blip`): `ImageReward.pt`, and a folder of transformers' BlipForImageTextRetrieval. Both hold
the contrastive projections. ImageReward's training froze them and tuned the last blocks of both encoders for the
scalar, so its dual encoder has drifted from the one its projections were trained with; `BlipImage(reward.vision,
retrieval.vision_proj)` with `BlipText(retrieval.text, retrieval.text_proj)` is the other reading of "starts from
ImageReward". The better reading is to be measured on opinion scores, after fitting.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import BlipConfig, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from grefine_export.checkpoints import read_tensors
from grefine_export.models.clip_surgery import MEAN, STD, heads, merged, value_value

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LENGTH = 35
"""Text tokens, [CLS] and [SEP] included, of BLIP's retrieval models and of ImageReward."""

TEMPERATURE = 1 / 0.07
"""The start of BLIP's contrastive temperature; checkpoints of transformers lack the learned one. Fit it with a_bound
and beta."""

REWARD_MEAN, REWARD_STD = 0.16717362830052426, 1.0333394966054072
"""The published score is (raw - mean) / std."""

REWARD_FILE = "ImageReward.pt"

_HEAD_CHANNELS = 64  # of every attention head of the published ViT-B, ViT-L and BERT
_VISION_NORM = 1e-6  # of the original ViT; transformers' converted configurations carry their own
_REWARD_LAYERS = ("0", "2", "4", "6", "7")  # places in the published head; dropout is in between
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_TO_TRANSFORMERS = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^blocks\.", "encoder.layers."),
    (r"^norm\.", "post_layernorm."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
)
M = TypeVar("M", bound=nn.Module)


class _Normalise(nn.Module):
    """RGB in [0, 1] -> standardised with the constants of CLIP's training images, which BLIP uses too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


class BlipImage(nn.Module):
    """`image` (b, 3, R, R) RGB in [0, 1] -> `tokens` (b, 1 + N, d), L2-normalised, class token first.

    The class token is BLIP's own image feature. The patch tokens come from architecture surgery, as in
    `ClipSurgery` (G-Refine 3.1): a second path starts at the input of the last `depth` blocks and only ever adds
    value-value attention, softmax(V Vᵀ / sqrt(d_head)) V, computed from the original path's normalised activations
    through the same output projection. BLIP's own patch tokens are no maps: only the class token was ever
    compared with a text.
    """

    def __init__(self, vision: BlipVisionModel, projection: nn.Linear, depth: int = 6):
        super().__init__()
        self.normalise = _Normalise()
        self.vision = vision
        self.projection = projection
        self.depth = depth

    def forward(self, image: Tensor) -> Tensor:
        x = self.vision.embeddings(self.normalise(image))
        layers = self.vision.encoder.layers
        new: Tensor | None = None
        for index, layer in enumerate(layers):
            if index == len(layers) - self.depth:
                new = x
            attention = layer.self_attn
            normed = layer.layer_norm1(x)
            q, k, v = (heads(part, attention.num_heads) for part in attention.qkv(normed).chunk(3, -1))
            if new is not None:
                new = new + attention.projection(merged(value_value(v, "vv")))
            if index == len(layers) - 1:  # what follows reads the class token alone
                x, q = x[:, :1], q[:, :, :1]
            x = x + attention.projection(merged(F.scaled_dot_product_attention(q, k, v)))
            x = x + layer.mlp(layer.layer_norm2(x))
        assert new is not None
        tokens = self.vision.post_layernorm(torch.cat([x, new[:, 1:]], 1))
        return F.normalize(self.projection(tokens), dim=-1)


class BlipText(nn.Module):
    """`ids` int64 (n, L), [CLS] first -> `features` (n, d), L2-normalised; the image takes no part."""

    def __init__(self, text: BlipTextModel, projection: nn.Linear):
        super().__init__()
        self.text = text
        self.projection = projection

    def forward(self, ids: Tensor) -> Tensor:
        return F.normalize(self.projection(_class_state(self.text, ids)), dim=-1)


class ImageReward(nn.Module):
    """`image` (b, 3, R, R) RGB in [0, 1] and `ids` int64 (b, L) -> `reward` (b,), standardised as published.

    About -2.5 to 2.5; differences are logits: sigmoid(REWARD_STD * (r1 - r2)) is the probability that people prefer
    the first picture (ImageReward was trained on pairs with this loss). The published tool resizes the shorter side to
    224 and crops; here the whole picture comes in, as everywhere in this project.
    """

    def __init__(self, vision: BlipVisionModel, text: BlipTextModel, head: nn.Sequential):
        super().__init__()
        self.normalise = _Normalise()
        self.vision = vision
        self.text = text
        self.head = head

    def forward(self, image: Tensor, ids: Tensor) -> Tensor:
        states = self.vision(self.normalise(image)).last_hidden_state
        raw = self.head(_class_state(self.text, ids, states))[:, 0]
        return (raw - REWARD_MEAN) / REWARD_STD


def _class_state(text: BlipTextModel, ids: Tensor, image_states: Tensor | None = None) -> Tensor:
    """Final state (n, w) of [CLS]; with `image_states` (n, t, v) every block also attends to them."""
    real = (ids != text.config.pad_token_id).long()
    return text(ids, attention_mask=real, encoder_hidden_states=image_states).last_hidden_state[:, 0]


# --- checkpoints


@dataclass(frozen=True, eq=False)
class BlipCheckpoint:
    """The parts of a checkpoint, float32, frozen. `reward` is the head of ImageReward; a retrieval model has none.
    The projections are None only in a version of ImageReward's file from which somebody removed them."""

    vision: BlipVisionModel
    text: BlipTextModel
    vision_proj: nn.Linear | None
    text_proj: nn.Linear | None
    reward: nn.Sequential | None


def load_blip(path: Path, size: int | None = None) -> BlipCheckpoint:
    """Read ImageReward's checkpoint or a BLIP retrieval model of transformers.

    Args:
        path: `ImageReward.pt`, the folder that holds it, or a transformers folder with config.json and weights.
        size: input side in pixels, a multiple of the patch side; the position embedding is interpolated (bicubic, as
            BLIP does). None keeps the side that the checkpoint was trained at (224 and 384).

    Raises FileNotFoundError or ValueError, one sentence, where there is nothing, something else, or a part missing.
    """
    tensors = read_tensors(path)
    if any(name.startswith("blip.visual_encoder.") for name in tensors):
        parts = _split(tensors, {"blip.visual_encoder.": "vision_model.", "blip.": "", "mlp.": "mlp."})
        parts["vision_model"] = {_renamed(name): value for name, value in parts["vision_model"].items()}
        config = _image_reward_config(parts, path)
    elif "vision_model.post_layernorm.weight" in tensors and "vision_proj.weight" in tensors:
        parts = _split(tensors, {"": ""})
        config = _folder_config(path)
    else:
        raise ValueError(
            f"'{path}' is neither ImageReward's checkpoint nor a BLIP image-text-retrieval model of transformers: give "
            f"{REWARD_FILE} or a folder such as that of Salesforce/blip-itm-large-coco"
        )
    checkpoint = BlipCheckpoint(
        vision=_filled(lambda: BlipVisionModel(config.vision_config), parts, "vision_model", path),
        text=_filled(lambda: BlipTextModel(config.text_config, False), parts, "text_encoder", path),
        vision_proj=_linear(parts, "vision_proj", path),
        text_proj=_linear(parts, "text_proj", path),
        reward=_reward_head(parts, path),
    )
    # The constructor made this buffer without data, and no checkpoint holds it.
    checkpoint.text.embeddings.position_ids = torch.arange(config.text_config.max_position_embeddings)[None]
    if size is not None:
        _resize(checkpoint.vision, size)
    return checkpoint


Parts = dict[str, dict[str, Tensor]]


def _split(tensors: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> Parts:
    """Part -> name in it -> tensor, after the first fitting prefix was exchanged. Position ids are no weights."""
    parts: Parts = {}
    for name, value in tensors.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is not None and not name.endswith("position_ids"):
            part, _, rest = (prefixes[prefix] + name.removeprefix(prefix)).partition(".")
            parts.setdefault(part, {})[rest] = value
    return parts


def _renamed(name: str) -> str:
    """A name of the original vision transformer as transformers calls it."""
    for pattern, replacement in _TO_TRANSFORMERS:
        name = re.sub(pattern, replacement, name)
    return name


def _image_reward_config(parts: Parts, path: Path) -> BlipConfig:
    """The sizes of ImageReward's encoders, read off the tensors."""
    vision, text = parts["vision_model"], parts.get("text_encoder", {})
    try:
        width, _, patch, _ = vision["embeddings.patch_embedding.weight"].shape
        positions = vision["embeddings.position_embedding"].shape[1]
        vocabulary, text_width = text["embeddings.word_embeddings.weight"].shape
        vision_config = BlipVisionConfig(
            hidden_size=width,
            intermediate_size=len(vision["encoder.layers.0.mlp.fc1.bias"]),
            num_hidden_layers=_count(vision, "encoder.layers."),
            num_attention_heads=width // _HEAD_CHANNELS,
            image_size=patch * round((positions - 1) ** 0.5),
            patch_size=patch,
            layer_norm_eps=_VISION_NORM,
        )
        text_config = BlipTextConfig(
            vocab_size=vocabulary,
            hidden_size=text_width,
            intermediate_size=len(text["encoder.layer.0.intermediate.dense.bias"]),
            num_hidden_layers=_count(text, "encoder.layer."),
            num_attention_heads=text_width // _HEAD_CHANNELS,
            max_position_embeddings=len(text["embeddings.position_embeddings.weight"]),
            bos_token_id=None,
            sep_token_id=None,
        )
    except KeyError as error:
        raise ValueError(f"'{path}' lacks the tensor {error}: fetch {REWARD_FILE} again") from error
    return BlipConfig(vision_config=vision_config.to_dict(), text_config=text_config.to_dict())


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Number of blocks whose names begin with `prefix` and a number."""
    return len({name[len(prefix) :].split(".")[0] for name in tensors if name.startswith(prefix)})


def _folder_config(path: Path) -> BlipConfig:
    try:
        return BlipConfig.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise ValueError(
            f"'{path}' has no config.json of a BLIP model: give the model's whole folder"
        ) from error


def _filled(build: Callable[[], M], parts: Parts, part: str, path: Path) -> M:
    """The module that `build` makes, with exactly the tensors of a part as its weights."""
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        module = build()
    tensors = parts.get(part, {})
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    misshapen = {name for name in shapes if name in tensors and tensors[name].shape != shapes[name]}
    for problem, names in (
        ("lacks the", shapes.keys() - tensors.keys()),
        ("has no use for the", tensors.keys() - shapes.keys()),
        ("has a wrong shape for the", misshapen),
    ):
        if names:
            raise ValueError(f"'{path}' {problem} tensor '{part}.{min(names)}': fetch the checkpoint again")
    module.load_state_dict({name: value.float() for name, value in tensors.items()}, assign=True)
    return module.requires_grad_(False).eval()


def _linear(parts: Parts, part: str, path: Path) -> nn.Linear | None:
    if "weight" not in parts.get(part, {}):
        return None
    d_out, d_in = parts[part]["weight"].shape
    return _filled(lambda: nn.Linear(d_in, d_out), parts, part, path)


def _reward_head(parts: Parts, path: Path) -> nn.Sequential | None:
    """Linear layers without activations, 768-1024-128-64-16-1 in the published file."""
    if "mlp" not in parts:
        return None
    named = {name.removeprefix("layers."): value for name, value in parts["mlp"].items()}
    missing = torch.empty(1, 1)  # `_filled` will name it

    def build() -> nn.Sequential:
        shapes = {place: named.get(f"{place}.weight", missing).shape for place in _REWARD_LAYERS}
        return nn.Sequential(OrderedDict((place, nn.Linear(*shape[::-1])) for place, shape in shapes.items()))

    return _filled(build, {"mlp.layers": named}, "mlp.layers", path)


def _resize(vision: BlipVisionModel, size: int) -> None:
    """Interpolate the position embedding for square pictures of `size` pixels."""
    embeddings = vision.embeddings
    patch = embeddings.patch_size
    if size <= 0 or size % patch:
        raise ValueError(
            f"the size {size} is no multiple of the patch side {patch}: give one such as 224 or 384"
        )
    if size == embeddings.image_size:
        return
    tokens = torch.empty(1, 1 + (size // patch) ** 2, embeddings.embed_dim)
    position = embeddings.interpolate_pos_encoding(tokens, size, size)
    embeddings.position_embedding = nn.Parameter(position, requires_grad=False)
    embeddings.image_size = vision.config.image_size = size


# --- tokenizer


def read_wordpiece(path: Path, text: BlipTextModel) -> Tokenizer:
    """BERT's uncased WordPiece tokenizer, padding declared, for a text encoder.

    `path`: tokenizer.json or vocab.txt, or a folder that has one. Raises FileNotFoundError where there is none, and
    ValueError (one sentence) where it is no such tokenizer or has more tokens than the text encoder.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    file = next((path / name for name in _TOKENIZER_FILES if (path / name).is_file()), path)
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no {' or '.join(_TOKENIZER_FILES)} in '{path}': give the folder of a WordPiece tokenizer such "
            "as google-bert/bert-base-uncased"
        )
    try:
        if file.suffix == ".json":
            tokenizer = Tokenizer.from_file(str(file))
        else:
            tokenizer = Tokenizer(WordPiece(WordPiece.read_file(str(file)), unk_token="[UNK]"))
            tokenizer.normalizer = BertNormalizer(lowercase=True)
            tokenizer.pre_tokenizer = BertPreTokenizer()
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ValueError(f"'{file}' cannot be read as a tokenizer ({error}): fetch it again") from error
    missing = [token for token in _SPECIAL if tokenizer.token_to_id(token) is None]
    pad = text.config.pad_token_id
    if missing or tokenizer.token_to_id("[PAD]") != pad:
        problem = f"lacks {missing[0]}" if missing else f"has another id than {pad} for [PAD]"
        raise ValueError(f"the tokenizer '{file}' {problem}: give that of BERT uncased")
    if tokenizer.get_vocab_size() > text.config.vocab_size:
        raise ValueError(
            f"the tokenizer '{file}' has {tokenizer.get_vocab_size()} tokens, but the text encoder knows "
            f"{text.config.vocab_size}: give the tokenizer of this checkpoint"
        )
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.no_truncation()
    tokenizer.enable_padding(pad_id=pad, pad_token="[PAD]", length=LENGTH)
    return tokenizer
