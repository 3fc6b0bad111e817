"""Boats, cars, buses, trains, rockets, balloons."""

from __future__ import annotations

from grefine_export.mini.things.shapes import (
    Shape,
    bent,
    blob,
    both,
    box,
    ellipse,
    polygon,
    rounded,
    stroke,
    turned,
    wheel,
)


def boat() -> list[list[Shape]]:
    """A sailing boat, a steamer, a ship with two sails of the hull's colour."""
    sailing = [
        box("wood", -0.022, -0.5, 0.022, 0.2),
        blob("white", (0.05, -0.4), (0.22, -0.14), (0.32, 0.04), (0.16, 0.06), (0.05, 0.04)),
        polygon("light", (-0.05, -0.42), (-0.05, 0.06), (-0.36, 0.06)),
        polygon("body", (-0.5, 0.12), (0.5, 0.12), (0.36, 0.44), (-0.36, 0.44)),
        polygon("shade", (-0.41, 0.33), (0.41, 0.33), (0.36, 0.44), (-0.36, 0.44)),
        box("white", -0.46, 0.17, 0.46, 0.2),
    ]
    steamer = [
        box("shade", 0.02, -0.42, 0.18, -0.08),
        box("white", 0.02, -0.34, 0.18, -0.26),
        rounded("white", -0.26, -0.12, 0.32, 0.14, 0.03),
        *(ellipse("glass", x, 0.0, 0.05, 0.05) for x in (-0.14, 0.03, 0.2)),
        polygon("body", (-0.5, 0.06), (-0.3, 0.12), (0.46, 0.12), (0.36, 0.42), (-0.36, 0.42)),
        polygon("shade", (-0.39, 0.31), (0.4, 0.31), (0.36, 0.42), (-0.36, 0.42)),
    ]
    ship = [
        stroke("wood", 0.035, (-0.12, -0.5), (-0.12, 0.2)),
        stroke("wood", 0.035, (0.22, -0.36), (0.22, 0.2)),
        polygon("honey", (-0.12, -0.5), (0.06, -0.45), (-0.12, -0.4)),
        blob("cream", (-0.3, -0.34), (0.04, -0.34), (0.1, -0.12), (0.03, 0.08), (-0.3, 0.08), (-0.22, -0.12)),
        blob("light", (0.1, -0.24), (0.36, -0.24), (0.42, -0.08), (0.36, 0.08), (0.1, 0.08), (0.16, -0.08)),
        blob("body", (-0.52, 0.06), (-0.3, 0.15), (0.3, 0.15), (0.5, 0.02), (0.38, 0.44), (-0.34, 0.44)),
        *(ellipse("honey", x, 0.28, 0.035, 0.035) for x in (-0.24, -0.04, 0.16)),
    ]
    return [sailing, steamer, ship]


def car() -> list[list[Shape]]:
    """A saloon, a round one, a jeep."""
    saloon = [
        polygon("shade", (-0.28, -0.02), (-0.17, -0.26), (0.14, -0.26), (0.3, -0.02)),
        polygon("glass", (-0.2, -0.03), (-0.13, -0.2), (-0.02, -0.2), (-0.02, -0.03)),
        polygon("glass", (0.03, -0.03), (0.03, -0.2), (0.11, -0.2), (0.22, -0.03)),
        blob(
            "body",
            (-0.5, 0.16),
            (-0.48, 0.0),
            (-0.2, -0.05),
            (0.3, -0.05),
            (0.49, 0.06),
            (0.49, 0.19),
            (0.0, 0.21),
        ),
        ellipse("honey", 0.45, 0.05, 0.04, 0.045),
        *wheel(-0.27, 0.2, 0.125),
        *wheel(0.27, 0.2, 0.125),
    ]
    beetle = [
        blob(
            "body",
            (-0.48, 0.18),
            (-0.44, 0.02),
            (-0.26, -0.1),
            (0.0, -0.16),
            (0.3, -0.06),
            (0.48, 0.06),
            (0.49, 0.19),
        ),
        ellipse("body", -0.02, -0.02, 0.3, 0.3, 180, 360),
        ellipse("glass", -0.04, -0.04, 0.2, 0.2, 180, 268),
        ellipse("glass", 0.0, -0.04, 0.21, 0.2, 272, 360),
        stroke("shade", 0.035, (-0.46, 0.13), (0.47, 0.13)),
        ellipse("honey", 0.43, 0.03, 0.045, 0.045),
        *wheel(-0.27, 0.19, 0.13),
        *wheel(0.27, 0.19, 0.13),
    ]
    jeep = [
        rounded("body", -0.4, -0.3, 0.2, 0.02, 0.06),
        rounded("glass", -0.33, -0.23, -0.13, -0.05, 0.03),
        rounded("glass", -0.07, -0.23, 0.14, -0.05, 0.03),
        rounded("body", -0.46, -0.03, 0.48, 0.2, 0.06),
        rounded("shade", -0.48, 0.11, 0.5, 0.19, 0.03),
        ellipse("honey", 0.43, 0.04, 0.045, 0.045),
        *wheel(-0.25, 0.2, 0.14),
        *wheel(0.27, 0.2, 0.14),
    ]
    return [saloon, beetle, jeep]


