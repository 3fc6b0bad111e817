"""The parts of `benchmarks.cuda_full_size`: models of the real sizes with random weights, ours and theirs."""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import nn

from benchmarks.assessor import word_tokenizer
from benchmarks.full_size import Random
from benchmarks.peer_calls import (
    GUIDANCE,
    SEED,
    STEPS,
    STRENGTH,
    Floats,
    Timed,
    compare,
    difference,
    diffusers_stage1,
    our_assessment,
    ratios,
    that_work,
    torch_assessment,
    torch_restore,
)
from benchmarks.peer_models import clip_model
from benchmarks.roofline import peaks
from benchmarks.step_profile import LENGTH, by_operator, step_inputs
from grefine_export import inpaint_bundle, pasd_bundle
from grefine_export.choices import Precision, Weights
from grefine_export.clip_bundle import Batch, Source, write_bundle
from grefine_export.models.clip_loading import image_size, surgery
from grefine_export.onnx.component import export_component
from grefine_export.onnx.cost import cost_at
from grefine_export.onnx.step import InpaintStep, RestoreStep
from grefine_export.vae_component import decode_job, encode_job
from grefine_rt.bench import middle, picture
from grefine_rt.contract import Schedule
from grefine_rt.diffusion import solver
from grefine_rt.diffusion.loop import denoise, to_planes
from grefine_rt.diffusion.noise import gaussian
from grefine_rt.diffusion.regenerate import NOISE_STREAM
from grefine_rt.diffusion.tiling import tiled_decode, tiled_encode
from grefine_rt.engine.base import Engine
from grefine_rt.engine.onnxruntime.replay import ReplayEngine
from grefine_rt.engine.onnxruntime.session import CudaOptions, OnnxEngine
from grefine_rt.imaging.mask import to_latent


@dataclass(frozen=True)
class Options:
    """See the command's help."""

    device: str = "cuda"
    width: float = 1.0
    side: int = 1024
    runs: int = 5
    compiled: bool = True
    graphs: Path = Path("graphs")
    nhwc: bool = False
    export: bool = False
    cuda_graphs: bool = False

    @property
    def precision(self) -> Precision:
        """Of all graphs and modules; a CPU has no use for half precision."""
        return "fp32" if self.device == "cpu" else "fp16"

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.device == "cpu" else torch.float16

    @property
    def cuda(self) -> CudaOptions:
        """Of our sessions."""
        return CudaOptions(nhwc=self.nhwc)

    @property
    def names(self) -> tuple[str, ...]:
        """The peers."""
        return ("eager", "compiled") if self.compiled else ("eager",)


def sdxl(options: Options) -> dict[str, Any]:
    """Stage 1."""
    unet, vae = _random(lambda: Random(options.width).unet(), lambda: Random(options.width).vae())
    settings = inpaint_bundle.InpaintOptions(unet_precision=options.precision)
    source: Any = SimpleNamespace(unet=lambda: _twin(unet))  # export changes layers
    step = partial(inpaint_bundle.step_job, source, [], settings, options.side)
    files = _export("inpaint", step, vae, options)
    if options.export:
        return {}
    engines, profile = _opened(files, options)
    side, cells = options.side, options.side // 8
    rows = solver.step_table(
        Schedule(1000, 0.00085, 0.012, "leading", 1), "euler", STEPS, STRENGTH, guidance=GUIDANCE
    )
    rgb, mask = picture(side).astype(np.float32) / 255, middle(side)
    noise = gaussian(SEED, NOISE_STREAM, (1, 4, cells, cells))
    rng = np.random.default_rng(SEED)
    context, pooled = (
        rng.standard_normal((2, *shape), np.float32)
        for shape in ((LENGTH, unet.config.cross_attention_dim), (1280,))
    )
    size = np.tile(np.array([side, side, 0, 0, side, side], np.float32), (2, 1))

    def ours() -> Floats:
        signed = rgb * np.float32(2) - np.float32(1)
        latent = tiled_encode(engines["encode"], signed, 0)
        masked = tiled_encode(engines["encode"], np.where(mask[..., None], np.float32(0), signed), 0)
        constants = {"mask": to_latent(mask, (cells, cells))[None, None], "masked_latent": masked}
        told = {"context": context, "pooled": pooled, "time_ids": size}
        latent = denoise(engines["step"], rows, latent, noise, constants, told)
        return np.clip(tiled_decode(engines["decode"], latent, 0), 0, 1)

    _place(unet, options)
    _place(vae, options)
    vae.register_to_config(force_upcast=False)  # else half precision would be ours alone
    found = _agreement(engines["step"], InpaintStep(unet), options)
    texts = [torch.from_numpy(rows).to(options.device, options.dtype) for rows in (context, pooled)]
    calls: dict[str, Any] = {"ours": Timed(ours, list(engines.values()))}
    for name in options.names:
        calls[name] = diffusers_stage1(
            _sdxl_pipeline(*((unet, vae) if name == "eager" else (_twin(unet), _twin(vae)))),
            side,
            name == "compiled",
            prompt_embeds=texts[0][1:],
            negative_prompt_embeds=texts[0][:1],
            pooled_prompt_embeds=texts[1][1:],
            negative_pooled_prompt_embeds=texts[1][:1],
        )
    found |= _timed(calls, engines["step"], files["step"], options)
    return found | {"profile": profile}


