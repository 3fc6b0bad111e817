"""The domain of a bundle: the pictures and words it was made for. Others are reported, never redrawn.

Pictures: mean and deviation of the patch tokens of the alignment indicator's image encoder, under two Gaussians, one
of sound and damaged pictures of the kind, one of foreign pictures. Words: the vocabulary of the training. A bundle
without a domain is open to everything.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grefine_rt.arrays import Doubles, Floats
from grefine_rt.bundle.strict import MEND
from grefine_rt.errors import BundleError, DomainError
from grefine_rt.models.bundle import Bundle
from grefine_rt.readings import Outside

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_PLURALS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""))


@dataclass(frozen=True)
class Membership:
    """Whether a picture and its prompt are of the kind that a bundle was made for.

    bundle: the bundle's name.
    inside: whether the picture is; True for a bundle that is open to all pictures.
    distance: the picture's distance from the kind, see `Gaussians.distance`; None for an open bundle.
    threshold: the distance up to which a picture is inside; None likewise.
    words: words of the prompt that the bundle does not know, in their order.
    phrases: phrases of the prompt whose noun it does not know. They count in no score and are never redrawn.
    """

    bundle: str
    inside: bool
    distance: float | None
    threshold: float | None
    words: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()

    @property
    def picture_sentence(self) -> str:
        """Whether the picture is inside, in one sentence."""
        if self.distance is None or self.threshold is None:
            return f"Bundle '{self.bundle}' takes pictures of every kind."
        far = f"(distance {self.distance:.2f}, at most {self.threshold:.2f})"
        if self.inside:
            return f"The picture is of the kind that bundle '{self.bundle}' was made for {far}."
        return f"The picture is unlike those that bundle '{self.bundle}' was made for {far}: its scores may be wrong."

    @property
    def words_sentence(self) -> str:
        """The words of the prompt that the bundle does not know, in one sentence; "" where it knows all."""
        if self.phrases:
            counts, are = ("count", "are") if len(self.phrases) > 1 else ("counts", "is")
            return (
                f"Bundle '{self.bundle}' does not know the words of {_listed(self.phrases)}: "
                f"{'these phrases' if len(self.phrases) > 1 else 'this phrase'} {counts} in no score and {are} never "
                f"redrawn."
            )
        if self.words:
            return f"Bundle '{self.bundle}' does not know {_listed(self.words)}: what it says of that may be wrong."
        return ""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: one on a picture outside, and one on unknown words."""
        return tuple(filter(None, ["" if self.inside else self.picture_sentence, self.words_sentence]))


@dataclass(frozen=True, eq=False)
class Gaussians:
    """The Gaussians of pictures of the kind and of foreign ones: means (k,) and whitening matrices (k, k), whose
    transpose times themselves is the inverse covariance."""

    mean: Doubles
    whiten: Doubles
    foreign_mean: Doubles
    foreign_whiten: Doubles

    def distance(self, features: Doubles) -> float:
        """A picture's distance from the kind over its distance from foreign pictures, both Mahalanobis; 0 is the
        middle of the kind, below 1 the picture is nearer to the kind."""
        own = float(np.linalg.norm(self.whiten @ (features - self.mean)))
        foreign = float(np.linalg.norm(self.foreign_whiten @ (features - self.foreign_mean)))
        return own / max(foreign, 1e-9)

    def fits(self) -> bool:
        """Whether all shapes agree and all numbers are finite."""
        matrices, means = (self.whiten, self.foreign_whiten), (self.mean, self.foreign_mean)
        shapes = {matrix.shape for matrix in matrices} | {mean.shape * 2 for mean in means}
        finite = all(np.isfinite(array).all() for array in (*matrices, *means))
        return finite and len(shapes) == 1 and self.mean.ndim == 1


def check_domain(found: Membership | None, outside: Outside) -> tuple[str, ...]:
    """Notes on refining an assessed picture; none for one inside. Raises DomainError for a picture outside, unless
    `outside` is "refine"."""
    if found is None or found.inside:
        return ()
    if outside == "refine":
        return ("The picture was refined although the bundle was not made for its kind, as asked.",)
    far = f"(distance {found.distance:.2f}, at most {found.threshold:.2f})"
    raise DomainError(
        f"The picture is unlike those that bundle '{found.bundle}' was made for {far}, so it is not refined: use a "
        f"bundle for its kind, or add --outside refine (in Python outside='refine', over HTTP outside=refine) to "
        f"refine it all the same."
    )


