"""This project against what people would run otherwise: same weights, machine and run, one after the other in turn.

    python -m benchmarks.peers [stage1 stage2 assess] [--size embedded|eighth] [--device cpu|cuda] [--runs 10]
                               [--threads 2] [--compile] [--optimum PYTHON] [--json FILE]

Each run is a whole call, with texts, encoding, 10 steps at strength 0.99 with guidance 7.5, and decoding. Weights are
random (`peer_models.py`). The work and its peers:

    stage1     diffusers' StableDiffusionXLInpaintPipeline in torch; optimum's ONNX Runtime pipeline (--optimum), in an
               environment of its own, for it needs older libraries:
               pip install torch==2.13.0 "optimum-onnx[onnxruntime]==0.1.0" diffusers==0.39.0
    stage2     PASD's torch modules in a plain loop, with the same noise
    assess     one picture with a prompt not seen before: scores, maps and phrases against transformers' CLIP, which
               gives the two scores alone

"eager" is torch as it is, "compiled" torch.compile on the networks (--compile; needs a C++ compiler). With "cuda" all
networks are exported and run in half precision, on both sides; no GPU was at hand to try it. A ratio is the peer's time
by ours, in the same round; the order within a round changes. Where both get the same random numbers,
results are compared, and it fails when they differ by more than 2 % of the largest value.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLInpaintPipeline

from benchmarks import peer_calls, peer_models
from benchmarks.assessor import word_tokenizer
from benchmarks.peer_calls import Timed
from benchmarks.peer_models import RESOLUTION, RESTORE_RESOLUTION, Size
from grefine_export.choices import Weights
from grefine_export.clip_bundle import Source, write_bundle
from grefine_export.inpaint_bundle import InpaintOptions, add_inpaint
from grefine_export.models.clip_loading import image_size, surgery
from grefine_export.pasd_bundle import RestoreOptions, add_restore
from grefine_rt.bench import machine
from grefine_rt.bundle import store
from grefine_rt.errors import DeviceError
from grefine_rt.models.bundle import Bundle
from grefine_rt.models.warm_up import PROMPT

PRECISION = {"cpu": "fp16-storage", "cuda": "fp16"}
"""Of our graphs of the stages, by device."""
AGREED = 2e-2
"""Largest difference between results, by their largest value: our weights are stored in half precision."""

Peers = dict[str, Callable[[], float]]


def stage1(folder: Path, options: argparse.Namespace, stack: contextlib.ExitStack) -> Peers:
    """The calls of stage 1. Both draw noise of their own, so results differ."""
    side = RESOLUTION[options.size]
    checkpoint = peer_models.write_pipeline(folder / "pipeline", options.size)
    bundle = stage1_bundle(checkpoint, folder / "bundle", options.device)
    calls: Peers = {"ours": peer_calls.our_stage1(Bundle.open(bundle, options.device, options.threads), side)}
    for name in ("eager", "compiled") if options.compile else ("eager",):
        pipeline = StableDiffusionXLInpaintPipeline.from_pretrained(checkpoint)
        pipeline.vae.register_to_config(force_upcast=False)  # else half precision would be ours alone
        pipeline.to(options.device, peer_calls.dtype_on(options.device))
        calls[name] = peer_calls.diffusers_stage1(pipeline, side, name == "compiled", prompt=PROMPT)
    if options.optimum:
        calls["optimum"] = stack.enter_context(
            peer_calls.optimum_stage1(options.optimum, checkpoint, side, options.threads, options.device)
        )
    return calls


def stage1_bundle(checkpoint: Path, folder: Path, device: str = "cpu") -> Path:
    """The embedded bundle with stage 1 from the pipeline's checkpoint."""
    shutil.copytree(store.find_bundle("mini"), folder)
    add_inpaint(folder, str(checkpoint), InpaintOptions(**_precisions(device)), lambda line: None)
    return folder


def stage2(folder: Path, options: argparse.Namespace, stack: contextlib.ExitStack) -> Peers:
    """The calls of stage 2."""
    side = RESTORE_RESOLUTION[options.size]
    checkpoint, base = peer_models.write_pasd(folder / "pasd", options.size)
    bundle = stage2_bundle(checkpoint, base, folder / "bundle", side, options.device)
    device = options.device
    calls: Peers = {
        "ours": peer_calls.our_stage2(Bundle.open(bundle, device, options.threads), side),
        "eager": peer_calls.torch_stage2(checkpoint, base, side, compiled=False, device=device),
    }
    if options.compile:
        calls["compiled"] = peer_calls.torch_stage2(checkpoint, base, side, compiled=True, device=device)
    return calls


