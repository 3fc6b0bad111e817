"""Stage 2 from a published PASD: four components, a tokenizer and its section of the manifest join a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from grefine_export.checkpoints import public_name
from grefine_export.choices import Operators, Precision, VaePrecision
from grefine_export.models.fused_attention import fuse_attention
from grefine_export.models.gates import split_gates
from grefine_export.models.inpaint import TextEncoder
from grefine_export.models.pasd import PasdUNet
from grefine_export.models.pasd_attention import chunk_pasd
from grefine_export.models.pasd_loading import PasdCheckpoint, Sd15
from grefine_export.models.sd_tokenizer import read_sd_tokenizer
from grefine_export.onnx.component import (
    Job,
    check_manifest,
    identity,
    number_bytes,
    read_manifest,
)
from grefine_export.onnx.step import RestoreStep
from grefine_export.sampling import sampling
from grefine_export.stage_bundle import TEXT_LENGTH, Say, StageBundle, made_of, multiple_of
from grefine_export.vae_component import precision_of
from grefine_rt.bundle.manifest import SECTION_COMPONENTS, ColorFix, Decoding, Restore
from grefine_rt.contract import Solver

TOKENIZER = "tokenizers/restore.json"
COMPONENTS = SECTION_COMPONENTS["restore"]
SCHEDULE = {
    "train_steps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "spacing": "linspace",
    "offset": 1,
}
"""Stable Diffusion's noise, at the steps that the authors' UniPC visits: evenly, from 999 down."""


@dataclass(frozen=True)
class RestoreOptions:
    """The making of stage 2. The defaults are PASD's authors' but for the start: they noise the picture's latent
    at t = 999 and once more at t = 900, which leaves little of it. G-Refine wants a mild pass: a run at `delta` noises
    the latent once, to the level of its first step, and makes the last int(steps * delta) of `steps` UNet calls. UniPC
    has no table in the runtime; dpm++2m is of its order.

    unet_precision, text_precision, vae_precision: see `component.Precision`. operators: see `choices.Operators`.
    personalised: the base's UNet weights take the place of PASD's own of the same names, as the authors do for other
    styles. tokenizer: folder or file, for a base that is a single file; the bundle's own CLIP tokenizer where none is
    given. resolution, steps, delta, solver, guidance, conditioning_scale, prompt_suffix, negative_prompt, decoding,
    color_fix, rescale, interval, tile: see `grefine_rt.bundle.manifest.Restore`; the graphs are made for work pictures
    up to the larger of `resolution` and `tile`, about square. origin: of the weights, for the manifest.
    """

    unet_precision: Precision = "fp16"
    text_precision: Precision = "fp16"
    vae_precision: VaePrecision = "auto"
    personalised: bool = False
    tokenizer: str = ""
    resolution: int = 1024
    steps: int = 10
    delta: float = 0.2
    solver: Solver = "dpm++2m"
    guidance: float = 9.0
    conditioning_scale: float = 1.0
    prompt_suffix: str = "clean, high-resolution, 8k"
    negative_prompt: str = "blurry, dotted, noise, raster lines, unclear, lowres, over-smoothed"
    decoding: Decoding = "quality"
    color_fix: ColorFix = "quality"
    rescale: float = 0.0
    interval: tuple[float, ...] = (0.0, 1.0)
    tile: int = 1024
    origin: str = ""
    license: str = "unknown"
    operators: Operators = "portable"


def add_restore(
    bundle: Path,
    checkpoint: str,
    base: str,
    options: RestoreOptions = RestoreOptions(),
    say: Say = print,
) -> dict[str, float]:
    """Export PASD into the folder `bundle`, enter it into `bundle.json`, and return each component's relative error
    against torch. A stage 2 that is there is replaced; a component made from the same inputs is kept.

    Args:
        checkpoint: PASD or PASD-light, plain or RRDB: the folder that has `unet` and `controlnet`, one above it, or a
            hub id.
        base: Stable Diffusion 1.5 or a fine-tune, for autoencoder, text encoder and tokenizer: a diffusers folder, a
            file with the original names, or a hub id.

    Raises FileNotFoundError, ConnectionError and ValueError (one sentence) for inputs that cannot be had, read or used,
    ParityError for a graph that differs from its module, BundleError for options out of range and a damaged
    `bundle.json`.
    """
    manifest = read_manifest(bundle)
    pasd, sd15 = PasdCheckpoint.find(checkpoint, say), Sd15.find(base, options.personalised, say)
    noise = _noise(pasd.scheduler(), say)
    stage = StageBundle(bundle, "restore", say)
    settings = _settings(pasd.unet_config(), noise, options)
    origin = options.origin or f"{public_name(checkpoint)} on {public_name(base)}"
    manifest = stage.entered(manifest, settings, {TOKENIZER: "ids"}, origin, options.license)
    check_manifest(manifest)
    tokenizer = _tokenizer(sd15, options, bundle, manifest)
    side = max(options.resolution, options.tile)
    # What takes longest comes last, when nothing else can fail.
    errors = stage.export(
        "text", lambda: text_job(sd15), options.text_precision, text=identity(sd15.files("text_encoder"))
    )
    errors |= stage.export_vae(
        sd15.vae,
        sd15.files("vae"),
        precision_of(options.vae_precision, options.unet_precision, sd15.vae, "fp16-storage", upcast=False),
        side,
        bool(options.tile),
        options.operators,
    )
    errors |= stage.export(
        "step",
        lambda: step_job(pasd, sd15, options, side),
        options.unet_precision,
        pasd=identity(pasd.files()),
        personalised=identity(sd15.files("unet")) if options.personalised else [],
        conditioning_scale=options.conditioning_scale,
        side=side,
        **made_of(options.operators),
    )
    stage.finish(manifest, [TOKENIZER], [tokenizer])
    return errors


# --- components


def text_job(sd15: Sd15) -> Job:
    encoder = sd15.text_encoder()
    end, length = encoder.config.vocab_size - 1, encoder.config.max_position_embeddings
    ids = torch.randint(0, end - 1, (3, length), generator=_generator())
    ids[0, length // 3 :], ids[1:, -1] = end, end
    return Job(TextEncoder(encoder, "last"), {"ids": ids}, {"ids": ids[:2]}, ["context"], {"ids": {0: "n"}})


def step_job(pasd: PasdCheckpoint, sd15: Sd15, options: RestoreOptions, side: int) -> Job:
    weights = sd15.unet_weights(pasd.unet_config()) if options.personalised else {}
    model = pasd.load(weights)
    if options.operators == "portable":
        chunk_pasd(model, side, number_bytes(options.unet_precision))
    else:
        fuse_attention(model)
    split_gates(model)
    inputs, check = (_step_inputs(model, *size) for size in ((16, 24), (24, 16)))
    axes = {name: {2: "h", 3: "w"} for name in ("sample", "previous", "noise")}
    axes |= {"control": {2: "H", 3: "W"}, "context": {0: "n", 1: "L"}}
    step = RestoreStep(model, options.conditioning_scale).eval()
    return Job(step, inputs, check, ["next", "clean"], axes, operators=options.operators)


def _step_inputs(pasd: PasdUNet, height: int, width: int) -> dict[str, Tensor]:
    generator = _generator()
    latents = {
        name: torch.randn(1, pasd.unet.config.out_channels, height, width, generator=generator)
        for name in ("sample", "previous", "noise")
    }
    return {
        **latents,
        "control": torch.rand(1, 3, 8 * height, 8 * width, generator=generator),
        "context": torch.randn(2, TEXT_LENGTH, pasd.unet.config.cross_attention_dim, generator=generator),
        "timestep": torch.tensor([181.0]),
        # A row of DPM-Solver++ late in a schedule, with guidance and rescale.
        "coefficients": torch.tensor([1.0, 1.1, -0.5, 0.6, 0.5, -0.1, 0.05, 9.0, 0.5]),
    }


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(19)


# --- the bundle


def _tokenizer(sd15: Sd15, options: RestoreOptions, bundle: Path, manifest: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of the base's folder, else the one given, else the bundle's CLIP tokenizer."""
    vocabulary = sd15.vocabulary()
    if options.tokenizer:
        return read_sd_tokenizer(Path(options.tokenizer).expanduser(), vocabulary)
    if folder := sd15.tokenizer_folder():
        return read_sd_tokenizer(folder, vocabulary)
    try:
        return read_sd_tokenizer(bundle / manifest["tokenizers"]["alignment_text"][0]["file"], vocabulary)
    except ValueError as error:
        raise ValueError(
            "a base in a single file has no tokenizer, and the bundle's is not CLIP's: give --tokenizer"
        ) from error


