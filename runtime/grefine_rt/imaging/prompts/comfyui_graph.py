"""ComfyUI's two layouts of a graph as one: nodes with values by name, and links to other nodes.

`prompt` is what ran: {id: {class_type, inputs: {name: value or [id, output]}}}. `workflow` is the editor's: a list of
nodes whose values have no names of their own, a list of links, and perhaps subgraphs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_NODES = 20_000
_MUTED, _BYPASSED = 2, 4


@dataclass(frozen=True)
class Link:
    """The output of another node: its id, and which output."""

    node: str
    output: int


@dataclass(frozen=True)
class Node:
    """kind: the class in lower case. values: by name, of any JSON type. links: by name, in the order of inputs."""

    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)
    bypassed: bool = False


Graph = Mapping[str, Node]


def of_prompt(data: Mapping[str, Any]) -> Graph:
    """The graph of the field `prompt`; what is no node is left out."""
    nodes: dict[str, Node] = {}
    for name, item in list(data.items())[:MAX_NODES]:
        if not isinstance(item, dict) or not isinstance(item.get("class_type"), str):
            continue
        inputs = item.get("inputs")
        inputs = inputs if isinstance(inputs, dict) else {}
        links = {key: link for key, value in inputs.items() if (link := _link(value, data))}
        values = {key: value for key, value in inputs.items() if key not in links}
        nodes[name] = Node(item["class_type"].lower(), values, links)
    return nodes


def _link(value: Any, nodes: Mapping[str, Any]) -> Link | None:
    if isinstance(value, list) and len(value) == 2 and type(value[1]) is int:
        name = str(value[0]) if isinstance(value[0], (str, int)) else ""
        return Link(name, value[1]) if name in nodes else None
    return None


def of_workflow(data: Mapping[str, Any]) -> Iterator[Graph]:
    """The graphs of the field `workflow`: its own, then its subgraphs, each apart."""
    yield _of_editor(data)
    definitions = data.get("definitions")
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    for subgraph in subgraphs[:64] if isinstance(subgraphs, list) else ():
        if isinstance(subgraph, dict):
            yield _of_editor(subgraph)


def _of_editor(data: Mapping[str, Any]) -> Graph:
    links = _links(data.get("links"))
    items = data.get("nodes")
    nodes: dict[str, Node] = {}
    for item in items[:MAX_NODES] if isinstance(items, list) else ():
        if not isinstance(item, dict) or not isinstance(item.get("type"), str) or item.get("mode") == _MUTED:
            continue
        inputs = item.get("inputs")
        inputs = [each for each in inputs if isinstance(each, dict)] if isinstance(inputs, list) else []
        wired: dict[str, Link] = {}
        for index, each in enumerate(inputs):
            number = each.get("link")
            if type(number) is int and number in links:
                wired[str(each.get("name") or index)] = links[number]
        values = {name: value for name, value in _values(item, inputs).items() if name not in wired}
        nodes[str(item.get("id"))] = Node(item["type"].lower(), values, wired, item.get("mode") == _BYPASSED)
    return nodes


def _links(items: Any) -> dict[int, Link]:
    """By number. The editor writes [number, from, output, to, input, type], in subgraphs objects."""
    links: dict[int, Link] = {}
    for item in items[: 8 * MAX_NODES] if isinstance(items, list) else ():
        if isinstance(item, dict):
            item = [item.get("id"), item.get("origin_id"), item.get("origin_slot")]
        if isinstance(item, list) and len(item) >= 3 and type(item[0]) is int and type(item[2]) is int:
            links[item[0]] = Link(str(item[1]), item[2])
    return links


# Names of values where the editor leaves none: core nodes by their order.
_ORDER: dict[str, tuple[str, ...]] = {
    "ksampler": ("seed", "control", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "ksampleradvanced": ("add_noise", "noise_seed"),
    "randomnoise": ("noise_seed",),
    "cliptextencodesdxl": (
        "width",
        "height",
        "crop_w",
        "crop_h",
        "target_width",
        "target_height",
        "text_g",
        "text_l",
    ),
    "cliptextencodesdxlrefiner": ("ascore", "width", "height", "text"),
    "cliptextencodeflux": ("clip_l", "t5xxl", "guidance"),
    "stringconcatenate": ("string_a", "string_b", "delimiter"),
}


def _values(item: Mapping[str, Any], inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Values by name: the names of inputs that are widgets, those of core nodes, else `text`, `text_1`, ..."""
    values = item.get("widgets_values")
    if isinstance(values, dict):
        return values
    values = values[:256] if isinstance(values, list) else []
    names = _ORDER.get(item["type"].lower())
    if names is None:
        widgets = [str(each.get("name")) for each in inputs if isinstance(each.get("widget"), dict)]
        # Widgets without an input of theirs, such as "control after generate", shift the rest.
        names = tuple(widgets) if len(widgets) == len(values) else ()
    if names:
        return dict(zip(names, values, strict=False))
    texts = [value for value in values if isinstance(value, str)]
    named = {f"text_{index}" if index else "text": value for index, value in enumerate(texts)}
    return {**named, **{f"value_{i}": value for i, value in enumerate(values) if not isinstance(value, str)}}
