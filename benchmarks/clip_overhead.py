"""What the whole `perceptual` graph costs over plain CLIP image encoding, both in ONNX Runtime on a CPU.

    python -m benchmarks.clip_overhead [--model ViT-B/16] [--size 224] [--threads 2] [--runs 40]

The weights are random: the time does not depend on them. Runs alternate, and the ratio of both the medians and the
fastest runs is printed, for a machine that is busy otherwise moves the first and hardly the second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from grefine_export.models.clip_loading import at_size, surgery
from grefine_export.models.perceptual import Perceptual
from grefine_export.onnx.convert import export

VISION = {
    "ViT-B/32": {"patch_size": 32},
    "ViT-B/16": {"patch_size": 16},
    "ViT-L/14": {
        "patch_size": 14,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
}


class Plain(nn.Module):
    """transformers' own image encoding: `pixels` (b, 3, R, R) normalised -> `features` (b, d)."""

    def __init__(self, clip: CLIPModel):
        super().__init__()
        self.clip = clip

    def forward(self, pixels: Tensor) -> Tensor:
        return self.clip.visual_projection(self.clip.vision_model(pixel_values=pixels).pooler_output)


def alternate(jobs: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each job; one after the other, the order turned round every time."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for index in range(runs):
        for name in list(jobs)[:: 1 if index % 2 else -1]:
            start = time.perf_counter()
            jobs[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _job(path: Path, size: int, threads: int) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).random((1, 3, size, size), np.float32)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: image})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=VISION, default="ViT-B/16")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=40)
    arguments = parser.parse_args()
    clip = at_size(CLIPModel(CLIPConfig(vision_config=VISION[arguments.model])), arguments.size)
    pictures = torch.rand(2, 3, arguments.size, arguments.size)
    t_p = torch.randn(4, 2, clip.config.projection_dim)
    with tempfile.TemporaryDirectory() as folder:
        plain, whole = Path(folder) / "plain.onnx", Path(folder) / "perceptual.onnx"
        export(Plain(clip), {"pixels": pictures}, ["features"], {"pixels": {0: "b"}}, plain)
        graph = Perceptual(surgery(clip), t_p)
        export(graph, {"image": pictures}, ["pairs", "published", "tokens"], {"image": {0: "b"}}, whole)
        jobs = {
            "plain CLIP": _job(plain, arguments.size, arguments.threads),
            "perceptual": _job(whole, arguments.size, arguments.threads),
        }
        seconds = alternate(jobs, arguments.runs)
    for name, values in seconds.items():
        print(f"{name}: median {1e3 * statistics.median(values):.1f} ms, fastest {1e3 * min(values):.1f} ms")
    for what, of in (("medians", statistics.median), ("fastest runs", min)):
        print(f"ratio of {what}: {of(seconds['perceptual']) / of(seconds['plain CLIP']):.3f}")


if __name__ == "__main__":
    main()
