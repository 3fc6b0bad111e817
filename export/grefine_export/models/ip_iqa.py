"""IP-IQA: the quality of a picture and its agreement with the prompt, from CLIP's ResNet and text transformer.

Two pools read the same keys and values, the mean token and all patches with their positions. The attention pool is
CLIP's own, the mean token asks. The cross-modality pool has projections of its own and the prompt asks. A head turns
both answers into opinion scores (IP-IQA 3.4, Eq. 2 to 5).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection

from grefine_export.choices import Head, Positions, TextSide
from grefine_export.models.clip_resnet import (
    STRIDE,
    AttentionPool2d,
    ModifiedResNet,
    QueryPool,
    resized_positions,
    tokens_of,
)
from grefine_export.models.clip_resnet_surgery import ResNetClip
from grefine_export.models.clip_surgery import MEAN, STD
from grefine_export.models.inpaint import end_of_text

FORMAT = "grefine ip-iqa 1"


@dataclass(frozen=True)
class Design:
    """The design of an IP-IQA.

    outputs: names of the scores, ("quality",) or ("quality", "alignment").
    head: "linear" (the paper), or "mlp" (the authors' code): dropout, dense, tanh, dropout, dense.
    prompt: with the cross-modality pool; without it the picture alone decides (the baseline of Table 3).
    qa_token: the end-of-text position carries a learned [QA] token instead of the plain token.
    positions: "own" gives the cross-modality pool a position table of its own, as in the authors' code and weights;
        "shared" lets it read the attention pool's, as Eq. 5 is printed with one Embed_pos. The forms are no folding of
        each other: on random weights their scores differ by many times their spread.
    """

    outputs: tuple[str, ...] = ("quality", "alignment")
    head: Head = "mlp"
    prompt: bool = True
    qa_token: bool = True
    positions: Positions = "own"


class ImageEncoder(nn.Module):
    """CLIP's image side: `image` (b, 3, R, R) RGB in [0, 1] -> f(I) (b, D), not normalised."""

    def __init__(self, trunk: ModifiedResNet, pool: AttentionPool2d):
        super().__init__()
        self.trunk, self.pool = trunk, pool
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def features(self, image: Tensor) -> Tensor:
        """The trunk's features (b, C, R / 32, R / 32)."""
        return self.trunk((image - self.mean) / self.std)

    def tokens(self, image: Tensor) -> Tensor:
        """Keys and values before projection (b, 1 + N, C), mean token first, with their positions."""
        return self.pool.tokens(self.features(image))

    def forward(self, image: Tensor) -> Tensor:
        return self.pool(self.features(image))


class PromptEncoder(nn.Module):
    """CLIP's text transformer, frozen, with the [QA] token: `ids` int64 (n, L) -> `features` (n, D), not normalised.

    The [QA] token has no id of its own: at the first end-of-text token, where CLIP reads a text's feature, the
    learned embedding `qa` stands instead of that token's. So CLIP's own tokenizer serves unchanged.

    side: the part that learns beside the image. "qa" is the paper's: the [QA] token alone. "table" is the authors'
        code's: the whole table of embeddings, the positions and the projection too; the blocks stay frozen.
    """

    def __init__(
        self,
        clip: CLIPModel | CLIPTextModelWithProjection | ResNetClip,
        qa_token: bool = True,
        side: TextSide = "qa",
    ):
        super().__init__()
        self.text_model = clip.text_model.requires_grad_(False).eval()
        self.text_projection = clip.text_projection.requires_grad_(False)
        config = self.text_model.config
        # Old CLIP configurations say 2 and mean the highest id.
        self.end = config.vocab_size - 1 if config.eos_token_id == 2 else config.eos_token_id
        embedding = self.text_model.embeddings.token_embedding.weight[self.end]
        self.qa = nn.Parameter(embedding.detach().clone(), requires_grad=qa_token)
        if side == "table":
            embeddings = self.text_model.embeddings
            # Without a [QA] token the authors freeze the table, and still train positions and projection.
            embeddings.token_embedding.requires_grad_(qa_token)
            embeddings.position_embedding.requires_grad_(True)
            self.text_projection.requires_grad_(True)

    def forward(self, ids: Tensor) -> Tensor:
        text = self.text_model
        rows, length = ids.shape
        end = end_of_text(ids, text.config.eos_token_id)
        places = torch.arange(length, device=ids.device)
        words = text.embeddings.token_embedding(ids)
        words = torch.where((places == end[:, None])[..., None], self.qa.to(words.dtype), words)
        hidden = text.embeddings(inputs_embeds=words)
        mask = torch.full((length, length), float("-inf"), device=ids.device).triu(1)[None, None]
        for layer in text.encoder.layers:
            hidden = layer(hidden, mask.to(hidden.dtype))
        # The layer norm works on each position alone, so it need not see the others.
        hidden = text.final_layer_norm(hidden[torch.arange(rows, device=ids.device), end])
        return self.text_projection(hidden)


def encoders(
    clip: ResNetClip, qa_token: bool = True, side: TextSide = "qa"
) -> tuple[ImageEncoder, PromptEncoder]:
    """Both sides of a CLIP with a ResNet: the image side ready to learn, of the text side what `side` says.

    They share the weights of `clip`, none is copied.
    """
    image = ImageEncoder(clip.visual, clip.attnpool).requires_grad_(True)
    return image, PromptEncoder(clip, qa_token, side)


class CrossPool(QueryPool):
    """The cross-modality pool: the prompt asks over the picture's tokens.

    side: of the token grid that its own position table is for; None for one that has none and reads tokens with the
        attention pool's positions.
    """

    def __init__(self, channels: int, heads: int, out: int, asked: int, side: int | None):
        super().__init__(channels, heads, out, asked)
        self.positional_embedding: nn.Parameter | None = None
        if side is not None:
            self.positional_embedding = nn.Parameter(torch.randn(side * side + 1, channels) / channels**0.5)

    def shift(self, other: Tensor, height: int, width: int) -> Tensor:
        """The difference that brings tokens (b, 1 + height * width, C) from the positions `other` to this pool's
        own."""
        assert self.positional_embedding is not None
        own = resized_positions(self.positional_embedding, height, width)
        return own - resized_positions(other, height, width)


class Mlp(nn.Sequential):
    """The authors' head for `width` features: dropout 0.5, dense, tanh, dropout 0.5, dense."""

    def __init__(self, width: int, outputs: int):
        parts = (nn.Linear(width, width), nn.Tanh(), nn.Dropout(0.5), nn.Linear(width, outputs))
        super().__init__(nn.Dropout(0.5), *parts)


class IpIqa(nn.Module):
    """`image` (b, 3, R, R) RGB in [0, 1], `ids` int64 (b, L) -> `scores` (b, S), in units of the opinion scores.

    R is a multiple of 32: 512 in the paper, 224 as a fast variant. side: of the token grid that a position table of the
    cross-modality pool's own is for; that of the attention pool's table where none is given.
    """

    def __init__(
        self, image: ImageEncoder, text: PromptEncoder, design: Design = Design(), side: int | None = None
    ):
        super().__init__()
        self.design = design
        self.image = image
        self.text = text if design.prompt else None
        heads, out = image.pool.num_heads, image.pool.c_proj.out_features
        width, count = out * (2 if design.prompt else 1), len(design.outputs)
        asked = text.text_projection.out_features
        given = side or table_side(image.pool.positional_embedding)
        self.cross = (
            CrossPool(image.trunk.channels, heads, out, asked, given if design.positions == "own" else None)
            if design.prompt
            else None
        )
        self.head = Mlp(width, count) if design.head == "mlp" else nn.Linear(width, count)

    def train(self, mode: bool = True) -> IpIqa:
        """Set the mode of all parts but the frozen text side."""
        super().train(mode)
        if self.text is not None:
            self.text.eval()
        return self

    def shift(self, height: int, width: int) -> Tensor | None:
        """The cross-modality pool's addition to tokens of a grid of `height` x `width`, (1 + height * width, C): its
        own positions in place of the attention pool's; None for a pool without own ones."""
        if self.cross is None or self.cross.positional_embedding is None:
            return None
        return self.cross.shift(self.image.pool.positional_embedding, height, width)

    def fuse(self, tokens: Tensor, features: Tensor | None, shift: Tensor | None) -> Tensor:
        """Both pools and the head: `tokens` (b, 1 + N, C) with the attention pool's positions, `features` (b, D) the
        prompts', None in a design without prompts, `shift` (1 + N, C) of `self.shift` for their grid."""
        pooled = self.image.pool.pool(tokens)
        if self.cross is not None:
            pooled = torch.cat([pooled, self.cross(features, tokens if shift is None else tokens + shift)], 1)
        return self.head(pooled)

    def forward(self, image: Tensor, ids: Tensor) -> Tensor:
        shift = self.shift(image.shape[2] // STRIDE, image.shape[3] // STRIDE)
        return self.fuse(self.image.tokens(image), None if self.text is None else self.text(ids), shift)


class ImageGraph(nn.Module):
    """`ip_iqa_image`: `image` (b, 3, R, R) RGB in [0, 1] -> `tokens` (b, 1 + N, C), for one side R.

    The positions are interpolated here, once: nothing of it is left to the graph.
    """

    def __init__(self, image: ImageEncoder, resolution: int):
        super().__init__()
        self.image = image
        side = resolution // STRIDE
        positions = resized_positions(image.pool.positional_embedding, side, side)
        self.register_buffer("positions", positions.detach().clone())

    def forward(self, image: Tensor) -> Tensor:
        return tokens_of(self.image.features(image), self.positions)


class FusionGraph(nn.Module):
    """`ip_iqa_fusion`: `tokens` (b, 1 + N, C), `features` (b, D) -> `scores` (b, S), for pictures of side `resolution`.

    The tokens carry the attention pool's positions either way. A table of the cross-modality pool's own is a constant
    here: the difference of both tables, at this resolution.
    """

    def __init__(self, model: IpIqa, resolution: int):
        super().__init__()
        self.model = model
        shift = model.shift(resolution // STRIDE, resolution // STRIDE)
        self.register_buffer("shift", None if shift is None else shift.detach().clone())

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        return self.model.fuse(tokens, features, self.shift)


def table_side(positions: Tensor) -> int:
    """The side of the token grid that a position table (1 + side * side, C) is for."""
    return round((len(positions) - 1) ** 0.5)


def save(model: IpIqa, path: Path, resolution: int) -> Path:
    """Write an IP-IQA with prompts as one safetensors file that holds all it needs, the text side too.

    `resolution`: the side of the pictures that it was trained on, pixels.
    """
    if model.text is None:
        raise ValueError("only an IP-IQA with prompts can be saved: the baseline is for comparison alone")
    trunk, pool = model.image.trunk, model.image.pool
    own = model.cross.positional_embedding if model.cross is not None else None
    stages = (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)
    sizes = {
        "design": asdict(model.design),
        "layers": [len(stage) for stage in stages],
        "width": trunk.conv3.out_channels,
        "side": table_side(pool.positional_embedding),
        "cross_side": None if own is None else table_side(own),
        "heads": pool.num_heads,
        "out": pool.c_proj.out_features,
        "resolution": resolution,
        "text": model.text.text_model.config.to_diff_dict(),
        "projection": model.text.text_projection.out_features,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, path, {"format": FORMAT, "sizes": json.dumps(sizes)})
    return path


def load(path: Path) -> tuple[IpIqa, int]:
    """Read what `save` wrote: (model in evaluation mode, resolution). Raises ValueError for another file."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except Exception as error:  # safetensors raises its own bare exception
        raise ValueError(
            f"'{path}' cannot be read as weights of IP-IQA: train them with 'learn ip-iqa', or give a checkpoint of "
            f"the authors' code to 'grefine-export ip-iqa' with --clip"
        ) from error
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"'{path}' holds no IP-IQA: train one with 'grefine-export learn ip-iqa', or give --clip"
        )
    sizes = json.loads(metadata["sizes"])
    config = CLIPTextConfig(**{**sizes["text"], "projection_dim": sizes["projection"]})
    # Files from before the second table share the first.
    known = {"positions": "shared", **sizes["design"], "outputs": tuple(sizes["design"]["outputs"])}
    design = Design(**known)
    trunk = ModifiedResNet(sizes["layers"], sizes["width"])
    pool = AttentionPool2d(sizes["side"], trunk.channels, sizes["heads"], sizes["out"])
    text = PromptEncoder(CLIPTextModelWithProjection(config), design.qa_token)
    model = IpIqa(ImageEncoder(trunk, pool), text, design, sizes.get("cross_side"))
    model.load_state_dict(load_file(path))
    return model.eval(), sizes["resolution"]