def stage2_bundle(checkpoint: Path, base: Path, folder: Path, side: int, device: str = "cpu") -> Path:
    """The embedded bundle with stage 2 from the checkpoint, for pictures of `side` pixels."""
    shutil.copytree(store.find_bundle("mini"), folder)
    options = RestoreOptions(resolution=side, tile=side, **_precisions(device))
    add_restore(folder, str(checkpoint), str(base), options, lambda line: None)
    return folder


def _precisions(device: str) -> dict[str, Any]:
    return dict.fromkeys(("unet_precision", "text_precision", "vae_precision"), PRECISION[device])


def assess(folder: Path, options: argparse.Namespace, stack: contextlib.ExitStack) -> Peers:
    """The calls of the assessment."""
    clip, words = peer_models.clip_model(options.size), word_tokenizer()
    torch.manual_seed(3)
    t_p = torch.randn(4, 2, clip.config.projection_dim)
    side, bundle = image_size(clip), folder / "bundle"
    compute: Weights = "fp32" if options.device == "cpu" else "fp16"
    source = Source("random weights", "none")
    write_bundle(bundle, surgery(clip), t_p, words, source, say=lambda line: None, compute=compute)
    place = (options.device, peer_calls.dtype_on(options.device))
    calls: Peers = {
        "ours": peer_calls.our_assessment(bundle, side, options.device, options.threads),
        "eager": peer_calls.torch_assessment(clip.to(*place), t_p, words, side, compiled=False),
    }
    if options.compile:
        again = peer_models.clip_model(options.size).to(*place)
        calls["compiled"] = peer_calls.torch_assessment(again, t_p, words, side, compiled=True)
    return calls


WORK = {"stage1": stage1, "stage2": stage2, "assess": assess}


def measure(work: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds by call and round, ratios, our share of time outside of engine runs, and how far results differ."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        calls = WORK[work](Path(folder), options, stack)
        calls, failed = peer_calls.that_work(calls)
        seconds = peer_calls.compare(calls, options.runs)
    ours = calls["ours"]
    assert isinstance(ours, Timed)
    differences = {
        name: peer_calls.difference(ours.result, call.result)
        for name, call in calls.items()
        if call is not ours and work != "stage1" and isinstance(call, Timed)
    }
    return {
        "seconds": seconds,
        "failed": failed,
        "ratios": peer_calls.ratios(seconds),
        "outside": statistics.median(ours.outside[1:]),
        "differences": differences,
    }


def describe(work: str, found: dict[str, Any]) -> str:
    """The figures of one kind of work in lines."""
    seconds = {name: statistics.median(times) for name, times in found["seconds"].items()}
    lines = [
        f"{work}: ours {seconds['ours']:.3f} s, {100 * found['outside']:.2f} % of it outside of engine runs"
    ]
    for name, row in found["ratios"].items():
        line = f"  {name}: {seconds[name]:.3f} s, "
        line += f"{row['median']:.2f} times ours ({row['low']:.2f} to {row['high']:.2f})"
        if name in found["differences"]:
            line += f"; results differ by {found['differences'][name]:.1e}"
        lines.append(line)
    lines += [f"  {name} does not work here: {reason}" for name, reason in found["failed"].items()]
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", nargs="*", metavar="WORK", help=f"{', '.join(WORK)}; all by default")
    parser.add_argument("--size", choices=list(RESOLUTION), default="embedded")
    parser.add_argument("--device", choices=list(PRECISION), default="cpu")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--optimum", metavar="PYTHON", help="interpreter of an environment with optimum-onnx")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if unknown := {*options.work} - {*WORK}:
        parser.error(f"unknown work '{min(unknown)}': use {', '.join(WORK)}")
    try:
        Bundle.open("mini", options.device)  # before anything is exported for it
    except DeviceError as error:
        sys.exit(f"error: {error}")
    torch.set_num_threads(options.threads)
    size: Size = options.size
    print(f"{size} size, {STEPS_TEXT}, {options.threads} threads, {options.device}")
    result: dict[str, Any] = {"size": size, "device": options.device, "threads": options.threads}
    result["machine"] = machine()
    for work in options.work or WORK:
        result[work] = measure(work, options)
        print(describe(work, result[work]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    worst = max(
        value for work in options.work or WORK for value in (0, *result[work]["differences"].values())
    )
    if worst > AGREED:
        sys.exit(f"error: results differ by {worst:.1e} of the largest value: the comparison is void.")


STEPS_TEXT = f"{peer_calls.STEPS} steps, guidance {peer_calls.GUIDANCE}"


if __name__ == "__main__":
    main()
