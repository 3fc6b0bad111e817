"""Prompts as token ids for the exported text encoders (tokenizers in the Hugging Face JSON format)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from grefine_rt.arrays import Floats
from grefine_rt.errors import BundleError, PromptError
from grefine_rt.text.cleaning import clip_text
from grefine_rt.text.emphasis import WeightedText

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Names of the special tokens in the families of text encoders that bundles hold (CLIP, T5-like, BERT).
_BOS_NAMES = ("<|startoftext|>", "<s>", "[CLS]")
_EOT_NAMES = ("<|endoftext|>", "</s>", "[SEP]")


class PromptTokenizer:
    """Token ids of one text encoder: ``[bos] tokens [eot] padding``, always `length` of them.

    The ids of bos and eot come from the tokenizer file; the padding id from its padding section and else eot. `clean`
    says whether texts are cleaned first as OpenAI's CLIP does (`cleaning.clip_text`). Instances are immutable and
    may be used from many threads.
    """

    def __init__(
        self, tokenizer: Tokenizer, length: int, bos: int, eot: int, pad: int, clean: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self.length = length
        self.bos = bos
        self.eot = eot
        self.pad = pad
        self.clean = clean

    @classmethod
    def from_file(cls, path: str | Path, length: int, clean: bool = False) -> PromptTokenizer:
        """Read a tokenizer JSON file.

        Raises:
            BundleError: the file cannot be read, is no tokenizer, lacks bos or eot, or `length` is below 3.
        """
        from tokenizers import Tokenizer

        path = Path(path)
        if length < 3:
            raise BundleError(
                f"The tokenizer length {length} in the bundle is below 3: make the bundle anew."
            )
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text)
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the tokenizers library raises plain Exception
            raise BundleError(
                f"{path.name} cannot be read as a tokenizer ({error}): fetch or export the bundle again."
            ) from error
        special = _special_tokens(content)
        bos, eot = (_first(special, names) for names in (_BOS_NAMES, _EOT_NAMES))
        if bos is None or eot is None:
            raise BundleError(
                f"{path.name} names no start and end token such as {_BOS_NAMES[0]} and {_EOT_NAMES[0]}: "
                "export the bundle again with the text encoder's own tokenizer."
            )
        padding = content.get("padding")
        pad = int(padding["pad_id"]) if padding else eot
        # Truncation, padding and special tokens are added here, the same way for every file.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, length, bos, eot, pad, clean)

    def encode(self, text: str) -> NDArray[np.int64]:
        """Token ids int64 (L,) of a plain text; tokens beyond L - 2 are cut off."""
        return self.encode_weighted((WeightedText(text, 1.0),))[0]

    def encode_weighted(self, chunks: Sequence[WeightedText]) -> tuple[NDArray[np.int64], Floats]:
        """Token ids int64 (L,) of the chunks' joined text and the weight float32 (L,) of each token.

        The text is tokenised as a whole, so the weights change no ids; a token has the weight of the chunk in
        which it starts. bos, eot and padding have weight 1. Cleaning is done chunk by chunk.
        """
        if self.clean:
            chunks = _cleaned(chunks)
        text = "".join(chunk.text for chunk in chunks)
        # One lone half of a surrogate pair cannot be written as UTF-8, which the tokenizer needs.
        text = text.encode("utf-8", "replace").decode("utf-8")
        try:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
        except Exception as error:  # the tokenizers library raises plain Exception
            raise PromptError(
                f"The prompt cannot be tokenised ({error}): write it in plain words."
            ) from error
        room = self.length - 2
        # A start or end token amid the prompt, typed or standing for what the vocabulary lacks, would end it
        # early: the encoders pool at the first end token.
        kept = [
            (token, start)
            for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)
            if token not in (self.bos, self.eot)
        ][:room]
        tokens = [token for token, _ in kept]
        ends = np.cumsum([len(chunk.text) for chunk in chunks]) if chunks else np.zeros(0, np.int64)
        of_chunk = np.searchsorted(ends, [start for _, start in kept], side="right")

        ids = np.full(self.length, self.pad, np.int64)
        ids[0] = self.bos
        ids[1 : 1 + len(tokens)] = tokens
        ids[1 + len(tokens)] = self.eot
        weights = np.ones(self.length, np.float32)
        for position, chunk in enumerate(of_chunk, start=1):
            weights[position] = chunks[min(int(chunk), len(chunks) - 1)].weight
        return ids, weights


def _cleaned(chunks: Sequence[WeightedText]) -> list[WeightedText]:
    """Each chunk cleaned, with the blanks that it began and ended with as one."""
    if len(chunks) == 1:
        return [WeightedText(clip_text(chunks[0].text), chunks[0].weight)]
    cleaned = []
    for chunk in chunks:
        before, after = (" " if edge.isspace() else "" for edge in (chunk.text[:1], chunk.text[-1:]))
        cleaned.append(WeightedText(f"{before}{clip_text(chunk.text)}{after}", chunk.weight))
    return cleaned


def _special_tokens(content: Mapping[str, Any]) -> dict[str, int]:
    special = {token["content"]: token["id"] for token in content.get("added_tokens", ()) if token["special"]}
    # Converted OpenAI files may list them in the vocabulary alone.
    vocabulary = content.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, Mapping):
        for name in (*_BOS_NAMES, *_EOT_NAMES):
            if name in vocabulary:
                special.setdefault(name, vocabulary[name])
    return special


def _first(special: Mapping[str, int], names: Sequence[str]) -> int | None:
    return next((special[name] for name in names if name in special), None)
