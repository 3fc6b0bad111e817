"""Trees, flowers, mushrooms, apples, sun and moon."""

from __future__ import annotations

import numpy as np

from grefine_export.mini.things.shapes import (
    Shape,
    arc,
    blob,
    both,
    box,
    ellipse,
    polygon,
    stroke,
    turned,
)


def _ring(count: int, shapes: list[Shape]) -> list[Shape]:
    """`count` copies of the shapes about the middle."""
    return [shape for k in range(count) for shape in turned(shapes, 360 / count * k)]


def tree() -> list[list[Shape]]:
    """A broad tree, a fir, a round one with a branch."""
    broad = [
        polygon("wood", (-0.06, 0.0), (0.06, 0.0), (0.1, 0.5), (-0.1, 0.5)),
        ellipse("body", -0.22, -0.02, 0.24, 0.22),
        ellipse("body", 0.22, -0.02, 0.24, 0.22),
        ellipse("body", 0.0, -0.22, 0.31, 0.28),
        blob(
            "shade",
            (-0.36, 0.1),
            (-0.1, 0.1),
            (0.2, 0.06),
            (0.4, 0.02),
            (0.28, 0.18),
            (0.0, 0.16),
            (-0.24, 0.19),
        ),
        *(ellipse("light", x, y, 0.075, 0.06) for x, y in ((-0.12, -0.32), (0.1, -0.2), (-0.26, -0.07))),
    ]
    fir = [
        box("wood", -0.07, 0.3, 0.07, 0.5),
        polygon("shade", (-0.36, 0.36), (0.0, -0.08), (0.36, 0.36)),
        polygon("body", (-0.36, 0.34), (0.0, -0.1), (0.3, 0.28), (0.1, 0.36)),
        polygon("shade", (-0.29, 0.1), (0.0, -0.28), (0.29, 0.1)),
        polygon("body", (-0.29, 0.08), (0.0, -0.3), (0.24, 0.03), (0.08, 0.11)),
        polygon("shade", (-0.21, -0.14), (0.0, -0.5), (0.21, -0.14)),
        polygon("body", (-0.21, -0.16), (0.0, -0.5), (0.17, -0.2), (0.06, -0.13)),
    ]
    round_one = [
        polygon("wood", (-0.05, 0.1), (0.05, 0.1), (0.08, 0.5), (-0.08, 0.5)),
        blob(
            "body",
            (0.0, -0.5),
            (0.28, -0.4),
            (0.37, -0.12),
            (0.24, 0.14),
            (0.0, 0.2),
            (-0.24, 0.14),
            (-0.37, -0.12),
            (-0.28, -0.4),
        ),
        blob("light", (-0.06, -0.42), (0.1, -0.38), (0.02, -0.24), (-0.18, -0.1), (-0.26, -0.2)),
        stroke("wood", 0.045, (0.0, 0.3), (0.0, 0.04)),
        stroke("wood", 0.035, (0.0, 0.14), (0.08, 0.04), (0.16, 0.0)),
    ]
    return [broad, fir, round_one]


