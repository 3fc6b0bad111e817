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

VERSION = "1.1.0"
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


_Job = tuple[str, nn.Module, dict[str, Tensor], list[str], dict[str, dict[int, str]]]
"""Name, module, inputs, names of the outputs, free axes by input."""
_FREE_SIZE = {2: "h", 3: "w"}


class _Random:
    """Inputs of a fixed seed: the order in which they are asked for decides their values."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(6)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator)


def export_components(models: Models, folder: Path) -> dict[str, float]:
    """Writes `folder/components/*.onnx`; returns the worst relative error of each graph against torch."""
    random = _Random()
    vocabulary = models.clip.clip.config.text_config.vocab_size
    ids = torch.randint(0, vocabulary, (3, sizes.CLIP_LENGTH), generator=random.generator)
    ids[:, -1] = models.clip.clip.text_model.eos_token_id
    steps = _step_jobs(models, random)
    jobs = [*_clip_jobs(models, random, ids), *_vae_jobs(models, random), *steps]
    errors = {}
    for name, module, inputs, outputs, axes in jobs:
        file = folder / "components" / f"{name}.onnx"
        module = module.cpu().float().eval().to(memory_format=torch.contiguous_format)
        export(module, inputs, outputs, axes, file, weights="fp16")
        checks = [inputs, {"ids": ids[:, :9]}] if "l" in axes.get("ids", {}).values() else [inputs]
        errors[name] = max(max(compare(module, file, one, BOUNDS["fp16"]).values()) for one in checks)
    return errors


def _clip_jobs(models: Models, random: _Random, ids: Tensor) -> list[_Job]:
    """CLIP's image side with T_p, and both text encoders."""
    image = random.uniform(2, 3, SIZE, SIZE)
    perceptual, text = Perceptual(models.clip, models.t_p), TextEncoder(models.inpaint.text, "last")
    return [
        ("perceptual", perceptual, {"image": image}, ["pairs", "published", "tokens"], {"image": {0: "b"}}),
        (
            "clip_text",
            ClipText(models.clip),
            {"ids": ids},
            ["features", "context"],
            {"ids": {0: "n", 1: "l"}},
        ),
        ("inpaint_text", text, {"ids": ids}, ["context", "pooled"], {"ids": {0: "n"}}),
    ]


def _vae_jobs(models: Models, random: _Random) -> list[_Job]:
    """Encoder and decoder of both stages."""
    jobs: list[_Job] = []
    for stage, vae in (("inpaint", models.vae), ("restore", models.restore_vae)):
        image = random.uniform(2, 3, 160, 192) * 2 - 1
        latent = random.normal(2, latent_channels(vae), 20, 24)
        image_axes, latent_axes = {0: "b", 2: "H", 3: "W"}, {0: "b", **_FREE_SIZE}
        jobs += [
            (f"{stage}_encode", Encode(vae), {"image": image}, ["latent"], {"image": image_axes}),
            (f"{stage}_decode", Decode(vae), {"latent": latent}, ["image"], {"latent": latent_axes}),
        ]
    return jobs


def _step_jobs(models: Models, random: _Random) -> list[_Job]:
    """The denoising step of both stages."""
    # Neither square nor the size of training: height and width are free.
    first, second = ((1, table["latent_channels"], 24, 20) for table in (sizes.VAE, sizes.RESTORE_VAE))
    text = {"context": random.normal(2, sizes.CLIP_LENGTH, sizes.CLIP_TEXT["hidden_size"])}
    step = {"timestep": torch.tensor([321.0]), "coefficients": random.uniform(9)}
    state = ("sample", "previous", "noise")
    inpaint = {
        **{name: random.normal(*first) for name in state},
        "mask": (random.uniform(1, 1, *first[2:]) > 0.5).float(),
        "masked_latent": random.normal(*first),
        **text,
        "pooled": random.normal(2, sizes.CLIP_WIDTH),
        "time_ids": torch.tensor([[SIZE, SIZE, 0, 0, SIZE, SIZE]] * 2, dtype=torch.float32),
        **step,
    }
    restore = {
        **{name: random.normal(*second) for name in state},
        "control": random.uniform(1, 3, 8 * second[2], 8 * second[3]),
        **text,
        **step,
    }
    inpaint_axes = dict.fromkeys((*state, "mask", "masked_latent"), _FREE_SIZE)
    inpaint_axes |= {"context": {0: "n"}, "pooled": {0: "n"}, "time_ids": {0: "n"}}
    restore_axes = {**dict.fromkeys(state, _FREE_SIZE), "control": {2: "H", 3: "W"}, "context": {0: "n"}}
    outputs = ["next", "clean"]
    return [
        ("inpaint_step", InpaintStep(models.inpaint.unet), inpaint, outputs, inpaint_axes),
        ("restore_step", RestoreStep(models.restore), restore, outputs, restore_axes),
    ]


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
        "restore_text": "clip_text",
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
    """Writes the bundle into `folder`, replacing its contents; returns the manifest and each graph's error."""
    for part in ("components", "tokenizers"):
        shutil.rmtree(folder / part, ignore_errors=True)
    errors = export_components(models, folder)
    target = folder / "tokenizers" / "clip.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(models.tokenizer_file, target)
    return write(folder, manifest or draft_manifest(models)), errors
