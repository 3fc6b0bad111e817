"""Things drawn wrong: parts moved, lost, doubled or molten; the ground shows where nothing is left.

A thing is cut out with its mask, the ground beneath it is filled in, and it is put back as it should not be.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from grefine_export.mini.regions import dilated
from grefine_export.mini.technical import Image8
from grefine_export.mini.world import SIZE, Rendered

LEAST = 30  # pixels of a thing of which anything can be made


class Cut:
    """A thing cut out of its picture.

    `ground` float32 (128, 128, 3) is the picture without it. `piece` float32 (h, w, 3) is its box, `part` float32
    (h, w), 0..1, its shape in it; (`top`, `left`) is the corner of the box. `out` is where it is put back.
    """

    def __init__(self, image: Image8, chosen: np.ndarray):
        ys, xs = np.nonzero(chosen)
        self.top, self.left = int(ys.min()), int(xs.min())
        box = slice(self.top, int(ys.max()) + 1), slice(self.left, int(xs.max()) + 1)
        self.piece, self.part = image[box].astype(np.float32), chosen[box].astype(np.float32)
        self.height, self.width = self.part.shape
        # Two pixels more: the thing's smooth rim must not stain the ground.
        self.ground = without_thing(image, dilated(chosen, 2)).astype(np.float32)
        self.out = self.ground.copy()
        self.whole = image.astype(np.float32)

    def put(self, piece: np.ndarray, part: np.ndarray, down: int = 0, right: int = 0) -> None:
        """Puts a piece with its shape at the box's corner, moved by whole pixels; pixels outside are lost."""
        top, left = self.top + down, self.left + right
        y = slice(max(0, top), min(SIZE, top + part.shape[0]))
        x = slice(max(0, left), min(SIZE, left + part.shape[1]))
        if y.start >= y.stop or x.start >= x.stop:
            return
        inside = slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left)
        cover = part[inside][..., None]
        self.out[y, x] += (piece[inside] - self.out[y, x]) * cover

    def keep(self, kept: np.ndarray) -> None:
        """Leaves of the thing as it stands the part `kept` alone, bool (h, w)."""
        stays, goes = np.zeros((2, SIZE, SIZE), bool)
        box = slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
        stays[box], goes[box] = kept & (self.part > 0), ~kept & (self.part > 0)
        self.out = np.where((dilated(goes, 2) & ~stays)[..., None], self.ground, self.whole)

    def put_from(self, ys: np.ndarray, xs: np.ndarray, margin: int) -> None:
        """Puts the thing back distorted. `ys`, `xs` (h + 2 margin, w + 2 margin): the source in the box of each pixel
        of the box grown by `margin`; between pixels, colours are mixed."""
        y = np.clip(np.floor(ys), -1, self.height).astype(int) + 1
        x = np.clip(np.floor(xs), -1, self.width).astype(int) + 1
        fy, fx = np.clip(ys + 1 - y, 0, 1), np.clip(xs + 1 - x, 0, 1)
        part = np.pad(self.part, ((1, 2), (1, 2)))
        piece = np.pad(self.piece, ((1, 2), (1, 2), (0, 0)), "edge")
        cover, colour = np.zeros(ys.shape, np.float32), np.zeros((*ys.shape, 3), np.float32)
        for dy, weight_y in ((0, 1 - fy), (1, fy)):
            for dx, weight_x in ((0, 1 - fx), (1, fx)):
                share = (weight_y * weight_x * part[y + dy, x + dx]).astype(np.float32)
                cover += share
                colour += share[..., None] * piece[y + dy, x + dx]
        self.put(colour / np.maximum(cover, 1e-6)[..., None], cover, -margin, -margin)

    def grid(self, margin: int) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates in the box of the pixels of the box grown by `margin`, float32."""
        ys, xs = np.mgrid[-margin : self.height + margin, -margin : self.width + margin].astype(np.float32)
        return ys, xs


Misdraw = Callable[[Cut, float, np.random.Generator], None]


def without_thing(image: Image8, gone: np.ndarray) -> Image8:
    """The picture with masked pixels filled from the same row outside the mask."""
    out = image.copy()
    for row in np.nonzero(gone.any(1))[0]:
        kept = np.nonzero(~gone[row])[0]
        lost = np.nonzero(gone[row])[0]
        if len(kept):
            after = np.clip(np.searchsorted(kept, lost), 0, len(kept) - 1)
            before = np.maximum(after - 1, 0)
            nearer = np.abs(kept[after] - lost) < np.abs(kept[before] - lost)
            out[row, lost] = image[row, np.where(nearer, kept[after], kept[before])]
    return out


def _side(rng: np.random.Generator) -> int:
    return int(rng.choice([-1, 1]))


def _moved(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    half, sideways = cut.height // 2, int((0.3 + 0.4 * strength) * cut.width) * _side(rng)
    cut.put(cut.piece[half:], cut.part[half:], half)
    cut.put(cut.piece[:half], cut.part[:half], 0, sideways)


def _mirrored(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    """Upside down."""
    cut.put(cut.piece[::-1], cut.part[::-1])


def _doubled(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    cut.out = cut.whole
    shift = int((0.25 + 0.3 * strength) * cut.width) * _side(rng)
    cut.put(cut.piece, cut.part, -int(0.12 * cut.height), shift)


def _torn(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    strip = max(3, cut.height // int(rng.integers(4, 8)))
    for row in range(0, cut.height, strip):
        sideways = int(_side(rng) * rng.uniform(0.4, 1) * (0.25 + 0.4 * strength) * cut.width)
        rows = slice(row, row + strip)
        cut.put(cut.piece[rows], cut.part[rows], row, sideways)


def _stretched(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    """Pulled out of proportion: wide and low, or high and narrow."""
    wide = 1.45 + 0.75 * strength
    scale_y, scale_x = (0.62, wide) if rng.random() < 0.6 else (wide * 0.85, 0.5)
    ys, xs = cut.grid(margin := round(0.7 * max(cut.height, cut.width)))
    middle = (cut.width - 1) / 2
    cut.put_from(cut.height - 1 + (ys - cut.height + 1) / scale_y, middle + (xs - middle) / scale_x, margin)


def _warped(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    """Bent in waves, or wound around its middle."""
    ys, xs = cut.grid(margin := round(0.2 * max(cut.height, cut.width)))
    size = max(cut.height, cut.width)
    if rng.random() < 0.6:
        reach = (0.08 + 0.1 * strength) * size
        across, along = 2 * np.pi / (size * rng.uniform(0.35, 0.8, 2))
        phases = rng.uniform(0, 6, 2)
        cut.put_from(
            ys + reach * np.sin(along * xs + phases[0]), xs + reach * np.sin(across * ys + phases[1]), margin
        )
        return
    dy, dx = ys - cut.height / 2, xs - cut.width / 2
    angle = _side(rng) * (1.2 + 2.2 * strength) * np.clip(1 - np.hypot(dy, dx) / (0.75 * size), 0, 1)
    cosine, sine = np.cos(angle), np.sin(angle)
    cut.put_from(cut.height / 2 + dy * cosine - dx * sine, cut.width / 2 + dy * sine + dx * cosine, margin)


def _melted(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    """Sunk at the top and running down in drops."""
    ys, xs = cut.grid(margin := round(0.45 * cut.height))
    knots = rng.uniform(0, 1, 9) ** 2 * (0.15 + 0.3 * strength) * cut.height * 1.6
    drip = np.interp(xs[0], np.linspace(-margin, cut.width + margin, 9), knots)
    sunk = (0.15 + 0.2 * strength) * cut.height
    source = (ys - sunk) * cut.height / (cut.height + drip - sunk)
    cut.put_from(source, xs, margin)


def _bitten(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    """A part is missing: all beyond a straight cut, or a bite out of its side."""
    ys, xs = cut.grid(0)
    dy, dx = ys / cut.height - 0.5, xs / cut.width - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.5:
        gone = dx * np.cos(angle) + dy * np.sin(angle) > 0.2 - 0.22 * strength
    else:
        gone = np.hypot(dx - 0.38 * np.cos(angle), dy - 0.38 * np.sin(angle)) < 0.24 + 0.16 * strength
    cut.keep(~gone)


def _swapped(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    """Its parts have changed places: upper with lower, left with right, or crosswise."""
    h, w = cut.height // 2, cut.width // 2
    down = ((h, 0, slice(0, h), slice(None)), (-h, 0, slice(h, None), slice(None)))
    right = ((0, w, slice(None), slice(0, w)), (0, -w, slice(None), slice(w, None)))
    cross = (
        (h, w, slice(0, h), slice(0, w)),
        (-h, -w, slice(h, None), slice(w, None)),
        (h, -w, slice(0, h), slice(w, None)),
        (-h, w, slice(h, None), slice(0, w)),
    )
    for dy, dx, rows, columns in (down, right, cross)[int(rng.choice(3, p=[0.5, 0.15, 0.35]))]:
        cut.put(
            cut.piece[rows, columns],
            cut.part[rows, columns],
            (rows.start or 0) + dy,
            (columns.start or 0) + dx,
        )


def _holed(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    """Holes through which the ground shows."""
    ys, xs = cut.grid(0)
    inside_y, inside_x = np.nonzero(cut.part > 0.5)
    kept = np.ones(cut.part.shape, bool)
    for _ in range(int(rng.integers(2, 5))):
        at = int(rng.integers(len(inside_y)))
        radii = rng.uniform(0.09, 0.13 + 0.1 * strength, 2) * max(cut.height, cut.width)
        kept &= np.hypot((ys - inside_y[at]) / radii[0], (xs - inside_x[at]) / radii[1]) > 1
    cut.keep(kept)


def _limbs(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    """Limbs that nobody asked for, in a colour of the thing."""
    cut.out = cut.whole
    shape = Image.new("L", (3 * SIZE, 3 * SIZE), 0)
    draw = ImageDraw.Draw(shape)
    ys, xs = np.nonzero(cut.part > 0.5)
    middle = np.array([xs.mean(), ys.mean()])
    size, corner = max(cut.height, cut.width), np.array([cut.left, cut.top])
    for _ in range(2 + round(3 * strength)):
        at = int(rng.integers(len(xs)))
        start = np.array([xs[at], ys[at]], float)
        angle = np.arctan2(*(start - middle)[::-1]) + rng.normal(0, 0.4)
        points, width = [start], rng.uniform(0.05, 0.1) * size
        for _ in range(3):  # three joints
            step = rng.uniform(0.14, 0.2 + 0.1 * strength) * size
            points.append(points[-1] + step * np.array([np.cos(angle), np.sin(angle)]))
            angle += rng.normal(0, 0.5)
        line = [tuple((p + corner) * 3) for p in points]
        draw.line(line, fill=255, width=max(3, round(3 * width)), joint="curve")
        for x, y in (line[0], line[-1]):
            draw.ellipse((x - 1.5 * width, y - 1.5 * width, x + 1.5 * width, y + 1.5 * width), fill=255)
    cover = np.asarray(shape.reduce(3), np.float32)[..., None] / 255
    colour = np.median(cut.piece[cut.part > 0.5], axis=0) * rng.uniform(0.85, 1)
    cut.out += (colour - cut.out) * cover


def _smeared(cut: Cut, strength: float, rng: np.random.Generator) -> None:
    """Dragged away while wet: a trail without a shape."""
    angle, steps = rng.uniform(0, 2 * np.pi), 12
    reach = (0.35 + 0.35 * strength) * max(cut.height, cut.width)
    margin = int(reach) + 1
    shape = cut.height + 2 * margin, cut.width + 2 * margin
    cover, colour = np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32)
    for step in np.linspace(0, reach, steps):
        y, x = margin + round(step * np.sin(angle)), margin + round(step * np.cos(angle))
        there = slice(y, y + cut.height), slice(x, x + cut.width)
        cover[there] += cut.part
        colour[there] += cut.part[..., None] * cut.piece
    cut.put(colour / np.maximum(cover, 1e-6)[..., None], np.clip(cover / steps * 2.2, 0, 1), -margin, -margin)


RATIONALITY: dict[str, Misdraw] = {
    "moved": _moved,
    "mirrored": _mirrored,
    "doubled": _doubled,
    "torn": _torn,
    "stretched": _stretched,
    "warped": _warped,
    "melted": _melted,
    "bitten": _bitten,
    "swapped": _swapped,
    "holed": _holed,
    "limbs": _limbs,
    "smeared": _smeared,
}


def misdrawn(drawn: Rendered, kind: str, strength: float, rng: np.random.Generator) -> Image8:
    """The picture with one of its things misdrawn; unchanged where there is none."""
    count = int(drawn.owner.max())
    chosen = drawn.owner == int(rng.integers(1, count + 1)) if count else np.zeros((SIZE, SIZE), bool)
    if chosen.sum() < LEAST:
        return drawn.image
    cut = Cut(drawn.image, chosen)
    RATIONALITY[kind](cut, strength, rng)
    return np.clip(np.rint(cut.out), 0, 255).astype(np.uint8)
