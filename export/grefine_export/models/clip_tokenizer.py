"""CLIP's tokenizer as one JSON file of `tokenizers`, from any of the forms in which it comes."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
OPENAI_FILE = "bpe_simple_vocab_16e6.txt.gz"

_END = "</w>"  # of a word's last token
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_OPENAI_MERGES = 49152 - 256 - 2  # of the file's lines, the first of which is its version


def read_tokenizer(source: Path, vocabulary: int) -> Tokenizer:
    """The tokenizer at `source`: a folder with one of the files below, or the file itself.

    Files: `tokenizer.json`; `vocab.json` with `merges.txt` beside it; OpenAI's `bpe_simple_vocab_16e6.txt.gz`.
    `vocabulary` is how many token embeddings the text encoder has. Raises FileNotFoundError where there is no
    tokenizer, ValueError where it cannot be read or is another model's.
    """
    found = source
    if source.is_dir():
        names = ("tokenizer.json", "vocab.json", OPENAI_FILE)
        found = next((source / name for name in names if (source / name).is_file()), source)
    if not found.is_file():
        raise FileNotFoundError(
            f"there is no tokenizer in '{source}': give --tokenizer a folder or file of CLIP's tokenizer "
            f"(tokenizer.json, vocab.json with merges.txt, or {OPENAI_FILE})"
        )
    try:
        if found.suffix == ".gz":
            tokenizer = _from_openai(found)
        elif found.name == "vocab.json":
            tokenizer = _from_merges(found, found.with_name("merges.txt"))
        else:
            tokenizer = Tokenizer.from_file(str(found))
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ValueError(f"'{found}' cannot be read as CLIP's tokenizer ({error}): fetch it again") from error
    size, end = tokenizer.get_vocab_size(), tokenizer.token_to_id(EOS)
    if size != vocabulary or end is None or tokenizer.token_to_id(BOS) is None:
        raise ValueError(
            f"the tokenizer '{found}' has {size} tokens, but the checkpoint's text encoder has {vocabulary}: give the "
            f"tokenizer of this CLIP"
        )
    # Texts are cut and padded where they are used.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def ends(tokenizer: Tokenizer) -> tuple[int, int]:
    """Ids of the tokens around every text. Raises ValueError for a tokenizer without them."""
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    if bos is None or eos is None:
        raise ValueError(f"the tokenizer lacks {BOS} or {EOS}: give CLIP's own")
    return bos, eos


def normalizer() -> normalizers.Normalizer:
    """CLIP's first step on a text: one form of each letter, single spaces, lower case."""
    return normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )


def splitter() -> pre_tokenizers.PreTokenizer:
    """CLIP's split of a text: words, single digits and runs of signs, as bytes."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def bpe_tokenizer(vocabulary: dict[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """CLIP's byte-level BPE, with its start and end tokens around a text."""
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges), end_of_word_suffix=_END, unk_token=EOS))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer(), splitter()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([BOS, EOS])
    special = [(token, vocabulary[token]) for token in (BOS, EOS)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A {EOS}", special_tokens=special)
    return tokenizer


def _from_openai(path: Path) -> Tokenizer:
    """The vocabulary follows from the merges: 256 bytes, the same at a word's end, the merges, start and end."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = itertools.islice(file, 1, 1 + _OPENAI_MERGES)
        merges = [(first, second) for first, second in (line.split() for line in lines)]
    # By code point: bytes that are printable first, as themselves, then those that got characters from 256 on.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(symbol + _END for symbol in alphabet), *(a + b for a, b in merges), BOS, EOS]
    return bpe_tokenizer({token: index for index, token in enumerate(tokens)}, merges)


def _from_merges(vocabulary: Path, merges: Path) -> Tokenizer:
    pairs = []
    for line in merges.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#version"):
            first, second = line.split()
            pairs.append((first, second))
    return bpe_tokenizer(json.loads(vocabulary.read_text(encoding="utf-8")), pairs)
