"""The nodes: stateless, over the one bundle that `work` keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from comfy_api.latest import ComfyAPISync, ComfyExtension, io

from grefine_rt import PlanOptions
from grefine_rt.imaging import heatmap
from grefine_rt.plan.make import make_plan, shown

from . import tensors, work

CATEGORY = "grefine-rt"
MAPS = ["perceptual", "alignment", "technical", "rationality", "naturalness"]
DEVICES = ["auto", "cpu", "cuda", "tensorrt", "rtx"]
PARTS = ["load", "assess_before", "plan", "restore_first", "regenerate", "restore", "assess_after"]

Plan = io.Custom("GREFINE_PLAN")


def _asked(prompt: str = "What the picture should show.") -> list[io.Input]:
    return [io.Image.Input("image"), io.String.Input("prompt", multiline=True, default="", tooltip=prompt)]


def _chosen() -> list[io.Input]:
    return [
        io.String.Input("bundle", default="mini", tooltip="The models: an embedded name, or a folder."),
        io.Combo.Input("device", options=DEVICES, default="auto"),
    ]


def _more() -> list[io.Input]:
    return [
        io.String.Input(
            "negative", multiline=True, default="", optional=True, tooltip="What should not be drawn."
        ),
        io.String.Input(
            "options",
            multiline=True,
            default="",
            optional=True,
            tooltip="More options, a line NAME=VALUE each, such as drafts=2; docs/options.md lists them.",
        ),
    ]


class Assess(io.ComfyNode):
    """Scores and heat maps of pictures, and where refining would redraw them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GRefineAssess",
            display_name="Assess picture (grefine-rt)",
            category=CATEGORY,
            description="How good a picture is and how well it shows its prompt, as scores and heat maps.",
            inputs=[
                *_asked(),
                io.Combo.Input("map", options=MAPS, default="perceptual", tooltip="Hot where work is."),
                io.Boolean.Input("overlay", default=True, tooltip="Lay the map over the picture."),
                *_chosen(),
            ],
            outputs=[
                io.Image.Output("heat_map", display_name="heat map"),
                io.Mask.Output("mask", tooltip="What refining would redraw."),
                io.Float.Output("perceptual", tooltip="Quality in [0, 1]; of a batch the mean."),
                io.Float.Output("alignment", tooltip="How well the prompt is shown, in [0, 1]."),
                io.String.Output("report", tooltip="Scores, phrases and reasons of every picture, as JSON."),
            ],
        )

    @classmethod
    def execute(
        cls, image: Any, prompt: str, map: str, overlay: bool, bundle: str, device: str
    ) -> io.NodeOutput:
        assessor = work.loaded(bundle, device)
        manifest = assessor.bundle.manifest
        found, heat, drawn, facts = [], [], [], []
        for rgb in tensors.pictures(image):
            _stop_if_asked()
            seen = assessor.assess(rgb, prompt)
            plan = make_plan(seen, manifest, PlanOptions()) if manifest.refines else None
            seen = shown(seen, plan) if plan else seen
            values = seen.heat()[map]
            heat.append(np.asarray(seen.heat_map(map, rgb)) if overlay else heatmap.colourise(values))
            drawn.append(plan.mask if plan else np.zeros(values.shape, np.bool_))
            found.append(seen)
            facts.append(work.facts(seen, plan))
        return io.NodeOutput(
            tensors.image_tensor(heat),
            tensors.mask_tensor(drawn),
            work.scores(found, "perceptual"),
            work.scores(found, "alignment"),
            work.report(facts),
        )


