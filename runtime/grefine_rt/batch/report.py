"""One HTML page over a whole run: changes of scores, the worst and the most improved pictures, and failures.

It has no script, asks nothing of a network, and its size is bounded, whatever the number of rows: histograms are drawn
from counts, and only the pictures of the two lists are shown, small, as data within the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from PIL import Image

from grefine_rt.batch.records import Record
from grefine_rt.batch.store import Location
from grefine_rt.batch.summary import BINS, SCORES, Histogram, Summary, summarise
from grefine_rt.errors import GRefineError
from grefine_rt.imaging.image import load

_SIDE = 160
"""Pixels of a small picture."""
_MOST_REASONS = 50
_WIDTH, _HEIGHT = 400, 120


def render(records: Iterable[Record], outdir: Location, source: Location) -> str:
    """The page as text. `source` is the folder to which the names of the pictures are relative."""
    found = summarise(records)
    style = resources.files(__package__).joinpath("report.css").read_text("utf-8")
    title = f"{found.rows:,} pictures"
    parts = [
        f"<header><p class=brand>grefine-rt</p><h1>{title}</h1>{_facts(found)}</header><main>",
        "<section class=charts>",
        *(_chart(name, words, found) for name, words in SCORES.items()),
        "</section>",
        _gallery("Improved most", found.improved, outdir, source),
        _gallery("Worst after the run" if found.status["refined"] else "Worst", found.worst, outdir, source),
        _failures(found),
        "</main>",
    ]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        "<meta name=generator content=grefine-rt>"
        f"<title>{title}</title><style>{style}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _facts(found: Summary) -> str:
    facts: dict[str, object] = {
        **{f"rows {status}": f"{count:,}" for status, count in sorted(found.status.items())},
        **{f"needed {stages}": f"{count:,}" for stages, count in sorted(found.stages.items())},
        "seconds of work": f"{found.seconds:,.1f}",
        **({"TFLOP": f"{found.tflop:,.4g}"} if found.tflop else {}),
    }
    return (
        f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in facts.items())}</dl>"
    )


def _chart(name: str, words: str, found: Summary) -> str:
    """Two histograms over each other, in counts of pictures."""
    both = {when: found.histograms.get(f"{name}_{when}") for when in ("before", "after")}
    drawn = {when: histogram for when, histogram in both.items() if histogram is not None}
    if not drawn:
        return ""
    most = max(max(histogram.counts) for histogram in drawn.values())
    curves = "".join(_curve(when, histogram, most) for when, histogram in drawn.items())
    means = ", ".join(
        f"<span class={when}>{when} {histogram.mean:.3f}</span>" for when, histogram in drawn.items()
    )
    return (
        f"<figure><figcaption>{words}<br><small>mean {means}; highest bar {most:,}</small></figcaption>"
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT + 16}' role=img aria-label='Histogram of {words}'>{curves}"
        f"<text x=0 y={_HEIGHT + 13}>0</text><text x={_WIDTH} y={_HEIGHT + 13} text-anchor=end>1</text>"
        "</svg></figure>"
    )


def _curve(when: str, histogram: Histogram, most: int) -> str:
    wide = _WIDTH / BINS
    steps = "".join(
        f"V{_HEIGHT * (1 - count / most):.1f}H{(index + 1) * wide:.0f}"
        for index, count in enumerate(histogram.counts)
    )
    return f"<path class={when} d='M0 {_HEIGHT}{steps}V{_HEIGHT}Z'/>"


def _gallery(title: str, records: Sequence[Record], outdir: Location, source: Location) -> str:
    if not records:
        return ""
    cards = "".join(_card(record, outdir, source) for record in records)
    return f"<section><h2>{title}</h2><div class=gallery>{cards}</div></section>"


def _card(record: Record, outdir: Location, source: Location) -> str:
    output = record.get("output")
    pictures = _thumbnail(source / record["image"], "before") + (
        _thumbnail(outdir / output, "after") if output else ""
    )
    scores = ", ".join(
        f"{short} {record[f'{name}_before']:.3f}"
        + (f" → {record[f'{name}_after']:.3f}" if record.get(f"{name}_after") is not None else "")
        for short, name in (("p", "perceptual"), ("a", "alignment"))
    )
    prompt, name = record.get("prompt") or "", _shown(record["image"])
    return (
        f"<article><div class=pair>{pictures}</div><p>{scores}</p>"
        f"<p dir=auto class=prompt>{escape(_shown(prompt[:200]))}</p><p class=name>{escape(name)}</p></article>"
    )


def _thumbnail(path: Location, words: str) -> str:
    """The picture as data; nothing for one that cannot be read, as from shards and tables with bytes."""
    try:
        if not path.is_file():
            return ""
        image = Image.fromarray(load(path.read_bytes()).rgb)
    except (GRefineError, OSError):
        return ""
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<img alt={words} title={words} src='data:image/jpeg;base64,{data}'>"


def _failures(found: Summary) -> str:
    if not found.reasons:
        return ""
    rows = "".join(
        f"<tr><td>{count:,}</td><td>{escape(_shown(reason))}</td>"
        f"<td>{escape(_shown(found.examples[reason])[:400])}</td></tr>"
        for reason, count in found.reasons.most_common(_MOST_REASONS)
    )
    more = len(found.reasons) - _MOST_REASONS
    rest = f"<p>{more:,} more reasons stand in the records.</p>" if more > 0 else ""
    return (
        f"<section><h2>Failed: {found.status['failed']:,}</h2><table><thead><tr><th>rows<th>reason<th>one of them"
        f"</thead><tbody>{rows}</tbody></table>{rest}</section>"
    )


def _shown(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
