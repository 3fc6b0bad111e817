"""Docstrings and options as the API page shows them: an extension of griffe, which mkdocs loads.

A line `name: what it is` of a docstring begins an item of a list. A field `option(default, "help", ...)` is shown with
that default and that help.
"""

import ast
import re
from typing import Any

import griffe

ITEM = re.compile(r"(?:`?[a-z_]\w*`?(?:, `?[a-z_]\w*`?)*|with `.*`): ")
"""The beginning of a line on one or more parameters or fields."""


class Docstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_items(obj.docstring.value)

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        call = attr.value
        if isinstance(call, griffe.ExprCall) and str(call.function) == "option":
            default, help_text, *_rest = call.arguments
            attr.value = default
            if attr.docstring is None:
                # A text in several pieces is one literal.
                attr.docstring = griffe.Docstring(str(ast.literal_eval(str(help_text))), parent=attr)


def with_items(text: str) -> str:
    """A docstring whose lines on parameters are items of a Markdown list, each with the lines that belong to it."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if ITEM.match(line) and "://" not in line:
            name, rest = line.split(": ", 1)
            lines += [] if inside else [""]
            line, inside = f"- `{name.replace('`', '')}`: {rest}", True
        elif inside and line.startswith(" "):
            line = f"  {line.strip()}"
        elif inside and line and not lines[-1].endswith((".", ":")):
            line = f"  {line}"  # a sentence that goes on
        elif inside:
            lines += [""] if line else []
            inside = False
        lines.append(line)
    return "\n".join(lines)
