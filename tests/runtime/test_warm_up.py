"""Warming up: after it no request loads anything, and an assessor loads no part that refines."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from grefine_rt import Assessor, BundleError, OptionError, PlanOptions, RefineOptions, Refiner
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.models import selection
from grefine_rt.models.bundle import Bundle
from grefine_rt.models.selection import Selection, step_rows
from grefine_rt.models.warm_up import example_inputs, one_of_each
from tests.support import assess_bundle, fake_bundle


@pytest.fixture
def loaded(monkeypatch):
    """The files of the engines that were made."""
    files = []

    class Noting(selection.OnnxEngine):  # type: ignore[name-defined]
        def __init__(self, path, *rest):
            files.append(path.name)
            super().__init__(path, *rest)

    monkeypatch.setattr(selection, "OnnxEngine", Noting)
    return files


def test_a_refiner_is_whole_before_its_first_request(mini, loaded):
    with Refiner.load("mini", "cpu", 1) as refiner:
        assert loaded == []
        assert refiner.warm_up((128, 128), (300, 100)) is refiner
        assert sorted(loaded) == sorted(path.name for path in (mini / "components").glob("*.onnx"))
        options = RefineOptions(outside="refine")
        refiner.refine(np.full((128, 128, 3), 90, np.uint8), "a red house", options=options)
        assert len(loaded) == len(set(loaded))


def test_an_assessor_loads_only_what_assesses(tmp_path, mini, loaded):
    Assessor.load("mini", "cpu", 1).warm_up()
    assert not any(name.startswith(("inpaint", "restore")) for name in loaded)
    assert "perceptual.onnx" in loaded
    loaded.clear()
    small = Assessor.load(assess_bundle.save(tmp_path / "bundle", reward=True), "cpu", 1).warm_up()
    before = list(loaded)
    small.assess(np.full((32, 32, 3), 90, np.uint8), "a red house")
    assert {"image_reward.onnx", "ip_iqa_fusion.onnx"} <= set(before)
    assert loaded == before


def test_graphs_that_serve_several_components_are_named_once(mini):
    manifest = Refiner.load("mini", "cpu", 1).bundle.manifest
    names = one_of_each(manifest, [*manifest.components, "no such component"])
    assert len(names) == len(set(manifest.components.values()))
    assert {manifest.components[name] for name in names} == set(manifest.components.values())


@pytest.mark.parametrize("picture", [128, (128,), (128, 0)])
def test_what_is_no_size_of_a_picture_is_one_sentence(mini, picture):
    with pytest.raises(OptionError, match=r"is \(width, height\) in pixels, not"):
        Assessor.load("mini", "cpu", 1).warm_up(picture)


def test_pictures_of_other_shapes_are_run_at_the_sizes_of_their_work(mini, monkeypatch):
    refiner = Refiner.load("mini", "cpu", 1)
    encoder, seen = refiner.bundle.engine("restore_encode"), []
    run = encoder.run
    monkeypatch.setattr(
        encoder, "run", lambda arrays, *rest: seen.append(arrays["image"].shape[2:]) or run(arrays, *rest)
    )
    refiner.warm_up((300, 100), (600, 200), (64, 64))
    found = list(seen)
    assert len(found) == 4  # two sizes, twice
    seen.clear()
    rng = np.random.default_rng(0)
    options = RefineOptions(plan=PlanOptions(stages=(2,)), outside="refine")
    refiner.refine(rng.integers(0, 255, (100, 300, 3), np.uint8), "a red house", options=options)
    assert set(seen) <= set(found)
    assert seen


def test_a_step_guided_in_a_share_of_its_calls_is_warmed_up_with_both_numbers_of_rows(mini, monkeypatch):
    whole = Bundle.open("mini", "cpu", 1)
    inpaint = dataclasses.replace(whole.manifest.inpaint, interval=(0.0, 0.5))  # type: ignore[type-var]
    manifest = dataclasses.replace(whole.manifest, inpaint=inpaint)
    bundle = Bundle(whole.folder, manifest, Selection(whole.folder, manifest, "cpu", 1))
    step, run, rows = bundle.engine("inpaint_step"), OnnxEngine.run, []

    def noting(engine, arrays, outputs=None):
        if engine is step:
            rows.append(len(arrays["context"]))
        return run(engine, arrays, outputs)

    monkeypatch.setattr(OnnxEngine, "run", noting)
    Refiner(bundle).warm_up()
    assert rows == [2, 1]


def test_an_example_has_the_rows_that_the_bundle_runs_with(mini):
    bundle = Bundle.open("mini", "cpu", 1)
    assert len(example_inputs(bundle, "inpaint_step")["context"]) == 2
    assert len(example_inputs(bundle, "restore_step")["context"]) == 1
    assert len(example_inputs(bundle, "inpaint_step", rows=1)["context"]) == 1


def test_the_bundle_says_with_how_many_rows_a_step_runs():
    def manifest(guidance, interval=(0.0, 1.0)):
        return SimpleNamespace(inpaint=SimpleNamespace(guidance=guidance, interval=interval), restore=None)

    assert step_rows(manifest(1.0), "inpaint_step") == (1,)
    assert step_rows(manifest(7.5), "inpaint_step") == (2,)
    assert step_rows(manifest(7.5, (0.0, 0.5)), "inpaint_step") == (2, 1)
    assert step_rows(manifest(7.5), "inpaint_text") == (2,)


def test_sizes_follow_the_stage(mini):
    bundle = Refiner.load("mini", "cpu", 1).bundle
    arrays = example_inputs(bundle, "restore_step", 100)
    assert arrays["control"].shape == (1, 3, 128, 128)  # the next multiple of 32
    assert arrays["sample"].shape == (1, 4, 16, 16)
    assert example_inputs(bundle, "restore_step", (100, 200))["control"].shape == (1, 3, 224, 128)
    assert len(arrays["context"]) == 1  # stage 2 of the embedded bundle is not guided
    assert example_inputs(bundle, "inpaint_encode")["image"].shape == (1, 3, 128, 128)
    assert example_inputs(bundle, "alignment_text")["ids"].dtype == np.int64


def test_an_axis_that_nobody_knows_is_one_sentence():
    bundle = fake_bundle.Bundle()
    engine = bundle.engine("inpaint_encode")
    spec = engine.inputs["image"]
    engine.inputs = {"image": type(spec)("image", spec.dtype, (1, 3, "rows", 8))}
    bundle.engine = lambda name: engine
    with pytest.raises(BundleError, match="free axis 'rows' of 'image'"):
        example_inputs(bundle, "inpaint_encode")
