"""From a prompt to ids and weighted context: against transformers' CLIPTokenizer and a plain torch version."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from grefine_export.models.clip_tokenizer import BOS, EOS, normalizer, splitter
from grefine_export.models.sd_tokenizer import SDXL_PADS, read_sd_tokenizer
from grefine_rt.diffusion.conditioning import condition
from grefine_rt.text.emphasis import emphasise, parse_weights, plain_text, uses_weights
from grefine_rt.text.tokenizer import PromptTokenizer

PROMPTS, LENGTH, WIDTH, SEED = 1000, 77, 16, 7
WORDS = """
a an the red yellow golden house houses boat meadow cat cats sitting under over big bigger small sky photo photograph
portrait painting of and with in on at detailed highly masterpiece 8k 35mm f/1.8 1.5 2024 don't cat's they're t-shirt
sci-fi rendered unreal engine trending artstation cinematic lighting
"""
ODD = """
naïve Ünïcödé Ångström façade ÉCOLE İstanbul e\u0301te\u0301 \ufb01n \u017ftrange Ⅻ ½ x² дом кошка красный γάτα ΣΟΦΟΣ
猫 赤い家 夕焼け 고양이 بيت עץ घर แมว 🐱 👩\u200d🚀 🏳️\u200d🌈 👍🏽 ❤️ ™ € … — “quoted” «x» zero\u200bwidth \ufeffmark 𝔘𝔫𝔦
_under_score_ C++ #1 @home 100% a&b x=y^2 ~tilde~ `code` <tag> |pipe| http://example.org/?q=1 :-) ??? !!! wow! !x! ...
"""
SHAPES = """
{}|{}, {}|{}  {}\t{}|({})|(({})), {}|[{}] {}|({}:1.3)|({}:0.5), ({} {}:1.25)|((({}|{}))|\\({}\\) {}|{}:1.4|{}\n{}| {}
|{}!|<lora:{}:0.8> {}|{} BREAK {}|{} AND {}|{},,{};{}|{}...{}|{}\u00a0{}
"""


def prompts():
    """Of all kinds, up to some hundred words, always the same."""
    rng = random.Random(SEED)
    usual, odd, shapes = WORDS.split(), ODD.split(), SHAPES.split("|")

    def words():
        count = rng.choice((0, 1, 1, 2, 2, 3, 4))
        return " ".join(rng.choice(usual if rng.random() < 0.7 else odd) for _ in range(count))

    def piece():
        shape = rng.choice(shapes)
        text = shape.format(*(words() for _ in range(shape.count("{}"))))
        return text.upper() if rng.random() < 0.1 else text

    def prompt():
        if rng.random() < 0.1:  # characters of anywhere
            return "".join(
                chr(rng.choice((rng.randrange(32, 0x2FFF), rng.randrange(0x1F300, 0x1FAFF))))
                for _ in range(30)
            )
        return ", ".join(piece() for _ in range(rng.choice((1, 1, 2, 3, 5, 40))))

    return ["", " ", "!", *(prompt() for _ in range(PROMPTS - 3))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """`tokenizer` and `tokenizer_2` of an SDXL folder, on a small byte pair encoding that was trained like CLIP's."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = normalizer(), splitter()
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator([WORDS + ODD] * 3, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    vocabulary = {token: index for index, token in enumerate([*dict.fromkeys(tokens), BOS, EOS])}
    folders = []
    for name, pad in zip(("tokenizer", "tokenizer_2"), SDXL_PADS, strict=True):
        folder = tmp_path_factory.mktemp(name)
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": pad}
        (folder / "special_tokens_map.json").write_text(json.dumps(special))
        config = {
            **special,
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": LENGTH,
            "do_lower_case": True,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        folders.append((folder, len(vocabulary)))
    return folders


@pytest.fixture(scope="module")
def tokenizers(folders, tmp_path_factory):
    """(ours, transformers') of each folder."""
    pairs = []
    for folder, vocabulary in folders:
        file = tmp_path_factory.mktemp("bundle") / "tokenizer.json"
        read_sd_tokenizer(folder, vocabulary).save(str(file))
        pairs.append((PromptTokenizer.from_file(file, LENGTH), CLIPTokenizer.from_pretrained(folder)))
    return pairs


@pytest.mark.parametrize("which", [0, 1])
def test_ids_equal_transformers(tokenizers, which):
    ours, theirs = tokenizers[which]
    for prompt in prompts():
        expected = theirs(
            plain_text(prompt), padding="max_length", max_length=LENGTH, truncation=True
        ).input_ids
        ids, _ = ours.encode_weighted(parse_weights(prompt))
        assert ids.tolist() == expected, repr(prompt)


SENTENCES = [
    "a cat (asleep) on [a] sofa",
    "(masterpiece), a red (not blue) house",
    "A CAT AND A DOG (BIG)",
    "a (red",
]


@pytest.mark.parametrize("which", [0, 1])
def test_prompts_without_weights_are_fed_as_they_were_written(tokenizers, which):
    ours, theirs = tokenizers[which]
    raw = [prompt for prompt in [*SENTENCES, *prompts()] if not uses_weights(prompt)]
    assert raw[: len(SENTENCES)] == SENTENCES
    assert sum("(" in prompt or "[" in prompt for prompt in raw) > 30
    for prompt in raw:
        expected = theirs(prompt, padding="max_length", max_length=LENGTH, truncation=True).input_ids
        ids, weights = ours.encode_weighted(parse_weights(prompt))
        assert ids.tolist() == expected, repr(prompt)
        assert (weights == 1).all()


@pytest.mark.parametrize("component", ["inpaint_text", "restore_text"])
@pytest.mark.parametrize("prompt", SENTENCES)
def test_both_stages_feed_brackets_to_their_encoders(tokenizers, component, prompt):
    """SDXL's and PASD's: what diffusers computes from the same prompt, no token scaled."""
    embedding = np.random.default_rng(SEED).standard_normal((2000, WIDTH)).astype(np.float32)
    ours, theirs = tokenizers[0]
    bundle = SimpleNamespace(
        manifest=SimpleNamespace(tokenizers={component: [SimpleNamespace(input="ids")]}),
        tokenizer=lambda component: [ours],
        engine=lambda component: SimpleNamespace(run=lambda arrays: {"context": embedding[arrays["ids"]]}),
    )
    wanted = theirs(prompt, padding="max_length", max_length=LENGTH, truncation=True).input_ids
    # What stage 1 and 2 are told when nothing is defective (Eq. 7 with no phrase), and the prompt itself.
    for told in (prompt, emphasise(prompt, [])):
        context = condition(bundle, component, told, None)["context"]
        np.testing.assert_array_equal(context[1], embedding[wanted])


def test_the_prompts_are_varied(tokenizers):
    every = prompts()
    ids = np.stack([tokenizers[0][0].encode(plain_text(prompt)) for prompt in every])
    lengths = (ids != tokenizers[0][0].eot).sum(axis=1)
    assert len({*every}) > 0.9 * PROMPTS
    assert (lengths == LENGTH - 1).mean() > 0.1  # cut off
    assert (lengths < 10).mean() > 0.1
    assert len(np.unique(ids)) > 300
    assert sum(any(chunk.weight != 1 for chunk in parse_weights(prompt)) for prompt in every) > 200


@pytest.mark.parametrize(
    "pieces",
    [
        [("a red house", 1.0)],
        [("a ", 1.0), ("red", 1.3), (" house under a ", 1.0), ("golden sky", 0.5)],
        [("masterpiece", 2.0), (" of a cat", 1.0)],
        [("cats", 0.0), (" and ", 1.0), ("houses", 3.0)],
        [("big ", 1.0), ("meadow photograph " * 50, 1.2)],
    ],
)
def test_emphasis_equals_a_plain_torch_version(tokenizers, pieces):
    """Outputs times the weights of their tokens, then times what brings the mean of the sequence back (float64)."""
    rng = np.random.default_rng(SEED)
    embedding = (rng.standard_normal((2000, WIDTH)) + 0.3).astype(np.float32)
    ours, theirs = tokenizers[0]
    bundle = SimpleNamespace(
        manifest=SimpleNamespace(tokenizers={"inpaint_text": [SimpleNamespace(input="ids")]}),
        tokenizer=lambda component: [ours],
        engine=lambda component: SimpleNamespace(run=lambda arrays: {"context": embedding[arrays["ids"]]}),
    )
    written = "".join(text if weight == 1 else f"({text}:{weight})" for text, weight in pieces)
    context = condition(bundle, "inpaint_text", written, None)["context"]

    tokens = [theirs(text, add_special_tokens=False).input_ids for text, _ in pieces]
    row = [theirs.bos_token_id, *(token for part in tokens for token in part)][: LENGTH - 1]
    weights = [1.0, *(weight for part, (_, weight) in zip(tokens, pieces, strict=True) for _ in part)][
        : LENGTH - 1
    ]
    row += [theirs.eos_token_id] * (LENGTH - len(row))
    weights += [1.0] * (LENGTH - len(weights))
    plain = torch.from_numpy(embedding).double()[row]
    weighted = plain * torch.tensor(weights, dtype=torch.float64)[:, None]
    expected = weighted * (plain.mean() / weighted.mean())
    assert not context[0].any()
    torch.testing.assert_close(torch.from_numpy(context[1]).double(), expected, rtol=1e-5, atol=1e-6)
