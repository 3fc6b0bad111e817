"""A CLIP as a bundle that assesses: both indicators' graphs, tokenizer, manifest; every graph compared with torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from grefine_export.choices import Attention, Weights
from grefine_export.models.clip_loading import (
    at_size,
    image_size,
    load_clip,
    name_of,
    patch_side,
    surgery,
)
from grefine_export.models.clip_prompts import PUBLISHED_ALPHA, antonym_t_p, published_t_p, read_alpha
from grefine_export.models.clip_surgery import ClipEncoder
from grefine_export.models.clip_tokenizer import read_tokenizer
from grefine_export.models.perceptual import ClipText, Perceptual, halved
from grefine_export.onnx.convert import export
from grefine_export.onnx.parity import BOUNDS, compare
from grefine_rt.bundle import store
from grefine_rt.bundle.manifest import Manifest

TOKENIZER = "tokenizers/clip.json"


@dataclass(frozen=True)
class Batch:
    """Pictures at a time: a fixed number where `least` equals `most`, else any number, proven at both ends."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str) -> Batch:
        """From "N" or "MIN..MAX", each 1 or more. Raises ValueError for anything else."""
        match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text.strip())
        least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= least <= most:
            raise ValueError(f"the batch must be N or MIN..MAX, such as 1 or 1..8, not '{text}'")
        return cls(least, most)


@dataclass(frozen=True)
class Source:
    """Origin and licence of weights, for the manifest; `contexts` is empty for CLIP-IQA's pairs."""

    checkpoint: str
    license: str
    contexts: str = ""
    contexts_license: str = ""


def make_bundle(
    out: Path,
    path: Path,
    origin: str,
    license_name: str,
    say: Callable[[str], None],
    *,
    size: int | None = None,
    attention: Attention | None = None,
    tokenizer: Path | None = None,
    contexts: Path | None = None,
    contexts_license: str = "",
    weights: Weights = "fp16",
    compute: Weights = "fp32",
    batch: str = "1..8",
) -> Manifest:
    """A bundle from the checkpoint at `path` (`checkpoints.locate`), which the manifest calls `origin`.

    size: input side in pixels, the checkpoint's own when None. tokenizer: for a checkpoint without one beside it.
    contexts: folder of learned contexts; antonyms without it. weights, compute: see `write_bundle`. batch: see
    `Batch.parse`. Raises ValueError and FileNotFoundError, one sentence, and ParityError.
    """
    number = Batch.parse(batch)
    model = load_clip(path)
    encoder = surgery(at_size(model, image_size(model) if size is None else size), attention)
    own = path if path.is_dir() else path.parent
    words = read_tokenizer(tokenizer or own, model.text_model.config.vocab_size)
    t_p = published_t_p(encoder, contexts) if contexts else antonym_t_p(encoder, words)
    source = Source(
        checkpoint=origin,
        license=license_name,
        contexts=f"the contexts '{contexts.resolve().name}'" if contexts else "",
        contexts_license=contexts_license if contexts else "",
    )
    alpha = read_alpha(contexts) if contexts else PUBLISHED_ALPHA
    return write_bundle(out, encoder, t_p, words, source, alpha, weights, number, say, compute)


def write_bundle(
    out: Path,
    encoder: ClipEncoder,
    t_p: Tensor,
    tokenizer: Tokenizer,
    source: Source,
    alpha: Sequence[float] = PUBLISHED_ALPHA,
    weights: Weights = "fp16",
    batch: Batch = Batch(1, 8),
    say: Callable[[str], None] = print,
    compute: Weights = "fp32",
) -> Manifest:
    """Write a bundle without a refiner into the folder `out`.

    Args:
        encoder: of the picture size that the bundle is for (`clip_loading.at_size`, `surgery`).
        t_p: (4, 2, d), projected, not normalised; a constant of the graph.
        tokenizer: the text encoder's own.
        alpha: of Eq. 3, as fitted with `t_p`.
        weights: the type in which they are stored. compute: "fp16" for the encoders in half precision throughout, for
            GPUs and TensorRT engines (`halved`); weights are then stored so, too.

    a_bound and beta stand at 0.5, at which a text says as much as "": fit them on opinion scores.

    Raises ValueError (one sentence) when `out` has files, or for weights in fp32 that are computed with in fp16;
    ParityError for a graph that differs from its module.
    """
    if compute == "fp16" and weights != "fp16":
        raise ValueError("weights that are computed with in fp16 are stored so, too: leave --weights at fp16")
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"the folder '{out}' is not empty: give a new one")
    _export(out, encoder, t_p, weights, compute, batch, say)
    (out / TOKENIZER).parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / TOKENIZER))
    return store.write(out, _manifest(out.resolve().name, encoder, source, alpha))


