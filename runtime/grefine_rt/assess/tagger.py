"""NLTK's averaged perceptron part-of-speech tagger with the weights that come with this package."""

from __future__ import annotations

import json
import lzma
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import accumulate
from typing import Any, cast

_lock = threading.Lock()


class _Rows(Mapping[str, Mapping[str, float]]):
    """Feature -> {tag: weight}, built row by row when asked for: a prompt needs some hundred of 94,000."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self._row = {feature: row for row, feature in enumerate(columns["features"])}
        self._ends = list(accumulate(columns["counts"], initial=0))
        self._classes = columns["classes"]
        self._tags = columns["tags"]
        self._thousandths = columns["thousandths"]
        self._built: dict[str, Mapping[str, float]] = {}

    def __contains__(self, feature: object) -> bool:
        return feature in self._row

    def __getitem__(self, feature: str) -> Mapping[str, float]:
        weights = self._built.get(feature)
        if weights is None:
            row = self._row[feature]
            entries = range(self._ends[row], self._ends[row + 1])
            weights = {self._classes[self._tags[entry]]: self._thousandths[entry] / 1000 for entry in entries}
            self._built[feature] = weights
        return weights

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)


def tag(words: Sequence[str]) -> list[str]:
    """The Penn Treebank tag of each word. The first call loads the weights; nothing is ever downloaded."""
    with _lock:
        tagger = _tagger()
    return [cast(str, tagged[1]) for tagged in tagger.tag(list(words))]


@lru_cache(maxsize=1)
def _tagger() -> Any:
    from nltk.tag.perceptron import PerceptronTagger

    packed = files("grefine_rt.assess").joinpath("data", "tagger.json.xz").read_bytes()
    columns = json.loads(lzma.decompress(packed))
    tagger = PerceptronTagger(load=False)
    tagger.model.weights = _Rows(columns)
    tagger.model.classes = set(columns["classes"])
    tagger.tagdict = columns["tagdict"]
    tagger.classes = tagger.model.classes
    return tagger