def bus() -> list[list[Shape]]:
    """A school bus with a bonnet, a double-decker, a coach."""
    school = [
        rounded("body", -0.5, -0.28, 0.3, 0.22, 0.07),
        rounded("body", 0.2, -0.02, 0.5, 0.22, 0.06),
        *(rounded("glass", x, -0.19, x + 0.13, -0.02, 0.025) for x in (-0.43, -0.26, -0.09, 0.1)),
        box("shade", -0.5, 0.06, 0.3, 0.11),
        ellipse("honey", 0.46, 0.1, 0.04, 0.045),
        *wheel(-0.29, 0.23, 0.115),
        *wheel(0.29, 0.23, 0.115),
    ]
    double = [
        rounded("body", -0.44, -0.42, 0.44, 0.36, 0.08),
        *(rounded("glass", x, -0.32, x + 0.15, -0.14, 0.025) for x in (-0.37, -0.18, 0.01, 0.21)),
        box("white", -0.44, -0.06, 0.44, 0.0),
        *(rounded("glass", x, 0.05, x + 0.15, 0.2, 0.025) for x in (-0.37, -0.18, 0.01)),
        box("shade", 0.21, 0.05, 0.36, 0.34),
        *wheel(-0.24, 0.36, 0.12),
        *wheel(0.2, 0.36, 0.12),
    ]
    coach = [
        rounded("body", -0.5, -0.26, 0.5, 0.22, 0.1),
        rounded("glass", -0.44, -0.17, 0.26, 0.0, 0.03),
        *(box("body", x, -0.18, x + 0.03, 0.01) for x in (-0.29, -0.11, 0.07)),
        rounded("glass", 0.32, -0.17, 0.47, 0.06, 0.03),
        box("light", -0.5, 0.07, 0.5, 0.12),
        *wheel(-0.28, 0.23, 0.11),
        *wheel(0.28, 0.23, 0.11),
    ]
    return [school, double, coach]


def train() -> list[list[Shape]]:
    """A steam engine, an engine with a wagon."""
    engine = [
        polygon("ink", (0.22, -0.18), (0.18, -0.4), (0.4, -0.4), (0.36, -0.18)),
        rounded("shade", 0.0, -0.24, 0.12, -0.1, 0.05),
        box("body", -0.46, -0.34, -0.12, 0.2),
        rounded("shade", -0.5, -0.44, -0.08, -0.33, 0.04),
        rounded("glass", -0.38, -0.26, -0.2, -0.06, 0.03),
        rounded("body", -0.14, -0.16, 0.44, 0.18, 0.09),
        *(box("shade", x, -0.16, x + 0.04, 0.18) for x in (0.04, 0.24)),
        rounded("ink", -0.48, 0.17, 0.46, 0.25, 0.03),
        polygon("honey", (0.4, 0.14), (0.56, 0.34), (0.36, 0.34)),
        *wheel(-0.3, 0.26, 0.14),
        *wheel(0.04, 0.29, 0.105),
        *wheel(0.27, 0.29, 0.105),
    ]
    with_wagon = [
        stroke("ink", 0.04, (-0.1, 0.18), (0.1, 0.18)),
        rounded("shade", -0.52, -0.08, -0.1, 0.2, 0.03),
        *(rounded("glass", x, -0.02, x + 0.09, 0.08, 0.02) for x in (-0.47, -0.355, -0.24)),
        polygon("ink", (0.36, -0.06), (0.33, -0.25), (0.5, -0.25), (0.47, -0.06)),
        box("body", 0.02, -0.24, 0.26, 0.2),
        rounded("shade", -0.02, -0.31, 0.3, -0.23, 0.03),
        rounded("glass", 0.07, -0.17, 0.21, -0.02, 0.02),
        rounded("body", 0.22, -0.08, 0.54, 0.2, 0.07),
        *wheel(-0.42, 0.22, 0.075),
        *wheel(-0.2, 0.22, 0.075),
        *wheel(0.13, 0.21, 0.09),
        *wheel(0.4, 0.21, 0.09),
    ]
    return [engine, with_wagon]


