"""A trained IP-IQA as three graphs of a bundle: pictures, prompts, and their fusion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from grefine_export.checkpoints import locate, public_name
from grefine_export.choices import Weights
from grefine_export.models.clip_loading import load_resnet
from grefine_export.models.clip_resnet import STRIDE
from grefine_export.models.clip_tokenizer import read_tokenizer
from grefine_export.models.ip_iqa import FusionGraph, ImageGraph, IpIqa, load
from grefine_export.models.ip_iqa_published import load_published
from grefine_export.onnx.component import read_manifest
from grefine_export.onnx.convert import export
from grefine_export.onnx.parity import BOUNDS, compare
from grefine_rt.bundle.manifest import Manifest
from grefine_rt.bundle.store import write

TOKENIZER = "tokenizers/ip_iqa.json"
COMPONENTS = ("ip_iqa_image", "ip_iqa_text", "ip_iqa_fusion")


@dataclass(frozen=True)
class Trained:
    """A trained IP-IQA: resolution is the side of the pictures that it was trained on, in pixels."""

    model: IpIqa
    resolution: int
    tokenizer: Tokenizer
    origin: str

    @property
    def length(self) -> int:
        """Tokens of a prompt."""
        assert self.model.text is not None
        return int(self.model.text.text_model.config.max_position_embeddings)


def read_weights(weights: Path, clip: str | None = None, tokenizer: Path | None = None) -> Trained:
    """`ip_iqa.safetensors` of `learn ip-iqa`, or with `clip` (path or hub id) a checkpoint of the authors' code.

    tokenizer: folder or file; the one beside the weights, or beside `clip`, where none is given. Raises ValueError,
    FileNotFoundError and ConnectionError, one sentence each.
    """
    if clip is None:
        model, resolution = load(weights)
        origin, beside = "trained with `grefine-export learn ip-iqa`", weights.parent
    else:
        path = locate(clip)
        model, resolution = load_published(weights, load_resnet(path))
        origin = f"{weights.name} of IP-IQA's public training code, on {public_name(clip)}"
        beside = path if path.is_dir() else path.parent
    assert model.text is not None
    words = read_tokenizer(tokenizer or beside, model.text.text_model.config.vocab_size)
    return Trained(model, resolution, words, origin)


def export_ip_iqa(
    model: IpIqa, folder: Path, resolution: int, weights: Weights = "fp16", length: int = 77
) -> dict[str, float]:
    """Write `folder/ip_iqa_image.onnx`, `ip_iqa_text.onnx` and `ip_iqa_fusion.onnx`, batches of any size, for
    pictures of side `resolution`; return the relative error of each against torch.

    `length`: tokens of a prompt. Raises ValueError for a model without prompts or a side that is no multiple of 32,
    ParityError where a graph differs from its module.
    """
    text = model.text
    if text is None or model.cross is None:
        raise ValueError("an IP-IQA without prompts has no graph for them: train one with prompts")
    if resolution % STRIDE:
        raise ValueError(f"the side of pictures must be a multiple of {STRIDE}, not {resolution}")
    model = model.cpu().float().eval()
    generator = torch.Generator().manual_seed(31)
    end = text.end
    ids = torch.randint(0, end, (3, length), generator=generator)
    ids[0, length // 3 :], ids[1:, -1] = end, end
    tokens = torch.randn(2, 1 + (resolution // STRIDE) ** 2, model.image.trunk.channels, generator=generator)
    features = torch.randn(2, text.text_projection.out_features, generator=generator)
    image = torch.rand(2, 3, resolution, resolution, generator=generator)
    jobs: list[tuple[str, nn.Module, dict[str, Tensor], str]] = [
        ("ip_iqa_image", ImageGraph(model.image, resolution), {"image": image}, "tokens"),
        ("ip_iqa_text", text, {"ids": ids}, "features"),
        ("ip_iqa_fusion", FusionGraph(model, resolution), {"tokens": tokens, "features": features}, "scores"),
    ]
    errors = {}
    for name, module, inputs, output in jobs:
        axes = {key: {0: "n", 1: "l"} if key == "ids" else {0: "b"} for key in inputs}
        path = export(module, inputs, [output], axes, folder / f"{name}.onnx", weights=weights)
        errors[name] = compare(module, path, inputs, BOUNDS[weights])[output]
    return errors


def add_to_bundle(
    model: IpIqa,
    bundle: Path,
    resolution: int,
    tokenizer: Tokenizer,
    *,
    length: int,
    weights: Weights = "fp16",
    origin: str,
    license_name: str,
    as_written: bool = True,
) -> tuple[Manifest, dict[str, float]]:
    """Export `model` into an existing bundle and enter it into `bundle.json`; replaces an IP-IQA that is there.

    length: tokens of a prompt. as_written: it was trained on prompts as people wrote them, cleaned as CLIP does;
    False: on plain text. Returns the new manifest and each graph's error.
    """
    manifest = read_manifest(bundle)
    errors = export_ip_iqa(model, bundle / "components", resolution, weights, length)
    target = bundle / TOKENIZER
    target.parent.mkdir(exist_ok=True)
    tokenizer.save(str(target))
    spec = {"file": TOKENIZER, "input": "ids", "length": length}
    if as_written:
        spec |= {"cleaning": "clip", "prompts": "raw"}
    manifest["scorers"]["ip_iqa"] = {
        "components": {name: f"components/{name}.onnx" for name in COMPONENTS},
        "tokenizers": {"ip_iqa_text": [spec]},
        "settings": {
            "resolution": resolution,
            "outputs": [*model.design.outputs],
            "positions": model.design.positions,
        },
    }
    others = [weight for weight in manifest["weights"] if weight["component"] not in COMPONENTS]
    own = [{"component": name, "origin": origin, "license": license_name} for name in COMPONENTS]
    manifest["weights"] = others + own
    return write(bundle, manifest), errors
