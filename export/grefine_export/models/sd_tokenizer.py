"""The CLIP tokenizers of a Stable Diffusion folder, with the padding that each text encoder was trained with."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

from grefine_export.models.clip_tokenizer import EOS, read_tokenizer

SDXL_PADS = (EOS, "!")
"""The padding of SDXL's two tokenizers: CLIP's end token, and OpenCLIP's token 0."""


def read_sd_tokenizer(source: Path, vocabulary: int, pad: str = EOS) -> Tokenizer:
    """The tokenizer at `source`, such as the folder `tokenizer` or `tokenizer_2` of a pipeline.

    Args:
        source: a folder or file as of `clip_tokenizer.read_tokenizer`. A `tokenizer_config.json` or
            `special_tokens_map.json` in the folder tells the padding.
        vocabulary: number of token embeddings of the text encoder.
        pad: the token to pad with if no such file tells one.

    Saved as JSON, it gives `grefine_rt.text.tokenizer.PromptTokenizer` the ids of transformers' CLIPTokenizer.
    Raises FileNotFoundError and ValueError (one sentence).
    """
    tokenizer = read_tokenizer(source, vocabulary)
    return padded_with(tokenizer, _pad_token(source if source.is_dir() else source.parent) or pad)


def padded_with(tokenizer: Tokenizer, pad: str) -> Tokenizer:
    """A copy of `tokenizer` that pads with the token `pad`. Raises ValueError when its vocabulary lacks it."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    number = copy.token_to_id(pad)
    if number is None:
        raise ValueError(f"the tokenizer has no token '{pad}' to pad with: give the tokenizer of this model")
    if pad != EOS:
        # As in transformers, where the padding token is special: a "!" that is typed becomes it too.
        copy.add_special_tokens([pad])
    copy.enable_padding(pad_id=number, pad_token=pad)
    return copy


def _pad_token(folder: Path) -> str | None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        file = folder / name
        if not file.is_file():
            continue
        try:
            token = json.loads(file.read_text(encoding="utf-8")).get("pad_token")
        except (ValueError, AttributeError) as error:
            raise ValueError(f"'{file}' is no JSON object: fetch the tokenizer again") from error
        if token:
            return token["content"] if isinstance(token, dict) else token
    return None