class Domain:
    """The domain of a bundle, read once for many pictures. Any number of threads may use one."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises BundleError for files that are missing, changed or of another form."""
        section = bundle.manifest.domain
        self._name = bundle.manifest.name
        self._open = section is None
        pictures = None if section is None else section.pictures
        self._threshold = None if pictures is None else pictures.threshold
        self._gaussians = None if pictures is None else _read_gaussians(bundle, pictures.file)
        words = None if section is None else section.words
        self._words = None if words is None else _read_words(bundle, words)

    def knows(self, text: str) -> bool:
        """Whether every word of a text is known, in the singular or plural; True where all words are."""
        return not self.unknown(text)

    def unknown(self, text: str) -> tuple[str, ...]:
        """The words of a text that are not known, in lower case, each once, in their order."""
        if self._words is None:
            return ()
        words = dict.fromkeys(word.lower().replace("’", "'") for word in _WORD.findall(text))
        return tuple(word for word in words if not _is_known(word, self._words))

    def membership(self, tokens: Floats, prompt: str, phrases: Sequence[str]) -> Membership | None:
        """Whether a picture and its prompt are inside; None for a bundle that is open to everything.

        tokens: (1+N, d), L2-normalised, of the alignment indicator's image encoder, class token first. prompt: plain
        text. phrases: its phrases with an unknown noun.
        """
        if self._open:
            return None
        distance = None
        if self._gaussians is not None:
            features = features_of(tokens)
            if features.shape != self._gaussians.mean.shape:
                raise BundleError(
                    f"Bundle '{self._name}': its domain has {len(self._gaussians.mean)} features, but its image "
                    f"encoder gives {len(features)}: {MEND}."
                )
            distance = self._gaussians.distance(features)
        inside = distance is None or self._threshold is None or distance <= self._threshold
        return Membership(
            self._name, inside, distance, self._threshold, self.unknown(prompt), tuple(dict.fromkeys(phrases))
        )


def features_of(tokens: Floats) -> Doubles:
    """Mean and standard deviation of the patch tokens, (2d,), which the Gaussians are of, from tokens (1+N, d), class
    token first."""
    patches = tokens[1:].astype(np.float64)
    return np.concatenate([patches.mean(axis=0), patches.std(axis=0)])


def _read_gaussians(bundle: Bundle, file: str) -> Gaussians:
    data = bundle.file(file).read_bytes()
    names = ("mean", "whiten", "foreign_mean", "foreign_whiten")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = Gaussians(*(np.asarray(arrays[name], np.float64) for name in names))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"Bundle '{bundle.manifest.name}': '{file}' is no domain of pictures ({error}): {MEND}."
        ) from error
    if not found.fits():
        raise BundleError(
            f"Bundle '{bundle.manifest.name}': '{file}' has means and matrices that do not fit: {MEND}."
        )
    return found


def _read_words(bundle: Bundle, file: str) -> frozenset[str]:
    try:
        text = bundle.file(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"Bundle '{bundle.manifest.name}': '{file}' is not UTF-8 text: {MEND}.") from error
    known = {word.lower() for word in text.split()}
    return frozenset(known | {word.strip(".,;:!?") for word in known})


def _is_known(word: str, words: frozenset[str]) -> bool:
    """Whether a word is known as it is, in the singular, without 's, or by all the parts that hyphens join."""
    word = word.removesuffix("'s")
    singulars = (word.removesuffix(end) + stem for end, stem in _PLURALS if word.endswith(end))
    if word in words or any(singular in words for singular in singulars):
        return True
    parts = word.split("-")
    return len(parts) > 1 and all(_is_known(part, words) for part in parts)


def _listed(words: Sequence[str]) -> str:
    """ "'a', 'b' and 'c'" of a few words, cut after eight."""
    quoted = [f"'{word}'" for word in words[:8]]
    if len(words) > 8:
        quoted.append(f"{len(words) - 8} more")
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