def _sdxl_pipeline(unet: Any, vae: Any) -> StableDiffusionXLInpaintPipeline:
    """diffusers' pipeline for embeddings, with the schedule of `sdxl`."""
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        timestep_spacing="leading",
    )
    texts = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    return StableDiffusionXLInpaintPipeline(unet=unet, vae=vae, scheduler=scheduler, **texts)


def pasd(options: Options) -> dict[str, Any]:
    """Stage 2."""
    model, vae = _random(lambda: Random(options.width).pasd(), lambda: Random(options.width).vae())
    settings = pasd_bundle.RestoreOptions(unet_precision=options.precision)
    checkpoint: Any = SimpleNamespace(load=lambda weights: _twin(model))
    base: Any = None  # needed for personalised models alone
    step = partial(pasd_bundle.step_job, checkpoint, base, settings, options.side)
    files = _export("restore", step, vae, options)
    if options.export:
        return {}
    engines, profile = _opened(files, options)
    side, cells = options.side, options.side // 8
    rows = solver.step_table(Schedule(**pasd_bundle.SCHEDULE), "dpm++2m", STEPS, STRENGTH, guidance=GUIDANCE)
    rgb = picture(side).astype(np.float32) / 255
    noise = gaussian(SEED, NOISE_STREAM, (1, 4, cells, cells))
    context = np.random.default_rng(SEED).standard_normal(
        (2, LENGTH, model.unet.config.cross_attention_dim), np.float32
    )

    def ours() -> Floats:
        latent = tiled_encode(engines["encode"], rgb * np.float32(2) - np.float32(1), 0)
        latent = denoise(
            engines["step"], rows, latent, noise, {"control": to_planes(rgb)}, {"context": context}
        )
        return np.clip(tiled_decode(engines["decode"], latent, 0), 0, 1)

    _place(model, options)
    _place(vae, options)
    found = _agreement(engines["step"], RestoreStep(model), options)
    control, texts = (
        torch.from_numpy(array).to(options.device, options.dtype) for array in (to_planes(rgb), context)
    )
    start = torch.from_numpy(noise).to(options.device)
    calls: dict[str, Any] = {"ours": Timed(ours, list(engines.values()))}
    for name in options.names:
        modules = (model, vae) if name == "eager" else (_twin(model), _twin(vae))
        if name == "compiled":
            modules[0].compile()
            modules[1].decoder.compile()
        calls[name] = Timed(partial(torch_restore, *modules, control, texts, start))
    found |= _timed(calls, engines["step"], files["step"], options)
    found["differences"] = _differences(calls)
    return found | {"profile": profile}


def clip(options: Options) -> dict[str, Any]:
    """The assessment: everything that `Assessor` does, against both scores by transformers."""
    model, words = clip_model("eighth" if options.width == 1 else "embedded"), word_tokenizer()
    compute: Weights = "fp32" if options.device == "cpu" else "fp16"
    side, bundle = image_size(model), options.graphs / f"clip-{options.width}-{compute}"
    t_p = torch.randn(4, 2, model.config.projection_dim, generator=torch.Generator().manual_seed(3))
    if not (bundle / "bundle.json").is_file():
        with tempfile.TemporaryDirectory(dir=options.graphs) as folder:
            made = Path(folder) / "bundle"
            source = Source("random", "none")
            write_bundle(
                made, surgery(model), t_p, words, source, batch=Batch(1, 16), say=print, compute=compute
            )
            made.rename(bundle)
    if options.export:
        return {}
    _place(model, options)
    found: dict[str, Any] = {}
    for batch in (1, 16):
        calls: dict[str, Any] = {"ours": our_assessment(bundle, side, options.device, None, batch)}
        for name in options.names:
            peer = model if name == "eager" else _twin(model)
            calls[name] = torch_assessment(peer, t_p, words, side, name == "compiled", batch)
        row = found[f"batch {batch}"] = _turns(calls, options)
        row["differences"] = _differences(calls)
    return found


