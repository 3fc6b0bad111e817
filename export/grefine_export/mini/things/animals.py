"""Fish, butterflies, cats and dogs."""

from __future__ import annotations

from grefine_export.mini.things.shapes import (
    Shape,
    bent,
    blob,
    both,
    box,
    dot_eye,
    ellipse,
    eye,
    polygon,
    rounded,
    stroke,
    turned,
)


def fish() -> list[list[Shape]]:
    """A plump fish, a striped round one, a slim one; all look to the left."""
    plump = [
        blob("shade", (0.2, 0.0), (0.42, -0.24), (0.5, -0.22), (0.43, 0.0), (0.5, 0.24), (0.42, 0.26)),
        blob("shade", (-0.14, -0.18), (0.0, -0.38), (0.16, -0.36), (0.14, -0.12)),
        ellipse("body", -0.1, 0.0, 0.39, 0.27),
        blob("light", (-0.4, 0.1), (-0.1, 0.08), (0.16, 0.12), (-0.08, 0.24), (-0.3, 0.2)),
        blob("shade", (0.0, 0.0), (0.16, -0.04), (0.12, 0.12), (0.02, 0.1)),
        *eye(-0.29, -0.07, 0.085, -0.6),
        stroke("ink", 0.022, (-0.46, 0.07), (-0.4, 0.1), (-0.34, 0.09)),
    ]
    striped = [
        blob("shade", (0.24, 0.0), (0.48, -0.2), (0.44, 0.0), (0.48, 0.2)),
        blob("shade", (-0.2, -0.26), (0.06, -0.48), (0.2, -0.2)),
        blob("shade", (-0.2, 0.26), (0.06, 0.46), (0.2, 0.2)),
        blob(
            "body",
            (-0.46, 0.02),
            (-0.26, -0.24),
            (0.04, -0.3),
            (0.3, -0.04),
            (0.3, 0.04),
            (0.04, 0.3),
            (-0.26, 0.26),
        ),
        polygon("white", (-0.1, -0.28), (-0.01, -0.29), (-0.01, 0.29), (-0.1, 0.29)),
        polygon("white", (0.14, -0.22), (0.21, -0.15), (0.21, 0.15), (0.14, 0.22)),
        *eye(-0.26, -0.06, 0.08, -0.5),
    ]
    slim = [
        polygon("shade", (0.28, 0.0), (0.5, -0.2), (0.42, 0.0), (0.5, 0.2)),
        polygon("shade", (-0.1, -0.12), (0.1, -0.26), (0.12, -0.1)),
        polygon("shade", (-0.12, 0.12), (0.02, 0.26), (0.06, 0.1)),
        blob(
            "body",
            (-0.5, 0.0),
            (-0.3, -0.15),
            (0.0, -0.16),
            (0.34, -0.03),
            (0.34, 0.03),
            (0.0, 0.16),
            (-0.3, 0.15),
        ),
        blob("light", (-0.44, 0.05), (-0.1, 0.04), (0.26, 0.02), (0.0, 0.13), (-0.28, 0.13)),
        *eye(-0.32, -0.03, 0.06, -0.5),
    ]
    return [plump, striped, slim]


def butterfly() -> list[list[Shape]]:
    """A butterfly seen from above, straight and turned, and one with pointed wings."""
    feelers = both(stroke("ink", 0.022, (-0.01, -0.2), (-0.05, -0.32), (-0.13, -0.4)))
    trunk = [rounded("ink", -0.035, -0.24, 0.035, 0.28, 0.034)]
    round_wings = [
        *feelers,
        *both(blob("shade", (-0.02, 0.02), (-0.3, 0.04), (-0.38, 0.24), (-0.24, 0.38), (-0.08, 0.24))),
        *both(
            blob(
                "body",
                (-0.02, -0.1),
                (-0.2, -0.36),
                (-0.44, -0.38),
                (-0.48, -0.14),
                (-0.3, 0.06),
                (-0.04, 0.06),
            )
        ),
        *both(ellipse("light", -0.32, -0.2, 0.085, 0.1)),
        *both(ellipse("light", -0.22, 0.22, 0.05, 0.06)),
        *trunk,
    ]
    pointed = [
        *feelers,
        *both(polygon("shade", (-0.02, 0.0), (-0.34, 0.1), (-0.3, 0.44), (-0.12, 0.28))),
        *both(polygon("body", (-0.02, -0.12), (-0.5, -0.4), (-0.46, -0.04), (-0.3, 0.1), (-0.02, 0.08))),
        *both(polygon("light", (-0.12, -0.08), (-0.4, -0.24), (-0.38, -0.08), (-0.24, 0.0))),
        *trunk,
    ]
    return [round_wings, pointed, turned(round_wings, 28)]


