"""Texts as OpenAI's CLIP reads them: its tokenizer once more in plain Python, over a small vocabulary of its form."""

import gzip
import html
import itertools
import subprocess
import sys

import ftfy
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from grefine_export.models.clip_tokenizer import OPENAI_FILE, read_tokenizer
from grefine_rt.text.cleaning import clip_text
from grefine_rt.text.emphasis import as_written, parse_weights, plain_text
from grefine_rt.text.tokenizer import PromptTokenizer

MERGES = [
    *(("t", "h"), ("th", "e</w>"), ("r", "e"), ("re", "d</w>"), ("c", "a"), ("ca", "t</w>"), ("&", "#")),
    *(("h", "o"), ("u", "s"), ("ho", "us"), ("hous", "e</w>"), ("(", "1"), ("a", "n"), ("an", "d</w>")),
]
LENGTH = 40
PROMPTS = (
    "a red cat &amp; a house",
    "&lt;b&gt;red&lt;/b&gt; &amp;amp; more",
    "fish &#39;n&#39; chips, caf&eacute;",
    "cafÃ© with a naÃ¯ve cat",
    "â€œquotedâ€\x9d the house",
    "\u201ccurly\u201d \u2018quotes\u2019 don\u2019t the",
    "ﬁne ﬂowers and ｆｕｌｌ ｗｉｄｔｈ",
    "  many   blanks\n\nand\tlines\u00a0here  ",
    "THE RED CAT's house, it'll be 1920s (1.5)",
    "猫 and дом &copy; 2024 ½ 🐱",
    "bell\x07 \x1b[31mred\x1b[0m zero\u200bwidth \ufeffmark",
    "",
)


def byte_letters():
    """A printable character for every byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    rest = [byte for byte in range(256) if byte not in letters]
    return letters | {byte: chr(256 + number) for number, byte in enumerate(rest)}


LETTERS = byte_letters()
ORDER = [chr(code) for code in sorted(map(ord, LETTERS.values()))]
TOKENS = [*ORDER, *(letter + "</w>" for letter in ORDER), *("".join(pair) for pair in MERGES)]
PIECES = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


def pairs_joined(word):
    """Byte pairs of one word, lowest rank first."""
    parts = [*word[:-1], word[-1] + "</w>"]
    ranks = {pair: rank for rank, pair in enumerate(MERGES)}
    while len(parts) > 1:
        best = min(itertools.pairwise(parts), key=lambda pair: ranks.get(pair, 10**9))
        if best not in ranks:
            break
        joined, index = [], 0
        while index < len(parts):
            if tuple(parts[index : index + 2]) == best:
                joined.append("".join(best))
                index += 2
            else:
                joined.append(parts[index])
                index += 1
        parts = joined
    return parts


def expected_ids(text):
    """OpenAI's `tokenize`: clean, lower, take apart, look up."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    text = regex.sub(r"\s+", " ", text).strip().lower()
    ids = []
    for piece in PIECES.findall(text):
        word = "".join(LETTERS[byte] for byte in piece.encode("utf-8"))
        ids += [TOKENS.index(part) for part in pairs_joined(word)]
    return [len(TOKENS), *ids[: LENGTH - 2], len(TOKENS) + 1]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    with gzip.open(folder / OPENAI_FILE, "wt", encoding="utf-8") as file:
        file.write('"bpe_simple_vocab"#version: 0.2\n' + "".join(f"{a} {b}\n" for a, b in MERGES))
    read_tokenizer(folder, len(TOKENS) + 2).save(str(folder / "tokenizer.json"))
    return PromptTokenizer.from_file(folder / "tokenizer.json", LENGTH, clean=True)


def ids_of(words, text):
    ids = words.encode(text).tolist()
    return ids[: ids.index(words.eot) + 1]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_ids_are_openais(words, prompt):
    assert ids_of(words, prompt) == expected_ids(prompt)


@given(st.text(st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=30))
def test_ids_of_any_text_are_openais(words, text):
    """Of assigned characters: libraries of several years differ in the newest."""
    assert ids_of(words, text) == expected_ids(text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_plain_text_needs_no_mending(text):
    """What is left to the short way round ftfy is what ftfy leaves alone."""
    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    assert clip_text(text) == regex.sub(r"\s+", " ", mended).strip().lower()


def test_weights_stay_with_their_words(words):
    """Cleaning each piece apart gives the ids of the whole."""
    chunks = parse_weights("a (red:1.3)  cat &amp; the ((house:0.5))")
    ids, weights = words.encode_weighted(chunks)
    assert ids.tolist() == words.encode("a red cat & the house").tolist()
    of = dict(zip(ids.tolist(), weights.tolist(), strict=True))
    assert of[TOKENS.index("red</w>")] == pytest.approx(1.3)
    assert of[TOKENS.index("cat</w>")] == 1
    assert of[TOKENS.index("house</w>")] != 1


def test_mending_is_imported_at_its_first_use():
    code = "import sys, grefine_rt, grefine_rt.text.tokenizer; print('ftfy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# --- prompts as they were written


@pytest.mark.parametrize(
    "prompt",
    [
        "a photo (1920s) of a cat [sic]",
        "a cat ((very) fluffy)",
        "meet me at 10:30, (or later)",
        "ratio 16:9",
        "CATS AND DOGS",
        "a smile :)",
        "",
    ],
)
def test_brackets_stay_where_no_weight_is_used(prompt):
    assert as_written(prompt) == prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "a (red:1.2) cat",
        "(a (red) cat:.8)",
        r"a smile \(really\)",
        "a cat <lora:fluffy:0.7>",
        "(old) (cat:1)",
    ],
)
def test_a_prompt_with_weights_is_read_without_them(prompt):
    assert as_written(prompt) == plain_text(prompt) != prompt
