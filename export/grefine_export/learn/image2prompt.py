"""Image2Prompt: incremental pretraining of CLIP's image side on generated pictures and their prompts (IP-IQA 3.3).

Of the pictures of DiffusionDB those are kept that CLIP itself finds to match their prompts; then the image encoder
learns 1 - cos(f(I), h(T)) (Eq. 1) while the text encoder stays frozen, so each prompt is encoded once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from grefine_export.learn.epochs import Pictures, Recipe, Say, run_epochs
from grefine_export.models.ip_iqa import ImageEncoder, PromptEncoder
from grefine_rt.errors import ImageError
from grefine_rt.files import written_whole
from grefine_rt.text.emphasis import as_written
from grefine_rt.text.tokenizer import PromptTokenizer

THRESHOLD = 0.35
"""CLIP cosine above which a pair is kept: 560,000 of DiffusionDB's 2 million (IP-IQA 4.1.2)."""

SHARD = 2048  # pairs that are encoded between two saves


@dataclass(frozen=True)
class Pair:
    """A generated picture and the prompt it was made from."""

    path: Path
    prompt: str


def read_diffusiondb(root: Path) -> list[Pair]:
    """The pairs below `root`, in DiffusionDB's layout: folders `part-000001` with pictures and a `part-000001.json`
    that maps a picture's name to {"p": prompt, ...}.

    Raises FileNotFoundError when there is no such part, ValueError for a damaged one; each one sentence.
    """
    parts = sorted(root.rglob("part-*.json"))
    if not parts:
        raise FileNotFoundError(
            f"there is no 'part-*.json' below '{root}': give the folder into which parts of DiffusionDB were unpacked"
        )
    pairs = []
    for part in parts:
        try:
            entries = json.loads(part.read_text(encoding="utf-8"))
            pairs += [Pair(part.parent / name, entry["p"]) for name, entry in entries.items()]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"'{part}' is no table of DiffusionDB: fetch this part again") from error
    return pairs


def cosine_loss(image: Tensor, text: Tensor) -> Tensor:
    """Eq. 1, the mean over the batch of 1 - cos: `image`, `text` (b, D), not normalised."""
    return 1 - F.cosine_similarity(image, text, dim=-1).mean()


def encode_prompts(text: PromptEncoder, tokenizer: PromptTokenizer, prompts: Sequence[str]) -> Tensor:
    """Prompt features (n, D), not normalised; prompts are read as they were written, as at run time."""
    ids = torch.from_numpy(np.stack([tokenizer.encode(as_written(prompt)) for prompt in prompts]))
    device = text.qa.device
    with torch.no_grad():
        return torch.cat([text(rows.to(device)) for rows in ids.split(256)]).cpu()


class _Readable(Dataset[tuple[Tensor, bool]]):
    """Pictures of a database as large as DiffusionDB, of which some are broken: (picture, whether it was read)."""

    def __init__(self, pictures: Pictures):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> tuple[Tensor, bool]:
        try:
            return self.pictures[row][0], True
        except ImageError:
            return torch.zeros(3, self.pictures.resolution, self.pictures.resolution), False


@torch.no_grad()
def matching_pairs(
    encoder: ImageEncoder,
    text: PromptEncoder,
    tokenizer: PromptTokenizer,
    pairs: Sequence[Pair],
    folder: Path,
    *,
    resolution: int,
    workers: int,
    say: Say,
    threshold: float = THRESHOLD,
) -> tuple[list[Path], Tensor]:
    """The pictures whose CLIP cosine with their prompt is above `threshold`, and h(T) (k, D) of their prompts.

    Cosines and features go to `folder` shard by shard, so a stopped run goes on. Unreadable pictures are left out,
    and their number is said. Raises ValueError when nothing is left.
    """
    device = text.qa.device
    folder.mkdir(parents=True, exist_ok=True)
    kept: list[Path] = []
    features = []
    unreadable = 0
    encoder.to(device).eval()
    for number, start in enumerate(range(0, len(pairs), SHARD)):
        shard = pairs[start : start + SHARD]
        file = folder / f"pairs-{number:05}.npz"
        if not file.exists():
            prompts = encode_prompts(text, tokenizer, [pair.prompt for pair in shard])
            pictures = _Readable(Pictures([pair.path for pair in shard], resolution))
            rows = [
                torch.where(read[:, None], encoder(images.to(device)).cpu(), torch.nan)
                for images, read in DataLoader(pictures, 64, num_workers=workers)
            ]
            cosines = F.cosine_similarity(torch.cat(rows), prompts, dim=-1).numpy()
            with written_whole(file) as partial, partial.open("wb") as stream:
                np.savez(stream, cosines=cosines, features=prompts.half().numpy())
        with np.load(file) as arrays:
            above = np.flatnonzero(arrays["cosines"] > threshold)
            unreadable += int(np.isnan(arrays["cosines"]).sum())
            kept += [shard[int(row)].path for row in above]
            features.append(torch.from_numpy(arrays["features"][above]))
        seen = min(start + SHARD, len(pairs))
        say(f"{seen} of {len(pairs)} pairs: {len(kept)} kept, {unreadable} unreadable")
    if not kept:
        raise ValueError(
            f"no pair has a CLIP cosine above {threshold}: are these generated pictures with their prompts?"
        )
    return kept, torch.cat(features)


def pretrain(
    encoder: ImageEncoder, paths: Sequence[Path], features: Tensor, recipe: Recipe, folder: Path, say: Say
) -> ImageEncoder:
    """Trains `encoder` in place on pictures and the features h(T) (k, D) of their prompts, on the device it is on."""
    device = encoder.mean.device
    targets = features.to(device)

    def loss_of(images: Tensor, rows: Tensor) -> Tensor:
        return cosine_loss(encoder(images), targets[rows].float())

    run_epochs(
        encoder, Pictures(paths, recipe.resolution), loss_of, recipe, folder / "image2prompt.pt", device, say
    )
    return encoder
