"""NLTK's averaged perceptron part-of-speech tagger: the published English weights, evaluated here.

Only the arithmetic is ours: `import nltk` alone takes longer than everything else that a prompt needs (it loads
scipy and scikit-learn where they are installed). The tests compare every tag with NLTK's own class.

`data/tagger.zlib` is one zlib stream: a line of JSON with `classes`, `tagdict` (words that need no model),
the sizes in bytes `features` and `weights` and the number of `rows`; then the names of the features in
rows, one a line; for each row the number of its weights (uint8); for each weight its class (uint8), then its
value in thousandths (int32, little-endian).
"""

from __future__ import annotations

import json
import pkgutil
import sys
import threading
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

_START = ("-START-", "-START2-")
_END = ("-END-", "-END2-")
_MOST_READ = 20_000  # rows, some 10 MB
_lock = threading.Lock()


def tag(words: Sequence[str]) -> list[str]:
    """The Penn Treebank tag of each word. The first call loads the weights; nothing is ever downloaded."""
    with _lock:
        model = _model()
    context = [*_START, *(_normal(word) for word in words), *_END]
    before, before_that = _START
    tags = []
    for position, word in enumerate(words, len(_START)):
        found = model.known.get(word) or model.predict(
            _features(word, context, position, before, before_that)
        )
        tags.append(found)
        before, before_that = found, before
    return tags


@dataclass(frozen=True)
class _Model:
    """`rows[feature]` counts the rows; row r has the entries `ends[r]` to `ends[r + 1]` of the two columns."""

    classes: list[str]  # ascending
    known: dict[str, str]
    rows: dict[str, int]
    ends: list[int]
    class_of: bytes
    thousandths: array[int]
    read: dict[str, Sequence[tuple[int, float]]] = field(default_factory=dict)

    def predict(self, features: Sequence[str]) -> str:
        """The class with the highest sum of weights; of equal ones the last in the alphabet.

        Summed in NLTK's order and as floats: ties between classes are common, and their rounding decides.
        """
        scores = [0.0] * len(self.classes)
        for feature in features:
            for place, weight in self.entries(feature):
                scores[place] += weight
        best = max(scores)
        return self.classes[len(scores) - 1 - scores[::-1].index(best)]

    def entries(self, feature: str) -> Sequence[tuple[int, float]]:
        """Class and weight of each entry of a feature's row; read once, since few features are most of a prompt's."""
        found = self.read.get(feature)
        if found is None:
            row = self.rows.get(feature)
            found = ()
            if row is not None:
                part = range(self.ends[row], self.ends[row + 1])
                found = tuple((self.class_of[entry], self.thousandths[entry] / 1000) for entry in part)
            if len(self.read) < _MOST_READ:
                self.read[feature] = found
        return found


def _normal(word: str) -> str:
    if "-" in word and word[0] != "-":
        return "!HYPHEN"
    if word.isdigit() and len(word) == 4:
        return "!YEAR"
    return "!DIGITS" if word[:1].isdigit() else word.lower()


def _features(word: str, context: Sequence[str], at: int, before: str, before_that: str) -> tuple[str, ...]:
    """The model's features by the names that the published weights have for them."""
    return (
        "bias",
        f"i suffix {word[-3:]}",
        f"i pref1 {word[:1]}",
        f"i-1 tag {before}",
        f"i-2 tag {before_that}",
        f"i tag+i-2 tag {before} {before_that}",
        f"i word {context[at]}",
        f"i-1 tag+i word {before} {context[at]}",
        f"i-1 word {context[at - 1]}",
        f"i-1 suffix {context[at - 1][-3:]}",
        f"i-2 word {context[at - 2]}",
        f"i+1 word {context[at + 1]}",
        f"i+1 suffix {context[at + 1][-3:]}",
        f"i+2 word {context[at + 2]}",
    )


@lru_cache(maxsize=1)
def _model() -> _Model:
    packed = pkgutil.get_data("grefine_rt.assess.prompt", "data/tagger.zlib")
    assert packed is not None  # it is part of the package
    header, _, columns = zlib.decompress(packed).partition(b"\n")
    facts = json.loads(header)
    names, counts, weights = facts["features"], facts["rows"], facts["weights"]
    features = columns[:names].decode().split("\n")
    class_of = columns[names + counts : names + counts + weights]
    thousandths = array("i", columns[names + counts + weights :])
    if sys.byteorder == "big":
        thousandths.byteswap()
    return _Model(
        facts["classes"],
        facts["tagdict"],
        dict(zip(features, range(len(features)), strict=True)),
        list(accumulate(columns[names : names + counts], initial=0)),
        class_of,
        thousandths,
    )