def _graph(name: str) -> str:
    return f"components/{name}.onnx"


def _export(
    out: Path,
    encoder: ClipEncoder,
    t_p: Tensor,
    weights: Weights,
    compute: Weights,
    batch: Batch,
    say: Callable[[str], None],
) -> None:
    generator = torch.Generator().manual_seed(10)
    size, text = image_size(encoder.clip), encoder.clip.text_model
    fixed = batch.least == batch.most
    count = batch.most if fixed else 2
    pictures = torch.rand(max(batch.most, count), 3, size, size, generator=generator)
    ids = torch.randint(0, text.config.vocab_size - 2, (3, _length(encoder)), generator=generator)
    ids[:, -1] = text.config.vocab_size - 1
    ids[0, 2:] = text.config.vocab_size - 1
    image = (Perceptual(encoder, t_p), {"image": pictures[:count]}, ["pairs", "published", "tokens"])
    images = [{"image": pictures[:number]} for number in sorted({batch.least, batch.most})]
    words = (ClipText(encoder), {"ids": ids}, ["features", "context"])
    for name, (module, example, outputs), axes, checks in (
        ("perceptual", image, {} if fixed else {"image": {0: "b"}}, images),
        (
            "clip_text",
            words,
            {"ids": {0: "n", 1: "l"}},
            [{"ids": ids[:1]}, {"ids": ids}, {"ids": ids[:, :8]}],
        ),
    ):
        # In half precision weights are stored as they are.
        stored: Weights = "fp32" if compute == "fp16" else weights
        traced = halved(module) if compute == "fp16" else module
        path = export(traced, example, outputs, axes, out / _graph(name), weights=stored)
        bound = BOUNDS["fp16" if "fp16" in (weights, compute) else "fp32"]
        errors = [error for inputs in checks for error in compare(module, path, inputs, bound).values()]
        held = sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))
        say(f"{name}: relative error {max(errors):.1e}, {held / 2**20:.0f} MiB")


def _length(encoder: ClipEncoder) -> int:
    return encoder.clip.text_model.config.max_position_embeddings


def _manifest(name: str, encoder: ClipEncoder, source: Source, alpha: Sequence[float]) -> dict[str, Any]:
    size = image_size(encoder.clip)
    side = {"resolution": size, "grid": size // patch_side(encoder.clip)}
    model, clip_text = name_of(encoder.clip), "clip_text"
    origin = f"CLIP {model} from {source.checkpoint}"
    words = f"T_p from {source.contexts}" if source.contexts else "T_p from CLIP-IQA's pairs of antonyms"
    licenses = " AND ".join(dict.fromkeys(part for part in (source.license, source.contexts_license) if part))
    return {
        "name": name,
        "version": "1",
        "description": f"Assesses with CLIP {model} at {size} x {size}; {words}.",
        "weights": [
            {"component": "perceptual", "origin": f"{origin}; {words}", "license": licenses},
            {"component": clip_text, "origin": origin, "license": source.license},
        ],
        "perceptual": {
            **side,
            "alpha": [round(value, 4) for value in alpha],
            "scoring": "calibrated",
            "attention": encoder.attention,
        },
        "alignment": {
            **side,
            "temperature": float(encoder.scale),
            "a_bound": 0.5,
            "beta": 0.5,
            "encoder": "clip",
        },
        "plan": {
            "tau": 0.5,
            "strength_min": 0.3,
            "strength_max": 0.99,
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
        "tokenizers": {
            "alignment_text": [
                {"file": TOKENIZER, "input": "ids", "length": _length(encoder), "cleaning": "clip"}
            ]
        },
        "components": {
            "perceptual": _graph("perceptual"),
            "alignment_image": _graph("perceptual"),
            "alignment_text": _graph(clip_text),
        },
    }
