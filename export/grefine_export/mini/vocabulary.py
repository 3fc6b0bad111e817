"""The storybook world's own byte-level BPE, in the form of CLIP's tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from grefine_export.mini.pool import TRAINING
from grefine_export.mini.prompts import prompt_of
from grefine_export.mini.sizes import VOCABULARY
from grefine_export.mini.world import make_scene

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
QUALITY_WORDS = (
    "a perfect picture, a bad picture, a sharp and clean picture, a blurry and noisy picture, whole and well "
    "formed things, broken and misshapen things, natural colours, strange and unnatural colours, good quality, "
    "clean, high-resolution, 8k, blurry, dotted, noise, raster lines, unclear, lowres, over-smoothed"
)


def train_tokenizer(path: Path, prompts: int = 4000) -> Tokenizer:
    """Trains on prompts of the world and writes the `tokenizers` JSON. Any text can be encoded: bytes are the base."""
    rng = np.random.default_rng(5)
    corpus = [prompt_of(make_scene((TRAINING, i)), rng) for i in range(prompts)] + [QUALITY_WORDS] * 50
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # Every byte must exist inside a word and at its end, or a strange character would be dropped silently.
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY + 2 * len(alphabet),
        initial_alphabet=alphabet,
        special_tokens=[BOS, EOS],
        end_of_word_suffix="</w>",
        show_progress=False,
        min_frequency=4,
    )
    tokenizer.train_from_iterator(corpus + [c for c in alphabet for _ in range(4)], trainer)
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, bos), (EOS, eos)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return tokenizer
