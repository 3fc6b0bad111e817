"""A CLIP bundle whose alignment indicator is BLIP's: graphs, tokenizer, manifest; every graph compared with torch."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from grefine_export.choices import Weights
from grefine_export.models.blip import (
    LENGTH,
    REWARD_STD,
    TEMPERATURE,
    BlipCheckpoint,
    BlipImage,
    BlipText,
    ImageReward,
)
from grefine_export.onnx.convert import export
from grefine_export.onnx.parity import BOUNDS, compare
from grefine_rt.bundle import store
from grefine_rt.bundle.manifest import Manifest

TOKENIZER = "tokenizers/bert.json"
CUT = 12  # tokens of the shorter text that a graph is compared with
LICENSE, REWARD_LICENSE = (
    "BSD-3-Clause",
    "Apache-2.0 AND BSD-3-Clause",
)  # of BLIP; of ImageReward, made from it
_REPLACED = ("alignment_image", "alignment_text", "image_reward")


def write_bundle(
    out: Path,
    clip: Path,
    image_side: BlipCheckpoint,
    text_side: BlipCheckpoint,
    tokenizer: Tokenizer,
    origin: str,
    weights: Weights = "fp16",
    say: Callable[[str], None] = print,
) -> Manifest:
    """Write a bundle into the folder `out`: all of the bundle `clip` but its alignment indicator, which is BLIP's.

    Args:
        image_side: image encoder of `alignment_image`; with ImageReward's head, `image_reward` is written too.
        text_side: text encoder and both projections; `image_side` itself, or a BLIP with an image encoder as wide.
        tokenizer: of both text encoders, from `models.blip.read_wordpiece`.
        origin: of the weights, for the manifest.

    a_bound and beta stand at 0.5, at which a text says as much as "", and the temperature at the start of BLIP's
    training: fit all three on opinion scores.

    Raises ValueError (one sentence) when `out` has files or the sides do not fit, GRefineError when `clip` is no whole
    bundle, ParityError for a graph that differs from its module.
    """
    base = store.verify(clip)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"the folder '{out}' is not empty: give a new one")
    names = []
    for name, module, inputs, axes, output in _jobs(image_side, text_side):
        path = export(module, inputs, [output], axes, out / _graph(name), weights=weights)
        single = {argument: value[:1] for argument, value in inputs.items()}
        checks = [single, {"ids": inputs["ids"][:1, :CUT]}] if 1 in axes.get("ids", {}) else [single]
        worst = max(compare(module, path, check, BOUNDS[weights])[output] for check in checks)
        held = sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))
        say(f"{name}: relative error {worst:.1e}, {held / 2**20:.0f} MiB")
        names.append(name)
    (out / TOKENIZER).parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / TOKENIZER))
    for file in _kept_files(base):
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip / file, out / file)
    return store.write(out, _manifest(out.resolve().name, base, image_side, names, origin))


def _graph(name: str) -> str:
    return f"components/{name}.onnx"


def _jobs(
    image_side: BlipCheckpoint, text_side: BlipCheckpoint
) -> Iterator[tuple[str, nn.Module, dict[str, Tensor], dict[str, dict[int, str]], str]]:
    """File name, module, example inputs, free axes and output of each graph.

    The text length is free for the graph of many phrases, so that padding need not be computed.
    """
    vision = image_side.vision
    if text_side.vision_proj is None or text_side.text_proj is None:
        raise ValueError(
            "the checkpoint has no contrastive projections: give --projections with a BLIP image-text-retrieval model "
            "such as Salesforce/blip-itm-large-coco"
        )
    width, wanted = vision.config.hidden_size, text_side.vision_proj.in_features
    if width != wanted:
        raise ValueError(
            f"the image encoder is {width} wide, but the projections are for one of {wanted}: give those of a BLIP "
            "with the same vision transformer"
        )
    generator = torch.Generator().manual_seed(9)
    size = vision.config.image_size
    image = torch.rand(2, 3, size, size, generator=generator)
    ids = torch.randint(1, text_side.text.config.vocab_size, (2, LENGTH), generator=generator)
    ids[0, CUT - 2 :] = text_side.text.config.pad_token_id
    yield (
        "blip_image",
        BlipImage(vision, text_side.vision_proj),
        {"image": image},
        {"image": {0: "b"}},
        "tokens",
    )
    text = BlipText(text_side.text, text_side.text_proj)
    yield "blip_text", text, {"ids": ids}, {"ids": {0: "n", 1: "t"}}, "features"
    if image_side.reward is not None:
        scalar = ImageReward(vision, image_side.text, image_side.reward)
        both = {"image": image, "ids": ids}
        yield "image_reward", scalar, both, {"image": {0: "b"}, "ids": {0: "b"}}, "reward"


def _kept(base: Manifest) -> list[str]:
    return [component for component in base.components if component not in _REPLACED]


def _kept_files(base: Manifest) -> set[str]:
    files = {file for component in _kept(base) for file in base.files_of(component)}
    tokenizers = (specs for component, specs in base.tokenizers.items() if component not in _REPLACED)
    return files | {spec.file for specs in tokenizers for spec in specs}


def _manifest(
    name: str, base: Manifest, image_side: BlipCheckpoint, graphs: list[str], origin: str
) -> dict[str, Any]:
    config = image_side.vision.config
    kept = _kept(base)
    named = {*kept, *(Path(base.components[component]).stem for component in kept)}
    license = LICENSE if image_side.reward is None else REWARD_LICENSE
    data = dataclasses.asdict(base)
    data["name"] = name
    data["description"] = f"{base.description} Alignment by BLIP from {origin}."
    data["weights"] = [weight for weight in data["weights"] if weight["component"] in named]
    data["weights"] += [{"component": graph, "origin": origin, "license": license} for graph in graphs]
    data["alignment"] |= {
        "resolution": config.image_size,
        "grid": config.image_size // config.patch_size,
        "temperature": TEMPERATURE,
        "a_bound": 0.5,
        "beta": 0.5,
        "encoder": "blip",
    }
    data["components"] = {component: base.components[component] for component in kept}
    data["components"] |= {"alignment_image": _graph("blip_image"), "alignment_text": _graph("blip_text")}
    # ImageReward's authors feed prompts as they are.
    spec = {"file": TOKENIZER, "input": "ids", "length": LENGTH, "cleaning": "none", "prompts": "raw"}
    data["tokenizers"]["alignment_text"] = [spec]
    data["scorers"].pop("image_reward", None)
    if "image_reward" in graphs:
        # Trained on pairs: with this slope the score is the probability of beating a picture of reward 0.
        data["scorers"]["image_reward"] = {
            "components": {"image_reward": _graph("image_reward")},
            "settings": {"slope": REWARD_STD, "centre": 0.0},
        }
    return data
