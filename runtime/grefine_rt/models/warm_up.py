"""Warming up, and the inputs for it and for timing: of the right names, kinds and sizes, no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from grefine_rt.arrays import Array
from grefine_rt.bundle.manifest import Manifest
from grefine_rt.contract import HIDDEN
from grefine_rt.engine.base import TensorSpec
from grefine_rt.errors import BundleError
from grefine_rt.imaging.image import work_size
from grefine_rt.imaging.tiles import piece
from grefine_rt.models.bundle import Bundle
from grefine_rt.models.selection import step_rows

PROMPT = "a red house under a yellow sun"


def one_of_each(manifest: Manifest, components: Iterable[str]) -> list[str]:
    """The components that are in the bundle, the first one of each graph file."""
    first: dict[str, str] = {}
    for name in components:
        if name in manifest.components:
            first.setdefault(manifest.components[name], name)
    return list(first.values())


def warm_up(bundle: Bundle, components: Iterable[str], pictures: Sequence[tuple[int, int]]) -> None:
    """Run those of the components that the bundle has once, at the sizes at which they work on pictures of these sizes.
    Raises BundleError and DeviceError."""
    manifest = bundle.manifest
    for name in one_of_each(manifest, components):
        for rows in step_rows(manifest, name):
            sizes = work_sizes(manifest, name, pictures)
            # Twice where a larger size makes an engine prepare others anew.
            for size in sizes * min(len(sizes), 2):
                bundle.engine(name).run(example_inputs(bundle, name, size, rows))


def work_sizes(
    manifest: Manifest, component: str, pictures: Iterable[tuple[int, int]]
) -> list[tuple[int, int] | None]:
    """The sizes (width, height), each once, at which a component works on pictures of these sizes, and None for its own
    resolution; that alone for what is not of a stage."""
    stage = manifest.restore if component.startswith("restore") else manifest.inpaint
    if stage is None or not component.startswith(("inpaint_", "restore_")):
        return [None]
    side = stage.resolution
    found: dict[tuple[int, int] | None, None] = {None: None}
    for picture in pictures:
        width, height = work_size(*picture, side, stage.multiple)
        height, width = piece(height, width, stage.tile)
        if (width, height) != (side, side):
            found[width, height] = None
    return list(found)


def example_inputs(
    bundle: Bundle, component: str, size: int | tuple[int, int] | None = None, rows: int | None = None
) -> dict[str, Array]:
    """Arrays for one run of a component: batch 1, `PROMPT`, random numbers in [0, 1).

    size: (width, height) of what a stage works on, in pixels, or the side of a square, rounded up to what the stage can
    take; None for its own resolution. rows: of text; None for the first of `step_rows`. Raises BundleError for a graph
    with a free axis that ARCHITECTURE.md does not name.
    """
    manifest = bundle.manifest
    stage = manifest.restore if component.startswith("restore") else manifest.inpaint
    width = height = 64
    if stage is not None:
        asked = size or stage.resolution
        width, height = (
            -(-side // stage.multiple) * stage.multiple
            for side in (asked if isinstance(asked, tuple) else (asked, asked))
        )
    owner = manifest.reads(component)
    tokenizers = {
        spec.input: tokenizer
        for spec, tokenizer in zip(manifest.tokenizers[owner], bundle.tokenizer(owner), strict=True)
    }
    texts = step_rows(manifest, component)[0] if rows is None else rows
    sizes = {"b": 1, "n": texts, "m": HIDDEN}
    sizes |= {"H": height, "W": width, "h": height // 8, "w": width // 8}
    rng = np.random.default_rng(0)

    def array(spec: TensorSpec) -> Array:
        if spec.name in tokenizers:
            count = spec.shape[0] if isinstance(spec.shape[0], int) else sizes.get(spec.shape[0], 1)
            return np.stack([tokenizers[spec.name].encode(PROMPT)] * count)
        unknown = [axis for axis in spec.shape if isinstance(axis, str) and axis not in sizes]
        if unknown:
            raise BundleError(
                f"{component}: nothing is known of the free axis '{unknown[0]}' of '{spec.name}'; export the bundle "
                f"again with 'grefine-export bundle'."
            )
        shape = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape)
        return rng.random(shape).astype(spec.dtype)

    return {spec.name: array(spec) for spec in bundle.engine(component).inputs.values()}
