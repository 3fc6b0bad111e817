"""What a plan costs, predicted from the operations that the bundle's graphs were counted to make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from grefine_rt.bundle.manifest import Manifest, Restore
from grefine_rt.costs import assess_flops, stage1_flops, stage2_flops
from grefine_rt.crops import Cost, Size
from grefine_rt.diffusion.solver import guidance_row, unet_calls
from grefine_rt.diffusion.tiling import fits, step_tiles
from grefine_rt.imaging.image import native_size, work_size

if TYPE_CHECKING:
    from grefine_rt.plan import RefinePlan

Work = Literal["trained", "native"]
TERA = 1e12
ALL_CALLS = (0.0, 1.0)


@dataclass(frozen=True)
class PlanCosts:
    """Floating-point operations of a refine call in TFLOP (10^12), two a multiply-add.

    stage1, stage2: of the stages, 0 for one that is skipped. assess: of all assessments, those of drafts too. full:
    of the whole call without any saving: stage 1 in any case, on the whole picture, guided in every call, with all
    its drafts.
    """

    stage1: float
    stage2: float
    assess: float
    full: float

    @property
    def total(self) -> float:
        """Of the whole call, TFLOP."""
        return self.stage1 + self.stage2 + self.assess


def plan_costs(plan: RefinePlan, drafts: int | None = None) -> PlanCosts | None:
    """The costs of a plan of which `drafts` are made, all when None; None where the bundle's costs were not counted.

    Texts count as if all were as long as the encoders read; shorter ones cost less. Tiles count as so many pictures; an
    autoencoder whose tiles share statistics goes over them more than once.
    """
    manifest = plan.manifest
    if manifest.costs is None:
        return None
    made = (plan.drafts if drafts is None else drafts) if plan.regenerate else 0
    height, width = plan.mask.shape
    inpaint, restoration = manifest.stages
    draw, draw_fully = (
        draw_cost(manifest, plan.stage1_steps, plan.strength, interval)
        for interval in (plan.interval, ALL_CALLS)
    )
    whole = work_size(width, height, inpaint.resolution, inpaint.multiple)
    stage2 = 0.0
    if plan.restore:
        size, tile = restore_work(restoration, width, height, plan.work)
        calls = _calls(restoration.guidance, unet_calls(plan.stage2_steps, plan.delta), restoration.interval)
        count = 1
        if not fits(size[1], size[0], tile):
            count = len(step_tiles(size[1], size[0], tile, restoration.multiple))
            size = min(size[0], tile), min(size[1], tile)
        stage2 = count * (stage2_flops(manifest, size, *calls) or 0.0)
    # The picture and the result, and drafts; a single draft is kept unseen.
    assess, assess_fully = (
        assess_flops(manifest, plan.texts, 2 + (count if plan.drafts > 1 else 0)) or 0.0
        for count in (made, plan.drafts)
    )
    return PlanCosts(
        stage1=made * sum(draw(crop.size) for crop in plan.crops) / TERA,
        stage2=stage2 / TERA,
        assess=assess / TERA,
        full=(plan.drafts * draw_fully(whole) + stage2 + assess_fully) / TERA,
    )


def restore_work(settings: Restore, width: int, height: int, work: Work) -> tuple[Size, int]:
    """Work size (width, height) of stage 2 for a picture, and the side of its tiles, 0 for none."""
    if work == "native":
        size = native_size(width, height, settings.resolution, settings.multiple)
        return size, settings.tile or settings.resolution
    return work_size(width, height, settings.resolution, settings.multiple), settings.tile


def draw_cost(manifest: Manifest, steps: int, strength: float, interval: tuple[float, float]) -> Cost:
    """What one draft of stage 1 costs at a size (width, height): FLOP, or pixels where no costs were counted."""
    inpaint, _ = manifest.stages
    calls = _calls(inpaint.guidance, unet_calls(steps, strength), interval)

    def cost(size: Size) -> float:
        flops = stage1_flops(manifest, size, *calls)
        return float(size[0] * size[1]) if flops is None else flops

    return cost


def _calls(guidance: float, calls: int, interval: tuple[float, ...]) -> tuple[int, int]:
    """How many of `calls` UNet calls take two passes, and how many one."""
    guided = int((guidance_row(guidance, calls, interval) != 1).sum())
    return guided, calls - guided
