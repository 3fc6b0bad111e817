"""Random and damaged input for every reader of the runtime: only results or GRefineErrors, quickly, in bounded memory.

    python -m benchmarks.fuzz --count 20000 [--seed N] [--log docs/fuzz.log]

One kind of input after the other: image files of many formats, cut and with bytes changed; prompts; options of wrong
types; manifests; masks; metadata in the layouts of generators. An input is wrong when it raises anything but a
GRefineError, says more than one line, or takes more than two seconds of CPU time. The exit code is 1 when one is.
No model runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import random
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from grefine_rt import AssessOptions, PlanOptions, RefineOptions
from grefine_rt.assess.indicator import check_prompt
from grefine_rt.assess.prompt.phrases import prompt_phrases
from grefine_rt.bundle.manifest import Manifest
from grefine_rt.errors import GRefineError
from grefine_rt.files import write_whole
from grefine_rt.imaging.encode import Encoding, encode
from grefine_rt.imaging.image import load
from grefine_rt.imaging.mask_source import as_mask
from grefine_rt.imaging.prompts.read import TextFields, read_prompt
from grefine_rt.text.emphasis import emphasise

SECONDS = 2.0
MEGABYTES = 1500
"""Peak of the process: decoding 4 megapixels in any format stays far below."""
FORMATS = (
    *("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "TGA", "ICO", "DIB", "DDS", "PCX", "QOI", "SGI"),
    *("JPEG2000", "AVIF", "MPO"),
)
_MINI = Path(__file__).resolve().parents[1] / "engines" / "mini" / "bundle.json"
_TEXTS = (
    *(
        "a red house",
        "(sun:1.3)",
        "[",
        "]",
        "((",
        "))",
        "\\",
        "<lora:x:1>",
        "BREAK",
        "AND",
        ",",
        " ",
        "\n",
        "\0",
        "\ud800",
    ),
    *(
        "日本",
        "🏠",
        "[a:b:0.5]",
        "{",
        "}",
        '"',
        ":",
        "Negative prompt:",
        "Steps: 20, Seed: 1, Size: 1x1",
        "x" * 500,
        "\u202e",
    ),
)
_WORDS = (
    *(
        "positive",
        "negative",
        "text",
        "class_type",
        "inputs",
        "nodes",
        "links",
        "type",
        "id",
        "widgets_values",
    ),
    *(
        "prompt",
        "uc",
        "v4_prompt",
        "caption",
        "sui_image_params",
        "seed",
        "KSampler",
        "CLIPTextEncode",
        "SaveImage",
    ),
    *(
        "guider",
        "conditioning",
        "definitions",
        "subgraphs",
        "select",
        "1",
        "2",
        "Text Switch",
        "link",
        "name",
        "c",
    ),
)
_KEYS = (
    "parameters",
    "prompt",
    "workflow",
    "Comment",
    "Description",
    "sd-metadata",
    "invokeai_metadata",
    "Dream",
)


def image(rng: random.Random) -> Any:
    """A small picture in one of the formats, damaged or whole, read, asked for its prompt and written again."""
    form = rng.choice(FORMATS)
    mode = rng.choice(["RGB", "RGBA", "L", "P", "1", "I;16", "LA", "CMYK"])
    size = (rng.choice([1, 15, 16, 40, 64]), rng.choice([16, 33, 64]))
    noise = np.frombuffer(rng.randbytes(size[0] * size[1] * 3), np.uint8).reshape(size[1], size[0], 3)
    buffer = io.BytesIO()
    try:
        Image.fromarray(noise).convert(mode).save(buffer, form)
    except (OSError, ValueError, KeyError):  # not every format has every mode
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    for _ in range(rng.choice([0, 1, 2, 8, 40])):
        data[rng.randrange(min(len(data), rng.choice([32, 200, 10**9])))] = rng.randrange(256)
    if rng.random() < 0.2:
        data = data[: rng.randrange(len(data))]
    picture = load(bytes(data), max_pixels=4_000_000)
    read_prompt(picture.metadata.fields())
    name = rng.choice(["PNG", "JPEG", "WEBP", "TIFF"])
    return encode(picture.to_pil(), name, Encoding(), picture.metadata, {"run": "x"})


def prompt(rng: random.Random) -> Any:
    """A prompt of pieces, parsed and emphasised."""
    text = _text(rng)
    check_prompt(text)
    phrases = prompt_phrases(text)
    return emphasise(text, [phrase.shown for phrase in phrases[:3]])


def options(rng: random.Random) -> Any:
    """One option of a wrong or strange value."""
    kind = rng.choice([PlanOptions, AssessOptions, RefineOptions, Encoding])
    field = rng.choice(dataclasses.fields(kind))
    return kind(**{field.name: _value(rng)})


def manifest(rng: random.Random) -> Any:
    """The manifest of the embedded bundle with some values changed, dropped, or the text damaged."""
    data = json.loads(_MINI.read_text(encoding="utf-8"))
    for _ in range(rng.choice([1, 1, 2, 5])):
        place: Any = data
        while isinstance(place, dict) and place and (key := rng.choice(list(place))) is not None:
            if not isinstance(place[key], dict) or not place[key] or rng.random() < 0.1:
                if rng.random() < 0.2:
                    del place[key]
                else:
                    place[key] = _tree(rng, 3)
                break
            place = place[key]
    text = json.dumps(data)
    if rng.random() < 0.2:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["[" * 5000, "{", "9" * 5000, "\ud800", "1e999", ""]) + text[at:]
    return Manifest.from_json(text).to_json()


def mask(rng: random.Random) -> Any:
    """An array of any type and shape as a mask."""
    kind = rng.choice(["bool", "u1", "u2", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "S1", "O", "M8[s]"])
    shape = rng.choice([(16, 16), (16, 16, 1), (16, 16, 4), (15, 16), (16,), (16, 16, 5), (0, 0), ()])
    values = np.array(
        _value(rng) if rng.random() < 0.1 else rng.choice([0, 1, 255, 65535, -1, 0.5, 2, float("nan")]),
        object,
    )
    try:
        source = np.broadcast_to(values, shape).astype(kind)
    except (TypeError, ValueError, OverflowError):
        return None  # numpy has no such array
    return as_mask(source if rng.random() < 0.9 else _value(rng), (16, 16))


def metadata(rng: random.Random) -> Any:
    """Text fields, EXIF and XMP of pieces that readers look for."""
    fields = {
        rng.choice(_KEYS): _text(rng) if rng.random() < 0.4 else json.dumps(_tree(rng, 6))
        for _ in range(rng.randrange(4))
    }
    packet = rng.randbytes(rng.randrange(60))
    if rng.random() < 0.5:
        packet = (
            b"<x:xmpmeta xmlns:x='a'><rdf:RDF xmlns:rdf='b' xmlns:dc='http://purl.org/dc/elements/1.1/'>"
            + packet
        )
    return read_prompt(TextFields(fields, {"UserComment": _text(rng)}, packet))


KINDS: Mapping[str, Callable[[random.Random], Any]] = {
    function.__name__: function for function in (image, prompt, options, manifest, mask, metadata)
}


def _text(rng: random.Random) -> str:
    many = rng.choice([1, 3, 10, 60])
    return "".join(
        rng.choice(_TEXTS) if rng.random() < 0.8 else chr(rng.randrange(0xD7FF)) for _ in range(many)
    )


def _tree(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(9 if depth else 6)
    if kind >= 6 and rng.random() < 0.6:
        return {rng.choice(_WORDS): _tree(rng, depth - 1) for _ in range(rng.randrange(5))}
    if kind >= 6:
        return [_tree(rng, depth - 1) for _ in range(rng.randrange(4))]
    numbers = (0, -1, 1, 2**31, 10**400, 1e308, float("nan"), 0.5)
    return (None, True, rng.choice(numbers), rng.choice(_WORDS), rng.choice(_TEXTS), rng.randrange(10))[kind]


def _value(rng: random.Random) -> Any:
    values = (
        1,
        0,
        -1,
        0.5,
        True,
        "x",
        "auto",
        b"x",
        [],
        {},
        (),
        (1,),
        (0.2, 0.9),
        object(),
        10**400,
        float("nan"),
        print,
    )
    return rng.choice(values) if rng.random() < 0.8 else _tree(rng, 2)


def peak_megabytes() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=500, help="inputs in all, spread over the kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, help="only this kind")
    parser.add_argument("--log", type=Path, help="file to write")
    chosen = parser.parse_args(arguments)
    kinds = [chosen.kind] if chosen.kind else list(KINDS)
    outcomes: Counter[tuple[str, str]] = Counter()
    slowest: dict[str, float] = {}
    wrong: list[str] = []
    before = peak_megabytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(chosen.count):
            kind = kinds[number % len(kinds)]
            begin = time.process_time()
            try:
                KINDS[kind](random.Random(f"{chosen.seed} {number}"))
                outcome = "result"
            except GRefineError as error:
                outcome = "error"
                if "\n" in str(error) or len(str(error)) > 1000:
                    wrong.append(f"{kind} {number}: a message of {len(str(error))} characters")
            except Exception:
                outcome = "WRONG"
                wrong.append(f"{kind} {number}: {traceback.format_exc(limit=-3)}")
            spent = time.process_time() - begin
            outcomes[kind, outcome] += 1
            slowest[kind] = max(slowest.get(kind, 0), spent)
            if spent > SECONDS:
                wrong.append(f"{kind} {number}: {spent:.1f} s")
    peak = peak_megabytes()
    if peak - before > MEGABYTES:
        wrong.append(f"the inputs took {peak - before:.0f} MB")
    lines = [f"python -m benchmarks.fuzz --count {chosen.count} --seed {chosen.seed}", ""]
    lines += [f"{'input':<10}{'results':>9}{'errors':>9}{'wrong':>7}{'slowest, s of CPU':>20}"]
    for kind in kinds:
        counts = [outcomes[kind, outcome] for outcome in ("result", "error", "WRONG")]
        lines.append(f"{kind:<10}{counts[0]:>9}{counts[1]:>9}{counts[2]:>7}{slowest.get(kind, 0):>20.2f}")
    lines += ["", f"peak memory {peak:.0f} MB; wrong inputs: {len(wrong)}", *wrong[:50]]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if chosen.log:
        write_whole(chosen.log, text.encode("utf-8", "backslashreplace"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
