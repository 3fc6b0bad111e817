"""Walking a ComfyUI graph backwards, from a sampler to the texts that reach it."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from grefine_rt.imaging.prompts.comfyui_graph import Graph, Link, Node
from grefine_rt.imaging.prompts.found import MAX_PROMPT

Role = Literal["positive", "negative"]

DRAWS = re.compile(r"sampler|guider|detailer|generate|txt2img|text_?to_?image")
"""Kinds of nodes that draw, or tell the one that draws what to draw."""

_MAX_DEPTH = 64
_MAX_VISITS = 4000
_STRINGS = re.compile(r"text|string|primitive|prompt|wildcard|concat|join|replace|switch|multiline|styler")
_JOINS = re.compile(r"concat|join|merge|append|combine")
_WRITES = re.compile(r"llm|llava|ollama|florence|gpt|caption|interrogat|tagger|qwen_?vl|gemini|joy|describe")
_TEXT = re.compile(
    r"(?:(?:text|prompt|string|value|str)(?:[_ ]?(?:\d{1,3}|[a-z]))?|clip_[lg]|t5xxl|llama|bert|mt5xl|"
    r"wildcard_text|populated_text|(?:text_)?(?:positive|negative)(?:[_ ](?:prompt|text|[lg]))?|"
    r"opt_text|in_text|tags|input_?text|multiline_text)",
    re.IGNORECASE,
)
_SELECTS = ("select", "Input", "input", "index", "switch")


def reaching(graph: Graph, name: str, role: Role) -> str:
    """The texts that reach this node in a role, joined; "" where there are none."""
    return _joined(_Walk(graph).texts(name, role, -1, 0))


def _joined(texts: Iterable[str]) -> str:
    """Different texts after each other; one that another contains says nothing more."""
    said: list[str] = []
    for text in (text.strip() for text in texts):
        if text and not any(text in other for other in said):
            said = [other for other in said if other not in text] + [text]
    return ", ".join(said)


class _Walk:
    """One walk through a graph. Its length is bounded, also where links form a ring or nodes many paths."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._seen: set[tuple[str, int]] = set()
        self._visits = 0

    def _visit(self, name: str, depth: int) -> Node | None:
        self._visits += 1
        node = self._graph.get(name)
        if node is None or depth > _MAX_DEPTH or self._visits > _MAX_VISITS or _WRITES.search(node.kind):
            return None
        return node

    def texts(self, name: str, role: Role, output: int, depth: int) -> Iterator[str]:
        """What an output of a node carries in a role: a node of conditioning, an encoder, a sampler, a string."""
        node = self._visit(name, depth)
        # Zeroed conditioning says nothing, whatever was written into it.
        if node is None or (name, output) in self._seen or re.search(r"zero_?out", node.kind):
            return
        self._seen.add((name, output))
        if _is_string(node):
            yield self._string(name, output, depth)
            return
        for source in _conditioning(node, role, output):
            yield from self.texts(source.node, role, source.output, depth + 1)
        if not node.bypassed:
            yield from self._own(node, role, depth)

    def _own(self, node: Node, role: Role, depth: int) -> Iterator[str]:
        """The texts that a node encodes itself."""
        keys = _text_inputs(node)
        keys = [key for key in keys if key not in node.links or key not in ("positive", "negative")]
        named = [key for key in keys if role in key.lower()]
        other = "negative" if role == "positive" else "positive"
        if not named and role == "negative" and (DRAWS.search(node.kind) or "prompt" in keys):
            return  # the one text of a node that draws is what it draws
        keys = named or [key for key in keys if other not in key.lower()]
        for key in ["populated_text"] if "populated_text" in keys else keys:
            yield self._value(node, key, depth)

    def _value(self, node: Node, key: str, depth: int) -> str:
        """The text of an input, also where another node makes it."""
        if link := node.links.get(key):
            return self._string(link.node, link.output, depth + 1)
        value = node.values.get(key)
        return value if isinstance(value, str) else ""

    def _string(self, name: str, output: int, depth: int) -> str:
        """The text that an output of a node of strings gives."""
        node = self._visit(name, depth)
        if node is None:
            return ""
        if chosen := _selected(node):
            return self._value(node, chosen, depth)
        keys = _text_inputs(node)
        negative = [key for key in keys if "negative" in key.lower()]
        if negative and len(negative) < len(keys):
            # Nodes of both texts give the positive one first (SDXLPromptStyler).
            keys = negative if output == 1 else [key for key in keys if key not in negative]
        if "populated_text" in keys:
            keys = ["populated_text"]
        keys = keys or list(node.links)[:1]
        texts = [text for key in keys if (text := self._value(node, key, depth))]
        if "replace" in node.kind:
            wanted = self._value(node, "find", depth)
            return (
                texts[0].replace(wanted, self._value(node, "replace", depth))
                if texts and wanted
                else "".join(texts[:1])
            )
        if _JOINS.search(node.kind):
            return _delimiter(node).join(texts)[: 2 * MAX_PROMPT]
        # A node that shows a text keeps what it showed last beside its input: the input counts.
        linked = next((key for key in keys if key in node.links), None)
        return self._value(node, linked, depth) if linked else next(iter(texts), "")


def _text_inputs(node: Node) -> list[str]:
    """Inputs that may be texts, string_2 before string_10: what is written down has values before links."""
    keys = [key for key in dict.fromkeys((*node.values, *node.links)) if _TEXT.fullmatch(key)]
    return sorted(keys, key=lambda key: re.sub(r"\d+", lambda number: number.group().zfill(4), key))


def _is_string(node: Node) -> bool:
    wired = node.links.keys() & {"clip", "model", "positive", "negative", "conditioning", "pipe"}
    return bool(_STRINGS.search(node.kind)) and not (
        wired or DRAWS.search(node.kind) or re.search(r"encode|conditioning|loader|image", node.kind)
    )


def _conditioning(node: Node, role: Role, output: int) -> list[Link]:
    """The inputs through which a role goes on backwards."""
    links = node.links
    if "reroute" in node.kind or node.bypassed:
        wanted = [link for key, link in links.items() if role in key.lower() or "cond" in key.lower()]
        return wanted or list(links.values())[:1]
    if chosen := _selected(node):
        return [links[chosen]] if chosen in links else []
    if {"positive", "negative"} <= links.keys() and output in (0, 1) and not DRAWS.search(node.kind):
        # Such nodes give both back, in this order (ControlNetApplyAdvanced, InpaintModelConditioning).
        return [links["positive" if output == 0 else "negative"]]
    if role in links:
        return [links[role]]
    if "guider" in links:
        return [links["guider"]]
    if role == "negative" and "guider" in node.kind:
        return []  # BasicGuider has one conditioning, the positive one
    return [link for key, link in links.items() if re.search(r"cond|pipe|\bany|^input$|^\*$", key.lower())]


def _delimiter(node: Node) -> str:
    for key in ("delimiter", "separator"):
        if isinstance(value := node.values.get(key), str):
            return value.replace("\\n", "\n")
    return ", "


def _selected(node: Node) -> str | None:
    """Of a switch, the input that is let through."""
    if "switch" not in node.kind and "select" not in node.kind:
        return None
    number = next((node.values[key] for key in _SELECTS if key in node.values), None)
    if type(number) is bool:
        wanted = ("on_true", "true") if number else ("on_false", "false")
        return next((key for key in (*node.values, *node.links) if key in wanted), None)
    if type(number) is not int:
        return None
    inputs = (*node.links, *node.values)
    return next((key for key in inputs if re.search(rf"[a-z_ ]0*{number}$", key.lower())), None)
