"""Features of texts from a bundle's text encoders, each text encoded once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.engine.batch import run_rows
from grefine_rt.engine.finite import finite
from grefine_rt.models.bundle import Bundle


class TextFeatures:
    """Encodes texts with one text component, `alignment_text` or `ip_iqa_text`. Threads may share one.

    `remembered`: the number of former texts' features that are kept; 0 keeps none, so that a result depends on
    its own call alone, to the last bit (a text's feature changes by about 1e-6 with its neighbours).
    """

    def __init__(self, bundle: Bundle, component: str, remembered: int = 0) -> None:
        self._bundle = bundle
        self._component = component
        self._remembered = remembered
        self._known: OrderedDict[str, Floats] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Features (n, d), one row a text. Raises BundleError, DeviceError and PromptError."""
        with self._lock:
            found = {text: self._known[text] for text in texts if text in self._known}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        found.update(zip(new, self._encode(new), strict=True))
        with self._lock:
            self._known.update((text, found[text]) for text in dict.fromkeys(texts))
            while len(self._known) > self._remembered:
                self._known.popitem(last=False)
        return np.stack([found[text] for text in texts])

    def _encode(self, texts: Sequence[str]) -> Iterable[Floats]:
        if not texts:
            return ()
        engine = self._bundle.engine(self._component)
        (tokenizer,) = self._bundle.tokenizer(self._component)
        ids = np.stack([tokenizer.encode(text) for text in texts])
        if not any(isinstance(axis, str) for axis in engine.inputs["ids"].shape[1:]):
            return finite(self._component, run_rows(engine, {"ids": ids}, ["features"])["features"])
        # A graph with a free length reads nothing behind the end token, so ids are cut there; texts of like
        # length run together, so that a phrase does not cost as much as a text of full length.
        lengths = (ids == tokenizer.eot).argmax(axis=1) + 1
        order = sorted(range(len(texts)), key=lambda i: int(lengths[i]))
        features: dict[int, Floats] = {}
        for _, group in groupby(order, key=lambda i: max(3, int(lengths[i] - 1).bit_length())):
            rows = list(group)
            cut = {"ids": ids[rows, : lengths[rows].max()]}
            found = finite(self._component, run_rows(engine, cut, ["features"])["features"])
            features.update(zip(rows, found, strict=True))
        return [features[i] for i in range(len(texts))]
