"""Prompts in the lowest bits of pixels ("stealth pnginfo")."""

import gzip
import io
import json
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from grefine_rt.imaging.image import load
from grefine_rt.imaging.prompts.found import MAX_FIELD
from grefine_rt.imaging.prompts.hidden import hidden_text
from grefine_rt.imaging.prompts.read import read_prompt
from tests.support import generator_files as made


def stored(data, bits=None, signature=b"stealth_pngcomp", size=(128, 96)):
    """A picture with these bytes in its alpha and any length before them."""
    stream = signature + (8 * len(data) if bits is None else bits).to_bytes(4, "big") + data
    values = np.full((*size[::-1], 4), 255, np.uint8)
    flat = values.transpose(1, 0, 2)[..., 3].copy().reshape(-1)
    each = np.unpackbits(np.frombuffer(stream, np.uint8))[: flat.size]
    flat[: each.size] = flat[: each.size] & 254 | each
    values[..., 3] = flat.reshape(size).T
    return Image.fromarray(values)


@pytest.mark.parametrize("name", made.HIDDEN)
def test_each_layout(name):
    found = read_prompt(load(made.HIDDEN[name]()).metadata.fields())
    assert (found.prompt, found.negative, found.seed) == (made.PROMPT, made.NEGATIVE, 42)
    assert found.field == "text hidden in its pixels"
    assert found.generator == ("NovelAI" if "novelai" in name else "AUTOMATIC1111 layout")


def test_a_comment_may_be_an_object():
    text = json.dumps({"Comment": {"prompt": "a boat", "uc": "fog"}, "Software": "NovelAI"})
    found = read_prompt(load(made.png({}, made.hidden(text))).metadata.fields())
    assert (found.prompt, found.negative) == ("a boat", "fog")


def test_what_the_file_says_in_words_comes_first_and_a_plain_description_after_it():
    image = made.hidden("a boat\nSteps: 20, Sampler: Euler, Seed: 1, Size: 8x8")
    assert read_prompt(load(made.png({"parameters": "a red house"}, image)).metadata.fields()).prompt == (
        "a red house"
    )
    found = read_prompt(load(made.png({"Description": "somebody's words of it"}, image)).metadata.fields())
    assert found.prompt == "a boat"


def test_it_is_read_from_the_file_as_it_lies_also_when_the_picture_is_turned():
    exif = Image.Exif()
    exif[274] = 6
    image = made.hidden(made.INFOTEXT)
    picture = load(made.png({}, image, exif=exif.tobytes()))
    assert picture.size == image.size[::-1]
    assert read_prompt(picture.metadata.fields()).prompt == made.PROMPT


def test_alpha_that_is_given_back_still_holds_it():
    picture = load(made.HIDDEN["novelai-hidden.png"]())
    again = load(picture.to_pil())
    assert read_prompt(again.metadata.fields()).prompt == made.PROMPT


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGBA", (128, 96)),
        Image.new("RGBA", (16, 1), (255,) * 4),
        Image.new("RGB", (16, 16), "white"),
        Image.new("L", (128, 96)),
        stored(b"no gzip", None),
        stored(gzip.compress(b"cut off")[:9]),
        stored(b"x", 0),
        stored(b"x", 2**32 - 1),
        stored(b"x" * 100, 128 * 96),
        stored(b"x" * 100, signature=b"stealth_pngtest"),
    ],
)
def test_pictures_without_such_a_text(image):
    assert hidden_text(image) == ""


def test_a_text_cut_within_a_character_or_a_byte_is_read():
    assert hidden_text(stored("größer".encode()[:3], signature=b"stealth_pnginfo")) == "gr\ufffd"
    assert hidden_text(stored(b"abc", 23, signature=b"stealth_pnginfo")) == "ab"


def test_what_unpacks_to_more_than_the_bound_is_left():
    image = stored(gzip.compress(b"\0" * (4 * MAX_FIELD)), size=(1024, 1024))
    tracemalloc.start()
    begin = time.process_time()
    assert hidden_text(image) == ""
    assert time.process_time() - begin < 1
    assert tracemalloc.get_traced_memory()[1] < 4 * MAX_FIELD
    tracemalloc.stop()
    assert len(hidden_text(stored(gzip.compress(b"x" * MAX_FIELD), size=(1024, 1024)))) == MAX_FIELD


def test_a_jpeg_is_not_looked_at():
    buffer = io.BytesIO()
    made.hidden("a boat", alpha=False).save(buffer, "JPEG", quality=100, subsampling=0)
    with Image.open(buffer) as image:
        image.load()
        assert hidden_text(image) == ""


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1), st.sampled_from(["info", "comp"]))
def test_any_bytes_are_a_text_or_none(data, bits, kind):
    assert isinstance(hidden_text(stored(data, bits, f"stealth_png{kind}".encode(), (32, 64))), str)