class MakePlan(io.ComfyNode):
    """What refining would do, before anything is drawn."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GRefinePlan",
            display_name="Plan refining (grefine-rt)",
            category=CATEGORY,
            description="Which regions would be redrawn, how strongly, and why; nothing is drawn.",
            inputs=[*_asked(), *_chosen(), *_more()],
            outputs=[
                Plan.Output("plan"),
                io.Mask.Output("mask", tooltip="What would be redrawn."),
                io.String.Output("reasons", tooltip="One sentence for each region and decision."),
            ],
        )

    @classmethod
    def execute(
        cls, image: Any, prompt: str, bundle: str, device: str, negative: str = "", options: str = ""
    ) -> io.NodeOutput:
        refiner, chosen = work.refiner(bundle, device), work.options(options, negative)
        plans = []
        for rgb in tensors.pictures(image):
            _stop_if_asked()
            plans.append(refiner.plan(refiner.assess(rgb, prompt, chosen.assess), options=chosen.plan))
        reasons = "\n\n".join("\n".join(plan.reasons) for plan in plans)
        return io.NodeOutput(tuple(plans), tensors.mask_tensor([plan.mask for plan in plans]), reasons)


class Refine(io.ComfyNode):
    """Pictures repaired where they are poor or miss their prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GRefineRefine",
            display_name="Refine picture (grefine-rt)",
            category=CATEGORY,
            description="Repairs a picture where it is poor or misses its prompt, and changes nothing else.",
            inputs=[
                *_asked("What the picture should show. With a plan, that of the plan is used."),
                io.Int.Input("seed", default=0, min=0, max=2**63 - 1, control_after_generate=True),
                *_chosen(),
                *_more(),
                Plan.Input("plan", optional=True, tooltip="Without one the node plans itself."),
                io.Mask.Input("mask", optional=True, tooltip="Redraw this, and change nothing else."),
                io.Mask.Input("protect", optional=True, tooltip="Never change this."),
            ],
            outputs=[
                io.Image.Output("image"),
                io.Mask.Output("mask", tooltip="What was redrawn, for nodes that add detail there."),
                io.Float.Output(
                    "perceptual", tooltip="Quality of the result in [0, 1]; of a batch the mean."
                ),
                io.Float.Output("alignment", tooltip="How well the result shows the prompt, in [0, 1]."),
                io.String.Output("report", tooltip="What was done to every picture, as JSON."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Any,
        prompt: str,
        seed: int,
        bundle: str,
        device: str,
        negative: str = "",
        options: str = "",
        plan: Any = None,
        mask: Any = None,
        protect: Any = None,
    ) -> io.NodeOutput:
        refiner, chosen = work.refiner(bundle, device), work.options(options, negative)
        rgbs = tensors.pictures(image)
        count, size = len(rgbs), rgbs[0].shape[:2]
        only = tensors.masks(mask, count, size, "mask")
        never = tensors.masks(protect, count, size, "mask of what is protected")
        plans = work.plans_for(plan, count)
        results = [
            refiner.refine(
                rgb,
                prompt if plans[at] is None else plans[at].asked,
                seed + at,
                chosen,
                plan=plans[at],
                on_progress=_progress(at, count),
                mask=only[at],
                protect=never[at],
            )
            for at, rgb in enumerate(rgbs)
        ]
        after = [result.after for result in results]
        drawn = [result.plan.mask & result.plan.regenerate for result in results]
        return io.NodeOutput(
            tensors.image_tensor([work.channels(result.image, rgbs[0]) for result in results], image),
            tensors.mask_tensor(drawn),
            work.scores(after, "perceptual"),
            work.scores(after, "alignment"),
            work.report(
                [
                    result.entry() | {"reasons": list(result.plan.reasons), "notes": list(result.notes)}
                    for result in results
                ]
            ),
        )


class Extension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [Assess, MakePlan, Refine]


async def comfy_entrypoint() -> Extension:
    """Called by ComfyUI once, when it loads its custom nodes."""
    return Extension()


def _stop_if_asked() -> None:
    """Raises ComfyUI's own exception where the user has cancelled."""
    from comfy import model_management

    model_management.throw_exception_if_processing_interrupted()


def _progress(at: int, count: int) -> Callable[[str, int, int], None]:
    """Progress of picture `at` of `count` on the node; the user's cancelling ends the work before its next step."""
    execution = ComfyAPISync().execution

    def report(part: str, step: int, steps: int) -> None:
        _stop_if_asked()
        done = PARTS.index(part) + step / max(steps, 1)
        execution.set_progress(value=at * len(PARTS) + done, max_value=count * len(PARTS))

    return report