def cat() -> list[list[Shape]]:
    """A cat that sits, one that walks to the left, one that lies; pointed ears and whiskers."""
    return [_cat_sitting(), _cat_walking(), _cat_lying()]


def _cat_face(x: float, y: float, s: float) -> list[Shape]:
    ears = [
        polygon(
            "body",
            (x - 0.27 * s, y - 0.02 * s),
            (x - 0.27 * s, y - 0.42 * s),
            (x - 0.02 * s, y - 0.18 * s),
        ),
        polygon(
            "body",
            (x + 0.27 * s, y - 0.02 * s),
            (x + 0.27 * s, y - 0.42 * s),
            (x + 0.02 * s, y - 0.18 * s),
        ),
        ellipse("body", x, y, 0.3 * s, 0.24 * s),
        polygon(
            "blush",
            (x - 0.22 * s, y - 0.16 * s),
            (x - 0.225 * s, y - 0.32 * s),
            (x - 0.11 * s, y - 0.2 * s),
        ),
        polygon(
            "blush",
            (x + 0.22 * s, y - 0.16 * s),
            (x + 0.225 * s, y - 0.32 * s),
            (x + 0.11 * s, y - 0.2 * s),
        ),
    ]
    eyes = [*eye(x - 0.12 * s, y - 0.01 * s, 0.07 * s), *eye(x + 0.12 * s, y - 0.01 * s, 0.07 * s)]
    nose = polygon("blush", (x - 0.045 * s, y + 0.08 * s), (x + 0.045 * s, y + 0.08 * s), (x, y + 0.13 * s))
    return [*ears, *eyes, nose]


def _cat_sitting() -> list[Shape]:
    return [
        bent("shade", 0.085, (0.18, 0.42), (0.36, 0.4), (0.42, 0.24), (0.36, 0.06), (0.44, -0.04)),
        blob(
            "body",
            (0.0, -0.04),
            (0.2, 0.12),
            (0.28, 0.38),
            (0.2, 0.5),
            (-0.2, 0.5),
            (-0.28, 0.38),
            (-0.2, 0.12),
        ),
        ellipse("light", 0.0, 0.26, 0.12, 0.17),
        *both(rounded("shade", -0.13, 0.4, -0.02, 0.5, 0.045)),
        *_cat_face(0.0, -0.12, 1.0),
    ]


def _cat_walking() -> list[Shape]:
    return [
        bent("shade", 0.08, (0.34, 0.06), (0.46, -0.06), (0.42, -0.22), (0.48, -0.34)),
        *(rounded("shade", x, 0.14, x + 0.1, 0.4, 0.045) for x in (-0.12, 0.2)),
        *(rounded("body", x, 0.14, x + 0.1, 0.42, 0.045) for x in (-0.22, 0.3)),
        blob("body", (-0.26, 0.06), (0.0, -0.06), (0.3, -0.06), (0.42, 0.08), (0.36, 0.24), (-0.2, 0.24)),
        *_cat_face(-0.24, -0.06, 0.8),
    ]


def _cat_lying() -> list[Shape]:
    return [
        bent("shade", 0.09, (0.3, 0.36), (0.5, 0.36), (0.52, 0.2), (0.44, 0.12)),
        blob(
            "body",
            (-0.3, 0.1),
            (0.0, -0.02),
            (0.28, 0.02),
            (0.44, 0.24),
            (0.38, 0.42),
            (-0.4, 0.42),
            (-0.42, 0.24),
        ),
        *(blob("shade", (x, 0.0), (x + 0.04, 0.0), (x + 0.06, 0.13), (x + 0.02, 0.12)) for x in (0.12, 0.22)),
        *_cat_face(-0.18, 0.06, 0.95),
        *(rounded("light", x, 0.34, x + 0.14, 0.42, 0.038) for x in (-0.34, -0.14)),
    ]