def flower() -> list[list[Shape]]:
    """A round flower, a tulip, a daisy with narrow petals."""
    stem = [
        box("leaf", -0.03, -0.1, 0.03, 0.5),
        *both(blob("leaf", (0.0, 0.42), (-0.12, 0.22), (-0.3, 0.16), (-0.22, 0.36))),
    ]

    def head(shapes: list[Shape]) -> list[Shape]:
        return [Shape(shape.points + np.array([0, -0.2]), shape.role) for shape in shapes]

    round_one = [
        *stem,
        *head(_ring(6, [ellipse("body", 0.0, -0.2, 0.13, 0.13)])),
        *head(_ring(6, [ellipse("light", 0.0, -0.2, 0.05, 0.06)])),
        *head([ellipse("honey", 0.0, 0.0, 0.125, 0.125)]),
    ]
    tulip = [
        *stem,
        *both(polygon("shade", (0.02, 0.0), (-0.28, -0.12), (-0.28, -0.46), (-0.1, -0.3))),
        blob(
            "body",
            (0.0, 0.06),
            (-0.22, 0.0),
            (-0.26, -0.28),
            (-0.14, -0.3),
            (0.0, -0.52),
            (0.14, -0.3),
            (0.26, -0.28),
            (0.22, 0.0),
        ),
        blob("light", (0.0, -0.44), (0.09, -0.22), (0.0, 0.0), (-0.09, -0.22)),
    ]
    daisy = [
        *stem,
        *head(_ring(10, [blob("shade", (0.0, -0.08), (0.1, -0.22), (0.0, -0.34), (-0.1, -0.22))])),
        *head(
            turned(_ring(10, [blob("body", (0.0, -0.08), (0.075, -0.2), (0.0, -0.32), (-0.075, -0.2))]), 18)
        ),
        *head([ellipse("wood", 0.0, 0.0, 0.14, 0.14), ellipse("honey", 0.0, 0.0, 0.1, 0.1)]),
    ]
    return [round_one, tulip, daisy]


def mushroom() -> list[list[Shape]]:
    """A mushroom with a round cap, one with a tall cap, one with a little one beside it."""

    def dots(*places: tuple[float, float, float]) -> list[Shape]:
        return [ellipse("white", x, y, r, 0.9 * r) for x, y, r in places]

    round_one = [
        blob("cream", (-0.12, -0.02), (0.12, -0.02), (0.16, 0.36), (0.2, 0.5), (-0.2, 0.5), (-0.16, 0.36)),
        ellipse("body", 0, 0.08, 0.48, 0.54, 180, 360),
        blob("shade", (-0.48, 0.06), (0.0, 0.02), (0.48, 0.06), (0.3, 0.13), (0.0, 0.12), (-0.3, 0.13)),
        *dots((-0.22, -0.14, 0.085), (0.06, -0.28, 0.095), (0.27, -0.08, 0.075), (0.0, -0.06, 0.055)),
    ]
    tall = [
        blob("cream", (-0.1, 0.0), (0.1, 0.0), (0.12, 0.4), (0.16, 0.5), (-0.16, 0.5), (-0.12, 0.4)),
        blob(
            "body",
            (0.0, -0.5),
            (0.16, -0.36),
            (0.26, -0.08),
            (0.36, 0.1),
            (0.0, 0.16),
            (-0.36, 0.1),
            (-0.26, -0.08),
            (-0.16, -0.36),
        ),
        *dots((-0.1, -0.18, 0.07), (0.1, -0.28, 0.055), (0.16, -0.02, 0.065), (-0.18, 0.04, 0.05)),
        stroke("shade", 0.03, (-0.16, 0.24), (0.0, 0.27), (0.16, 0.24)),
    ]
    little = [Shape(shape.points * 0.42 + [0.3, 0.29], shape.role) for shape in round_one]
    pair = [Shape(shape.points * [0.8, 1.0] + [-0.1, 0.0], shape.role) for shape in round_one]
    return [round_one, tall, [*pair, *little]]


