"""The costs of a bundle before anything runs: operations, memory, and the largest size that fits into a machine.

Plain arithmetic on the polynomials that `bundle.json` has for every graph (`manifest.Cost`). A bundle without them
answers None to every question. Sizes are (width, height) in pixels at which a stage works. Operations are those of
whole pictures: tiles make more, for they overlap.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from grefine_rt.arrays import Size
from grefine_rt.bundle.manifest import Decoding, Manifest
from grefine_rt.contract import LATENT_SCALE
from grefine_rt.errors import MemoryLimitError
from grefine_rt.imaging.image import work_size
from grefine_rt.imaging.tiles import fits

GIGA = 10**9

LARGEST = 4096
"""Pixels along the side of the largest square that is looked at."""

ARENA = 1.45
"""Bytes that the arena of ONNX Runtime takes for one that lives: pieces of it are too small for later tensors.

Measured in the embedded bundle, without memory patterns (these double it): 0.95 to 1.44 at 512 and 768 pixels
(`tests/export/test_cost.py`)."""

UPCAST = 2
"""On a CPU, bytes in memory for one in the file: weights are stored in FP16, and no CPU kernel multiplies these."""

_LOOKS = ("perceptual", "alignment_image")


@dataclass(frozen=True)
class ComponentMemory:
    """Bytes that a graph file takes: its weights, and its activations at their peak with all guidance passes.

    components: the bundle's components that share the file.
    """

    components: tuple[str, ...]
    weights: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.activations


def flops(manifest: Manifest, component: str, size: Size, passes: int = 1) -> float | None:
    """Floating-point operations of one run, two a multiply-add.

    size: ignored by components of fixed size. passes: rows of the batch, 2 for a guided step. None for a component that
    the bundle lacks or whose costs were not counted.
    """
    cost = (manifest.costs or {}).get(manifest.components.get(component, ""))
    return None if cost is None else passes * _at(cost.flops, size)


def memory(
    manifest: Manifest, component: str, size: Size, passes: int = 1, device: str = "cpu"
) -> ComponentMemory | None:
    """Bytes that the graph of a component takes, loaded and run at `size`; arguments and None as in `flops`.

    device: "cpu", where weights stored in FP16 are kept in FP32, or another. Activations are counted in the graph's own
    types and without fused attention: a CPU takes up to twice as much for a graph that computes in FP16, an engine that
    fuses attention less.
    """
    file = manifest.components.get(component, "")
    cost = (manifest.costs or {}).get(file)
    if cost is None:
        return None
    stored = sum(manifest.files[path].size for path in manifest.files_of(component))
    return ComponentMemory(
        components=tuple(name for name, other in manifest.components.items() if other == file),
        weights=stored * (UPCAST if device == "cpu" else 1),
        activations=round(ARENA * passes * _at(cost.memory, size)),
    )


def encode_flops(manifest: Manifest, size: Size, negative: bool = False) -> float | None:
    """Operations of stage 1 at `size` that its drafts share: prompts and encoder.

    negative: whether a negative prompt is given. A strength of exactly 1 would need one encoding less.
    """
    settings = manifest.inpaint
    if settings is None:
        return None
    texts = 2 if settings.guidance != 1 and (negative or settings.negative == "encoded") else 1
    # The latent of the picture, and for a UNet that takes a mask that of the masked picture.
    encodings = 1 if settings.blended else 2
    return _sum(manifest, "inpaint", size, texts, encodings, 0, 0)


def draw_flops(manifest: Manifest, size: Size, guided: int, unguided: int = 0) -> float | None:
    """Operations of one draft of stage 1 at `size`: UNet calls of two passes (`guided`) and of one, decoder."""
    return (
        None if manifest.inpaint is None else _sum(manifest, "inpaint", size, 0, 0, 2 * guided + unguided, 1)
    )


def stage2_flops(
    manifest: Manifest, size: Size, guided: int, unguided: int = 0, decoding: Decoding | None = None
) -> float | None:
    """Operations of stage 2 at `size`, UNet calls as in `draw_flops`; `decoding`: the manifest's when None."""
    settings = manifest.restore
    if settings is None:
        return None
    decodings = 1 if (decoding or settings.decoding) == "plain" else 2
    texts = 2 if guided else 1
    return _sum(manifest, "restore", size, texts, 1, 2 * guided + unguided, decodings)


def assess_flops(manifest: Manifest, texts: int, pictures: int = 1) -> float | None:
    """Operations of assessing `pictures` of one prompt, whose `texts` (and the prompt, by metrics) are encoded once."""
    metrics = [part for metric in manifest.scorers.values() for part in metric.components]
    seen = [*_LOOKS, *(part for part in metrics if not part.endswith("_text"))]
    files = {manifest.components[name]: name for name in seen if name in manifest.components}
    looks = [flops(manifest, name, (0, 0)) for name in files.values()]
    reads = [flops(manifest, "alignment_text", (0, 0), texts)]
    reads += [flops(manifest, part, (0, 0)) for part in metrics if part.endswith("_text")]
    each, once = _total(looks), _total(reads)
    return None if each is None or once is None else pictures * each + once


