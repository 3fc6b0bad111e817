"""The things of the storybook world, drawn as filled polygons.

A thing is a list of `Shape`: a polygon in the unit box (x right, y down, -0.5..0.5) and the role of its colour.
`body` takes the colour that the prompt names; the other roles are fixed or derived from it, so that "a red
house" is red where a person would look. Every kind has several variants.
"""

from __future__ import annotations

from collections.abc import Callable

from grefine_export.mini.things import animals, birds, buildings, nature, toys, vehicles
from grefine_export.mini.things.shapes import Shape, fitted

_DRAW: dict[str, Callable[[], list[list[Shape]]]] = {
    "house": buildings.house,
    "tree": nature.tree,
    "boat": vehicles.boat,
    "fish": animals.fish,
    "sun": nature.sun,
    "car": vehicles.car,
    "flower": nature.flower,
    "cat": animals.cat,
    "balloon": vehicles.balloon,
    "mushroom": nature.mushroom,
    "bird": birds.bird,
    "umbrella": toys.umbrella,
    "rocket": vehicles.rocket,
    "tent": buildings.tent,
    "dog": animals.dog,
    "duck": birds.duck,
    "butterfly": animals.butterfly,
    "moon": nature.moon,
    "bus": vehicles.bus,
    "train": vehicles.train,
    "castle": buildings.castle,
    "lighthouse": buildings.lighthouse,
    "robot": buildings.robot,
    "apple": nature.apple,
    "cup": toys.cup,
    "kite": toys.kite,
}

KINDS: tuple[str, ...] = tuple(_DRAW)
SKY_KINDS = frozenset({"sun", "balloon", "bird", "rocket", "butterfly", "moon", "kite"})
VARIANTS: dict[str, list[list[Shape]]] = {
    kind: [fitted(shapes, kind not in SKY_KINDS) for shapes in draw()] for kind, draw in _DRAW.items()
}
SHAPES: dict[str, list[Shape]] = {kind: variants[0] for kind, variants in VARIANTS.items()}
# Where a thing ends at the bottom, in its unit box: it stands there.
FOOT: dict[str, float] = {
    kind: max(float(shape.points[:, 1].max()) for shapes in variants for shape in shapes)
    for kind, variants in VARIANTS.items()
}


def shapes_of(kind: str, variant: int) -> list[Shape]:
    """The shapes of one variant, from back to front; variants are counted round."""
    return VARIANTS[kind][variant % len(VARIANTS[kind])]
