"""Which sizes an engine is built for: a profile a resolution bucket, from the manifest and the axis names."""

from collections.abc import Mapping, Set

from grefine_rt.bundle.manifest import Inpaint, Manifest, Restore

Range = tuple[int, int, int]
"""Smallest, best and largest size of a free axis."""
Profile = Mapping[str, Range]
"""A range for each axis name."""

BUCKETS = (512, 768, 1024)
"""Sides in pixels at which a stage may work below its native resolution."""

_CELL = 8  # pixels a latent cell
_GUIDANCE = (1, 2, 2)
_TILES = (1, 1, 2)
_IMAGES = (1, 1, 16)
_TEXTS = (1, 8, 32)


def profiles(manifest: Manifest, graph: str) -> tuple[Profile, ...]:
    """The profiles of a graph file, one a bucket, smallest first; each has a range for every known axis name.

    Axis names are those of ARCHITECTURE.md: b and n (rows), l or L (text length), H and W (pixels), h and w (latent
    cells). A stage's buckets are its native resolution, its tile, and those of `BUCKETS` below; sides go from half the
    bucket to half above it, so that a picture of the bucket's area may be 2.25 times as long as it is high. A file
    that serves several components gets what all of them need.
    """
    components = [component for component, file in manifest.components.items() if file == graph]
    rows = _widest([_rows(component) for component in components])
    lengths = [length for component in components for length in _lengths(manifest, component)]
    sides = sorted({side for component in components for side in _sides(manifest, component)})
    found = []
    for side in sides:
        profile = {"b": rows, "n": rows, "H": side, "W": side}
        if lengths:
            profile |= dict.fromkeys(("l", "L"), (1, max(lengths), max(lengths)))
        smallest, best, largest = (pixels // _CELL for pixels in side)
        profile |= dict.fromkeys(("h", "w"), (smallest, best, largest))
        found.append(profile)
    return tuple(found)


def restricted(found: tuple[Profile, ...], axes: Set[str]) -> tuple[Profile, ...]:
    """The profiles with these axes alone, each once. An axis without a range raises KeyError."""
    distinct = dict.fromkeys(tuple((axis, profile[axis]) for axis in sorted(axes)) for profile in found)
    return tuple(dict(profile) for profile in distinct)


def _rows(component: str) -> Range:
    if component.endswith(("_encode", "_decode")):
        return _TILES
    if component.startswith(("inpaint_", "restore_")):
        return _GUIDANCE
    return _TEXTS if component.endswith("_text") else _IMAGES


def _lengths(manifest: Manifest, component: str) -> list[int]:
    """Numbers of ids that a component's texts may have."""
    text = f"{component.split('_')[0]}_text" if component.endswith("_step") else component
    specs = manifest.tokenizers.get("alignment_text" if component == "image_reward" else text, ())
    return [spec.length for spec in specs]


def _sides(manifest: Manifest, component: str) -> list[Range]:
    """Ranges of a picture's side in pixels, one a bucket."""
    stage = {"inpaint": manifest.inpaint, "restore": manifest.restore}.get(component.split("_")[0])
    if stage is None:
        sections = {"perceptual": manifest.perceptual, "ip_iqa_image": manifest.ip_iqa}
        side = getattr(sections.get(component), "resolution", manifest.alignment.resolution)
        return [(side, side, side)]
    smaller = {bucket for bucket in BUCKETS if bucket < stage.resolution}
    tile = {stage.tile} if stage.tile else set()
    return [_around(stage, bucket) for bucket in smaller | {stage.resolution} | tile]


def _around(stage: Inpaint | Restore, bucket: int) -> Range:
    def snapped(pixels: int) -> int:
        return max(stage.multiple, pixels // stage.multiple * stage.multiple)

    return snapped(bucket // 2), snapped(bucket), snapped(bucket + bucket // 2)


def _widest(ranges: list[Range]) -> Range:
    lowest, best, largest = zip(*ranges, strict=True)
    return min(lowest), max(best), max(largest)
