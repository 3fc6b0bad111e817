"""The assessor as a library: memory over many pictures, and speed against plain image encoding in torch.

    python -m benchmarks.assessor memory [--bundle mini] [--images 1000] [--threads 2]
    python -m benchmarks.assessor throughput [--model ViT-B/16] [--size 224] [--batch 8] [--threads 2] [--runs 10]

`memory` assesses pictures of many sizes, each with a prompt, and prints the resident memory every 100 (Linux). It
fails when the second half of them made it grow by more than 2 %.

`throughput` compares everything that `Assessor` does for a batch (resizing, both paths of the encoder, phrases, texts,
scores, maps) with nothing but `CLIPModel.get_image_features` of transformers, in eager torch on pictures that are
already tensors. Same weights, machine and run; the two alternate. The weights are random: the time does not depend on
them. "new prompts" has another prompt for every picture, "known prompts" those that were assessed before, as in a
database or with several pictures to a prompt.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grefine_rt import Assessor
from grefine_rt.system_memory import resident_memory

_SUBJECTS = (
    "a red fox",
    "an old castle",
    "two astronauts",
    "a wooden boat",
    "a girl with long hair",
    "a robot chef",
)
_PLACES = ("in a dark forest", "on the beach", "under a night sky", "in a busy kitchen", "by a frozen lake")
_STYLES = (
    "hyper detail",
    "soft lighting, anime style",
    "close-up, realistic style",
    "warm color",
    "baroque style",
)

_VISION = {
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


def _alternate(jobs: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
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


def prompts() -> Iterator[str]:
    """Prompts of the kind that AGIQA-3K has, no two of them equal."""
    for number in itertools.count():
        for subject, place, style in itertools.product(_SUBJECTS, _PLACES, _STYLES):
            yield f"{subject} {place}, {style}" + (f", take {number}" if number else "")


def pictures(count: int, sides: tuple[int, int], seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Pictures with sides between the two given, uint8 (H, W, 3), one at a time."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        height, width = rng.integers(sides[0], sides[1] + 1, 2)
        yield rng.integers(0, 256, (height, width, 3), np.uint8)


def memory(bundle: str, images: int, threads: int, say: Callable[[str], None] = print) -> list[float]:
    """Resident memory in MB after every 100 of `images` pictures; 0 where the system does not tell."""
    seen = []
    with Assessor.load(bundle, "cpu", threads) as assessor:
        found = assessor.assess_batch(pictures(images, (64, 768)), itertools.islice(prompts(), images))
        for number, _ in enumerate(found, start=1):
            if number % 100 == 0:
                seen.append((resident_memory() or 0) / 1e6)
                say(f"{number} pictures: {seen[-1]:.0f} MB")
    return seen


def throughput(
    model: str, size: int, batch: int, threads: int, runs: int, say: Callable[[str], None] = print
) -> dict[str, list[float]]:
    """Seconds of every run over one batch, by job."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    from grefine_export.clip_bundle import Batch, Source, write_bundle
    from grefine_export.models.clip_loading import at_size, surgery

    torch.set_num_threads(threads)
    clip = at_size(CLIPModel(CLIPConfig(vision_config=_VISION[model])).eval(), size)
    pixels = torch.randn(batch, 3, size, size)
    images = list(pictures(batch, (512, 512)))
    new = prompts()
    known = [next(new) for _ in range(batch)]

    def plain() -> object:
        with torch.inference_mode():
            return clip.get_image_features(pixel_values=pixels)

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bundle"
        t_p = torch.randn(4, 2, clip.config.projection_dim)
        source = Source("random weights", "none")
        batches = Batch(1, batch)
        write_bundle(
            out, surgery(clip), t_p, word_tokenizer(), source, weights="fp32", batch=batches, say=say
        )
        with Assessor.load(out, "cpu", threads) as assessor:
            jobs: dict[str, Callable[[], object]] = {
                "torch, plain image encoding": plain,
                "Assessor, new prompts": lambda: list(
                    assessor.assess_batch(images, itertools.islice(new, batch), batch=batch)
                ),
                "Assessor, known prompts": lambda: list(assessor.assess_batch(images, known, batch=batch)),
            }
            return _alternate(jobs, runs)


def word_tokenizer() -> object:
    """One token a word, with CLIP's number of tokens and its two special ones at the end."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {
        word for prompt in itertools.islice(prompts(), 150) for word in prompt.replace(",", " , ").split()
    }
    vocabulary = {word: number for number, word in enumerate(("[UNK]", *sorted(words)))}
    vocabulary |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("memory", "throughput"))
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--model", default="ViT-B/16")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args()
    if options.what == "memory":
        if options.images < 200:
            parser.error("--images must be 200 or more: memory is compared between its halves")
        seen = memory(options.bundle, options.images, options.threads)
        growth = seen[-1] / seen[len(seen) // 2 - 1] - 1
        print(f"growth over the second half: {100 * growth:.1f} %")
        sys.exit(growth > 0.02)
    seconds = throughput(options.model, options.size, options.batch, options.threads, options.runs)
    base = seconds["torch, plain image encoding"]
    for name, values in seconds.items():
        print(
            f"{name}: median {options.batch / statistics.median(values):.2f} pictures/s, fastest run "
            f"{options.batch / min(values):.2f}; {statistics.median(base) / statistics.median(values):.2f} and "
            f"{min(base) / min(values):.2f} times torch"
        )


if __name__ == "__main__":
    main()
