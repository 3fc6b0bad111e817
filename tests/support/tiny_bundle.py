"""The tiny graphs as an opened bundle, with a tokenizer of one id a word."""

import zlib

import numpy as np

from grefine_rt.models.bundle import Bundle
from grefine_rt.models.selection import Selection
from tests.support import tiny


class Words:
    """A tokenizer: one id a word, by its checksum."""

    def encode_weighted(self, chunks):
        pairs = [(zlib.crc32(word.encode()) % 60 + 2, c.weight) for c in chunks for word in c.text.split()]
        pairs = [(0, 1.0), *pairs[: tiny.LENGTH - 2], (1, 1.0)]
        pairs += [(1, 1.0)] * (tiny.LENGTH - len(pairs))
        return np.array([i for i, _ in pairs]), np.array([w for _, w in pairs], np.float32)


class TinyBundle(Bundle):
    def of(self, manifest):
        """The same graphs with another manifest."""
        return TinyBundle(self.folder, manifest, Selection(self.folder, manifest, "cpu", 1))

    def tokenizer(self, component):
        return [Words() for _ in self.manifest.tokenizers[component]]
