"""The report: one HTML file with findings, changes and their reasons.

It holds everything itself (pictures and maps as data URIs, style, script); its content policy forbids any request to
a network. Every text of a user is escaped. It follows the reader's light or dark
theme, works by keyboard, and reads on a telephone.
"""

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from importlib import resources
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grefine_rt.arrays import Floats, Mask, Rgb
from grefine_rt.assess.scorers.base import Score
from grefine_rt.imaging import heatmap
from grefine_rt.report.pictures import MAP_SIDE, map_uri, mask_uri, opaque, picture_uri, png_uri

MAX_PHRASE_MAPS = 200
"""The most phrases with maps in the report; later ones have their scores alone."""

_GENERATOR = "<meta name=generator content=grefine-rt>"


class PhraseLike(Protocol):
    """The part of a phrase's scores that the report reads; `map` is (g, g) in [0, 1], 1 = the phrase is here."""

    @property
    def text(self) -> str: ...
    @property
    def noun(self) -> str: ...
    @property
    def ancestor(self) -> str: ...
    @property
    def noun_score(self) -> float: ...
    @property
    def phrase_score(self) -> float: ...
    @property
    def defect(self) -> str | None: ...
    @property
    def map(self) -> Floats: ...
    @property
    def known(self) -> bool: ...


