import base64
import hashlib
import io
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from grefine_rt.assess.scorers.base import Scale, Score
from grefine_rt.imaging import heatmap
from grefine_rt.report import pictures, report
from grefine_rt.report.report import ReportData, render

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&\x00\ud800"
VOID = {"meta", "img", "input", "br"}


@dataclass(frozen=True)
class Phrase:
    text: str = "a red house"
    noun: str = "house"
    ancestor: str = "house"
    noun_score: float = 0.91
    phrase_score: float = 0.34
    defect: str | None = "adjective"
    known: bool = True
    map: np.ndarray = field(default_factory=lambda: np.eye(8, dtype=np.float32))


@dataclass(frozen=True)
class Assessed:
    scores: dict
    perceptual_map: np.ndarray
    alignment_map: np.ndarray
    factors: dict
    factor_maps: dict
    phrases: tuple


def scores(perceptual=0.523, **opinions):
    unit, mos = Scale("how good it looks"), Scale("what people say", 0, 5)
    return {
        "perceptual": Score(perceptual, unit, "perceptual", "quality"),
        "alignment": Score(0.412, unit, "prompt", "alignment"),
        **{name: Score(value, mos, name) for name, value in opinions.items()},
    }


def assessed(height, width, perceptual=0.523, phrases=(Phrase(),), seed=0):
    maps = np.random.default_rng(seed).random((4, height, width), np.float32)
    return Assessed(
        scores(perceptual),
        maps[0],
        maps[1],
        {"overall": 0.61, "technical": 0.47},
        {"technical": maps[2], "rationality": maps[3]},
        tuple(phrases),
    )


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def full(height=48, width=64, prompt="a red house under a yellow sun"):
    mask = np.zeros((height, width), bool)
    mask[: height // 2, : width // 2] = True
    return ReportData(
        prompt=prompt,
        image=noise(height, width),
        before=assessed(height, width),
        result=noise(height, width, 1),
        after=assessed(height, width, 0.877, [replace(Phrase(), defect=None, phrase_score=0.93)], 1),
        mask=mask,
        plan={"strength": 0.72, "prompt": "a (red house:1.1)"},
        reasons=("The house looks different.",),
        timings={"assess": 182.4, "restore": 1432.1, "total": 1614.5},
        about={"bundle": "mini", "seed": 7},
        notes=("Turned upright.",),
    )


class Page(HTMLParser):
    """A strict reader: every element is closed in order; attributes and texts are collected."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    def text(self):
        return " ".join(" ".join(self.texts).split())

    def with_tag(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def picture(uri):
    kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)", uri).groups()
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format.lower() == kind
    image.load()
    return image


def test_a_refinement_shows_everything():
    data = full()
    page = Page(render(data))
    text = page.text()
    for shown in (
        "Refinement report",
        data.prompt,
        "0.52",
        "0.88",
        "+0.35",
        "a red house",
        "looks different",
        "0.34",
        "0.93",
        "a (red house:1.1)",
        "The house looks different.",
        "182 ms",
        "1.43 s",
        "1.61 s",
        "25.0 % of the picture",
        "mini",
        "Turned upright.",
        "Technical defects",
        "Perceptual defects after",
    ):
        assert shown in text, shown
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {"split", "opacity", "show-mask", "map", "mask"} <= ids
    # Small pictures are embedded exactly, in the order input, result.
    shown = [picture(a["src"]) for a in page.with_tag("img") if "base" in (a.get("class") or "")]
    np.testing.assert_array_equal(shown[0], data.image)
    np.testing.assert_array_equal(shown[1], data.result)


def test_an_assessment_alone():
    page = Page(render(ReportData("a red house", noise(40, 40), assessed(40, 40))))
    text = page.text()
    assert "Assessment report" in text
    assert "0.52" in text
    assert "looks different" in text
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert not {"split", "show-mask", "mask"} & ids
    assert "→" not in text
    for absent in ("Plan", "Why", "Time", "About this run", "after"):
        assert absent not in text


def test_whatever_a_user_wrote_is_harmless():
    phrase = Phrase(EVIL, EVIL, EVIL, defect=EVIL)
    before = replace(assessed(32, 32, phrases=[phrase]), factors={EVIL: 0.5}, scores=scores(**{EVIL: 3.0}))
    before = replace(before, factor_maps={EVIL: before.perceptual_map})
    evil = replace(
        full(32, 32, EVIL),
        before=before,
        after=before,
        plan={EVIL: EVIL},
        reasons=(EVIL,),
        timings={EVIL: 3.0},
        about={EVIL: EVIL},
        notes=(EVIL,),
    )
    html = render(evil)
    html.encode("utf-8")
    page = Page(html)
    # The same elements as with harmless words, no more: nothing of it became markup.
    harmless = Page(render(with_plain_words(evil)))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert [set(a) for _, a in page.tags] == [set(a) for _, a in harmless.tags]
    assert len(page.with_tag("script")) == 1
    assert "<script>alert" not in html
    assert page.text().count("<script>alert(1)</script>") >= 10


def with_plain_words(data):
    """The same report with EVIL replaced by a plain word."""
    word = "plain"
    before = data.before
    before = replace(
        before,
        phrases=(Phrase(word, word, word, defect=word),),
        factors={word: 0.5},
        scores=scores(**{word: 3.0}),
        factor_maps={word: before.perceptual_map},
    )
    return replace(
        data,
        prompt=word,
        before=before,
        after=before,
        plan={word: word},
        reasons=(word,),
        timings={word: 3.0},
        about={word: word},
        notes=(word,),
    )


def test_nothing_comes_from_outside():
    html = render(full())
    page = Page(html)
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "poster", "srcset"):
            assert attributes.get(name, "data:image/").startswith("data:image/")
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in html
    assert all(target.startswith("data:image/") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "http" not in html.replace("http-equiv", "")
    # The policy forbids it too, and lets exactly our script run.
    policy = next(a["content"] for a in page.with_tag("meta") if a.get("http-equiv"))
    script = re.search(r"<script>(.*)</script>", html, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}'" in policy


def test_a_megapixel_of_noise_stays_below_three_megabytes():
    data = full(1024, 1024)
    assert len(render(data).encode()) < 3_000_000
    larger = replace(full(64, 64), image=noise(700, 2100), result=None, after=None)
    assert len(render(larger).encode()) < 1_500_000


def test_a_prompt_of_ten_thousand_characters_with_many_phrases():
    phrases = [replace(Phrase(), text=f"thing {index}") for index in range(1200)]
    data = full(64, 64, "thing, " * 1500)
    html = render(replace(data, before=assessed(64, 64, phrases=phrases)))
    assert "thing 1199" in html
    assert len(html.encode()) < 3_000_000


def test_no_phrases_no_numbers_no_prompt():
    bare = replace(
        assessed(20, 20, phrases=()), factors={}, factor_maps={}, scores=scores(float("nan"), quality=3.2)
    )
    text = Page(render(ReportData("", noise(20, 20), bare))).text()
    assert "no prompt" in text
    assert "–" in text
    assert "nan" not in text
    assert "3.20 of 5" in text
    assert "Phrases" not in text


def test_transparency_is_shown_over_white():
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[:10] = (200, 10, 10, 255)
    page = Page(render(ReportData("a", Image.fromarray(rgba), assessed(20, 20))))
    shown = np.asarray(picture(page.with_tag("img")[0]["src"]))
    assert (shown[:10] == (200, 10, 10)).all()
    assert (shown[10:] == 255).all()


def test_maps_show_heat_where_there_is_work():
    values = np.zeros((30, 40), np.float32)
    values[10:20, 10:20] = 1
    image = picture(pictures.map_uri(values)).convert("RGBA")
    assert image.size == (40, 30)
    np.testing.assert_array_equal(image.getpixel((15, 15)), (*heatmap.scale()[255], 255))
    np.testing.assert_array_equal(image.getpixel((0, 0))[:3], heatmap.scale()[0])
    assert image.getpixel((0, 0))[3] < 160


def test_the_mask_is_outlined():
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    alpha = np.asarray(picture(pictures.mask_uri(mask)))[..., 3]
    assert alpha.shape == (512, 512)
    assert alpha[0, 0] == 0
    assert 0 < alpha[256, 256] < 255
    assert (alpha[256, 120:128] == 255).any()


@pytest.mark.parametrize(
    ("ms", "text"), [(0.04, "0.0 ms"), (9.94, "9.9 ms"), (35.2, "35 ms"), (61234, "61.23 s")]
)
def test_durations(ms, text):
    assert report._duration(ms) == text
