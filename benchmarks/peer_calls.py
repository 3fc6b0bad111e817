"""The same work in this project and as people would do it otherwise, each as a call with a clock, for `peers.py`."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionXLInpaintPipeline
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from benchmarks.assessor import prompts
from grefine_export.models.clip_prompts import PUBLISHED_ALPHA
from grefine_export.models.clip_surgery import MEAN, STD
from grefine_export.models.pasd_loading import PasdCheckpoint, Sd15
from grefine_export.pasd_bundle import RestoreOptions
from grefine_rt import Assessor
from grefine_rt.arrays import Floats
from grefine_rt.bench import middle, picture
from grefine_rt.diffusion.noise import gaussian
from grefine_rt.diffusion.regenerate import Redrawing
from grefine_rt.diffusion.restore import NOISE_STREAM, restore
from grefine_rt.engine.base import Engine
from grefine_rt.models.bundle import Bundle
from grefine_rt.models.warm_up import PROMPT

STEPS, STRENGTH, GUIDANCE, SEED = 10, 0.99, 7.5, 0


@dataclass
class Timed:
    """Calls `work`. result: what the last call gave. outside: shares of each call's time outside of `engines`."""

    work: Callable[[], Any]
    engines: Sequence[Engine] = ()
    result: Any = None
    outside: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        """Seconds of one call."""
        inside, start = self._inside(), time.perf_counter()
        self.result = self.work()
        seconds = time.perf_counter() - start
        self.outside.append(1 - (self._inside() - inside) / seconds)
        return seconds

    def _inside(self) -> float:
        return sum(engine.seconds for engine in self.engines)


def engines(bundle: Bundle, stage: str) -> list[Engine]:
    """Every engine of a stage, loaded."""
    return [bundle.engine(name) for name in bundle.manifest.components if name.startswith(stage)]


def dtype_on(device: str) -> torch.dtype:
    """The precision of torch's modules: half on a GPU, for which a CPU has no use."""
    return torch.float32 if device == "cpu" else torch.float16


# --- stage 1


def our_stage1(bundle: Bundle, side: int) -> Timed:
    """From picture, mask and prompt to the picture (H, W, 3)."""
    pixels, mask = picture(side).astype(np.float32) / 255, middle(side)

    def work() -> Floats:
        drawing = Redrawing(bundle, pixels, mask, PROMPT, strength=STRENGTH, guidance=GUIDANCE)
        return drawing.draw(seed=SEED, steps=STEPS, solver="euler").image

    return Timed(work, engines(bundle, "inpaint"))


def diffusers_stage1(
    pipeline: StableDiffusionXLInpaintPipeline, side: int, compiled: bool, **texts: Any
) -> Timed:
    """The same by diffusers' pipeline; its noise is another. texts: arguments of its call."""
    if compiled:
        pipeline.unet.compile()
        pipeline.vae.decoder.compile()
    pipeline.set_progress_bar_config(disable=True)
    work = partial(
        pipeline,
        **texts,
        image=Image.fromarray(picture(side)),
        mask_image=Image.fromarray(middle(side)),
        height=side,
        width=side,
        num_inference_steps=STEPS,
        strength=STRENGTH,
        guidance_scale=GUIDANCE,
        output_type="np",
    )
    return Timed(lambda: work().images[0])


