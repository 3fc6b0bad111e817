"""The costs of a plan, predicted from the operations that the bundle's graphs were counted to make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grefine_rt.arrays import Size
from grefine_rt.bundle.manifest import Decoding, Manifest, Restore
from grefine_rt.diffusion.solver import guidance_row, unet_calls
from grefine_rt.imaging.image import native_size, work_size
from grefine_rt.imaging.tiles import fits, step_tiles
from grefine_rt.plan.crops import Cost
from grefine_rt.plan.graph_costs import assess_flops, draw_flops, encode_flops, stage2_flops
from grefine_rt.plan.options import Work
from grefine_rt.plan.plan import Drawn, RefinePlan

TERA = 1e12
ALL_CALLS = (0.0, 1.0)


@dataclass(frozen=True)
class PlanCosts:
    """Floating-point operations of a refine call in TFLOP (10^12), two a multiply-add.

    stage1, stage2: of the stages, 0 for one that is skipped. assess: of all assessments, of drafts too. full:
    of the whole call without any saving: stage 1 in any case, on the whole picture, guided in every call, with all
    its drafts.
    """

    stage1: float
    stage2: float
    assess: float
    full: float

    @property
    def total(self) -> float:
        """TFLOP of the whole call."""
        return self.stage1 + self.stage2 + self.assess


def plan_costs(
    plan: RefinePlan,
    drawn: Drawn | None = None,
    decoding: Decoding | None = None,
    looks: int | None = None,
) -> PlanCosts | None:
    """The costs of a plan of which so much is `drawn`, all when None; None where the bundle's costs were not counted.

    decoding: of stage 2, the bundle's when None. looks: the number of assessments that were made, the largest possible
    one when None.

    Texts count as if all were as long as the encoders read; shorter ones cost less. Tiles count as so many pictures; an
    autoencoder whose tiles share statistics goes over them more than once.
    """
    manifest = plan.manifest
    if manifest.costs is None:
        return None
    drawn = plan.most if drawn is None else drawn
    height, width = plan.mask.shape
    inpaint, restoration = manifest.stages
    whole = work_size(width, height, inpaint.resolution, inpaint.multiple)
    stage2 = 0.0
    if plan.restorations:
        size, tile = restore_work(restoration, width, height, plan.work)
        calls = _calls(restoration.guidance, unet_calls(plan.stage2_steps, plan.delta), restoration.interval)
        count = 1
        if not fits(size[1], size[0], tile):
            count = len(step_tiles(size[1], size[0], tile, restoration.multiple))
            size = min(size[0], tile), min(size[1], tile)
        stage2 = count * (stage2_flops(manifest, size, *calls, decoding=decoding) or 0.0)
    looks = _looks(plan, drawn) if looks is None else looks
    looks_fully = 2 + (plan.drafts if plan.drafts > 1 else 0) + plan.judges * (2 - plan.by_hand)
    assess, assess_fully = (assess_flops(manifest, plan.texts, n) or 0.0 for n in (looks, looks_fully))
    drafts = Drawn(0, plan.drafts)
    return PlanCosts(
        stage1=_stage1(plan, [crop.size for crop in plan.crops], drawn, plan.interval) / TERA,
        stage2=plan.restorations * stage2 / TERA,
        assess=assess / TERA,
        full=(_stage1(plan, [whole], drafts, ALL_CALLS) + stage2 + assess_fully) / TERA,
    )


def _looks(plan: RefinePlan, drawn: Drawn) -> int:
    """Assessments that a call makes at most: of the picture and the result, of stage 2's picture before stage 1, of
    several drafts, and one more for each stage whose change is judged."""
    between = int((plan.restore_first or plan.restored) and plan.regenerate)
    judged = plan.judges * (int(plan.regenerate and not plan.by_hand) + plan.restorations)
    return 2 + between + (drawn.rounds if plan.drafts > 1 else 0) + judged


def _stage1(plan: RefinePlan, sizes: Sequence[Size], drawn: Drawn, interval: tuple[float, float]) -> float:
    """FLOP of stage 1 that draws crops of these sizes so often; the first one is encoded once for all drafts."""
    manifest = plan.manifest
    inpaint, _ = manifest.stages
    total = 0.0
    for index, size in enumerate(sizes):
        encodings = drawn.rounds if index else min(drawn.rounds, 1)
        total += encodings * (encode_flops(manifest, size, bool(plan.settings.negative)) or 0.0)
        for count, steps in ((drawn.sketches, plan.sketch_steps), (drawn.drafts, plan.stage1_steps)):
            if count:
                calls = _calls(inpaint.guidance, unet_calls(steps, plan.strength), interval)
                total += count * (draw_flops(manifest, size, *calls) or 0.0)
    return total


def restore_work(settings: Restore, width: int, height: int, work: Work) -> tuple[Size, int]:
    """Work size (width, height) of stage 2 for a picture, and the side of its tiles, 0 for none."""
    if work == "native":
        size = native_size(width, height, settings.resolution, settings.multiple)
        return size, settings.tile or settings.resolution
    return work_size(width, height, settings.resolution, settings.multiple), settings.tile


def draw_cost(manifest: Manifest, steps: int, strength: float, interval: tuple[float, float]) -> Cost:
    """The cost of a single draft of stage 1 at a size (width, height): FLOP, or pixels where no costs were counted."""
    inpaint, _ = manifest.stages
    calls = _calls(inpaint.guidance, unet_calls(steps, strength), interval)

    def cost(size: Size) -> float:
        encoding, drawing = encode_flops(manifest, size), draw_flops(manifest, size, *calls)
        return float(size[0] * size[1]) if encoding is None or drawing is None else encoding + drawing

    return cost


def _calls(guidance: float, calls: int, interval: tuple[float, ...]) -> tuple[int, int]:
    """(UNet calls of two passes, UNet calls of one) among `calls`."""
    guided = int((guidance_row(guidance, calls, interval) != 1).sum())
    return guided, calls - guided