# --- what the parts share


def _random(*builders: Any) -> list[Any]:
    """Modules with random weights, the same in every run."""
    torch.manual_seed(0)
    return [build().requires_grad_(False).eval() for build in builders]


def _export(stage: str, step: Any, vae: Any, options: Options) -> dict[str, Path]:
    """The graphs of a stage, made unless they are there."""
    precision, files = options.precision, {}
    jobs = {
        "encode": partial(encode_job, lambda: vae, precision, options.side, False),
        "decode": partial(decode_job, lambda: vae, precision, options.side, False),
        "step": step,
    }
    for part, job in jobs.items():
        vae.float()  # the job before may have cast it
        files[part] = options.graphs / f"{stage}_{part}.onnx"
        export_component(files[part], job, precision, {"random": options.width, "side": options.side}, print)
    return files


def _opened(files: Mapping[str, Path], options: Options) -> tuple[dict[str, Engine], list[dict[str, Any]]]:
    """The engines of a stage's graphs, and the step's profile by operator."""

    def opened(part: str) -> Engine:
        if part == "step" and options.cuda_graphs:
            return ReplayEngine(files[part], options.device, nhwc=options.nhwc)
        return OnnxEngine(files[part], options.device, cuda=options.cuda)

    engines = {part: opened(part) for part in files}
    return engines, by_operator(engines["step"], files["step"], options.side, options.cuda)


def _place(module: nn.Module, options: Options) -> None:
    """The module on the device, in the precision of the graphs, with diffusers' own attention."""
    module.to(options.device, options.dtype)
    for part in module.modules():
        if isinstance(part, Attention):
            part.set_processor(AttnProcessor2_0())


def _twin(module: Any) -> Any:
    """A module with the same weights in the same memory, that can be compiled beside the first."""
    return copy.deepcopy(module, {id(weight): weight for weight in (*module.parameters(), *module.buffers())})


def _agreement(engine: Engine, step: nn.Module, options: Options) -> dict[str, float]:
    """How far one run of the graph is from torch on the same device."""
    arrays = step_inputs(engine.inputs, min(options.side, 256))
    with torch.inference_mode():
        given = {name: torch.from_numpy(array).to(options.device) for name, array in arrays.items()}
        expected = step(**given)[0].cpu().numpy()
    return {"step_difference": difference(engine.run(arrays)["next"], expected)}


def _differences(calls: Mapping[str, Timed]) -> dict[str, float]:
    """How far the results of those that gave any are from ours."""
    ours = calls["ours"].result
    return {
        name: difference(ours, call.result)
        for name, call in calls.items()
        if name != "ours" and call.result is not None
    }


def _turns(calls: Mapping[str, Any], options: Options) -> dict[str, Any]:
    kept, failed = that_work(calls)
    seconds = compare(kept, options.runs)
    return {
        "seconds": seconds,
        "failed": failed,
        "ratios": ratios(seconds),
        "outside": statistics.median(calls["ours"].outside[1:]),
    }


def _timed(calls: Mapping[str, Any], step: Engine, file: Path, options: Options) -> dict[str, Any]:
    """Seconds and ratios of whole calls; the UNet's speed against that of a matrix product."""
    if options.cuda_graphs:
        step.run(step_inputs(step.inputs, options.side))  # captured now, not in what is averaged
    before = step.seconds
    found = _turns(calls, options)
    one = (step.seconds - before) / ((options.runs + 1) * int(STEPS * STRENGTH))
    sizes = {"h": options.side // 8, "w": options.side // 8, "H": options.side, "W": options.side}
    flops = cost_at(onnx.load(file, load_external_data=False), {**sizes, "n": 2, "L": LENGTH}).flops
    peak, bandwidth = peaks(step.device, None, half=options.precision == "fp16")
    return found | {
        "step": {"ms": 1000 * one, "tflop": flops / 1e12, "tflops": flops / one / 1e12},
        "peak_tflops": peak / 1e12,
        "copy_gbs": bandwidth / 1e9,
        "share_of_peak": flops / one / peak,
    }
