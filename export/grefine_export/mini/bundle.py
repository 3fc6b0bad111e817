"""From the trained models to the embedded bundle: graphs, tokenizer, manifest; every graph compared with torch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grefine_export.mini import sizes
from grefine_export.mini.train_inpaint import BETA_END, BETA_START, TRAIN_STEPS, TextConditionedUNet
from grefine_export.mini.train_restore import NEGATIVE_PROMPT, PROMPT_SUFFIX
from grefine_export.mini.world import SIZE
from grefine_export.models.clip_surgery import ClipSurgery
from grefine_export.models.inpaint import TextEncoder
from grefine_export.models.pasd import PasdUNet
from grefine_export.models.perceptual import ClipText, Perceptual
from grefine_export.models.vae import Vae
from grefine_export.models.vae_graphs import Decode, Encode, latent_channels
from grefine_export.onnx.convert import export
from grefine_export.onnx.parity import BOUNDS, compare
from grefine_export.onnx.step import InpaintStep, RestoreStep
from grefine_rt.bundle.manifest import SECTION_COMPONENTS, Manifest
from grefine_rt.bundle.store import write

VERSION = "1.0.0"
ORIGIN = "trained from scratch on the storybook world by `grefine-export mini`"


@dataclass(frozen=True)
class Models:
    """Everything that was trained. `t_p` (4, 2, d); `alpha` as fitted with it."""

    clip: ClipSurgery
    t_p: Tensor
    alpha: Sequence[float]
    vae: Vae
    inpaint: TextConditionedUNet
    restore_vae: Vae
    restore: PasdUNet
    tokenizer_file: Path


def export_components(models: Models, folder: Path) -> dict[str, float]:
    """Writes `folder/components/*.onnx`; returns the worst relative error of each graph against torch."""
    generator = torch.Generator().manual_seed(6)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    length, width = sizes.CLIP_LENGTH, sizes.CLIP_TEXT["hidden_size"]
    first, second = (
        (1, sizes.VAE["latent_channels"], 24, 20),
        (1, sizes.RESTORE_VAE["latent_channels"], 24, 20),
    )  # neither square nor the size of training: height and width are free
    vocabulary = models.clip.clip.config.text_config.vocab_size
    ids = torch.randint(0, vocabulary, (3, length), generator=generator)
    ids[:, -1] = models.clip.clip.text_model.eos_token_id
    free_size = {2: "h", 3: "w"}
    texts = {"context": {0: "n"}, "pooled": {0: "n"}, "time_ids": {0: "n"}}
    text = {"context": normal(2, length, width)}
    step = {"timestep": torch.tensor([321.0]), "coefficients": uniform(9)}
    size_ids = torch.tensor([[SIZE, SIZE, 0, 0, SIZE, SIZE]] * 2, dtype=torch.float32)
    state = ("sample", "previous", "noise")
    inpaint = {
        **{name: normal(*first) for name in state},
        "mask": (uniform(1, 1, *first[2:]) > 0.5).float(),
        "masked_latent": normal(*first),
        **text,
        "pooled": normal(2, sizes.CLIP_WIDTH),
        "time_ids": size_ids,
        **step,
    }
    restore = {
        **{name: normal(*second) for name in state},
        "control": uniform(1, 3, 8 * second[2], 8 * second[3]),
        **text,
        **step,
    }
    image_axes = {0: "b", 2: "H", 3: "W"}
    latent_axes = {0: "b", **free_size}
    jobs: list[tuple[str, nn.Module, dict[str, Tensor], list[str], dict[str, dict[int, str]]]] = [
        (
            "perceptual",
            Perceptual(models.clip, models.t_p),
            {"image": uniform(2, 3, SIZE, SIZE)},
            ["pairs", "published", "tokens"],
            {"image": {0: "b"}},
        ),
        (
            "clip_text",
            ClipText(models.clip),
            {"ids": ids},
            ["features", "context"],
            {"ids": {0: "n", 1: "l"}},
        ),
        (
            "inpaint_text",
            TextEncoder(models.inpaint.text, "last"),
            {"ids": ids},
            ["context", "pooled"],
            {"ids": {0: "n"}},
        ),
        *(
            job
            for stage, vae in (("inpaint", models.vae), ("restore", models.restore_vae))
            for job in (
                (
                    f"{stage}_encode",
                    Encode(vae),
                    {"image": uniform(2, 3, 160, 192) * 2 - 1},
                    ["latent"],
                    {"image": image_axes},
                ),
                (
                    f"{stage}_decode",
                    Decode(vae),
                    {"latent": normal(2, latent_channels(vae), 20, 24)},
                    ["image"],
                    {"latent": latent_axes},
                ),
            )
        ),
        (
            "inpaint_step",
            InpaintStep(models.inpaint.unet),
            inpaint,
            ["next", "clean"],
            {**dict.fromkeys((*state, "mask", "masked_latent"), free_size), **texts},
        ),
        (
            "restore_step",
            RestoreStep(models.restore),
            restore,
            ["next", "clean"],
            {**dict.fromkeys(state, free_size), "control": {2: "H", 3: "W"}, "context": {0: "n"}},
        ),
    ]
    errors = {}
    for name, module, inputs, outputs, axes in jobs:
        file = folder / "components" / f"{name}.onnx"
        module = module.cpu().float().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        export(module, inputs, outputs, axes, file, weights="fp16")
        checks = [inputs, {"ids": ids[:, :9]}] if "l" in axes.get("ids", {}).values() else [inputs]
        errors[name] = max(max(compare(module, file, one, BOUNDS["fp16"]).values()) for one in checks)
    return errors


def _schedule() -> dict[str, Any]:
    ends = {"beta_start": BETA_START, "beta_end": BETA_END}
    return {"train_steps": TRAIN_STEPS, **ends, "spacing": "leading", "offset": 1}


def refining() -> dict[str, Any]:
    """The manifest's sections `plan`, `inpaint` and `restore` before calibration."""
    return {
        "plan": {
            "tau": 0.5,
            "strength_min": 0.6,
            "strength_max": 0.99,
            "joining": "union",
            "strength_rule": "deficit",
            "missing_region": "free",
            "grow": 1.0,
            "feather": 0.5,
            "min_area": 0.01,
            "p_bound": 1.0,
            "redraw": "misshapen",
        },
        "inpaint": {
            "resolution": SIZE,
            "multiple": 16,
            "steps": 10,
            "solver": "euler",
            "guidance": 2.5,
            "drafts": 6,
            "sketch_steps": 4,
            "negative": "zeros",
            "prediction": "v_prediction",
            "schedule": _schedule(),
            "time_ids": True,
            "latent_channels": sizes.VAE["latent_channels"],
        },
        "restore": {
            "resolution": sizes.RESTORE_SIDE,
            "multiple": 32,
            "steps": 10,
            "delta": 0.2,
            "solver": "ddim",
            "guidance": 1.0,
            "conditioning_scale": 1.0,
            "prompt_suffix": PROMPT_SUFFIX,
            "negative_prompt": NEGATIVE_PROMPT,
            "prediction": "v_prediction",
            "schedule": _schedule(),
            "decoding": "quality",
            "latent_channels": sizes.RESTORE_VAE["latent_channels"],
        },
    }