def apple() -> list[list[Shape]]:
    """An apple with a leaf, a tall one with a bite."""
    leaf = blob("leaf", (0.02, -0.36), (0.14, -0.5), (0.32, -0.48), (0.2, -0.34))
    whole = [
        stroke("wood", 0.05, (0.0, -0.22), (0.0, -0.36), (-0.05, -0.46)),
        leaf,
        blob(
            "body",
            (0.0, -0.26),
            (0.22, -0.33),
            (0.44, -0.14),
            (0.4, 0.24),
            (0.16, 0.46),
            (0.0, 0.42),
            (-0.16, 0.46),
            (-0.4, 0.24),
            (-0.44, -0.14),
            (-0.22, -0.33),
        ),
        blob("light", (-0.26, -0.22), (-0.16, -0.2), (-0.26, -0.06), (-0.3, 0.1), (-0.36, -0.06)),
        blob("shade", (-0.1, -0.26), (0.0, -0.23), (0.1, -0.26), (0.0, -0.19)),
    ]
    bitten = [
        stroke("wood", 0.05, (0.0, -0.24), (0.02, -0.38), (0.07, -0.48)),
        leaf,
        blob("cream", (0.1, -0.22), (0.34, -0.2), (0.32, 0.2), (0.1, 0.2)),
        blob(
            "body",
            (0.0, -0.26),
            (0.16, -0.33),
            (0.34, -0.24),
            (0.23, -0.14),
            (0.26, -0.02),
            (0.21, 0.07),
            (0.36, 0.16),
            (0.24, 0.4),
            (0.1, 0.46),
            (0.0, 0.43),
            (-0.12, 0.46),
            (-0.34, 0.24),
            (-0.38, -0.14),
            (-0.2, -0.33),
        ),
        blob("light", (-0.22, -0.22), (-0.13, -0.2), (-0.22, -0.06), (-0.25, 0.1), (-0.31, -0.06)),
    ]
    return [whole, bitten]


def sun() -> list[list[Shape]]:
    """A sun with pointed rays, one with round rays, one with a face."""
    disc = [ellipse("body", 0, 0, 0.32, 0.32)]
    pointed = [
        *_ring(12, [polygon("shade", (-0.085, -0.28), (0.0, -0.5), (0.085, -0.28))]),
        *disc,
        blob("light", (-0.16, -0.18), (0.0, -0.23), (-0.06, -0.08), (-0.2, 0.0)),
    ]
    petals = [
        *_ring(10, [ellipse("shade", 0.0, -0.34, 0.11, 0.15)]),
        *disc,
        ellipse("light", 0, 0, 0.2, 0.2),
        ellipse("body", 0.02, 0.02, 0.185, 0.185),
    ]
    face = [
        *_ring(10, [blob("body", (-0.035, -0.38), (0.0, -0.5), (0.035, -0.38), (0.0, -0.36))]),
        *disc,
        *both(ellipse("mark", -0.12, -0.05, 0.035, 0.05)),
        *both(ellipse("blush", -0.19, 0.07, 0.055, 0.04)),
        arc("mark", 0.03, 0.0, 0.05, 0.11, 0.09, 20, 160),
    ]
    return [pointed, petals, face]


def _crescent(role: str, width: float) -> Shape:
    """A sickle that opens to the right; `width`: its greatest width."""
    outer = np.radians(np.linspace(62, 298, 30))
    tip = np.array([0.46 * np.cos(outer[0]), 0.46 * np.sin(outer[0])])
    inner = np.linspace(1, -1, 30)
    bend = -0.46 + width
    curve = np.stack([bend + (tip[0] - bend) * inner**2, tip[1] * -inner], 1)
    return Shape(
        np.concatenate([np.stack([0.46 * np.cos(outer), 0.46 * np.sin(outer)], 1), curve[::1]]), role
    )


def moon() -> list[list[Shape]]:
    """A sickle, a sickle with a face, a full moon with craters."""
    sickle = [
        _crescent("body", 0.4),
        *(ellipse("shade", x, y, r, r) for x, y, r in ((-0.26, -0.1, 0.055), (-0.2, 0.2, 0.045))),
    ]
    face = [
        _crescent("body", 0.46),
        ellipse("mark", -0.15, -0.06, 0.04, 0.05),
        ellipse("blush", -0.2, 0.1, 0.06, 0.045),
        arc("mark", 0.03, -0.06, 0.1, 0.1, 0.08, 40, 170),
    ]
    full = [
        ellipse("body", 0, 0, 0.46, 0.46),
        *(
            ellipse("shade", x, y, r, 0.92 * r)
            for x, y, r in (
                (-0.18, -0.14, 0.12),
                (0.16, 0.14, 0.14),
                (0.2, -0.24, 0.07),
                (-0.16, 0.24, 0.075),
            )
        ),
    ]
    return [turned(sickle, -18), turned(face, -10), full]
