"""Pictures of what the product does, for people.

    python -m benchmarks.sheets --bundle mini --example examples/wrong_colour.png docs/before_after.png
    python -m benchmarks.sheets --bundle mini --heldout 24 docs/heldout.webp

The first lays one refined example out in a row with its maps, as the README shows it. The second puts held-out pictures
side by side with what became of them and with the truth. Their numbers are spread evenly over the test set: none is
chosen for its beauty.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from grefine_export.mini import heldout
from grefine_export.mini.heldout import Sample
from grefine_rt import GRefineError, RefineOptions, Refiner, RefineResult
from grefine_rt.files import write_whole

SIDE = 256
"""Pixels of a panel's side."""
GAP, LINE = 8, 18
PAPER, INK = (255, 255, 255), (40, 40, 48)
WHERE = (255, 210, 0)
"""What is redrawn, as an outline."""

Panel = tuple[str, Image.Image]


def panels(image: Image.Image, result: RefineResult) -> list[Panel]:
    """What a refined picture's row shows: the picture, where it is poor, where words are missing, where it was drawn
    anew (on what stage 1 found), and the result."""
    shown = [("before", image), ("looks poor (hot)", result.before.heat_map("perceptual", image))]
    if result.before.phrases:
        shown.append(("words missing (hot)", result.before.heat_map("alignment", image)))
    if result.plan.regenerate:
        shown.append(("drawn anew", outlined(result.found, result.plan.mask)))
    return [*shown, ("after", result.image)]


def outlined(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """A picture with the edge of a mask bool (H, W) drawn on it."""
    rgb = np.asarray(image.convert("RGB")).copy()
    inside = mask.copy()
    for axis in (0, 1):
        for shift in (1, -1):
            inside &= np.roll(mask, shift, axis)
    rgb[mask & ~inside] = WHERE
    return Image.fromarray(rgb)


def row_of(row: Sequence[Panel]) -> Image.Image:
    """Panels side by side, each below its caption."""
    width = len(row) * (SIDE + GAP) - GAP
    sheet = Image.new("RGB", (width, SIDE + LINE), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, (caption, image) in enumerate(row):
        left = place * (SIDE + GAP)
        draw.text((left + 1, 1), caption, INK, font)
        sheet.paste(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, LINE))
    return sheet


def grid_of(rows: Sequence[Image.Image], columns: int) -> Image.Image:
    """Rows of equal size, laid out in columns from left to right and top to bottom."""
    width, height = (side + GAP for side in rows[0].size)
    down = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * width - GAP, down * height - GAP), PAPER)
    for place, row in enumerate(rows):
        sheet.paste(row, (place % columns * width, place // columns * height))
    return sheet


def sample_row(refiner: Refiner, sample: Sample, seed: int) -> Image.Image:
    """A held-out picture, what became of it, and the truth."""
    options = RefineOptions(outside="refine")
    result = refiner.refine(sample.image, sample.prompt, seed + sample.number, options)
    wrong = [defect.kind for defect in sample.defects] + [sample.misaligned or ""]
    what = ", ".join(kind for kind in wrong if kind) or "clean"
    strange = f" (never trained on: {', '.join(sorted(sample.unseen))})" if sample.unseen else ""
    return row_of(
        [
            (f"{sample.number}: {what}{strange}", Image.fromarray(sample.image)),
            ("", result.image),
            ("the truth", Image.fromarray(sample.truth)),
        ]
    )


def _encoded(image: Image.Image, suffix: str) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".webp":
        image.save(buffer, "WEBP", quality=90, method=6)
    else:
        image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a .png or .webp file to write")
    parser.add_argument("--bundle", default="mini", help="name or folder of the bundle")
    parser.add_argument("--seed", type=int, default=0)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--example", type=Path, help="a picture with its prompt in a .txt file beside it")
    what.add_argument("--heldout", type=int, metavar="N", help="so many held-out pictures")
    options = parser.parse_args(arguments)
    if options.out.suffix not in (".png", ".webp"):
        parser.error(f"'{options.out}' ends neither with .png nor with .webp")
    if options.heldout is not None and options.heldout < 1:
        parser.error("--heldout must be 1 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    options = _options(arguments)
    try:
        refiner = Refiner.load(options.bundle, "cpu")
        if options.example:
            prompt = options.example.with_suffix(".txt").read_text().strip()
            with Image.open(options.example) as image:
                sheet = row_of(panels(image, refiner.refine(image, prompt, options.seed)))
        else:
            samples = heldout.samples(options.heldout)
            sheet = grid_of([sample_row(refiner, sample, options.seed) for sample in samples], 2)
    except (GRefineError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    write_whole(options.out, _encoded(sheet, options.out.suffix))
    return 0


if __name__ == "__main__":
    sys.exit(main())
