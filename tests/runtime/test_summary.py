"""The one line that sums a run up, and that what users read has none of the paper's symbols."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from grefine_rt import RefineOptions, Refiner
from grefine_rt.plan.options import PlanOptions
from grefine_rt.plan.summary import percent
from tests.support.fake_bundle import Bundle, scene

GOOD = [["house", "house", "sea", "sea"]] * 4
POOR = [GOOD[0], ["house", "poor", "sea", "sea"], *GOOD[2:]]
PROMPT = "a house, the sea"
SYMBOL = re.compile(r"(?<![\w/'.-])[pPA](?![\w/'.-])|\ba (is|from|fell)\b|Eq\.|1 - P")


def refined(rows, prompt=PROMPT, **options):
    return Refiner(Bundle()).refine(scene(rows), prompt, options=RefineOptions(plan=PlanOptions(**options)))


def test_a_sound_picture_is_said_to_be_sound_and_untouched():
    result = refined(GOOD)
    assert result.summary == "Found nothing wrong with the picture. Nothing was changed."
    assert np.array_equal(np.asarray(result.image.convert("RGB")), scene(GOOD))


def test_what_was_wrong_what_was_done_and_how_much():
    result = refined(POOR, accept="off", stages=(1,))
    share = (np.asarray(result.image.convert("RGB")) != scene(POOR)).any(axis=2).mean()
    assert result.summary.startswith(
        f"Found: parts of the picture look poor ({result.before.perceptual_map.min():.2f} of 1 at worst)."
    )
    assert f"{percent(share)} of it was redrawn. " in result.summary
    assert f"Now it looks {result.after.perceptual:.2f} of 1" in result.summary
    both = refined(POOR, accept="off")
    assert "was redrawn and restored." in both.summary
    restored = refined(GOOD, accept="off", keep_good=False, stages=(2,))
    assert "All of it was restored." in restored.summary


def test_what_is_left_is_said():
    result = refined(GOOD, "a house, the sea, a tree", accept="off", stages=(2,))
    assert "'a tree' is missing" in result.summary.split("Left: ")[1]


@pytest.mark.parametrize(("share", "words"), [(1.0, "All"), (0.001, "Less than 1 %"), (0.124, "12 %")])
def test_shares_in_words(share, words):
    assert percent(share) == words


@pytest.mark.parametrize("rows", [GOOD, POOR])
@pytest.mark.parametrize("accept", ["off", "regions"])
@pytest.mark.parametrize("prompt", [PROMPT, "a house, the sea, a tree"])
def test_no_symbol_and_no_contradiction_in_what_is_said(rows, accept, prompt):
    for drafts in (1, 3):
        result = refined(rows, prompt, accept=accept, drafts=drafts)
        said = [result.summary, *result.plan.reasons, *result.notes]
        assert not [sentence for sentence in said if SYMBOL.search(sentence)]
        text = " ".join(said)
        if "given back as it was" in text or "not kept" in text:
            assert "Stage 2 restores" not in text
        assert not re.search(r"Draft \d+ of 1\b", text)
        assert text.count("TFLOP") == 0, "what it took is said once, by the run"


def test_people_read_the_summary_first_and_the_notes_among_the_rest(run, fake, tmp_path):
    grey = tmp_path / "grey.png"
    Image.fromarray(scene(POOR)).convert("L").save(grey)
    report = tmp_path / "report.html"
    done = run("refine", grey, "-p", PROMPT, "--report", report)
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("Found")
    assert "note: Converted from greyscale to RGB of 8 bits." in done.stdout
    told = json.loads(run("refine", grey, "-p", PROMPT, "--json", "--force").stdout)
    assert done.stdout.splitlines()[0] == told["summary"]
    assert f"<p class=summary dir=auto>{told['summary'].replace(chr(39), '&#x27;')}</p>" in report.read_text()
    assert told["reasons"]
    planned = run("refine", grey, "-p", PROMPT, "--plan-only")
    assert "note: Converted" in planned.stdout
