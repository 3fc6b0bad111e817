"""A demo in the browser: `pip install '.[demo,cpu]'` in the checkout, then `python examples/app.py`.

It listens on this machine alone (127.0.0.1), and nothing is uploaded anywhere.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grefine_rt import GRefineError, PlanOptions, RefineOptions, Refiner

MAPS = ["perceptual", "alignment", "technical", "rationality", "naturalness"]
TITLE = "grefine-rt: finds what is broken or missing in a picture, and repairs only that"


def parts(drawn: dict[str, Any] | None) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """The picture of an editor as uint8 (H, W, 3 or 4), and what was painted over it as bool (H, W), None for nothing.
    Raises GRefineError where there is no picture."""
    if not drawn or drawn.get("background") is None:
        raise GRefineError("There is no picture yet: drop one into the field.")
    picture = np.asarray(drawn["background"])
    painted = np.zeros(picture.shape[:2], np.bool_)
    for layer in drawn.get("layers") or ():
        painted |= np.asarray(layer)[..., -1] >= 128
    opaque = picture.shape[2] == 4 and (picture[..., 3] == 255).all()
    return picture[..., :3] if opaque else picture, painted if painted.any() else None


def assess(refiner: Refiner, drawn: dict[str, Any] | None, prompt: str, heat: str) -> tuple[Any, ...]:
    """Heat map over the picture, mask, rows of phrases, and sentences in Markdown."""
    picture, _ = parts(drawn)
    found = refiner.assess(picture, prompt)
    plan = refiner.plan(found)
    rows = [
        [each.text, round(each.noun_score, 3), round(each.phrase_score, 3), each.defect or ""]
        for each in found.phrases
    ]
    scores = f"**perceptual {found.perceptual:.3f}, alignment {found.alignment:.3f}**\n\n"
    told = scores + "".join(f"- {reason}\n" for reason in plan.reasons)
    mask = Image.fromarray((plan.mask * 255).astype(np.uint8))
    return found.heat_map(heat, picture), mask, rows, told


def refine(
    refiner: Refiner,
    drawn: dict[str, Any] | None,
    prompt: str,
    negative: str,
    seed: float,
    outside: bool,
    on_progress: Any = None,
) -> tuple[Any, str]:
    """The picture before and after, and sentences in Markdown. What was painted is redrawn, and nothing else."""
    picture, painted = parts(drawn)
    options = RefineOptions(plan=PlanOptions(negative=negative), outside="refine" if outside else "refuse")
    result = refiner.refine(picture, prompt, int(seed), options, mask=painted, on_progress=on_progress)
    before, after = result.before, result.after
    told = (
        f"**perceptual {before.perceptual:.3f} → {after.perceptual:.3f}, "
        f"alignment {before.alignment:.3f} → {after.alignment:.3f}**, {result.timings['total'] / 1000:.1f} s\n\n"
    )
    told += "".join(f"- {said}\n" for said in (*result.plan.reasons, *result.notes))
    return (Image.fromarray(picture), result.image), told


def build(refiner: Refiner) -> Any:
    """The page, a gradio.Blocks."""
    try:
        import gradio as gr
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"error: {error.name} is not installed: run pip install '.[cpu,demo]' in the checkout of grefine-rt."
        ) from None

    def told(work: Any, *given: Any) -> Any:
        try:
            return work(refiner, *given)
        except GRefineError as error:
            raise gr.Error(str(error)) from None

    def refined(*given: Any, progress: Any = gr.Progress()) -> Any:  # noqa: B008  # how Gradio passes it
        return told(
            partial(refine, on_progress=lambda part, step, steps: progress((step, max(steps, 1)), desc=part)),
            *given,
        )

    with gr.Blocks(title="grefine-rt") as page:
        gr.Markdown(f"# {TITLE}\nPaint over the picture to say where it should be redrawn; else it is found.")
        with gr.Row():
            with gr.Column():
                drawn = gr.ImageEditor(type="numpy", label="Picture", image_mode="RGBA")
                prompt = gr.Textbox(label="Prompt", lines=2)
                negative = gr.Textbox(label="Negative prompt")
                seed = gr.Number(label="Seed", value=0, precision=0)
                outside = gr.Checkbox(label="Refine also what is unlike the bundle's pictures")
                heat = gr.Dropdown(MAPS, value=MAPS[0], label="Heat map")
                look, mend = gr.Button("Assess"), gr.Button("Refine", variant="primary")
            with gr.Column():
                slider = gr.ImageSlider(label="Before and after")
                words = gr.Markdown()
                with gr.Row():
                    hot, mask = gr.Image(label="Heat map"), gr.Image(label="What refining would redraw")
                phrases = gr.Dataframe(headers=["phrase", "noun", "phrase shown", "defect"], label="Phrases")
        look.click(
            lambda *given: told(assess, *given),
            [drawn, prompt, heat],
            [hot, mask, phrases, words],
            api_name="assess",
        )
        mend.click(refined, [drawn, prompt, negative, seed, outside], [slider, words], api_name="refine")
    return page


def main() -> None:
    """Serves the page until Ctrl-C."""
    parser = argparse.ArgumentParser(description=TITLE)
    parser.add_argument("--bundle", default="mini", help="the models: a name, or a folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, tensorrt or rtx")
    parser.add_argument("--port", type=int, default=7860)
    given = parser.parse_args()
    with Refiner.load(given.bundle, given.device) as refiner:
        build(refiner).launch(server_name="127.0.0.1", server_port=given.port, share=False)


if __name__ == "__main__":
    main()
