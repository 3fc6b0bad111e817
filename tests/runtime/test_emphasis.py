"""Prompt weights: the bracket syntax, Eq. 7 and the scaling of the context."""

import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grefine_rt.assess.indicator import check_prompt
from grefine_rt.assess.prompt import prompt_phrases, prompt_words
from grefine_rt.assess.scorers.base import Batch
from grefine_rt.bundle.sections import TokenizerSpec
from grefine_rt.errors import PromptError
from grefine_rt.text.emphasis import (
    MAX_WEIGHT,
    WORD,
    WeightedText,
    apply_weights,
    emphasise,
    parse_weights,
    plain_text,
)

SYNTAX = st.text(alphabet="ab ,()[]:.12\\<>lorBREAKAND\n🐱é", max_size=60) | st.text(max_size=60)
WORDS = st.lists(
    st.sampled_from(["a", "red", "car", "(red:1.3)", "((big))", "[small]", "(old", "tree:0.5)", ",", "and"]),
    min_size=1,
    max_size=14,
).map(" ".join)


def weighted_words(prompt: str) -> list[tuple[str, float]]:
    """Every word with the weight of its first character."""
    chunks = parse_weights(prompt)
    weights = [chunk.weight for chunk in chunks for _ in chunk.text]
    return [(m.group(), weights[m.start()]) for m in WORD.finditer("".join(c.text for c in chunks))]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("(cat)", [("(cat)", 1.0)]),
        ("((cat))", [("cat", 1.21)]),
        ("[cat]", [("[cat]", 1.0)]),
        ("(a) (cat:1.3)", [("a", 1.1), (" ", 1.0), ("cat", 1.3)]),
        ("[a] (cat:1.3)", [("a", 0.9091), (" ", 1.0), ("cat", 1.3)]),
        ("a cat (asleep) on [a] sofa", [("a cat (asleep) on [a] sofa", 1.0)]),
        ("(cat:1.3)", [("cat", 1.3)]),
        ("(cat : 1.3 )", [("cat ", 1.3)]),
        ("(cat:.5)", [("cat", 0.5)]),
        ("(a (cat:1.5):1.2)", [("a ", 1.2), ("cat", 1.8)]),
        ("((cat:1.2))", [("cat", 1.32)]),
        ("([cat])", [("cat", 1.0)]),
        (r"\(cat\)", [("(cat)", 1.0)]),
        (r"(cat \(wild\):1.2)", [("cat (wild)", 1.2)]),
        (r"a\\b", [(r"a\b", 1.0)]),
        (r"a\b", [(r"a\b", 1.0)]),
        ("((cat:one))", [("cat:one", 1.21)]),
        ("((cat:1.2.3))", [("cat:1.2.3", 1.21)]),
        ("(cat:one)", [("(cat:one)", 1.0)]),
        ("(cat:9)", [("cat", MAX_WEIGHT)]),
        ("(cat:-1)", [("cat", 0.0)]),
        ("a (cat", [("a (cat", 1.0)]),
        ("cat) x", [("cat) x", 1.0)]),
        ("([cat)]", [("(", 1.0), ("cat)", 0.9091)]),
        ("()", [("()", 1.0)]),
        ("(())", []),
        ("", []),
        ("a <lora:style_v2:0.8> cat", [("a cat", 1.0)]),
        ("<lora:x:1>", []),
        ("a cat BREAK a dog AND a fish", [("a cat, a dog, a fish", 1.0)]),
        ("A CAT AND (A DOG)", [("A CAT AND (A DOG)", 1.0)]),
        ("a cat AND (a dog)", [("a cat, ", 1.0), ("a dog", 1.1)]),
        ("a <3 cat", [("a <3 cat", 1.0)]),
    ],
)
def test_weights(prompt, expected):
    chunks = parse_weights(prompt)
    # A blank before the colon belongs to the text; at the prompt's end it is stripped.
    assert [(c.text.rstrip(), pytest.approx(c.weight)) for c in chunks] == [
        (t.rstrip(), w) for t, w in expected
    ]


def test_weights_beyond_all_bounds_stay_numbers():
    huge = "(" * 13 + "(boat:0)" + f":{'9' * 30})" * 13
    assert {chunk.weight for chunk in parse_weights(huge)} == {0.0}


def test_plain_text_joins_the_pieces():
    assert plain_text("a (red car:1.2), [old] <lora:a:1> house") == "a red car, old house"


@pytest.mark.parametrize("reading", ["plain", "raw"])
@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("a cat (asleep) on [a] sofa", "a cat (asleep) on [a] sofa"),
        ("a cat (asleep:1.2) on [a] sofa", "a cat asleep on a sofa"),
    ],
)
def test_indicators_and_scorers_read_brackets_unless_weights_are_used(prompt, read, reading):
    """CLIP's whole prompt, and those of IP-IQA and ImageReward ("raw") as of a metric that reads plain texts."""
    assert check_prompt(prompt) == read
    specs = [TokenizerSpec("t.json", "ids", 77, prompts=reading)]
    bundle = SimpleNamespace(manifest=SimpleNamespace(tokenizers={"text": specs}))
    batch = Batch([], [check_prompt(prompt)], [prompt], np.zeros((0, 3, 8, 8), np.float32))
    assert list(batch.texts(bundle, "text")) == [read]


