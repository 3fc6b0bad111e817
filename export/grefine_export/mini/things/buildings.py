"""Houses, tents, castles, lighthouses."""

from __future__ import annotations

from grefine_export.mini.things.shapes import (
    Shape,
    blob,
    both,
    box,
    ellipse,
    polygon,
    rounded,
    stroke,
    window,
)


def _door(x: float, y0: float, y1: float, half: float) -> list[Shape]:
    return [
        ellipse("wood", x, y0 + half, half, half, 180, 360),
        box("wood", x - half, y0 + half - 0.01, x + half, y1),
        ellipse("honey", x + 0.5 * half, (y0 + y1) / 2 + 0.04, 0.018, 0.018),
    ]


def house() -> list[list[Shape]]:
    """A cottage, a tall town house, a long farm house."""
    cottage = [
        box("shade", 0.2, -0.46, 0.31, -0.16),
        box("light", 0.18, -0.48, 0.33, -0.42),
        box("body", -0.38, -0.1, 0.38, 0.5),
        polygon("shade", (-0.5, -0.06), (-0.06, -0.46), (0.06, -0.46), (0.5, -0.06)),
        *_door(0.0, 0.12, 0.5, 0.1),
        *window(-0.3, 0.06, -0.16, 0.22),
        *window(0.16, 0.06, 0.3, 0.22),
    ]
    town = [
        box("body", -0.3, -0.12, 0.3, 0.5),
        polygon("shade", (-0.38, -0.1), (0.0, -0.5), (0.38, -0.1)),
        ellipse("white", 0.0, -0.22, 0.085, 0.085),
        ellipse("glass", 0.0, -0.22, 0.06, 0.06),
        *window(-0.22, -0.02, -0.08, 0.14),
        *window(0.08, -0.02, 0.22, 0.14),
        *window(-0.22, 0.24, -0.08, 0.4),
        *_door(0.14, 0.22, 0.5, 0.09),
    ]
    farm = [
        box("shade", -0.34, -0.32, -0.24, -0.1),
        box("body", -0.46, 0.04, 0.46, 0.44),
        polygon("shade", (-0.54, 0.06), (-0.4, -0.24), (0.4, -0.24), (0.54, 0.06)),
        polygon("body", (-0.02, 0.06), (0.16, -0.16), (0.34, 0.06)),
        ellipse("glass", 0.16, -0.02, 0.05, 0.05),
        *_door(0.16, 0.12, 0.44, 0.1),
        *window(-0.38, 0.14, -0.24, 0.29),
        *window(-0.14, 0.14, 0.0, 0.29),
    ]
    return [cottage, town, farm]


def tent() -> list[list[Shape]]:
    """A ridge tent, a tipi, a dome."""
    ridge = [
        stroke("wood", 0.035, (0.0, -0.5), (0.0, -0.3)),
        polygon("body", (-0.5, 0.4), (0.0, -0.42), (0.5, 0.4)),
        polygon("light", (-0.5, 0.4), (0.0, -0.42), (-0.24, 0.4)),
        polygon("ink", (-0.15, 0.4), (0.0, -0.08), (0.15, 0.4)),
        polygon("shade", (0.15, 0.4), (0.0, -0.08), (0.05, -0.12), (0.29, 0.4)),
    ]
    tipi = [
        stroke("wood", 0.035, (0.12, -0.5), (-0.06, -0.2)),
        stroke("wood", 0.035, (-0.12, -0.5), (0.06, -0.2)),
        polygon("body", (-0.42, 0.5), (-0.05, -0.34), (0.05, -0.34), (0.42, 0.5)),
        polygon("light", (-0.22, 0.05), (0.22, 0.05), (0.27, 0.16), (-0.27, 0.16)),
        polygon("shade", (-0.12, -0.18), (0.12, -0.18), (0.15, -0.1), (-0.15, -0.1)),
        polygon("ink", (-0.13, 0.5), (0.0, 0.12), (0.13, 0.5)),
    ]
    dome = [
        ellipse("body", 0.0, 0.36, 0.5, 0.6, 180, 360),
        ellipse("light", -0.02, 0.36, 0.3, 0.6, 180, 360),
        ellipse("ink", 0.0, 0.36, 0.17, 0.36, 180, 360),
        polygon("shade", (0.17, 0.36), (0.12, 0.12), (0.2, 0.14), (0.3, 0.36)),
    ]
    return [ridge, tipi, dome]


def _battlement(role: str, x0: float, x1: float, y: float, teeth: int) -> list[Shape]:
    step = (x1 - x0) / (2 * teeth - 1)
    return [box(role, x0 + 2 * k * step, y - 0.075, x0 + (2 * k + 1) * step, y + 0.01) for k in range(teeth)]


def _gate(y: float, half: float) -> list[Shape]:
    return [
        ellipse("wood", 0.0, y, half, half, 180, 360),
        box("wood", -half, y - 0.01, half, 0.5),
        stroke("ink", 0.02, (0.0, y - half), (0.0, 0.5)),
    ]


