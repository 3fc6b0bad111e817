"""Features of texts: each encoded once, cut where the graph allows, remembered where it is asked for."""

import numpy as np
import pytest

from grefine_rt.assess.texts import TextFeatures
from grefine_rt.engine.base import TensorSpec
from tests.support.fake_bundle import Engine

LENGTH, EOT = 20, 99


class Tokenizer:
    eot = EOT

    def encode(self, text):
        ids = [98, *(len(word) for word in text.split())][: LENGTH - 1]
        return np.array(ids + [EOT] * (LENGTH - len(ids)), np.int64)


class Bundle:
    def __init__(self, length):
        self.seen = []

        def run(ids):
            self.seen.append(ids)
            words = np.where(ids == EOT, 0, ids)
            return {"features": np.stack([words.sum(axis=1), (words**2).sum(axis=1)], axis=1).astype("f4")}

        self.engine_ = Engine(run)
        self.engine_.inputs = {"ids": TensorSpec("ids", np.dtype(np.int64), ("n", length))}

    def engine(self, component):
        assert component == "alignment_text"
        return self.engine_

    def tokenizer(self, component):
        return [Tokenizer()]


def expected(text):
    ids = [98, *(len(word) for word in text.split())][: LENGTH - 1]
    return [sum(ids), sum(i * i for i in ids)]


TEXTS = ["a bb ccc", "", "one two three four five six seven eight nine", "a bb ccc", "x " * 40, "tree"]


@pytest.mark.parametrize("length", [LENGTH, "L"])
@pytest.mark.parametrize("remembered", [0, 3, 100])
def test_rows_are_those_of_the_texts(length, remembered):
    texts = TextFeatures(Bundle(length), "alignment_text", remembered)
    for _ in range(2):
        np.testing.assert_array_equal(texts(TEXTS), [expected(text) for text in TEXTS])


def test_a_fixed_length_takes_all_texts_at_once_and_each_once():
    bundle = Bundle(LENGTH)
    TextFeatures(bundle, "alignment_text")(TEXTS)
    assert [ids.shape for ids in bundle.seen] == [(5, LENGTH)]


def test_a_free_length_is_cut_behind_the_end_token():
    bundle = Bundle("L")
    TextFeatures(bundle, "alignment_text")(TEXTS)
    assert [ids.shape for ids in bundle.seen] == [(3, 5), (1, 11), (1, LENGTH)]
    assert all((ids == EOT).any(axis=1).all() for ids in bundle.seen)


def test_only_as_many_texts_as_asked_for_are_remembered():
    bundle = Bundle(LENGTH)
    texts = TextFeatures(bundle, "alignment_text", 2)
    texts(["a", "b", "c"])
    texts(["b", "c", "d"])
    assert [len(ids) for ids in bundle.seen] == [3, 1]
    texts(["a"])
    assert len(bundle.seen) == 3


def test_nothing_is_remembered_unless_asked_for():
    bundle = Bundle(LENGTH)
    texts = TextFeatures(bundle, "alignment_text")
    texts(["a"])
    texts(["a"])
    assert len(bundle.seen) == 2
