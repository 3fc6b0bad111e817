"""Prompts with written-down truth: public templates (GenEval), tag lists and sentences with several relations.

Files: `tests/data/geneval/` (MIT), `tests/data/prompts/tag_lists*.txt` and `sentences*.txt`, whose first lines explain
their marks. The rules were made with the odd prompts of `tag_lists.txt` and `sentences.txt`. Every later file was
written before its prompts were parsed, counted once, and then used to find more faults, so the shares of today say
little about prompts that nobody has looked at: the first counts do.

| first counts, in order | tag lists, "clean" | sentences |
| --- | --- | --- |
| even | 62/75 | 44/50 |
| held out | 39/50 | 35/40 |
| second (another author from here on) | 47/60 | 54/60 |
| third | 23/30 | 25/30 |
| fourth | 22/30 | 27/30 |
| fifth | 19/20 | 18/20 |
| sixth | 19/20 | 17/20 |
| seventh (a third author from here on: titles, brands, studios, tags of models) | 31/40 | 52/60 |
| eighth | 47/60 | 55/60 |
| ninth | 53/60 | 54/60 |
| tenth | 59/60 | 52/60 |
| eleventh | 55/60 | 56/60 |
| twelfth | 52/60 | 56/60 |
| thirteenth | 58/60 | 58/60 |
| fourteenth | 56/60 | 48/50 |
| fifteenth, sixteenth | 54/60, 55/60 | |
| seventeenth, eighteenth (artists, sizes, camera and lens words, style) | 39/40, 39/40 | |

In the second and the third file, faults of the written truth were mended after the first count (as written: 34/60 and
52/60, 22/30 and 24/30). From the seventh on, the counts are those of the truth as it was written; faults in it (one or
two a file: words that may be a thing or not) were mended afterwards, and marks that the eighth file lacked were set.
The latest four files of sentences together: 218/230 (95 %). Tag lists: 223/240 (93 %) of the thirteenth to the
sixteenth, where most of what remains are titles and brands made of common words; 78/80 (98 %) of the last two, which
are of the kind that the bar names. The thirteenth to the sixteenth were counted with a list of known titles, which is
not kept: rules are wanted, not lists of cases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grefine_rt.assess.prompt import Phrase, prompt_phrases
from grefine_rt.assess.prompt.words import singular
from grefine_rt.text.emphasis import plain_text

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
_LATER = (
    *(
        "second",
        "third",
        "fourth",
        "fifth",
        "sixth",
        "seventh",
        "eighth",
        "ninth",
        "tenth",
        "eleventh",
        "twelfth",
    ),
    *("thirteenth", "fourteenth"),
)
_MARKED = re.compile(r"([*~])([^*~]+)\1")
_NUMBERED = re.compile(r"(?P<word>[\w'-]+)#(?P<number>\d+)(?:\^(?P<above>[-\d/]+))?")


@dataclass(frozen=True)
class Verdict:
    """What one prompt gave: name of the figure -> whether the prompt is right in it."""

    prompt: str
    right: dict[str, bool]


# --- GenEval ------------------------------------------------------------------------------------------------


def geneval() -> list[dict[str, Any]]:
    """The 553 rows of GenEval: `tag`, `prompt` and the objects in `include`."""
    text = (DATA / "geneval" / "evaluation_metadata.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def judge_geneval(row: dict[str, Any]) -> Verdict:
    """Whether each object heads exactly one phrase, holds its colour, and hangs as the position says."""
    phrases = prompt_phrases(row["prompt"])
    heads = [
        [i for i, phrase in enumerate(phrases) if _is_object(phrase, o["class"])] for o in row["include"]
    ]
    once = all(len(found) == 1 for found in heads)
    right = {"object": once}
    if any("color" in thing for thing in row["include"]):
        right["colour"] = once and all(
            thing["color"] in phrases[found[0]].text.lower().split()
            for thing, found in zip(row["include"], heads, strict=True)
            if "color" in thing
        )
    if row["tag"] == "position":
        reference, located = heads
        right["position"] = (
            once and phrases[reference[0]].ancestor == located[0] == phrases[located[0]].ancestor
        )
    return Verdict(row["prompt"], right)


def _is_object(phrase: Phrase, name: str) -> bool:
    *before, last = phrase.noun.lower().split()
    *expected, head = name.split()
    plural = {"person": "people", "knife": "knives", "bus": "buses", "sheep": "sheep"}
    return before == expected and (
        last == head or singular(last) == singular(head) or last == plural.get(head)
    )


# --- tag lists ----------------------------------------------------------------------------------------------


def tag_lists() -> list[str]:
    """The 150 marked tag lists that the rules were made with."""
    return _lines("tag_lists.txt")


def judge_tag_list(marked: str) -> Verdict:
    """Whether nothing but things became a thing ("clean"), and every thing did ("whole")."""
    marked = plain_text(marked)  # spans count in the plain text
    prompt, marks = "", {}
    last = 0
    for found in _MARKED.finditer(marked):
        prompt += marked[last : found.start()]
        marks[len(prompt)] = found[1]
        prompt += found[2]
        last = found.end()
    prompt += marked[last:]
    phrases = prompt_phrases(prompt)
    heads = {phrase.noun_span[0] for phrase in phrases}
    return Verdict(
        prompt,
        {
            "clean": all(start in marks for start in heads),
            "whole": all(start in heads for start, mark in marks.items() if mark == "*"),
        },
    )


# --- sentences ----------------------------------------------------------------------------------------------


def sentences() -> list[str]:
    """The 100 numbered sentences that the rules were made with."""
    return _lines("sentences.txt")


def judge_sentence(numbered: str) -> Verdict:
    """Whether every thing heads a phrase and hangs on the written ancestor ("ancestors"), nothing else is a thing.

    A noun with the number 0 may be a thing or not.
    """
    prompt, expected = "", {}
    last = 0
    for found in _NUMBERED.finditer(numbered):
        prompt += numbered[last : found.start()]
        expected[len(prompt)] = (int(found["number"]), found["above"])
        prompt += found["word"]
        last = found.end()
    prompt += numbered[last:]
    phrases = prompt_phrases(prompt)
    starts = [phrase.noun_span[0] for phrase in phrases]
    number = {start: expected[start][0] for start in starts if start in expected}
    things = [start for start, (told, _) in expected.items() if told]
    right = all(start in expected for start in starts) and all(start in starts for start in things)
    for index, (start, phrase) in enumerate(zip(starts, phrases, strict=True)):
        if start in expected and expected[start][0]:
            above = "-" if phrase.ancestor == index else str(number.get(starts[phrase.ancestor]))
            right = right and above in (expected[start][1] or "-").split("/")
    return Verdict(prompt, {"ancestors": right})


def _lines(name: str) -> list[str]:
    lines = (DATA / "prompts" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _later(kind: str, *names: str) -> list[str]:
    return [line for name in names for line in _lines(f"{kind}_{name}.txt")]


# --- figures ------------------------------------------------------------------------------------------------


def judged() -> Iterator[tuple[str, list[Verdict]]]:
    """Name of a set -> its verdicts; the halves of our own sets apart."""
    yield "GenEval", [judge_geneval(row) for row in geneval()]
    own: Sequence[tuple[str, list[str], Callable[[str], Verdict]]] = (
        ("tag lists, odd", tag_lists()[::2], judge_tag_list),
        ("tag lists, even", tag_lists()[1::2], judge_tag_list),
        ("tag lists, held out", _lines("tag_lists_held_out.txt"), judge_tag_list),
        ("sentences, odd", sentences()[::2], judge_sentence),
        ("sentences, even", sentences()[1::2], judge_sentence),
        ("sentences, held out", _lines("sentences_held_out.txt"), judge_sentence),
        (
            "tag lists, later",
            _later("tag_lists", *_LATER, "fifteenth", "sixteenth", "seventeenth", "eighteenth"),
            judge_tag_list,
        ),
        ("sentences, later", _later("sentences", *_LATER), judge_sentence),
    )
    for name, prompts, judge in own:
        yield name, [judge(prompt) for prompt in prompts]


def shares(verdicts: Sequence[Verdict]) -> dict[str, tuple[int, int]]:
    """Name of a figure -> prompts that are right, prompts that have it."""
    found: dict[str, tuple[int, int]] = {}
    for verdict in verdicts:
        for name, right in verdict.right.items():
            exact, count = found.get(name, (0, 0))
            found[name] = (exact + right, count + 1)
    return found