def memory_plan(
    manifest: Manifest,
    size: Size,
    device: str = "cpu",
    restore_size: Size | None = None,
    components: Collection[str] | None = None,
) -> tuple[ComponentMemory, ...] | None:
    """The memory of every graph of a bundle when stage 1 works at `size` and stage 2 at `restore_size`, or `size` too.

    components: only the graphs of these.

    A refine call needs the sum: graphs stay loaded, and each session keeps the memory it once had. Steps are guided
    where the bundle says so; autoencoders that work in tiles, and tiled steps of stage 2, take those of one tile.
    """
    plan = {}
    for component, file in manifest.components.items():
        if components is not None and component not in components:
            continue
        entry = memory(manifest, component, *_work(manifest, component, size, restore_size or size), device)
        if entry is None:
            return None
        plan[file] = entry
    return tuple(plan.values())


def sizes_at(manifest: Manifest, resolution: int, aspect: float = 1.0) -> tuple[Size, Size]:
    """At which sizes stage 1 and stage 2 work when stage 1 works at `resolution`; stage 2 is larger or smaller by as
    much as the manifest has it. aspect: width / height. Raises BundleError for a bundle that only assesses."""
    stage1, stage2 = manifest.stages
    size = work_size(round(resolution * aspect), resolution, resolution, stage1.multiple)
    other = max(round(stage2.resolution * resolution / stage1.resolution), stage2.multiple)
    return size, work_size(*size, other, stage2.multiple)


def largest_fitting(
    manifest: Manifest,
    free_bytes: int,
    aspect: float = 1.0,
    device: str = "cpu",
    components: Collection[str] | None = None,
) -> Size | None:
    """The largest size of stage 1 with which a refine call fits into `free_bytes`; None where none does.

    aspect: width / height; stage 2 as in `sizes_at`. Raises BundleError for a bundle that only assesses.
    """
    stage1, _ = manifest.stages
    largest = None
    for resolution in range(stage1.multiple, LARGEST + 1, stage1.multiple):
        size, restore_size = sizes_at(manifest, resolution, aspect)
        plan = memory_plan(manifest, size, device, restore_size, components)
        if plan is None or needed(plan) > free_bytes:
            break
        largest = size
    return largest


def check_memory(
    manifest: Manifest,
    size: Size,
    free_bytes: int | None,
    device: str = "cpu",
    restore_size: Size | None = None,
    components: Collection[str] | None = None,
) -> None:
    """Raise MemoryLimitError when a refine call at these sizes (see `memory_plan`) does not fit into `free_bytes`.

    free_bytes: on a CPU, `system_memory.usable_memory`. components: the ones that run there; all when None. Nothing is
    refused if `free_bytes` (None) or the bundle's costs are unknown.
    """
    plan = memory_plan(manifest, size, device, restore_size, components)
    if plan is None or free_bytes is None or needed(plan) <= free_bytes:
        return
    fitting = largest_fitting(manifest, free_bytes, size[0] / size[1], device, components)
    advice = (
        f"the largest that fits is {fitting[0]} x {fitting[1]}"
        if fitting
        else "no size fits, so use a smaller bundle"
    )
    raise MemoryLimitError(
        f"Working at {size[0]} x {size[1]} pixels with bundle '{manifest.name}' takes {needed(plan) / GIGA:.2f} GB of "
        f"memory, but {free_bytes / GIGA:.2f} GB are free: {advice}."
    )


def needed(plan: Sequence[ComponentMemory]) -> int:
    """Bytes that all components of a plan take together."""
    return sum(entry.total for entry in plan)


def _work(manifest: Manifest, component: str, size: Size, restore_size: Size) -> tuple[Size, int]:
    """At which size a component works in a refine call, and with how many rows."""
    section, _, part = component.partition("_")
    settings = {"inpaint": manifest.inpaint, "restore": manifest.restore}.get(section)
    if settings is None:
        return (0, 0), 1
    own = size if section == "inpaint" else restore_size
    tiled = part in ("encode", "decode") or component == "restore_step"
    if tiled and not fits(own[1], own[0], settings.tile):
        own = min(own[0], settings.tile), min(own[1], settings.tile)
    return own, 2 if part in ("text", "step") and settings.guidance != 1 else 1


def _sum(
    manifest: Manifest, stage: str, size: Size, texts: int, encodings: int, passes: int, decodings: int
) -> float | None:
    counts = {"text": texts, "encode": encodings, "step": passes, "decode": decodings}
    return _total([flops(manifest, f"{stage}_{part}", size, count) for part, count in counts.items()])


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _at(factors: Sequence[float], size: Size) -> float:
    cells = (size[0] // LATENT_SCALE) * (size[1] // LATENT_SCALE)
    return sum(factor * float(cells) ** power for power, factor in enumerate(factors))