def castle() -> list[list[Shape]]:
    """A castle with battlements, a castle with pointed roofs."""
    strong = [
        *_battlement("shade", -0.24, 0.24, -0.02, 4),
        box("shade", -0.26, -0.02, 0.26, 0.5),
        *_battlement("body", -0.5, -0.22, -0.24, 3),
        box("body", -0.48, -0.24, -0.24, 0.5),
        *_battlement("body", 0.22, 0.5, -0.24, 3),
        box("body", 0.24, -0.24, 0.48, 0.5),
        *both(rounded("ink", -0.39, -0.1, -0.33, 0.06, 0.028)),
        *_gate(0.26, 0.13),
        stroke("wood", 0.02, (0.0, -0.1), (0.0, -0.42)),
        polygon("light", (0.01, -0.42), (0.2, -0.35), (0.01, -0.28)),
    ]
    fairy = [
        box("body", -0.13, -0.26, 0.13, 0.3),
        polygon("shade", (-0.18, -0.24), (0.0, -0.54), (0.18, -0.24)),
        box("body", -0.34, 0.08, 0.34, 0.5),
        *_battlement("body", -0.18, 0.18, 0.08, 3),
        *both(box("body", -0.46, -0.04, -0.24, 0.5)),
        *both(polygon("shade", (-0.52, -0.02), (-0.35, -0.3), (-0.18, -0.02))),
        *both(rounded("glass", -0.385, 0.08, -0.315, 0.22, 0.034)),
        rounded("glass", -0.04, -0.17, 0.04, -0.01, 0.039),
        *_gate(0.32, 0.1),
    ]
    return [strong, fairy]


def lighthouse() -> list[list[Shape]]:
    """A striped lighthouse, a broad one with a hut."""
    striped = [
        polygon("body", (-0.14, -0.22), (0.14, -0.22), (0.22, 0.5), (-0.22, 0.5)),
        polygon("white", (-0.158, -0.06), (0.158, -0.06), (0.17, 0.05), (-0.17, 0.05)),
        polygon("white", (-0.19, 0.23), (0.19, 0.23), (0.202, 0.34), (-0.202, 0.34)),
        box("steel", -0.2, -0.26, 0.2, -0.21),
        box("honey", -0.1, -0.4, 0.1, -0.26),
        box("ink", -0.014, -0.4, 0.014, -0.26),
        polygon("shade", (-0.14, -0.39), (0.0, -0.52), (0.14, -0.39)),
        rounded("wood", -0.055, 0.385, 0.055, 0.5, 0.03),
    ]
    hut = [
        polygon("body", (-0.2, -0.18), (0.12, -0.18), (0.2, 0.5), (-0.28, 0.5)),
        polygon("shade", (-0.235, 0.12), (0.155, 0.12), (0.172, 0.24), (-0.25, 0.24)),
        box("ink", -0.25, -0.22, 0.17, -0.17),
        box("honey", -0.15, -0.36, 0.07, -0.22),
        ellipse("shade", -0.04, -0.35, 0.14, 0.12, 180, 360),
        stroke("ink", 0.02, (-0.04, -0.46), (-0.04, -0.54)),
        rounded("glass", -0.09, -0.08, 0.01, 0.05, 0.045),
        box("white", 0.08, 0.26, 0.44, 0.5),
        polygon("shade", (0.04, 0.28), (0.26, 0.1), (0.48, 0.28)),
        box("wood", 0.2, 0.33, 0.31, 0.5),
    ]
    return [striped, hut]


def robot() -> list[list[Shape]]:
    """A square robot on legs, a round one on tracks."""
    square = [
        stroke("ink", 0.025, (0.0, -0.4), (0.0, -0.48)),
        ellipse("honey", 0.0, -0.48, 0.045, 0.045),
        *both(rounded("steel", -0.15, 0.3, -0.05, 0.46, 0.02)),
        *both(rounded("shade", -0.2, 0.42, -0.02, 0.5, 0.035)),
        *both(rounded("steel", -0.4, 0.02, -0.28, 0.12, 0.03)),
        *both(rounded("shade", -0.43, 0.08, -0.31, 0.3, 0.05)),
        rounded("body", -0.29, -0.02, 0.29, 0.34, 0.05),
        rounded("light", -0.18, 0.07, 0.18, 0.25, 0.03),
        ellipse("honey", -0.09, 0.16, 0.04, 0.04),
        ellipse("glass", 0.09, 0.16, 0.04, 0.04),
        rounded("body", -0.25, -0.42, 0.25, -0.06, 0.07),
        *both(rounded("steel", -0.31, -0.3, -0.25, -0.16, 0.025)),
        *both(ellipse("white", -0.11, -0.27, 0.075, 0.075)),
        *both(ellipse("ink", -0.11, -0.27, 0.04, 0.04)),
        rounded("mark", -0.1, -0.155, 0.1, -0.115, 0.018),
    ]
    round_one = [
        *both(stroke("steel", 0.05, (-0.22, 0.02), (-0.36, 0.1), (-0.36, 0.22))),
        *both(ellipse("shade", -0.37, 0.24, 0.07, 0.07)),
        rounded("ink", -0.28, 0.34, 0.28, 0.5, 0.078),
        *both(ellipse("steel", -0.18, 0.42, 0.045, 0.045)),
        ellipse("steel", 0.0, 0.42, 0.045, 0.045),
        blob("body", (0.0, -0.06), (0.26, 0.02), (0.25, 0.3), (0.0, 0.37), (-0.25, 0.3), (-0.26, 0.02)),
        ellipse("light", 0.0, 0.18, 0.13, 0.11),
        *both(stroke("ink", 0.022, (-0.14, -0.36), (-0.22, -0.48))),
        *both(ellipse("honey", -0.22, -0.48, 0.04, 0.04)),
        ellipse("body", 0.0, -0.12, 0.28, 0.27, 180, 360),
        rounded("shade", -0.28, -0.14, 0.28, -0.05, 0.04),
        rounded("ink", -0.2, -0.3, 0.2, -0.17, 0.06),
        *both(ellipse("glass", -0.09, -0.235, 0.045, 0.045)),
    ]
    return [square, round_one]
