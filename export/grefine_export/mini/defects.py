"""Defects of generated pictures, made on purpose: each has a strength, a mask and a price in quality.

The mean opinion score (MOS, 1..5) of a damaged picture follows one formula. With strength s in 0..1, damaged
share c of the picture and visibility v = min(1, RMSE inside the mask / 0.12), one defect costs

    penalty = importance[factor] * s**0.5 * v**0.5 * (0.35 + 0.65 * c**0.5)

and MOS = 1 + 4 * prod(1 - penalty) over the defects: defects add up and none is made good by the rest (the
paper's cask effect). The importances 1.0, 0.6, 0.8 are the paper's. The score of one factor is the product
over the defects of that factor alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from grefine_export.mini.world import SIZE, Rendered

VISIBLE = 12  # of 255
FACTORS = ("technical", "rationality", "naturalness")
IMPORTANCE = {"technical": 1.0, "rationality": 0.6, "naturalness": 0.8}

Image8 = np.ndarray  # uint8 (128, 128, 3)
Mask = np.ndarray  # float32 (128, 128), 0..1
Effect = Callable[[Image8, float, np.random.Generator], Image8]


@dataclass(frozen=True)
class Defect:
    """What was done: `kind`, its `factor`, `strength` 0..1, `mask` bool (128, 128) and its `penalty` 0..1."""

    kind: str
    factor: str
    strength: float
    mask: np.ndarray
    penalty: float


def _blur(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.6 + 3.4 * strength)))


def _noise(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    grain = rng.standard_normal(image.shape) * (18 + 52 * strength)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def _blocking(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    cell = round(4 + 5 * strength)
    small = Image.fromarray(image).resize((-(-SIZE // cell),) * 2, Image.Resampling.BOX)
    buffer = io.BytesIO()
    blocky = small.resize((SIZE, SIZE), Image.Resampling.NEAREST)
    blocky.save(buffer, "JPEG", quality=int(30 - 22 * strength))
    return np.asarray(Image.open(buffer))


def _banding(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    levels = round(5 - 2.4 * strength)
    step = 255 / (levels - 1)
    return (np.round(image / step) * step).astype(np.uint8)


def _hue(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    hsv = np.array(Image.fromarray(image).convert("HSV"))
    hsv[..., 0] += np.uint8(256 * rng.choice([1, -1]) * (0.14 + 0.36 * strength) % 256)
    hsv[..., 1] = np.clip(hsv[..., 1] * 1.15 + 12, 0, 255)
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def _saturation(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    grey = image.mean(2, keepdims=True)
    factor = 0.25 * (1 - strength) if rng.random() < 0.5 else 1.9 + 1.6 * strength
    return np.clip(grey + (image - grey) * factor, 0, 255).astype(np.uint8)


def _contrast(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    mean = image.mean()
    factor = 0.5 - 0.36 * strength if rng.random() < 0.5 else 2.0 + 1.4 * strength
    return np.clip(mean + (image - mean) * factor, 0, 255).astype(np.uint8)


TECHNICAL: dict[str, Effect] = {"blur": _blur, "noise": _noise, "blocking": _blocking, "banding": _banding}
NATURALNESS: dict[str, Effect] = {"hue": _hue, "saturation": _saturation, "contrast": _contrast}
RATIONALITY = ("moved", "mirrored", "doubled", "torn")


def _blob(centre: tuple[float, float], radii: tuple[float, float], rng: np.random.Generator) -> Mask:
    """A rounded spot with an uneven edge; 1 inside, falling to 0 over about 3 pixels."""
    ys, xs = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    dx, dy = (xs - centre[0]) / radii[0], (ys - centre[1]) / radii[1]
    angle = np.arctan2(dy, dx)
    edge = 1 + 0.1 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.07 * np.sin(5 * angle + rng.uniform(0, 6))
    distance = (edge - np.hypot(dx, dy)) * min(radii)
    return np.clip(distance / 3 + 0.5, 0, 1).astype(np.float32)


def spot(drawn: Rendered, rng: np.random.Generator) -> Mask:
    """A spot of 6 to 25 % of the picture, mostly on a thing: a defect on plain sky is hardly one."""
    count = int(drawn.owner.max())
    if count and rng.random() < 0.85:
        ys, xs = np.nonzero(drawn.owner == rng.integers(1, count + 1))
        centre = (
            (float(xs.mean() + rng.normal(0, 5)), float(ys.mean() + rng.normal(0, 5)))
            if len(xs)
            else (64.0, 64.0)
        )
    else:
        centre = (float(rng.uniform(24, 104)), float(rng.uniform(24, 104)))
    return _blob(centre, (float(rng.uniform(19, 34)), float(rng.uniform(19, 34))), rng)


def _rearranged(drawn: Rendered, kind: str, strength: float, rng: np.random.Generator) -> Image8:
    """A thing with parts moved, turned upside down, doubled or torn; the ground shows where nothing is left."""
    image = drawn.image
    count = int(drawn.owner.max())
    chosen = drawn.owner == int(rng.integers(1, count + 1)) if count else np.zeros((SIZE, SIZE), bool)
    ys, xs = np.nonzero(chosen)
    if len(xs) < 30:
        return image
    y0, y1, x0, x1 = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    plain = _without(image, chosen)
    out = plain.copy()
    piece, part = image[y0:y1, x0:x1], chosen[y0:y1, x0:x1]

    def put(top: int, left: int, patch: np.ndarray, where: np.ndarray) -> None:
        for_y = slice(max(0, top), min(SIZE, top + patch.shape[0]))
        for_x = slice(max(0, left), min(SIZE, left + patch.shape[1]))
        inside = (slice(for_y.start - top, for_y.stop - top), slice(for_x.start - left, for_x.stop - left))
        out[for_y, for_x][where[inside]] = patch[inside][where[inside]]

    height, width = piece.shape[:2]
    if kind == "mirrored":  # upside down
        put(y0, x0, piece[::-1], part[::-1])
    elif kind == "doubled":
        shift = int((0.25 + 0.3 * strength) * width) * int(rng.choice([-1, 1]))
        put(y0, x0, piece, part)
        put(y0 - int(0.12 * height), x0 + shift, piece, part)
    elif kind == "moved":
        cut, sideways = height // 2, int((0.3 + 0.4 * strength) * width) * int(rng.choice([-1, 1]))
        put(y0 + cut, x0, piece[cut:], part[cut:])
        put(y0, x0 + sideways, piece[:cut], part[:cut])
    else:  # torn into strips
        strip = max(3, height // 5)
        for row in range(0, height, strip):
            sideways = int(rng.choice([-1, 1]) * rng.uniform(0.4, 1) * (0.25 + 0.4 * strength) * width)
            put(y0 + row, x0 + sideways, piece[row : row + strip], part[row : row + strip])
    return out


def _without(image: Image8, gone: np.ndarray) -> Image8:
    """The picture with masked pixels filled from the same row outside the mask."""
    out = image.copy()
    for row in np.nonzero(gone.any(1))[0]:
        kept = np.nonzero(~gone[row])[0]
        lost = np.nonzero(gone[row])[0]
        if len(kept):
            nearest = kept[np.abs(lost[:, None] - kept[None]).argmin(1)]
            out[row, lost] = image[row, nearest]
    return out


def _priced(
    kind: str, factor: str, strength: float, before: Image8, after: Image8, mask: np.ndarray
) -> Defect:
    error = (after.astype(np.float32) - before)[mask] / 255
    visible = min(1.0, float(np.sqrt(np.mean(error**2))) / 0.12) if mask.any() else 0.0
    share = float(mask.mean())
    penalty = IMPORTANCE[factor] * (strength * visible) ** 0.5 * (0.35 + 0.65 * share**0.5)
    return Defect(kind, factor, strength, mask, min(penalty, 0.95))


def damage(drawn: Rendered, kind: str, reach: str, rng: np.random.Generator) -> tuple[Image8, Defect]:
    """Applies one defect. `reach`: "local" or "global" (rationality is always local). Returns picture and truth."""
    strength = float(rng.uniform(0.25, 1.0))
    if kind in RATIONALITY:
        after = _rearranged(drawn, kind, strength, rng)
        mask = _closed(changed(drawn.image, after))
        return after, _priced(kind, "rationality", strength, drawn.image, after, mask)
    factor = "technical" if kind in TECHNICAL else "naturalness"
    full = (TECHNICAL | NATURALNESS)[kind](drawn.image, strength, rng)
    if reach == "global":
        return full, _priced(kind, factor, strength, drawn.image, full, np.ones((SIZE, SIZE), bool))
    soft = spot(drawn, rng)
    mixed = drawn.image * (1 - soft[..., None]) + full * soft[..., None]
    after = np.clip(mixed.round(), 0, 255).astype(np.uint8)
    return after, _priced(kind, factor, strength, drawn.image, after, soft > 0.5)


def changed(before: Image8, after: Image8) -> np.ndarray:
    """Where two pictures differ visibly, bool (128, 128)."""
    return np.abs(after.astype(np.int16) - before).max(2) > VISIBLE


def _closed(changed: np.ndarray) -> np.ndarray:
    """The changed pixels with small holes filled: where a person would say the picture is broken."""
    image = Image.fromarray((changed * 255).astype(np.uint8))
    grown = image.filter(ImageFilter.MaxFilter(9)).filter(ImageFilter.MinFilter(7))
    return np.asarray(grown) > 127


def mos(defects: list[Defect]) -> float:
    """Mean opinion score, 1..5, of a picture with these defects."""
    return 1 + 4 * float(np.prod([1 - d.penalty for d in defects])) if defects else 5.0


def factor_scores(defects: list[Defect]) -> tuple[float, float, float]:
    """(technical, rationality, naturalness), each 0..1."""
    scores = (float(np.prod([1 - d.penalty for d in defects if d.factor == factor])) for factor in FACTORS)
    return tuple(scores)  # type: ignore[return-value]


KINDS_OF_DEFECT = (*TECHNICAL, *NATURALNESS, *RATIONALITY)


def damage_often(drawn: Rendered, rng: np.random.Generator) -> tuple[Image8, list[Defect]]:
    """None, one or two random defects, as pictures of a weak generator have them: a third stay sound."""
    count = int(rng.choice([0, 1, 2], p=[0.34, 0.5, 0.16]))
    image, defects = drawn.image, []
    for kind in rng.choice(KINDS_OF_DEFECT, size=count, replace=False):
        reach = "local" if rng.random() < 0.65 else "global"
        image, defect = damage(Rendered(image, drawn.owner), str(kind), reach, rng)
        defects.append(defect)
    return image, defects
