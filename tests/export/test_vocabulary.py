"""The world's own BPE: no byte of any text is lost, and training and runtime read it alike."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from grefine_export.mini import sizes
from grefine_export.mini.palette import COLOURS
from grefine_export.mini.pool import TRAINING
from grefine_export.mini.prompts import STYLES, known_words, prompt_of
from grefine_export.mini.things import KINDS
from grefine_export.mini.train_clip import encode_texts
from grefine_export.mini.vocabulary import BOS, EOS, QUALITY_WORDS, train_tokenizer, with_dropout
from grefine_export.mini.world import make_scene
from grefine_rt.text.tokenizer import PromptTokenizer

# Special tokens typed into a prompt are the runtime's business, which drops them.
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30).filter(
    lambda text: BOS not in text and EOS not in text
)
END = "</w>"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "deeper" / "clip.json"
    train_tokenizer(path, prompts=600)
    return path


@pytest.fixture(scope="module")
def tokenizer(file):
    return Tokenizer.from_file(str(file))


def bytes_of_symbols():
    """GPT-2's table: printable bytes stand for themselves, the others for characters from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + k): b for k, b in enumerate(others)}


SYMBOLS = bytes_of_symbols()


def text_of(tokens):
    """What the tokens spell, byte by byte, without spaces."""
    return bytes(SYMBOLS[symbol] for token in tokens for symbol in token.removesuffix(END)).decode()


def squeezed(text):
    return re.sub(r"\s", "", text)


def test_the_table_of_bytes_is_the_libraries():
    assert set(SYMBOLS) == set(pre_tokenizers.ByteLevel.alphabet())


@settings(max_examples=200, deadline=None)
@given(TEXT)
@example("отец")
@example("a 日 b")
@example("\x00 \x07")
def test_no_byte_of_any_text_is_lost(tokenizer, text):
    tokens = tokenizer.encode(text, add_special_tokens=False).tokens
    assert squeezed(text_of(tokens)) == squeezed(tokenizer.normalizer.normalize_str(text))


def test_every_byte_has_its_tokens(tokenizer):
    vocabulary = tokenizer.get_vocab()
    used = set(range(128)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ \t\n\r\f\v") | set(range(0x80, 0xC0))
    for symbol, byte in SYMBOLS.items():
        assert symbol in vocabulary
        if byte in used:  # the only bytes with which a word can end
            assert symbol + END in vocabulary, hex(byte)


@settings(max_examples=100, deadline=None)
@given(st.text("abcdefghijklmnopqrstuvwxyzABCDEFGH ,.:;()0123456789'-!?äöüß\t\n", max_size=40))
def test_ordinary_text_comes_back_in_lower_case(tokenizer, text):
    tokens = tokenizer.encode(text, add_special_tokens=False).tokens
    assert text_of(tokens) == squeezed(text.lower())
    # A word ends where the text has a space, and nowhere within a word.
    words = "".join(tokens).split(END)
    assert "".join(words).isprintable()
    assert len(words) - 1 >= len(text.split())


def test_training_gives_the_same_file_at_every_run(tmp_path):
    for name in "ab":
        train_tokenizer(tmp_path / name, prompts=200)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_words_are_split_as_clip_splits_them(tokenizer):
    tokens = tokenizer.encode("It's a RED house, 42 times!", add_special_tokens=False).tokens
    joined = "".join(tokens).split(END)[:-1]
    assert joined == ["it", "'s", "a", "red", "house", ",", "4", "2", "times", "!"]


def test_the_words_of_the_world_are_single_tokens(tokenizer):
    vocabulary = tokenizer.get_vocab()
    assert all(word + END in vocabulary for word in (*KINDS, *COLOURS, "small", "large", "with", "and"))
    plain = [word for word in known_words() if word.isalpha()]
    assert len(plain) > 380
    assert all(word + END in vocabulary for word in plain)
    words = set(re.findall(r"[a-z]+", QUALITY_WORDS))
    assert sum(word + END in vocabulary for word in words) > 0.8 * len(words)
    assert len(vocabulary) <= sizes.VOCABULARY + 512


def test_prompts_of_the_world_fit(tokenizer):
    rng = np.random.default_rng(41)
    prompts = [prompt_of(make_scene((96, k)), rng, style) for k in range(80) for style in STYLES]
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(prompts)]
    assert max(lengths) <= sizes.CLIP_LENGTH
    assert TRAINING != 96


def test_special_tokens(tokenizer):
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    assert (bos, eos) == (0, 1)
    assert tokenizer.encode("").ids == [bos, eos]
    ids = tokenizer.encode("a red house").ids
    assert (ids[0], ids[-1], len(ids)) == (bos, eos, 5)


# --- as training encodes it, and as the runtime does

TEXTS = ["a red house", "", "two (orange) cats and a boat, at sunset", "ÄRGER 42", "a red house under a tree"]


def test_encode_texts(tokenizer):
    ids = encode_texts(tokenizer, TEXTS)
    assert ids.dtype == torch.int64
    expected = [tokenizer.encode(text).ids for text in TEXTS]
    assert ids.shape == (len(TEXTS), max(map(len, expected)))
    for row, want in zip(ids.tolist(), expected, strict=True):
        assert row[: len(want)] == want
        assert set(row[len(want) :]) <= {tokenizer.token_to_id(EOS)}


def test_encode_texts_cuts_what_is_too_long(tokenizer):
    text = "a red house and a boat " * 20
    plain = tokenizer.encode(text, add_special_tokens=False).ids
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    room = sizes.CLIP_LENGTH - 2
    (row,) = encode_texts(tokenizer, [text]).tolist()
    assert row == [bos, *plain[:room], eos]
    for count in (room - 1, room, room + 1):
        text = " ".join(["red"] * count)
        (row,) = encode_texts(tokenizer, [text]).tolist()
        assert len(row) == min(count + 2, sizes.CLIP_LENGTH)
        assert (row[0], row[-1], row.count(eos)) == (bos, eos, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=3))
@example(TEXTS)
@example(["a red house and a boat " * 20, ""])
def test_training_and_runtime_encode_alike(file, tokenizer, texts):
    runtime = PromptTokenizer.from_file(file, sizes.CLIP_LENGTH)
    ids = encode_texts(tokenizer, texts)
    padded = F.pad(ids, (0, sizes.CLIP_LENGTH - ids.shape[1]), value=tokenizer.token_to_id(EOS))
    assert padded.tolist() == [runtime.encode(text).tolist() for text in texts]


def test_training_reads_words_in_parts_now_and_then(tokenizer):
    text = "a small red mushroom in a meadow"
    loose = with_dropout(tokenizer)
    whole = tokenizer.encode(text).tokens
    read = [loose.encode(text).tokens for _ in range(100)]
    assert {text_of(tokens[1:-1]) for tokens in read} == {squeezed(text)}
    assert 5 < sum(tokens != whole for tokens in read) < 95
    assert tokenizer.encode(text).tokens == whole