@contextlib.contextmanager
def optimum_stage1(
    python: str, pipeline: Path, side: int, threads: int, device: str = "cpu"
) -> Iterator[Callable[[], float]]:
    """The same by optimum, in a process of the environment that `python` belongs to."""
    script = Path(__file__).with_name("optimum_peer.py")
    command = [python, str(script), str(pipeline), str(threads), device]
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("picture.png", "mask.png")]
        Image.fromarray(picture(side)).save(files[0])
        Image.fromarray(middle(side)).save(files[1])
        settings = json.dumps([PROMPT, side, STEPS, STRENGTH, GUIDANCE])
        with subprocess.Popen(
            [*command, *files, settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin
            assert process.stdout

            def call() -> float:
                print("run", file=process.stdin, flush=True)
                answer = process.stdout.readline() if process.stdout else ""
                if not answer:
                    raise SystemExit("error: the process of optimum ended: its reason stands above.")
                return float(answer)

            yield call
            process.stdin.close()


# --- stage 2


def our_stage2(bundle: Bundle, side: int) -> Timed:
    """From picture and prompt to the picture (H, W, 3), decoded plainly, without the colour fix."""
    work = partial(
        restore,
        bundle,
        picture(side).astype(np.float32) / 255,
        PROMPT,
        seed=SEED,
        delta=STRENGTH,
        steps=STEPS,
        guidance=GUIDANCE,
        decoding="plain",
        color_fix="off",
    )
    return Timed(lambda: work().image, engines(bundle, "restore"))


def torch_stage2(checkpoint: Path, base: Path, side: int, compiled: bool, device: str = "cpu") -> Timed:
    """The same, with the same noise, by plain torch modules and diffusers' scheduler."""
    sd15 = Sd15.find(str(base))
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    encoder, vae, pasd = (
        sd15.text_encoder(),
        sd15.vae().requires_grad_(False),
        PasdCheckpoint.find(str(checkpoint)).load(),
    )
    dtype = dtype_on(device)
    for module in (encoder, vae, pasd):
        module.to(device, dtype)
    if compiled:
        pasd.compile()
        vae.decoder.compile()
    options = RestoreOptions()
    texts = [options.negative_prompt, f"{PROMPT}, {options.prompt_suffix}"]
    noise = torch.from_numpy(gaussian(SEED, NOISE_STREAM, (1, 4, side // 8, side // 8))).to(device)

    def work() -> Floats:
        rgb = torch.from_numpy(picture(side).astype(np.float32) / 255)
        control = rgb.permute(2, 0, 1)[None].to(device, dtype)
        ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            context = encoder(ids.input_ids.to(device)).last_hidden_state
        return torch_restore(pasd, vae, control, context, noise)

    return Timed(work)


@torch.inference_mode()
def torch_restore(
    pasd: nn.Module, vae: AutoencoderKL, control: Tensor, context: Tensor, noise: Tensor
) -> Floats:
    """Stage 2 as the exporter's defaults make it, on the device and in the precision of its arguments.

    control: (1, 3, H, W) in [0, 1]. context: (2, L, D), the negative prompt first. noise: (1, 4, h, w) float32.
    Returns the picture (H, W, 3) in [0, 1] on the host.
    """
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="linspace"
    )
    scheduler.set_timesteps(STEPS, device=control.device)
    first = STEPS - int(STEPS * STRENGTH)
    scheduler.set_begin_index(first)
    steps = scheduler.timesteps[first:]
    latent = vae.encode(2 * control - 1).latent_dist.mode().float() * vae.config.scaling_factor
    sample = scheduler.add_noise(latent, noise, steps[:1])
    for step in steps:
        rows = sample.to(context.dtype).expand(len(context), -1, -1, -1)
        negative, positive = pasd(rows, step[None], context, control).float().chunk(2)
        model = negative + GUIDANCE * (positive - negative)
        sample = scheduler.step(model, step, sample, return_dict=False)[0]
    image = vae.decode((sample / vae.config.scaling_factor).to(control.dtype), return_dict=False)[0]
    return (image[0].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1).float().cpu().numpy()


# --- assessment


def our_assessment(bundle: Path, side: int, device: str, threads: int | None, batch: int = 1) -> Timed:
    """Everything that `Assessor` does for `batch` pictures, each with a prompt not seen before; result: p of each."""
    assessor = Assessor.load(bundle, device, threads)
    images, texts = [picture(side)] * batch, prompts()

    def work() -> Floats:
        found = assessor.assess_batch(images, [next(texts) for _ in range(batch)], batch=batch)
        return np.array([one.perceptual for one in found], np.float32)

    return Timed(work, [assessor.bundle.engine(name) for name in ("perceptual", "alignment_text")])


def torch_assessment(
    clip: CLIPModel, t_p: Tensor, tokenizer: Any, side: int, compiled: bool, batch: int = 1
) -> Timed:
    """Both scores, and no map, by transformers: the picture against T_p (4, 2, d) and against the prompt; result: p.

    The model's device and precision are used. tokenizer: one of `tokenizers`, padded to the model's length.
    """
    if compiled:
        clip.compile()
    device, dtype = clip.device, clip.dtype
    pairs = nn.functional.normalize(t_p, dim=-1).to(device, dtype)
    alpha = torch.tensor(PUBLISHED_ALPHA, device=device)
    length, end = clip.config.text_config.max_position_embeddings, clip.config.text_config.eos_token_id
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
    texts = prompts()

    def ids(text: str) -> list[int]:
        found = tokenizer.encode(f"<|startoftext|> {text} <|endoftext|>").ids[:length]
        return found + [end] * (length - len(found))

    @torch.inference_mode()
    def work() -> Floats:
        rgb = torch.from_numpy(np.stack([picture(side)] * batch)).to(device)
        pixels = ((rgb.permute(0, 3, 1, 2) / 255 - mean) / std).to(dtype)
        words = torch.tensor([ids(next(texts)) for _ in range(batch)], device=device)
        made = clip(input_ids=words, pixel_values=pixels)
        scale = clip.logit_scale.exp()
        good = torch.sigmoid((scale * made.image_embeds @ (pairs[:, 0] - pairs[:, 1]).T).float())
        p = good[:, 0] * (good[:, 1:] / alpha).clamp(max=1).prod(dim=1)
        torch.sigmoid(scale * (made.image_embeds * made.text_embeds).sum(dim=1)).cpu()
        return p.cpu().numpy()

    return Timed(work)


# --- turns


def that_work(
    calls: Mapping[str, Callable[[], float]],
) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
    """The calls without "compiled" where torch.compile does not work here, and then what it said."""
    kept = dict(calls)
    try:
        calls.get("compiled", lambda: 0.0)()
    except Exception as error:  # of the compiler, of many kinds
        del kept["compiled"]
        return kept, {"compiled": (str(error).strip().splitlines() or [type(error).__name__])[0]}
    return kept, {}


def compare(calls: dict[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """Seconds of each call by round, after one round that warms up; the order turns from round to round."""
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(runs + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            spent = calls[name]()
            if number:
                seconds[name].append(spent)
    return seconds


def ratios(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, lowest and highest ratio of each peer's time by ours, round by round."""
    found = {}
    for name, times in seconds.items():
        if name != "ours":
            each = [theirs / own for theirs, own in zip(times, seconds["ours"], strict=True)]
            found[name] = {"median": statistics.median(each), "low": min(each), "high": max(each)}
    return found


def difference(ours: Floats, theirs: Floats) -> float:
    """Largest difference of two results, by the largest value of theirs."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
