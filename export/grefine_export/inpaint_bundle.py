"""Stage 1 from an SDXL checkpoint: four components, both tokenizers and its section of the manifest join a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from tokenizers import Tokenizer
from torch import Tensor

from grefine_export.checkpoints import public_name
from grefine_export.choices import Operators, Precision, VaePrecision
from grefine_export.models.clip_tokenizer import read_tokenizer
from grefine_export.models.fused_attention import fuse_attention
from grefine_export.models.gates import split_gates
from grefine_export.models.inpaint import TIME_IDS, TextEncoderPair
from grefine_export.models.lora import Lora, fuse, locate_lora, read_lora
from grefine_export.models.pasd_attention import chunk_unet
from grefine_export.models.sd_tokenizer import SDXL_PADS, padded_with, read_sd_tokenizer
from grefine_export.models.sdxl_loading import SdxlCheckpoint, pipeline_path
from grefine_export.onnx.component import (
    Job,
    check_manifest,
    identity,
    number_bytes,
    read_manifest,
)
from grefine_export.onnx.step import BlendedStep, InpaintStep
from grefine_export.sampling import Sampling, differences, sampling
from grefine_export.stage_bundle import TEXT_LENGTH, Say, StageBundle, made_of, multiple_of
from grefine_export.vae_component import generator, precision_of
from grefine_rt.bundle.manifest import SECTION_COMPONENTS
from grefine_rt.contract import Prediction, Solver, Spacing

TOKENIZERS = ("tokenizers/inpaint.json", "tokenizers/inpaint_2.json")
COMPONENTS = SECTION_COMPONENTS["inpaint"]
LICENSE = "CreativeML Open RAIL++-M"
"""The licence of SDXL and of its inpainting model."""


@dataclass(frozen=True)
class InpaintOptions:
    """The making of stage 1. None and "" stand for the checkpoint's own values.

    unet_precision, text_precision, vae_precision: see `component.Precision`; SDXL's own autoencoder overflows in half
    precision, and is exported in fp32 unless another takes its place. operators: see `choices.Operators`. unet, vae:
    checkpoints whose UNet or autoencoder takes the place of the checkpoint's own. loras: (file, folder or hub id;
    scale), fused in this order. tokenizer: folder or file, for a checkpoint that is a single file; the bundle's own
    CLIP tokenizer where none is given. embedded_guidance: the guidance that a latent consistency model is told, a
    constant of the graph. origin: of the weights, for the manifest. The others: see
    `grefine_rt.bundle.manifest.Inpaint`; attention is cut up for work pictures up to the larger of `resolution` and
    `tile`, about square.
    """

    unet_precision: Precision = "fp16"
    text_precision: Precision = "fp16"
    vae_precision: VaePrecision = "auto"
    unet: str = ""
    vae: str = ""
    loras: tuple[tuple[str, float], ...] = ()
    tokenizer: str = ""
    solver: Solver | None = None
    spacing: Spacing | None = None
    prediction: Prediction | None = None
    steps: int | None = None
    guidance: float | None = None
    embedded_guidance: float = 8.0
    negative: Literal["zeros", "encoded"] | None = None
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    drafts: int = 1
    sketch_steps: int = 0
    tile: int = 1024
    smallest: int = 512
    resolution: int | None = None
    origin: str = ""
    license: str = LICENSE
    operators: Operators = "portable"


def add_inpaint(
    bundle: Path, checkpoint: str, options: InpaintOptions = InpaintOptions(), say: Say = print
) -> dict[str, float]:
    """Export SDXL into the folder `bundle`, enter it into `bundle.json`, and return each component's relative error
    against torch. A stage 1 that is there is replaced; a component made from the same inputs is kept.

    Args:
        checkpoint: diffusers folder, safetensors file with the original names, or hub id; a UNet of 9 channels
            (inpainting), or of 4, whose surroundings are then blended in between steps.

    Raises FileNotFoundError, ConnectionError and ValueError (one sentence) for inputs that cannot be had, read or used,
    ParityError for a graph that differs from its module, BundleError for a damaged `bundle.json`.
    """
    manifest = read_manifest(bundle)
    source = SdxlCheckpoint(
        pipeline_path(checkpoint, say),
        pipeline_path(options.unet, say) if options.unet else None,
        pipeline_path(options.vae, say) if options.vae else None,
    )
    source.check()
    loras = [(locate_lora(name, say), scale) for name, scale in options.loras]
    fused = [(read_lora(path), scale) for path, scale in loras]
    config = source.unet_config()
    how = _sampling(source, config, options, say)
    tokenizers = _tokenizers(source, options, bundle, manifest)
    stage = StageBundle(bundle, "inpaint", say)
    settings = _settings(config, how, source, options)
    origin = options.origin or _origin(checkpoint, options)
    inputs = dict(zip(TOKENIZERS, ("ids", "ids_2"), strict=True))
    check_manifest(manifest := stage.entered(manifest, settings, inputs, origin, options.license))
    side = max(settings["resolution"], options.tile)
    adapters = [(identity([path]), scale) for path, scale in loras]
    # What takes longest comes last, when nothing else can fail.
    errors = stage.export(
        "text",
        lambda: text_job(source, fused),
        options.text_precision,
        text=identity(source.files("text")),
        loras=adapters,
    )
    errors |= stage.export_vae(
        source.vae,
        source.files("vae"),
        precision_of(options.vae_precision, options.unet_precision, source.vae, "fp32", upcast=True),
        side,
        bool(options.tile),
        options.operators,
    )
    errors |= stage.export(
        "step",
        lambda: step_job(source, fused, options, side),
        options.unet_precision,
        unet=identity(source.files("unet")),
        loras=adapters,
        side=side,
        embedded_guidance=options.embedded_guidance,
        **made_of(options.operators),
    )
    stage.finish(manifest, TOKENIZERS, tokenizers)
    return errors


def _sampling(
    source: SdxlCheckpoint, config: Mapping[str, Any], options: InpaintOptions, say: Say
) -> Sampling:
    """The sampling of the checkpoint. Says options that differ from the checkpoint's own, and v-prediction that a
    single file declares."""
    own, consistency = source.scheduler(), config.get("time_cond_proj_dim") is not None
    how = sampling(
        own,
        consistency,
        solver=options.solver,
        spacing=options.spacing,
        prediction=options.prediction,
        steps=options.steps,
        guidance=options.guidance,
    )
    if source.path.is_file() and own and how.prediction == "v_prediction" and options.prediction is None:
        say("the checkpoint declares that it predicts v: stage 1 is run so")
    try:
        theirs = sampling(own, consistency)
    except ValueError as error:
        say(
            f"{error}; it is run with the solver {how.solver}, {how.steps} steps and guidance {how.guidance:g}"
        )
        return how
    if other := differences(how, theirs):
        say(f"stage 1 is sampled as asked for, not as its checkpoint says: {other}")
    return how


def fold_guidance(unet: UNet2DConditionModel, guidance: float) -> None:
    """Tell a latent consistency model its guidance once and for all, in place (Luo et al., 2310.04378, section 4.2).

    Such a UNet adds a projection of the embedded `guidance` to its time features in front of a linear layer; for a
    constant guidance that is a change of the layer's bias.
    """
    embedding = unet.time_embedding
    if embedding.cond_proj is None:
        return
    # diffusers' pipelines embed (guidance - 1) * 1000 as they embed time steps, sines first.
    features = get_timestep_embedding(
        torch.tensor([(guidance - 1.0) * 1000.0]), unet.config.time_cond_proj_dim, downscale_freq_shift=1
    )
    with torch.no_grad():
        first = embedding.linear_1
        first.bias.add_(first.weight @ embedding.cond_proj(features)[0])
    embedding.cond_proj = None


# --- components


def text_job(source: SdxlCheckpoint, loras: Sequence[tuple[Lora, float]]) -> Job:
    first, second = source.text_encoders()
    for lora, scale in loras:
        fuse(first, lora, "text_encoder", scale)
        fuse(second, lora, "text_encoder_2", scale)
    end, length = first.config.vocab_size - 1, first.config.max_position_embeddings
    ids = torch.randint(0, end - 1, (3, length), generator=generator())
    ids[0, length // 3 :], ids[1:, -1] = end, end
    inputs = {"ids": ids, "ids_2": ids.flip(1).roll(-1, 1)}
    check = {name: rows[:2] for name, rows in inputs.items()}
    axes = {name: {0: "n"} for name in inputs}
    return Job(TextEncoderPair(first, second), inputs, check, ["context", "pooled"], axes)


def step_job(
    source: SdxlCheckpoint, loras: Sequence[tuple[Lora, float]], options: InpaintOptions, side: int
) -> Job:
    unet = source.unet()
    for lora, scale in loras:
        fuse(unet, lora, "unet", scale)
    fold_guidance(unet, options.embedded_guidance)
    if options.operators == "portable":
        chunk_unet(unet, side, number_bytes(options.unet_precision))
    else:
        fuse_attention(unet)
    split_gates(unet)
    blended = unet.config.in_channels == unet.config.out_channels
    inputs, check = (_step_inputs(unet, blended, *size) for size in ((16, 24), (24, 16)))
    latent = ("sample", "previous", "noise", "mask", "original", "original_noise", "masked_latent")
    axes = {name: {2: "h", 3: "w"} for name in inputs if name in latent}
    axes |= {"context": {0: "n", 1: "L"}, "pooled": {0: "n"}, "time_ids": {0: "n"}}
    step = (BlendedStep if blended else InpaintStep)(unet).eval()
    return Job(step, inputs, check, ["next", "clean"], axes, operators=options.operators)


def _step_inputs(unet: UNet2DConditionModel, blended: bool, height: int, width: int) -> dict[str, Tensor]:
    rng = generator()

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    config = unet.config
    channels = config.out_channels
    pooled = config.projection_class_embeddings_input_dim - TIME_IDS * config.addition_time_embed_dim
    size = 8.0 * torch.tensor([[height, width, 0, 0, height, width]] * 2)
    known = ("original", "original_noise") if blended else ("masked_latent",)
    # A row of an Euler step in the middle of a schedule, with guidance and rescale.
    coefficients = torch.tensor([0.3, 1.0, -3.0, 0.7, 0.3, 0.1, 0.05, 5.0, 0.5, 1.0, 2.0])
    return {
        **{name: normal(1, channels, height, width) for name in ("sample", "previous", "noise")},
        "mask": (normal(1, 1, height, width) > 0).float(),
        **{name: normal(1, channels, height, width) for name in known},
        "context": normal(2, TEXT_LENGTH, config.cross_attention_dim),
        "pooled": normal(2, pooled),
        "time_ids": size,
        "timestep": torch.tensor([421.0]),
        "coefficients": coefficients if blended else coefficients[:9].clone(),
    }


# --- the bundle


def _tokenizers(
    source: SdxlCheckpoint, options: InpaintOptions, bundle: Path, manifest: Mapping[str, Any]
) -> list[Tokenizer]:
    """Both tokenizers: the ones of the pipeline's folder, else CLIP's tokenizer with the paddings of SDXL."""
    folders, vocabularies = source.tokenizer_folders(), source.vocabularies()
    if folders and not options.tokenizer:
        return [read_sd_tokenizer(*each) for each in zip(folders, vocabularies, SDXL_PADS, strict=True)]
    own = manifest["tokenizers"]["alignment_text"][0]["file"]
    given = Path(options.tokenizer).expanduser() if options.tokenizer else bundle / own
    try:
        return [
            padded_with(read_tokenizer(given, size), pad)
            for size, pad in zip(vocabularies, SDXL_PADS, strict=True)
        ]
    except ValueError as error:
        if options.tokenizer:
            raise
        raise ValueError(
            "a checkpoint in a single file has no tokenizer, and the bundle's is not CLIP's: give --tokenizer"
        ) from error


def _settings(
    unet: Mapping[str, Any], how: Sampling, source: SdxlCheckpoint, options: InpaintOptions
) -> dict[str, Any]:
    """The manifest's section of stage 1."""
    return {
        "resolution": options.resolution or 8 * int(unet.get("sample_size") or 128),
        "multiple": multiple_of(unet),
        "steps": how.steps,
        "solver": how.solver,
        "guidance": how.guidance,
        "drafts": options.drafts,
        "sketch_steps": options.sketch_steps,
        "negative": options.negative or ("zeros" if source.zeros_for_empty() else "encoded"),
        "prediction": how.prediction,
        "schedule": dataclasses.asdict(how.schedule),
        "time_ids": True,
        "blended": unet["in_channels"] == unet["out_channels"],
        "latent_channels": unet["out_channels"],
        "rescale": options.rescale,
        "interval": [*options.interval],
        "tile": options.tile,
        "smallest": options.smallest,
    }


def _origin(checkpoint: str, options: InpaintOptions) -> str:
    """The origin of the weights, for the manifest."""
    parts = [public_name(checkpoint)]
    parts += [
        f"{what} {public_name(name)}" for what, name in (("UNet", options.unet), ("VAE", options.vae)) if name
    ]
    parts += [f"LoRA {public_name(name)} at {scale:g}" for name, scale in options.loras]
    return ", ".join(parts)
