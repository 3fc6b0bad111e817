"""The conditioning of a UNet, from a weighted prompt."""

from typing import Literal

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.engine.finite import all_finite
from grefine_rt.models.bundle import Bundle
from grefine_rt.text.emphasis import apply_weights, parse_weights

TextComponent = Literal["inpaint_text", "restore_text"]


def condition(
    bundle: Bundle, component: TextComponent, prompt: str, negative: str | None
) -> dict[str, Floats]:
    """Conditioning float32 of a step graph: `context` (2, L, D) and, where the text graph has it, `pooled`
    (2, P).

    Row 0 is the negative prompt, or zeros when it is None; row 1 the prompt. Weights written in either, such
    as `(red car:1.2)`, scale the outputs of their tokens and the mean of the sequence is restored (G-Refine,
    Eq. 7).
    """
    texts = [prompt] if negative is None else [negative, prompt]
    chunks = [parse_weights(text) for text in texts]
    arrays = {}
    weights: list[Floats] = []
    specs = bundle.manifest.tokenizers[component]
    for spec, tokenizer in zip(specs, bundle.tokenizer(component), strict=True):
        encoded = [tokenizer.encode_weighted(text) for text in chunks]
        arrays[spec.input] = np.stack([ids for ids, _ in encoded])
        # Two tokenizers of one model (SDXL) split a text alike and differ only in padding: the first one
        # decides.
        weights = weights or [row for _, row in encoded]
    outputs = all_finite(component, bundle.engine(component).run(arrays))
    outputs["context"] = np.stack(
        [apply_weights(row, weight) for row, weight in zip(outputs["context"], weights, strict=True)]
    )
    if negative is None:
        return {name: np.concatenate([np.zeros_like(rows), rows]) for name, rows in outputs.items()}
    return outputs
