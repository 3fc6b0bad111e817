"""The values that open_clip's configuration may have for a CLIP of OpenAI's design."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_READ = {
    "": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
"""Settings that are read, or follow from the tensors."""

_USUAL: dict[str, tuple[Any, ...]] = {
    "pool_type": ("tok", "argmax"),
    "ls_init_value": (None,),
    "no_causal_mask": (False,),
    "patch_dropout": (0, 0.0),  # of training alone, as the next
    "dropout": (0, 0.0),
    "output_tokens": (False,),
    "attentional_pool": (False,),
    "no_ln_pre": (False,),
    "final_ln_after_pool": (False,),
    "embed_cls": (False,),
    "pad_id": (0,),
    "proj_type": ("linear",),
    "proj_bias": (False,),
    "pos_embed_type": ("learnable",),
    "init_logit_scale": None,  # type: ignore[dict-item]
    "init_logit_bias": (None,),
    "cast_dtype": None,  # type: ignore[dict-item]
    "timm_model_name": (None,),
    "hf_model_name": (None,),
    "tokenizer_kwargs": None,  # type: ignore[dict-item]
    "hf_tokenizer_name": (None, ""),
}
"""Settings with the values that mean OpenAI's design; None for settings that change no feature."""


def check_open_clip(settings: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError (one sentence) for a setting in `model_cfg` of open_clip that another design needs, such as
    "ls_init_value", "pool_type" or "no_causal_mask", or that nobody here knows."""
    for table, read in _READ.items():
        content = settings.get(table, {}) if table else settings
        for name, value in content.items():
            if name in read or (name in _USUAL and (_USUAL[name] is None or value in _USUAL[name])):
                continue
            where = f"{table}.{name}" if table else name
            raise ValueError(
                f"'{path}' sets '{where}' to {value!r}, which a CLIP of OpenAI's design has not: give such a CLIP"
            )
