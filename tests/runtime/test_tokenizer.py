"""Token ids and weights of prompts, on a small byte-level BPE in the manner of CLIP."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from grefine_rt.errors import BundleError
from grefine_rt.text.emphasis import WeightedText, parse_weights
from grefine_rt.text.tokenizer import PromptTokenizer

BOS, EOT, PAD = "<|startoftext|>", "<|endoftext|>", "<pad>"
CORPUS = [
    "a red house and a yellow boat in a meadow",
    "a small cat on a big tree",
    "blue sky, green tree",
] * 20


def clip_like(special=(BOS, EOT)) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=EOT))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@pytest.fixture(scope="module")
def trained():
    return clip_like()


@pytest.fixture(scope="module")
def path(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "clip.json"
    trained.save(str(path))
    return path


@pytest.fixture(scope="module")
def prompt_tokenizer(path):
    return PromptTokenizer.from_file(path, 16)


def test_ids_are_bos_tokens_eot_padding(prompt_tokenizer, trained):
    ids = prompt_tokenizer.encode("a red house")
    tokens = trained.encode("a red house", add_special_tokens=False).ids
    bos, eot = trained.token_to_id(BOS), trained.token_to_id(EOT)
    expected = [bos, *tokens, eot]
    assert ids.dtype == np.int64
    assert ids.tolist() == expected + [eot] * (16 - len(expected))
    assert ids.tolist() != prompt_tokenizer.encode("a red boat").tolist()


def test_empty_text_is_bos_and_eot(prompt_tokenizer):
    assert prompt_tokenizer.encode("").tolist() == [prompt_tokenizer.bos] + [prompt_tokenizer.eot] * 15


def test_long_text_keeps_eot(prompt_tokenizer, trained):
    ids = prompt_tokenizer.encode("red house " * 20)
    assert ids[-1] == prompt_tokenizer.eot
    assert ids[1:-1].tolist() == trained.encode("red house " * 20, add_special_tokens=False).ids[:14]


def test_padding_and_post_processor_of_the_file(tmp_path):
    tokenizer = clip_like((BOS, EOT, PAD))
    plain = tokenizer.encode("a red house and a yellow boat", add_special_tokens=False).ids
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(PAD), pad_token=PAD, length=9)
    tokenizer.enable_truncation(4)
    tokenizer.post_processor = processors.RobertaProcessing(
        (EOT, tokenizer.token_to_id(EOT)), (BOS, tokenizer.token_to_id(BOS))
    )
    tokenizer.save(str(tmp_path / "padded.json"))
    ids = PromptTokenizer.from_file(tmp_path / "padded.json", 12).encode("a red house and a yellow boat")
    assert ids[: len(plain) + 2].tolist() == [tokenizer.token_to_id(BOS), *plain, tokenizer.token_to_id(EOT)]
    assert (ids[len(plain) + 2 :] == tokenizer.token_to_id(PAD)).all()


def test_special_tokens_in_the_vocabulary_alone(path, tmp_path):
    content = json.loads(path.read_text(encoding="utf-8"))
    content["added_tokens"] = []
    (tmp_path / "openai.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer = PromptTokenizer.from_file(tmp_path / "openai.json", 8)
    assert (tokenizer.bos, tokenizer.eot) == (content["model"]["vocab"][BOS], content["model"]["vocab"][EOT])


def test_special_tokens_typed_by_the_user_end_nothing(prompt_tokenizer):
    expected = prompt_tokenizer.encode("a cat")
    np.testing.assert_array_equal(prompt_tokenizer.encode(f"a {EOT} {BOS} cat"), expected)


@given(st.text(max_size=80))
def test_any_text_encodes(prompt_tokenizer, trained, text):
    ids = prompt_tokenizer.encode(text)
    assert ids.shape == (16,)
    assert ids[0] == prompt_tokenizer.bos
    assert (np.diff((ids == prompt_tokenizer.eot).astype(int)) >= 0).all()  # end tokens at the end alone
    assert ids[-1] == prompt_tokenizer.eot
    assert (ids >= 0).all()
    assert (ids < trained.get_vocab_size()).all()


def test_lone_surrogates_encode(prompt_tokenizer):
    assert prompt_tokenizer.encode("a \ud800 cat")[0] == prompt_tokenizer.bos


@given(st.text(alphabet="abc red(:1.)[]é🐱", max_size=40))
def test_weights_never_change_the_ids(prompt_tokenizer, text):
    chunks = parse_weights(text)
    ids, weights = prompt_tokenizer.encode_weighted(chunks)
    assert ids.tolist() == prompt_tokenizer.encode("".join(chunk.text for chunk in chunks)).tolist()
    assert weights.dtype == np.float32
    assert weights.shape == ids.shape
    assert set(weights.tolist()) <= {1.0, *(float(np.float32(chunk.weight)) for chunk in chunks)}


def test_tokens_carry_their_chunk_weight(prompt_tokenizer, trained):
    chunks = (WeightedText("a ", 1.0), WeightedText("red house", 1.2), WeightedText(" and boat", 0.8))
    ids, weights = prompt_tokenizer.encode_weighted(chunks)
    counts = [len(trained.encode(chunk.text, add_special_tokens=False).ids) for chunk in chunks]
    expected = [1.0] + [c.weight for c, n in zip(chunks, counts, strict=True) for _ in range(n)]
    expected += [1.0] * (16 - len(expected))
    np.testing.assert_allclose(weights, expected)
    assert ids[sum(counts) + 1] == prompt_tokenizer.eot


def test_no_chunks_is_the_empty_prompt(prompt_tokenizer):
    ids, weights = prompt_tokenizer.encode_weighted(())
    assert ids.tolist() == prompt_tokenizer.encode("").tolist()
    assert (weights == 1).all()


def test_long_text_is_quick(prompt_tokenizer):
    start = time.process_time()
    prompt_tokenizer.encode("x" * 10_000)
    prompt_tokenizer.encode("red cat " * 1_250)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("content", "length", "message"),
    [
        ("{}", 8, "cannot be read as a tokenizer"),
        ("no json", 8, "cannot be read as a tokenizer"),
        (None, 8, "cannot be read as a tokenizer"),
        ("{}", 2, "below 3"),
    ],
)
def test_unusable_files_are_refused(tmp_path, content, length, message):
    file = tmp_path / "broken.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        PromptTokenizer.from_file(file, length)


def test_file_without_end_token_is_refused(tmp_path):
    clip_like((BOS, "<other>")).save(str(tmp_path / "odd.json"))
    with pytest.raises(BundleError, match="no start and end token"):
        PromptTokenizer.from_file(tmp_path / "odd.json", 8)