def draft_manifest(models: Models) -> dict[str, Any]:
    """The manifest before calibration: a_bound, beta, tau and the strengths are replaced by fitted values."""
    grid = sizes.CLIP_VISION["image_size"] // sizes.CLIP_VISION["patch_size"]
    clip_tokens = [{"file": "tokenizers/clip.json", "input": "ids", "length": sizes.CLIP_LENGTH}]
    shared = {
        "alignment_image": "perceptual",
        "alignment_text": "clip_text",
        "restore_text": "inpaint_text",
    }
    own = ("perceptual", *SECTION_COMPONENTS["inpaint"], *SECTION_COMPONENTS["restore"])
    files = {name: name for name in own} | shared
    return {
        "name": "mini",
        "version": VERSION,
        "description": "The storybook world: small versions of all models, a demonstration and a test bed.",
        "weights": [
            {"component": name, "origin": ORIGIN, "license": "Apache-2.0"}
            for name in sorted(set(files.values()))
        ],
        "perceptual": {
            "resolution": SIZE,
            "grid": grid,
            "alpha": [round(a, 4) for a in models.alpha],
            "scoring": "calibrated",
            "attention": models.clip.attention,
        },
        "alignment": {
            "resolution": SIZE,
            "grid": grid,
            "temperature": round(float(models.clip.scale), 4),
            "a_bound": 0.5,
            "beta": 0.5,
            "encoder": "clip",
        },
        **refining(),
        "tokenizers": dict.fromkeys(("alignment_text", "inpaint_text", "restore_text"), clip_tokens),
        "components": {name: f"components/{file}.onnx" for name, file in files.items()},
    }


def write_bundle(
    models: Models, folder: Path, manifest: dict[str, Any] | None = None
) -> tuple[Manifest, dict[str, float]]:
    """Writes the bundle into `folder`, replacing what is there; returns the manifest and each graph's error."""
    for part in ("components", "tokenizers"):
        shutil.rmtree(folder / part, ignore_errors=True)
    errors = export_components(models, folder)
    target = folder / "tokenizers" / "clip.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(models.tokenizer_file, target)
    return write(folder, manifest or draft_manifest(models)), errors
