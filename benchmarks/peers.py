"""Stage 1 against what people would run otherwise: same weights, machine and run, one after the other in turn.

    python -m benchmarks.peers [--size embedded|eighth] [--runs 10] [--threads 2] [--compile]
                               [--optimum PYTHON] [--json FILE]

Each run is a whole call from picture, mask and prompt to picture: texts, two encodings, 10 steps at strength 0.99 with
guidance 7.5, decoding. Weights are random (`peer_models.py`). The peers:

    eager      diffusers' StableDiffusionXLInpaintPipeline in torch
    compiled   the same with torch.compile on its UNet and decoder (--compile; needs a C++ compiler)
    optimum    optimum's ONNX Runtime pipeline, in an environment of its own, for it needs older libraries:
               pip install torch==2.13.0 "optimum-onnx[onnxruntime]==0.1.0" diffusers==0.39.0

A ratio is peer's time by ours, in the same round; the order within a round changes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionXLInpaintPipeline
from PIL import Image

from benchmarks.peer_models import RESOLUTION, Size, write_pipeline
from grefine_export.inpaint_bundle import InpaintOptions, add_inpaint
from grefine_rt.bench import machine, middle, picture
from grefine_rt.bundle import store
from grefine_rt.diffusion.regenerate import regenerate
from grefine_rt.engine.example import PROMPT

STEPS, STRENGTH, GUIDANCE = 10, 0.99, 7.5
Run = Callable[[], float]
"""One call; the seconds that it took."""


def make_bundle(pipeline: Path, folder: Path) -> Path:
    """The embedded bundle with stage 1 from the pipeline's checkpoint."""
    shutil.copytree(store.find("mini"), folder)
    options = InpaintOptions(
        unet_precision="fp16-storage", text_precision="fp16-storage", vae_precision="fp16-storage"
    )
    add_inpaint(folder, str(pipeline), options, lambda line: None)
    return folder


def ours(bundle: store.Bundle, side: int) -> tuple[Run, Callable[[], float]]:
    """Our call, and the share of its last run that was spent outside of engines."""
    image, mask = picture(side).astype(np.float32) / 255, middle(side)
    engines = [bundle.engine(name) for name in bundle.manifest.components if name.startswith("inpaint")]
    outside = 0.0

    def call() -> float:
        nonlocal outside
        inside = sum(engine.seconds for engine in engines)
        start = time.perf_counter()
        regenerate(
            bundle,
            image,
            mask,
            PROMPT,
            strength=STRENGTH,
            seed=0,
            steps=STEPS,
            solver="euler",
            guidance=GUIDANCE,
        )
        seconds = time.perf_counter() - start
        outside = 1 - (sum(engine.seconds for engine in engines) - inside) / seconds
        return seconds

    return call, lambda: outside


def diffusers_call(pipeline: Any, side: int) -> Run:
    """A call of diffusers' pipeline, or of one of the same form."""
    image, mask = Image.fromarray(picture(side)), Image.fromarray(middle(side))
    pipeline.set_progress_bar_config(disable=True)
    options = {
        "num_inference_steps": STEPS,
        "strength": STRENGTH,
        "guidance_scale": GUIDANCE,
        "output_type": "np",
    }

    def call() -> float:
        start = time.perf_counter()
        pipeline(PROMPT, image=image, mask_image=mask, height=side, width=side, **options)
        return time.perf_counter() - start

    return call


@contextlib.contextmanager
def optimum_call(python: str, pipeline: Path, side: int, threads: int) -> Iterator[Run]:
    """A call in a process of the environment that `python` belongs to."""
    script = Path(__file__).with_name("optimum_peer.py")
    command = [python, str(script), str(pipeline), str(threads)]
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


def compare(calls: dict[str, Run], runs: int) -> dict[str, list[float]]:
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


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(RESOLUTION), default="embedded")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--optimum", metavar="PYTHON", help="interpreter of an environment with optimum-onnx")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size: Size = options.size
    side = RESOLUTION[size]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        checkpoint = write_pipeline(Path(folder) / "pipeline", size)
        made = make_bundle(checkpoint, Path(folder) / "bundle")
        call, outside = ours(store.Bundle.open(made, "cpu", options.threads), side)
        calls = {"ours": call}
        calls["eager"] = diffusers_call(StableDiffusionXLInpaintPipeline.from_pretrained(checkpoint), side)
        if options.compile:
            compiled = StableDiffusionXLInpaintPipeline.from_pretrained(checkpoint)
            compiled.unet.compile()
            compiled.vae.decoder.compile()
            calls["compiled"] = diffusers_call(compiled, side)
        if options.optimum:
            peer = optimum_call(options.optimum, checkpoint, side, options.threads)
            calls["optimum"] = stack.enter_context(peer)
        seconds = compare(calls, options.runs)
    found = ratios(seconds)
    print(f"{size} size, {side} x {side}, {STEPS} steps, guidance {GUIDANCE}, {options.threads} threads")
    print(
        f"ours: {statistics.median(seconds['ours']):.3f} s, {100 * outside():.2f} % of it outside of engine runs"
    )
    for name, row in found.items():
        median = statistics.median(seconds[name])
        print(
            f"{name}: {median:.3f} s, {row['median']:.2f} times ours ({row['low']:.2f} to {row['high']:.2f})"
        )
    if options.json:
        result = {
            "size": size,
            "seconds": seconds,
            "ratios": found,
            "outside": outside(),
            "machine": machine(),
        }
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
