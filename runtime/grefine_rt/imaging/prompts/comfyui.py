"""ComfyUI: the positive text that reaches the sampler, found by walking its graph backwards.

From the node that saves the picture back to the sampler that drew it first (a second one enlarges, a detailer mends
a part), from its `positive` input through nodes of conditioning to the encoders of texts, and from these through
nodes that make strings. A text that another model writes while the graph runs is in no field, and gives nothing.
"""

import re
from collections.abc import Mapping
from itertools import chain
from typing import Any

from grefine_rt.imaging.prompts.comfyui_graph import Graph, Node, of_prompt, of_workflow
from grefine_rt.imaging.prompts.comfyui_texts import DRAWS, reaching
from grefine_rt.imaging.prompts.found import FoundPrompt, found
from grefine_rt.imaging.prompts.infotext import last_drawn

GENERATOR = "ComfyUI"

_SAVES = re.compile(r"save|preview|output|websocket")
_MENDS = re.compile(r"detailer|upscale")


def read(data: Mapping[str, Any]) -> FoundPrompt | None:
    """From the field `prompt`, an object of nodes."""
    return _of_graph(of_prompt(data))


def read_workflow(data: Mapping[str, Any]) -> FoundPrompt | None:
    """From the field `workflow`, which is the editor's; `read` knows better what ran."""
    return next(filter(None, map(_of_graph, of_workflow(data))), None)


def _of_graph(graph: Graph) -> FoundPrompt | None:
    for name in _drawers(graph):
        prompt = reaching(graph, name, "positive")
        if prompt:
            negative = reaching(graph, name, "negative")
            return found(last_drawn(prompt), last_drawn(negative), _seed(graph, name), GENERATOR)
    return None


def _drawers(graph: Graph) -> list[str]:
    """Nodes that say what was drawn, the likeliest first."""
    ends = [name for name, node in graph.items() if _SAVES.search(node.kind) and node.links]
    order = _upstream(graph, ends or list(graph))
    # Where a sampler takes its prompt from a guider, both are met; the one with the texts answers.
    samplers = [name for name in order if DRAWS.search(graph[name].kind) and _has_role(graph[name])]
    first = [name for name in samplers if not _draws_on(graph, name, samplers)]
    first.sort(key=lambda name: bool(_MENDS.search(graph[name].kind)))
    others = [name for name in order if _has_role(graph[name])]
    named = [name for name in order if isinstance(graph[name].values.get("prompt"), str)]
    return list(dict.fromkeys([*first, *samplers, *others, *named]))


def _has_role(node: Node) -> bool:
    named = {*node.links, *(key for key, value in node.values.items() if isinstance(value, str))}
    return bool(named & {"positive", "positive_prompt", "guider"}) or (
        "conditioning" in node.links and "guider" in node.kind
    )


def _draws_on(graph: Graph, name: str, samplers: list[str]) -> bool:
    """Whether this sampler goes on with what another one drew."""
    node = graph[name]
    pictures = [
        link.node
        for key, link in node.links.items()
        if re.search(r"latent|samples|image|pixels", key.lower())
    ]
    return not {*samplers}.isdisjoint(_upstream(graph, pictures))


def _upstream(graph: Graph, ends: list[str]) -> list[str]:
    """These nodes and all that they draw on, the nearest first."""
    order = dict.fromkeys(name for name in ends if name in graph)
    queue = list(order)
    for name in queue:
        for link in graph[name].links.values():
            if link.node in graph and link.node not in order:
                order[link.node] = None
                queue.append(link.node)
    return list(order)


def _seed(graph: Graph, name: str) -> Any:
    """Of the sampler, of the node that feeds it, or of the noise beside it."""
    fed = [graph[link.node] for link in graph[name].links.values() if link.node in graph]
    # A guider knows no seed: the sampler that it guides does.
    users = [node for node in graph.values() if any(link.node == name for link in node.links.values())]
    fed += [graph[link.node] for node in users for link in node.links.values() if link.node in graph]
    for node in chain([graph[name]], users, fed):
        for key in ("seed", "noise_seed"):
            value = node.values.get(key)
            if type(value) is int:
                return value
            link = node.links.get(key)
            source = graph.get(link.node) if link else None
            for inner in source.values.values() if source else ():
                if type(inner) is int:
                    return inner
    return None