class AssessmentLike(Protocol):
    """The part of an assessment that the report reads.

    `scores` has each score with its scale; `factors` lie in [0, 1]. `perceptual_map` and `factor_maps` are
    (H, W) with 1 = good, `alignment_map` is (H, W) with 1 = to be redrawn (Eq. 6).
    """

    @property
    def scores(self) -> Mapping[str, Score]: ...
    @property
    def perceptual_map(self) -> Floats: ...
    @property
    def alignment_map(self) -> Floats: ...
    @property
    def factors(self) -> Mapping[str, float]: ...
    @property
    def factor_maps(self) -> Mapping[str, Floats]: ...
    @property
    def phrases(self) -> Sequence[PhraseLike]: ...


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything the report shows. After an assessment alone, only the first three fields are needed.

    prompt: as the user wrote it.
    image: the input, PIL or uint8 (H, W, 3).
    before: its assessment.
    result, after: the refined picture and its assessment.
    mask: bool (H, W), the region that was regenerated.
    plan: names and values of the plan (strength, steps, weighted prompt, ...), shown in this order.
    reasons: the plan's reasons, one sentence each.
    timings: milliseconds per part; a part named "total" is shown as the sum.
    about: names and values of the run (bundle, device, seed, versions, ...).
    notes: remarks on the input and the result, one sentence each.
    summary: all of it in one line, in plain words.
    run: a short hash of everything that the report depends on; see `run_of_report`.
    """

    prompt: str
    image: Image.Image | Rgb
    before: AssessmentLike
    result: Image.Image | Rgb | None = None
    after: AssessmentLike | None = None
    mask: Mask | None = None
    plan: Mapping[str, object] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()
    summary: str = ""
    run: str = ""


def render(data: ReportData) -> str:
    """The report as the text of one HTML file; write it as UTF-8."""
    image = opaque(data.image)
    result = None if data.result is None else opaque(data.result)
    thumbnail = image.copy()
    thumbnail.thumbnail((MAP_SIDE, MAP_SIDE))
    here = resources.files(__package__)
    style = here.joinpath("report.css").read_text("utf-8")
    style += f":root{{--aspect:{image.width}/{image.height};--picture:url({picture_uri(thumbnail)})}}"
    script = here.joinpath("report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    heading = "Refinement report" if result is not None else "Assessment report"
    body = "".join(
        (
            f"<header><p class=brand>grefine-rt</p><h1>{heading}</h1>",
            f"<blockquote dir=auto>{_text(data.prompt) or '<em>no prompt</em>'}</blockquote>",
            f"<p class=summary dir=auto>{_text(data.summary)}</p>" if data.summary else "",
            _sentences(data.notes, "notes"),
            "</header>\n<main>\n<div class=top>",
            _viewer(image, result, data),
            "<div>",
            _scores(data.before, data.after),
            _reasons(data.reasons),
            "</div></div>\n",
            _phrases(data.before, data.after),
            "<div class=facts>",
            _definition_card("Plan", data.plan),
            _timings(data.timings),
            _definition_card("About this run", data.about),
            "</div>\n</main>",
        )
    )
    run = f"<meta name=grefine-run content={data.run}>\n" if data.run else ""
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name=referrer content=no-referrer>\n'
        f"{_GENERATOR}\n{run}"
        f"<title>{heading} - grefine-rt</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


# The parts of the page


def _viewer(image: Image.Image, result: Image.Image | None, data: ReportData) -> str:
    before, after = data.before, data.after
    layers = [f'<img class=base alt="The input picture" src="{picture_uri(image)}">']
    if result is not None:
        layers.append(f'<img class="base after" alt="The refined picture" src="{picture_uri(result)}">')
    layers.append('<img id=map class=layer alt="" hidden>')
    mask = ""
    if data.mask is not None:
        layers.append(f'<img id=mask class=layer alt="The mask" hidden src="{mask_uri(data.mask)}">')
        share = f"{100 * float(data.mask.mean()):.1f} % of the picture"
        mask = f"<label><input type=checkbox id=show-mask> Mask <small>{share}</small></label>"
    if result is not None:
        layers.append(_SLIDER)
    maps = [
        ("Perceptual defects", 1 - before.perceptual_map),
        ("Prompt mismatch", before.alignment_map),
        *((f"{name.capitalize()} defects", 1 - values) for name, values in before.factor_maps.items()),
    ]
    if after is not None:
        maps.append(("Perceptual defects after", 1 - after.perceptual_map))
        maps.append(("Prompt mismatch after", after.alignment_map))
    strip = "".join(_thumbnail(values, name, f"<span>{_text(name)}</span>") for name, values in maps)
    legend = png_uri(heatmap.legend(128, 1))
    return (
        f"<section class='card viewer'><div class=frame id=frame>{''.join(layers)}</div>"
        f"<div class=controls>{mask}"
        "<label>Map opacity <input type=range id=opacity min=0 max=100 value=85></label>"
        f'<span class=legend><span id=low>fine</span><img alt="" src="{legend}">'
        "<span id=high>to be repaired</span></span></div>"
        "<div class=strip role=group aria-label='Maps over the picture'>"
        "<button class=thumb type=button aria-pressed=true><i></i><span>No map</span></button>"
        f"{strip}</div></section>"
    )


_SLIDER = (
    "<span class=divider></span><span class='tag left'>before</span><span class='tag right'>after</span>"
    "<input id=split type=range min=0 max=100 value=50 "
    'aria-label="Divider: the input picture on its left, the refined one on its right">'
)


def _scores(before: AssessmentLike, after: AssessmentLike | None) -> str:
    rows, later = [], after.scores if after else {}
    for name, score in before.scores.items():
        kind = "main" if name in ("perceptual", "alignment") else "raw"
        title = score.title[:1].upper() + score.title[1:]
        rows.append(_score_row(title, score, later.get(name), kind))
        for factor, value in before.factors.items() if name == "perceptual" else ():
            then = after.factors.get(factor) if after else None
            later_factor = None if then is None else replace(score, value=then)
            rows.append(_score_row(factor.capitalize(), replace(score, value=value), later_factor, "factor"))
    return f"<section class='card scores'><h2>Scores</h2>{''.join(rows)}</section>"


def _score_row(name: str, before: Score, after: Score | None, kind: str) -> str:
    last = before if after is None else after
    scale = f" <small>{_text(before.scale.range)}</small>"
    shown = f"<b>{_number(last.value)}</b>{scale}"
    bars = _bar(last.share, "now")
    if after is not None:
        delta = after.value - before.value
        better = delta > 0 if before.scale.higher_is_better else delta < 0
        trend = "same" if abs(delta) < 0.005 else "up" if better else "down"
        sign = "±" if trend == "same" else "+" if delta > 0 else "−"
        shown = (
            f"{_number(before.value)} <span aria-label=to>→</span> {shown}"
            f"<span class='delta {trend}'>{sign}{_number(abs(delta))}</span>"
        )
        bars += _bar(before.share, "was")
    title = f' title="{_text(before.scale.measures)}"' if kind != "factor" else ""
    return (
        f"<div class='score {kind}'{title}><span class=name>{_text(name)}</span><span>{shown}</span>"
        f"<span class=track>{bars}</span></div>"
    )


_DEFECTS = {
    "noun": ("bad", "missing", "The thing was not found in the picture."),
    "adjective": ("warn", "looks different", "The thing is there, but not as the phrase describes it."),
}


def _phrases(before: AssessmentLike, after: AssessmentLike | None) -> str:
    if not before.phrases:
        return ""
    rows = []
    for index, phrase in enumerate(before.phrases):
        thumb = ""
        if index < MAX_PHRASE_MAPS:
            thumb = _thumbnail(phrase.map, f"Where “{phrase.text}” was found", "", ("absent", "present"))
        later = after.phrases[index] if after and index < len(after.phrases) else None
        cells = [
            f"<td class=where>{thumb}</td><th scope=row dir=auto>{_text(phrase.text)}</th>",
            f"<td dir=auto data-name=noun>{_text(phrase.noun) or '–'}</td>",
            f"<td dir=auto data-name='belongs to'>{_text(phrase.ancestor) or '–'}</td>",
            _phrase_score("noun", phrase.noun_score, later.noun_score if later else None),
            _phrase_score("phrase", phrase.phrase_score, later.phrase_score if later else None),
            f"<td data-name={'finding' if after is None else 'before'}>{_badge(phrase)}</td>",
        ]
        if after is not None:
            cells.append(f"<td data-name=after>{_badge(later) if later else '–'}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    titles = ["Where", "Phrase", "Noun", "Belongs to", "Noun score, of 1", "Phrase score, of 1"]
    titles += ["Finding"] if after is None else ["Before", "After"]
    head = "".join(f"<th scope=col>{title}</th>" for title in titles)
    return (
        "<section class='card phrases'><h2>Phrases of the prompt</h2><div class=scroll><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>\n"
    )


def _phrase_score(name: str, before: float, after: float | None) -> str:
    later = "" if after is None else f" <span aria-label=to>→</span> {_number(after)}"
    return f"<td class=number data-name='{name} score'>{_number(before)}{later}</td>"


def _badge(phrase: PhraseLike) -> str:
    if not phrase.known:
        return "<span class=badge title='The bundle does not know this word, so it judges nothing.'>unknown</span>"
    if phrase.defect is None:
        return "<span class='badge good'>fine</span>"
    kind, label, title = _DEFECTS.get(phrase.defect, ("bad", phrase.defect, ""))
    return f'<span class="badge {kind}" title="{title}">{_text(label)}</span>'


def _reasons(reasons: Sequence[str]) -> str:
    return (
        f"<section class='card reasons'><h2>Why</h2>{_sentences(reasons, 'reasons')}</section>"
        if reasons
        else ""
    )


def _definition_card(title: str, values: Mapping[str, object]) -> str:
    rows = (f"<dt>{_text(name)}</dt><dd dir=auto>{_text(value)}</dd>" for name, value in values.items())
    return f"<section class=card><h2>{title}</h2><dl>{''.join(rows)}</dl></section>" if values else ""


def _timings(timings: Mapping[str, float]) -> str:
    parts = {name: ms for name, ms in timings.items() if name != "total"}
    if not timings:
        return ""
    longest = max(parts.values(), default=0) or 1
    rows = [
        f"<tr><th scope=row>{_text(name)}</th><td><span class=track>{_bar(ms / longest, 'now')}</span></td>"
        f"<td class=number>{_duration(ms)}</td></tr>"
        for name, ms in parts.items()
    ]
    if "total" in timings:
        rows.append(
            f"<tr class=total><th scope=row>total</th><td></td>"
            f"<td class=number>{_duration(timings['total'])}</td></tr>"
        )
    return f"<section class='card timings'><h2>Time</h2><table>{''.join(rows)}</table></section>"


def _sentences(sentences: Iterable[str], kind: str) -> str:
    items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f"<ul class={kind}>{items}</ul>" if items else ""


def _thumbnail(
    values: NDArray[np.floating],
    name: str,
    caption: str,
    ends: tuple[str, str] = ("fine", "to be repaired"),
) -> str:
    """A button that shows the map over the picture; it carries the map itself, over a small picture.

    `ends` says what 0 and 1 mean, for the legend.
    """
    return (
        f'<button class=thumb type=button aria-pressed=false title="{_text(name)}" '
        f'data-low="{ends[0]}" data-high="{ends[1]}"><i>'
        f'<img alt="{_text(name)}" src="{map_uri(values)}"></i>{caption}</button>'
    )


# Numbers and text


def _text(value: object) -> str:
    """Escaped for text and attributes. Lone surrogates, which no file can hold, become question marks."""
    return escape(str(value).encode("utf-8", "replace").decode("utf-8"), quote=True)


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"


def _duration(ms: float) -> str:
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def _bar(share: float, kind: str) -> str:
    width = 100 * min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
    return f'<i class={kind} style="width:{width:.1f}%"></i>'


def run_of_report(path: Path) -> str | None:
    """The run that a report says it is of; None for any other file."""
    try:
        with path.open("rb") as file:
            head = file.read(2**16)
    except (OSError, ValueError):
        return None
    if not head.startswith(b"<!doctype html>") or _GENERATOR.encode() not in head:
        return None
    run = re.search(rb"<meta name=grefine-run content=([0-9a-z-]{1,64})>", head)
    return run.group(1).decode() if run else None