def _flame(x: float, y: float, size: float) -> list[Shape]:
    return [
        blob(
            "honey",
            (x - 0.6 * size, y),
            (x - 0.3 * size, y + size),
            (x, y + 1.9 * size),
            (x + 0.3 * size, y + size),
            (x + 0.6 * size, y),
        ),
        blob("white", (x - 0.25 * size, y), (x, y + 1.0 * size), (x + 0.25 * size, y)),
    ]


def rocket() -> list[list[Shape]]:
    """A slim rocket, a round one, a leaning one."""
    slim = [
        *_flame(0.0, 0.3, 0.13),
        *both(polygon("shade", (-0.13, 0.04), (-0.34, 0.3), (-0.34, 0.42), (-0.11, 0.3))),
        blob(
            "body",
            (0.0, -0.5),
            (0.13, -0.26),
            (0.17, 0.02),
            (0.12, 0.32),
            (-0.12, 0.32),
            (-0.17, 0.02),
            (-0.13, -0.26),
        ),
        ellipse("white", 0, -0.1, 0.1, 0.1),
        ellipse("glass", 0, -0.1, 0.068, 0.068),
        box("light", -0.145, 0.12, 0.145, 0.17),
    ]
    round_one = [
        *_flame(0.0, 0.28, 0.16),
        *both(blob("shade", (-0.2, 0.0), (-0.4, 0.2), (-0.38, 0.44), (-0.28, 0.3), (-0.14, 0.28))),
        blob(
            "body",
            (0.0, -0.46),
            (0.18, -0.26),
            (0.25, 0.02),
            (0.16, 0.3),
            (-0.16, 0.3),
            (-0.25, 0.02),
            (-0.18, -0.26),
        ),
        blob("light", (0.0, -0.47), (0.16, -0.27), (0.0, -0.24), (-0.16, -0.27)),
        ellipse("white", 0, -0.04, 0.12, 0.12),
        ellipse("glass", 0, -0.04, 0.085, 0.085),
        rounded("shade", -0.03, 0.14, 0.03, 0.42, 0.028),
    ]
    return [slim, round_one, turned(slim, 32)]


def balloon() -> list[list[Shape]]:
    """Two hot-air balloons and a toy balloon."""
    ropes = both(polygon("ink", (-0.2, 0.08), (-0.175, 0.08), (-0.1, 0.36), (-0.13, 0.36)))
    return [_striped_balloon(ropes), _banded_balloon(ropes), _toy_balloon()]


def _striped_balloon(ropes: list[Shape]) -> list[Shape]:
    return [
        *ropes,
        rounded("wood", -0.13, 0.34, 0.13, 0.5, 0.03),
        box("honey", -0.13, 0.35, 0.13, 0.39),
        blob(
            "body",
            (0.0, -0.5),
            (0.26, -0.42),
            (0.36, -0.17),
            (0.24, 0.08),
            (0.1, 0.2),
            (-0.1, 0.2),
            (-0.24, 0.08),
            (-0.36, -0.17),
            (-0.26, -0.42),
        ),
        blob(
            "light",
            (0.0, -0.5),
            (0.085, -0.36),
            (0.1, -0.12),
            (0.05, 0.2),
            (-0.05, 0.2),
            (-0.1, -0.12),
            (-0.085, -0.36),
        ),
    ]


def _banded_balloon(ropes: list[Shape]) -> list[Shape]:
    return [
        *ropes,
        rounded("wood", -0.12, 0.36, 0.12, 0.5, 0.03),
        ellipse("body", 0, -0.15, 0.37, 0.35),
        polygon("body", (-0.3, 0.05), (0.3, 0.05), (0.1, 0.26), (-0.1, 0.26)),
        blob(
            "shade",
            (-0.36, -0.2),
            (-0.18, -0.11),
            (0.0, -0.2),
            (0.18, -0.11),
            (0.36, -0.2),
            (0.37, -0.08),
            (0.18, 0.0),
            (0.0, -0.09),
            (-0.18, 0.0),
            (-0.37, -0.08),
        ),
    ]


def _toy_balloon() -> list[Shape]:
    return [
        bent("ink", 0.032, (0.0, 0.12), (0.03, 0.24), (-0.03, 0.36), (0.02, 0.5)),
        polygon("shade", (-0.06, 0.19), (0.06, 0.19), (0.0, 0.1)),
        blob(
            "body",
            (0.0, -0.5),
            (0.24, -0.4),
            (0.3, -0.18),
            (0.16, 0.06),
            (0.0, 0.13),
            (-0.16, 0.06),
            (-0.3, -0.18),
            (-0.24, -0.4),
        ),
        blob("light", (-0.14, -0.4), (-0.06, -0.36), (-0.13, -0.24), (-0.17, -0.14), (-0.22, -0.24)),
    ]
