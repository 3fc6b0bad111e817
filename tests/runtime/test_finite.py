"""A NaN or infinity out of any graph is an error that names the component, never a picture or a score."""

import numpy as np
import pytest

from grefine_rt import BundleError, Cancelled, CancelToken, RefineOptions, Refiner
from grefine_rt.assess.prompt.phrases import forget_prompts
from grefine_rt.assess.scorers.base import Batch, Scale, judge
from grefine_rt.engine.finite import finite
from grefine_rt.plan.options import PlanOptions
from tests.support.fake_bundle import Bundle, scene

POOR = [["house", "poor", "sea", "sea"]] * 4
PROMPT = "a house, the sea"
PAPERS = RefineOptions(plan=PlanOptions(accept="off"))
STAGES = {
    "inpaint_text": "context",
    "inpaint_encode": "latent",
    "inpaint_step": "next",
    "inpaint_decode": "image",
    "restore_text": "context",
    "restore_encode": "latent",
    "restore_step": "next",
    "restore_decode": "image",
}


def spoil(engine, output, value):
    """The engine with one element of an output replaced."""
    sound = engine._function

    def spoiled(**arrays):
        results = dict(sound(**arrays))
        results[output] = results[output].copy()
        results[output].flat[-1] = value
        return results

    engine._function = spoiled


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("component", "output"), STAGES.items())
def test_a_stage_that_gives_no_numbers_gives_no_picture(component, output, value):
    bundle = Bundle()
    spoil(bundle.engines[component], output, value)
    with pytest.raises(BundleError, match=f"^{component}: .*NaN or infinite"):
        Refiner(bundle).refine(scene(POOR), PROMPT, options=PAPERS)


@pytest.mark.parametrize("decoding", ["difference", "quality"])
def test_the_decoding_of_the_picture_itself_counts_too(decoding):
    bundle = Bundle()
    engine, sound, calls = bundle.engines["restore_decode"], bundle.engines["restore_decode"]._function, []

    def second(**arrays):
        calls.append(1)
        image = sound(**arrays)["image"]
        return {"image": image * np.float32(np.nan) if len(calls) == 2 else image}

    engine._function = second
    options = RefineOptions(plan=PlanOptions(accept="off", stages=(2,)), decoding=decoding)
    with pytest.raises(BundleError, match=r"^restore_decode: "):
        Refiner(bundle).refine(scene(POOR), PROMPT, options=options)
    assert len(calls) == 2


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("component", "output"),
    [("perceptual", "pairs"), ("alignment_image", "tokens"), ("alignment_text", "features")],
)
def test_an_assessment_of_no_numbers_is_none(component, output, shared):
    bundle = Bundle(shared)
    spoil(bundle.engines[component], output, np.nan)
    named = "perceptual" if shared and component == "alignment_image" else component
    with pytest.raises(BundleError, match=f"^{named}: "):
        Refiner(bundle).assess(scene(POOR), PROMPT)


def test_a_metric_that_gives_no_number_is_named():
    class Broken:
        scales = {"": Scale("nothing")}  # noqa: RUF012

        def score(self, batch):
            return [{"": float("nan")}]

    picture = scene(POOR)
    with pytest.raises(BundleError, match=r"^broken: the metric gave"):
        list(judge({"broken": Broken()}, Batch([picture], [PROMPT], [PROMPT], np.zeros((1, 3, 8, 8)))))


def test_sound_values_pass_as_they_are():
    for values in (np.zeros((2, 3), np.float16), np.arange(3), np.zeros((0, 3)), np.float32([1e38, -1e38])):
        assert finite("x", values) is values


def test_reading_the_prompt_heeds_the_token():
    bundle, token = Bundle(), CancelToken()
    engine, look = bundle.engines["perceptual"], bundle.engines["perceptual"]._function

    def cancelling(**arrays):
        token.cancel()
        return look(**arrays)

    engine._function = cancelling
    forget_prompts()
    with pytest.raises(Cancelled, match="while the prompt was read"):
        Refiner(bundle).refine(scene(POOR), PROMPT, cancel=token)