def _noise(scheduler: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Prediction and schedule of the manifest: of a PASD's own `scheduler_config.json`, if it has one, at the steps of
    the authors' UniPC. Raises ValueError for a noise that the runtime does not have, zero terminal SNR among
    others."""
    if not scheduler:
        return {"prediction": "epsilon", "schedule": SCHEDULE}
    how = sampling(scheduler, solver="dpm++2m", spacing="linspace")
    schedule = dataclasses.asdict(how.schedule)
    if {"prediction": how.prediction, "schedule": schedule} != {
        "prediction": "epsilon",
        "schedule": SCHEDULE,
    }:
        say("the PASD has a scheduler of its own: stage 2 is run with its noise")
    return {"prediction": how.prediction, "schedule": schedule}


def _settings(unet: Mapping[str, Any], noise: Mapping[str, Any], options: RestoreOptions) -> dict[str, Any]:
    """The manifest's section of stage 2."""
    multiple = multiple_of(unet)
    if options.resolution % multiple or options.tile % multiple:
        raise ValueError(
            f"resolution and tile must be multiples of {multiple}, but are {options.resolution} and {options.tile}"
        )
    settings = {field.name for field in dataclasses.fields(Restore)}
    return {
        **{name: value for name, value in dataclasses.asdict(options).items() if name in settings},
        "multiple": multiple,
        **noise,
        "latent_channels": unet.get("out_channels", 4),
    }