@given(SYNTAX)
def test_any_text_parses(prompt):
    chunks = parse_weights(prompt)
    assert "".join(chunk.text for chunk in chunks) == plain_text(prompt)
    assert all(0 <= chunk.weight <= MAX_WEIGHT and chunk.text for chunk in chunks)


@given(SYNTAX)
def test_emphasising_nothing_changes_no_word(prompt):
    assert weighted_words(emphasise(prompt, [])) == weighted_words(prompt)
    assert plain_text(emphasise(prompt, [])) == plain_text(prompt)


@given(WORDS, st.data())
def test_exactly_the_words_of_the_phrase_gain(prompt, data):
    before = weighted_words(prompt)
    # Any words of the prompt: a phrase need not be contiguous.
    chosen = sorted(data.draw(st.sets(st.integers(0, len(before) - 1), min_size=1))) if before else []
    after = weighted_words(emphasise(prompt, [chosen]))
    assert [word for word, _ in after] == [word for word, _ in before]
    gained = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if new[1] != old[1]]
    assert gained == chosen
    assert all(after[i][1] == pytest.approx(before[i][1] + 0.1) for i in gained)


@given(SYNTAX)
@settings(deadline=None)
def test_phrases_of_the_parser_can_be_emphasised(prompt):
    parsed = prompt_phrases(prompt)
    result = emphasise(prompt, [phrase.shown for phrase in parsed])
    assert plain_text(result) == plain_text(prompt)
    words = prompt_words(prompt)
    assert all(phrase.text == " ".join(words[place] for place in phrase.shown) for phrase in parsed)
    assert all(set(phrase.shown) <= set(phrase.words) for phrase in parsed)


@pytest.mark.parametrize(
    ("prompt", "phrase", "expected"),
    [
        ("a red car in the snow", (0, 1, 2), "(a red car:1.1) in the snow"),
        ("a (red car:1.2)", (0, 1, 2), "(a:1.1) (red car:1.3)"),
        ("a (red car:1.2)", (2,), "a (red:1.2) (car:1.3)"),
        ("a woman, tall, in a park", (0, 1, 2), "(a woman, tall:1.1), in a park"),
        ("red car, red house", (2, 3), "red car, (red house:1.1)"),
        ("a Red Car", (1, 2), "a (Red Car:1.1)"),
        (r"cat \(wild\)", (0, 1), r"(cat \(wild:1.1)\)"),
        ("[old] (car:1.2)", (0,), "(old:1.0091) (car:1.2)"),
        ("a cat (asleep) here", (1, 2), r"a (cat \(asleep:1.1)\) here"),
        ("(car:0.9)", (0,), "car"),
        ("(car:2.95)", (0,), "(car:3)"),
    ],
)
def test_emphasis_is_written_tidily(prompt, phrase, expected):
    assert emphasise(prompt, [phrase]) == expected


def test_repeats_add_up_and_equal_words_stay_apart():
    assert emphasise("a cat, a cat", [(2, 3)]) == "a cat, (a cat:1.1)"
    assert emphasise("a cat", [(1,), (0, 1)]) == "(a:1.1) (cat:1.2)"
    assert emphasise("cat dog", [(1,)], amount=0.25) == "cat (dog:1.25)"


@pytest.mark.parametrize("word", [3, -1])
def test_a_word_that_is_not_there_is_refused(word):
    with pytest.raises(PromptError, match="the prompt has 3 words"):
        emphasise("a red car", [(0, word)])


def test_long_and_hostile_prompts_are_quick():
    start = time.process_time()
    for prompt in (
        "(" * 10_000,
        "(" * 5_000 + "a" + ")" * 5_000,
        "<lora:" * 2_000,
        "BREAK " * 2_000,
        "," * 10_000,
    ):
        parse_weights(prompt)
    assert time.process_time() - start < 3


def test_context_is_scaled_and_keeps_its_mean():
    rng = np.random.default_rng(0)
    context = (rng.standard_normal((8, 16)) + 0.5).astype(np.float32)
    weights = np.ones(8, np.float32)
    weights[3] = 1.4
    result = apply_weights(context, weights)
    scaled = context * weights[:, None]
    np.testing.assert_allclose(result, scaled * (context.mean() / scaled.mean()), rtol=1e-5)
    assert result.mean() == pytest.approx(float(context.mean()), rel=1e-5)
    assert result.dtype == np.float32
    ratio = result / context
    np.testing.assert_allclose(ratio[3] / ratio[0], 1.4, rtol=1e-4)


def test_context_without_weights_or_mean_stays_finite():
    context = np.array([[1.0, -1.0], [2.0, -2.0]], np.float32)
    assert apply_weights(context, np.ones(2, np.float32)) is context
    np.testing.assert_array_equal(
        apply_weights(context, np.array([1.0, 1.5], np.float32)), [[1.0, -1.0], [3.0, -3.0]]
    )


def test_words_are_split_at_punctuation_only():
    text = "a t-shirt, cat's 1.5 f/1.8 “hi” 猫、犬 🐱 naïve foo.bar हिन्दी — x"
    words = [
        "a",
        "t-shirt",
        "cat's",
        "1.5",
        "f/1.8",
        "hi",
        "猫",
        "犬",
        "🐱",
        "naïve",
        "foo",
        "bar",
        "हिन्दी",
        "x",
    ]
    assert WORD.findall(text) == words
    assert not re.search(r"\s", "".join(words))


def test_weighted_text_is_a_value():
    assert WeightedText("a", 1.0) == WeightedText("a", 1.0)