def dog() -> list[list[Shape]]:
    """A dog that stands, one that sits and looks at you, one that sits in profile; hanging ears, long muzzle."""
    return [_dog_standing(), _dog_sitting(), _dog_profile()]


def _dog_standing() -> list[Shape]:
    return [
        bent("body", 0.075, (0.36, -0.02), (0.46, -0.14), (0.46, -0.3)),
        *(rounded("shade", x, 0.14, x + 0.1, 0.42, 0.04) for x in (-0.12, 0.2)),
        *(rounded("body", x, 0.14, x + 0.11, 0.45, 0.045) for x in (-0.22, 0.3)),
        blob("body", (-0.26, -0.06), (0.0, -0.06), (0.3, -0.08), (0.42, 0.04), (0.36, 0.22), (-0.18, 0.24)),
        blob(
            "body",
            (-0.36, -0.3),
            (-0.16, -0.34),
            (-0.1, -0.16),
            (-0.18, 0.06),
            (-0.36, -0.02),
            (-0.52, -0.04),
            (-0.53, -0.15),
        ),
        blob("shade", (-0.18, -0.32), (-0.06, -0.26), (-0.04, 0.0), (-0.14, 0.04), (-0.19, -0.14)),
        ellipse("ink", -0.51, -0.13, 0.05, 0.045),
        rounded("blush", -0.21, 0.05, -0.06, 0.11, 0.028),
        *dot_eye(-0.31, -0.19, 0.042),
    ]


def _dog_sitting() -> list[Shape]:
    return [
        bent("shade", 0.08, (0.2, 0.42), (0.36, 0.38), (0.46, 0.22)),
        blob(
            "body",
            (0.0, 0.0),
            (0.19, 0.12),
            (0.26, 0.38),
            (0.2, 0.5),
            (-0.2, 0.5),
            (-0.26, 0.38),
            (-0.19, 0.12),
        ),
        ellipse("light", 0.0, 0.24, 0.11, 0.15),
        *both(rounded("shade", -0.15, 0.4, -0.02, 0.5, 0.045)),
        blob(
            "body",
            (0.0, -0.46),
            (0.22, -0.38),
            (0.24, -0.14),
            (0.13, 0.06),
            (-0.13, 0.06),
            (-0.24, -0.14),
            (-0.22, -0.38),
        ),
        *both(blob("shade", (-0.17, -0.42), (-0.32, -0.34), (-0.36, -0.06), (-0.26, 0.02), (-0.2, -0.18))),
        ellipse("light", 0.0, -0.08, 0.13, 0.12),
        ellipse("ink", 0.0, -0.13, 0.062, 0.048),
        rounded("blush", -0.035, -0.05, 0.035, 0.06, 0.033),
        *dot_eye(-0.11, -0.25, 0.045),
        *dot_eye(0.11, -0.25, 0.045),
    ]


def _dog_profile() -> list[Shape]:
    return [
        bent("shade", 0.08, (0.2, 0.42), (0.38, 0.42), (0.48, 0.26)),
        blob(
            "body",
            (-0.14, -0.06),
            (0.06, 0.0),
            (0.28, 0.24),
            (0.32, 0.48),
            (0.0, 0.5),
            (-0.2, 0.5),
            (-0.22, 0.2),
        ),
        rounded("body", -0.24, 0.1, -0.11, 0.5, 0.05),
        blob("shade", (0.06, 0.28), (0.24, 0.26), (0.32, 0.44), (0.16, 0.5), (0.0, 0.46)),
        blob(
            "body",
            (-0.28, -0.42),
            (-0.04, -0.46),
            (0.06, -0.26),
            (-0.04, -0.04),
            (-0.26, -0.12),
            (-0.44, -0.14),
            (-0.46, -0.26),
        ),
        blob("shade", (-0.06, -0.44), (0.08, -0.38), (0.14, -0.12), (0.04, -0.04), (-0.05, -0.2)),
        ellipse("ink", -0.44, -0.23, 0.05, 0.045),
        box("blush", -0.2, -0.06, 0.06, 0.0),
        *dot_eye(-0.21, -0.3, 0.042),
    ]
