"""The benchmark's results as tables for people."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.figures import FIGURES, HEADLINE

VERDICT = {True: "pass", False: "FAIL", None: "-"}
"""Whether a figure reaches its bar, in words."""


def show(results: Mapping[str, Any], console: Console) -> None:
    """Prints the results of `benchmarks.quality.measure`."""
    for table in _tables(results):
        console.print(table)


def console() -> Console:
    """Where tables are shown; one that is no terminal is wide enough for them."""
    found = Console()
    return found if found.is_terminal else Console(width=140)


def markdown(results: Mapping[str, Any]) -> str:
    """The same tables as Markdown, each below its title."""
    parts = []
    for table in _tables(results):
        title, caption = table.title, table.caption
        table.title = table.caption = None
        table.box = MARKDOWN
        out = io.StringIO()
        Console(file=out, width=10_000).print(table)
        lines = [line.rstrip() for line in out.getvalue().splitlines() if line.strip(" |")]
        lines = lines[:2] + [line for line in lines[2:] if line.strip("|-")]  # no lines between sections
        rows = "\n".join(" ".join(line.split()) for line in lines)
        parts.append("\n\n".join(part for part in (f"## {title}", rows, caption) if part))
    return "\n\n".join(parts) + "\n"


def _tables(results: Mapping[str, Any]) -> list[Table]:
    tables = [_headline(results), _details(results["details"])]
    if "readings" in results:
        tables += [_readings(results["readings"]), _ablations(results["ablations"])]
    return tables


def in_words(value: float | bool | tuple[float, float] | None) -> str:
    """A cell of a table; "-" for None."""
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return " to ".join(map(in_words, value))
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:.3f}"


def _headline(results: Mapping[str, Any]) -> Table:
    of = results["set"]
    place = f"{of['split']} set, {of['samples']} samples, seed {of['seed']}"
    title = f"Bundle {results['bundle']['name']}, {place}"
    table = Table("figure", "value", "bar", "", "samples", "meaning", title=title)
    for key, bar in results["bars"].items():
        meaning = HEADLINE[key].meaning if key in HEADLINE else "same seed, same bytes"
        verdict = VERDICT[results["passed"][key]]
        table.add_row(
            key, in_words(results[key]), in_words(bar), verdict, str(results["samples"][key]), meaning
        )
    return table


def _details(details: Mapping[str, Any]) -> Table:
    table = Table("detail", "value", "samples", title="Behind the figures")
    for key, cell in details.items():
        table.add_row(key, in_words(cell["value"]), str(cell["samples"]))
    return table


def _readings(readings: Mapping[str, Any]) -> Table:
    table = Table(
        "reading", "equation", "choice", "figure", "value", "samples", title="Both readings (* the bundle's)"
    )
    for group, reading in readings.items():
        for choice, cells in reading["choices"].items():
            name = choice + (" *" if choice == reading["default"] else "")
            for key, cell in cells.items():
                table.add_row(
                    group, reading["equation"], name, key, in_words(cell["value"]), str(cell["samples"])
                )
        table.add_section()
    return table


def _ablations(ablations: Mapping[str, Any]) -> Table:
    keys = list(ablations["PQ + AQ"])
    table = Table(
        "Table 8", *keys, title="Ablations", caption="; ".join(f"{k}: {FIGURES[k].meaning}" for k in keys)
    )
    for name, cells in ablations.items():
        table.add_row(name, *(in_words(cells[key]["value"]) if key in cells else "-" for key in keys))
    return table
