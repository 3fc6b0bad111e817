"""The sizes an engine is built for: a profile a resolution bucket, from the manifest and the axis names."""

from collections.abc import Mapping, Set

from grefine_rt.bundle.manifest import Inpaint, Manifest, Restore
from grefine_rt.contract import HIDDEN, OTHERS

Range = tuple[int, int, int]
"""Smallest, best and largest size of a free axis."""
Profile = Mapping[str, Range]
"""A range for each axis name."""

BUCKETS = (512, 768, 1024)
"""Sides in pixels at which a stage may work below its native resolution."""

_CELL = 8  # pixels a latent cell
_AUTOENCODERS = ("_encode", "_decode")
_WHOLE = (HIDDEN, HIDDEN, HIDDEN)
_GUIDANCE = (1, 2, 2)
_ONE = (1, 1, 1)
_IMAGES = (1, 1, 16)
_TEXTS = (1, 8, 32)


def profiles(manifest: Manifest, graph: str) -> tuple[Profile, ...]:
    """The profiles of a graph file; each has a range for every known axis name.

    Axis names are those of ARCHITECTURE.md: b and n (rows), l or L (text length), H and W (pixels), h and w (latent
    cells), m (those of other tiles). A stage's buckets are its native resolution, its tile, and `BUCKETS` below it;
    sides go from half the bucket to half above it, so that a picture of the bucket's area may be 2.25 times as long as
    it is high. The native resolution and the tile take what is worked on there beside: sides down to one multiple, for
    tiles of long pictures, and in a wide and a high profile longer pictures, up to 4 : 1 (`imaging.image.work_size`,
    `tiles.fits`). Autoencoders have one for tiles that attend to others. A file that serves several components gets
    what all of them need.
    """
    components = [component for component, file in manifest.components.items() if file == graph]
    rows = _widest([_rows(component) for component in components])
    lengths = [length for component in components for length in _lengths(manifest, component)]
    shapes = sorted({shape for component in components for shape in _shapes(manifest, component)})
    found = []
    for height, width, others in shapes:
        profile = {"b": rows, "n": rows, "H": height, "W": width, "h": _cells(height), "w": _cells(width)}
        profile["m"] = others
        if lengths:
            profile |= dict.fromkeys(("l", "L"), (1, max(lengths), max(lengths)))
        found.append(profile)
    return tuple(found)


def buckets(stage: Inpaint | Restore) -> list[int]:
    """The sides in pixels at which a stage may work, ascending: its resolution and tile, and `BUCKETS` below it."""
    smaller = {bucket for bucket in BUCKETS if bucket < stage.resolution}
    return sorted((smaller | {stage.resolution, stage.tile}) - {0})


def restricted(found: tuple[Profile, ...], axes: Set[str]) -> tuple[Profile, ...]:
    """The profiles with these axes alone, each once. An axis without a range raises KeyError."""
    distinct = dict.fromkeys(tuple((axis, profile[axis]) for axis in sorted(axes)) for profile in found)
    return tuple(dict(profile) for profile in distinct)


def _rows(component: str) -> Range:
    if component.endswith(_AUTOENCODERS):
        return _ONE
    if component.startswith(("inpaint_", "restore_")):
        return _GUIDANCE
    return _TEXTS if component.endswith("_text") else _IMAGES


def _lengths(manifest: Manifest, component: str) -> list[int]:
    """Numbers of ids that a component's texts may have."""
    return [spec.length for spec in manifest.tokenizers.get(manifest.reads(component), ())]


def _cells(pixels: Range) -> Range:
    smallest, best, largest = (side // _CELL for side in pixels)
    return smallest, best, largest


def _shapes(manifest: Manifest, component: str) -> list[tuple[Range, Range, Range]]:
    """Ranges of a picture's height and width in pixels, and of the cells of other tiles."""
    stage = {"inpaint": manifest.inpaint, "restore": manifest.restore}.get(component.split("_")[0])
    if stage is None:
        pixels = (manifest.perceptual if component == "perceptual" else manifest.alignment).resolution
        if (metric := manifest.metric_of(component)) is not None:
            pixels = metric.settings.get("resolution", pixels)
        return [((pixels, pixels, pixels), (pixels, pixels, pixels), _WHOLE)]
    own = {stage.resolution, stage.tile} - {0}
    squares = [_range(stage, bucket, 0 if bucket in own else 1 / 2, 1, 3 / 2) for bucket in buckets(stage)]
    shapes = [(square, square, _WHOLE) for square in squares]
    for bucket in own:
        short = _range(stage, bucket, 3 / 8, 5 / 8, 7 / 8)
        lowest, best, highest = _range(stage, bucket, 3 / 2, 7 / 4, 5 / 2)
        # A picture that has a work size already may be that long where multiples are coarse (`work_size`).
        long = lowest, best, max(highest, 2 * bucket // stage.multiple * stage.multiple + 2 * stage.multiple)
        shapes += [(short, long, _WHOLE), (long, short, _WHOLE)]
    if stage.tile and component.endswith(_AUTOENCODERS):
        side = (stage.multiple, stage.tile, stage.tile)
        cells = (stage.tile // _CELL) ** 2
        shapes.append((side, side, (HIDDEN + 1, OTHERS * cells, OTHERS * cells)))
    return shapes


def _range(stage: Inpaint | Restore, bucket: int, *shares: float) -> Range:
    """Shares of a bucket, in multiples of the stage's, one or more."""
    sides = (max(stage.multiple, int(bucket * share) // stage.multiple * stage.multiple) for share in shares)
    lowest, best, highest = sides
    return lowest, best, highest


def _widest(ranges: list[Range]) -> Range:
    lowest, best, largest = zip(*ranges, strict=True)
    return min(lowest), max(best), max(largest)
