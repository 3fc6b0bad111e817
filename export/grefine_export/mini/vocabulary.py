"""The storybook world's own byte-level BPE, in the form of CLIP's tokenizer."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from grefine_export.mini.pool import TRAINING
from grefine_export.mini.prompts import known_words, prompt_of
from grefine_export.mini.sizes import VOCABULARY
from grefine_export.mini.world import make_scene
from grefine_export.models.clip_tokenizer import BOS, EOS, normalizer, splitter

_END = "</w>"  # of a word's last token
QUALITY_WORDS = (
    "a perfect picture, a bad picture, a sharp and clean picture, a blurry and noisy picture, whole and well "
    "formed things, broken and misshapen things, natural colours, strange and unnatural colours, good quality, "
    "clean, high-resolution, 8k, blurry, dotted, noise, raster lines, unclear, lowres, over-smoothed"
)


def learn_merges(words: Counter[tuple[str, ...]], count: int, least: int = 4) -> list[tuple[str, str]]:
    """The `count` merges of byte-pair encoding, most frequent first, ties in alphabetical order.

    `words` are the symbols of each word and how often it occurs; pairs that occur less than `least` times stay
    apart. (The trainer of `tokenizers` gives other ids at every run.)
    """
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        best, times = min(pairs.items(), key=lambda item: (-item[1], item[0]), default=(("", ""), 0))
        if times < least:
            break
        merges.append(best)
        words = Counter({_merged(word, best): times for word, times in words.items()})
    return merges


def _merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    symbols: list[str] = []
    for symbol in word:
        if symbols and (symbols[-1], symbol) == pair:
            symbols[-1] += symbol
        else:
            symbols.append(symbol)
    return tuple(symbols)


def train_tokenizer(path: Path, prompts: int = 4000) -> Tokenizer:
    """Trains on prompts of the world and writes the `tokenizers` JSON; the same file at every run.

    Any text can be encoded: every byte is a token, within a word and at its end.
    """
    rng = np.random.default_rng(5)
    corpus = [prompt_of(make_scene((TRAINING, i)), rng) for i in range(prompts)]
    corpus += [QUALITY_WORDS] * 50 + list(known_words()) * 8  # so that rare ones are a token each, too
    normalize, split = normalizer(), splitter()
    words: Counter[tuple[str, ...]] = Counter()
    for text in corpus:
        for word, _ in split.pre_tokenize_str(normalize.normalize_str(text)):
            words[(*word[:-1], word[-1] + _END)] += 1
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn_merges(words, VOCABULARY)
    tokens = [BOS, EOS, *alphabet, *(byte + _END for byte in alphabet), *(a + b for a, b in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix=_END))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalize, split
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([BOS, EOS])
    special = [(token, vocabulary[token]) for token in (BOS, EOS)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A {EOS}", special_tokens=special)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return tokenizer


MERGES_LEFT_OUT = 0.05
"""The share of merges that training leaves out."""


def with_dropout(tokenizer: Tokenizer) -> Tokenizer:
    """A copy for training that leaves merges out at random, so that words are read in parts now and then: what a model
    learns of "bird" and "house" then helps it with "birdhouse" (BPE-dropout, Provilkov et al. 2020)."""
    loose = Tokenizer.from_str(tokenizer.to_str())
    loose.model.dropout = MERGES_LEFT_OUT
    return loose
