"""The nodes for ComfyUI, loaded and executed as ComfyUI does it (`tests.support.fake_comfyui`)."""

import json
import os
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image

from grefine_rt import BundleError, OptionError, PromptError, RefineOptions, Refiner, __version__
from grefine_rt.models.bundle import Bundle
from tests.support import fake_bundle, fake_comfyui
from tests.support.fake_bundle import scene
from tests.support.paths import MINI, ROOT

PACK = ROOT / "integrations" / "comfyui"
GOOD = [["house", "house", "sea", "sea"]] * 4
POOR = [GOOD[0], ["house", "poor", "sea", "sea"], *GOOD[2:]]
PROMPT = "a house, the sea"


def image(*scenes):
    return torch.from_numpy(np.stack([scene(rows) for rows in scenes]).astype(np.float32) / 255)


@pytest.fixture
def comfy(monkeypatch):
    comfy = fake_comfyui.Comfy(monkeypatch)

    def open_(name, device="auto", *more):
        comfy.opened.append((name, device))
        return fake_bundle.Bundle()

    comfy.load(PACK)
    monkeypatch.setattr(Bundle, "open", open_)
    return comfy


def run(comfy, name, **given):
    return comfy.run(comfy.nodes[f"GRefine{name}"], **given)


def test_assess_gives_scores_a_map_and_where_refining_would_draw(comfy):
    found = run(comfy, "Assess", image=image(POOR, GOOD), prompt=PROMPT, overlay=False)
    assert found["heat_map"].shape == (2, 128, 128, 3)
    assert found["mask"].shape == (2, 128, 128)
    assert found["mask"][0, 32:64, 32:64].mean() > 0.9
    assert found["mask"][1].sum() == 0
    poor, good = json.loads(found["report"])
    assert poor["scores"]["perceptual"] < good["scores"]["perceptual"]
    assert found["perceptual"] == pytest.approx(
        (poor["scores"]["perceptual"] + good["scores"]["perceptual"]) / 2, abs=1e-3
    )
    heat = found["heat_map"].mean(dim=3)
    assert heat[0, 40:56, 40:56].mean() > heat[0, 80:120, 80:120].mean() + 0.2


@pytest.mark.parametrize("name", ["perceptual", "alignment", "technical", "rationality", "naturalness"])
def test_every_map_can_be_chosen(comfy, name):
    found = run(comfy, "Assess", image=image(POOR), prompt=PROMPT, map=name)
    assert found["heat_map"].shape == (1, 128, 128, 3)


def test_plan_and_refine_together_do_what_refine_does_alone(comfy):
    picture = image(POOR)
    planned = run(comfy, "Plan", image=picture, prompt=PROMPT)
    assert planned["mask"].shape == (1, 128, 128)
    assert planned["mask"].sum() > 0
    assert "region" in planned["reasons"].lower()
    both = run(comfy, "Refine", image=picture, prompt="", seed=5, plan=planned["plan"])
    alone = run(comfy, "Refine", image=picture, prompt=PROMPT, seed=5)
    assert torch.equal(both["image"], alone["image"])
    assert torch.equal(alone["mask"], planned["mask"])
    assert not torch.equal(alone["image"], picture)


def test_refine_gives_what_the_refiner_gives(comfy):
    options = RefineOptions()
    expected = Refiner(fake_bundle.Bundle()).refine(scene(POOR), PROMPT, 3, options)
    found = run(comfy, "Refine", image=image(POOR), prompt=PROMPT, seed=3)
    assert np.array_equal(np.rint(found["image"][0].numpy() * 255), np.asarray(expected.image))
    assert found["perceptual"] == pytest.approx(expected.after.perceptual)
    assert json.loads(found["report"])[0]["seed"] == 3


def test_a_mask_is_obeyed_and_what_lies_outside_keeps_its_exact_values(comfy):
    picture = image(POOR) * 0.999 + 0.0004  # not on the grid of 8 bits
    mask = torch.zeros(1, 128, 128)
    mask[:, 64:96, 64:96] = 1
    found = run(comfy, "Refine", image=picture, prompt=PROMPT, mask=mask, options="accept=off")
    assert torch.equal(found["mask"], mask)
    outside = mask[0] == 0
    assert torch.equal(found["image"][0][outside], picture[0][outside])
    assert not torch.equal(found["image"][0][~outside], picture[0][~outside])


def test_what_is_protected_never_changes(comfy):
    picture, protect = image(POOR), torch.zeros(1, 128, 128)
    protect[:, :, :64] = 1
    found = run(comfy, "Refine", image=picture, prompt=PROMPT, protect=protect)
    assert torch.equal(found["image"][0, :, :64], picture[0, :, :64])


def test_masks_of_another_size_are_fitted_and_the_empty_one_of_load_image_says_nothing(comfy):
    picture = image(POOR)
    small = torch.zeros(1, 64, 64)
    assert torch.equal(
        run(comfy, "Refine", image=picture, prompt=PROMPT, mask=small)["mask"],
        run(comfy, "Refine", image=picture, prompt=PROMPT)["mask"],
    )
    small[:, 16:32, 16:32] = 1
    drawn = run(comfy, "Refine", image=picture, prompt=PROMPT, mask=small)["mask"]
    assert drawn[0, 33:63, 33:63].min() == 1
    assert drawn.sum() == 32 * 32


def test_an_empty_mask_of_the_picture_s_size_means_draw_nothing(comfy):
    found = run(comfy, "Refine", image=image(POOR), prompt=PROMPT, mask=torch.zeros(1, 128, 128))
    assert found["mask"].sum() == 0
    assert torch.equal(found["image"], image(POOR))


def test_a_batch_is_refined_picture_by_picture(comfy):
    found = run(comfy, "Refine", image=image(POOR, GOOD, POOR), prompt=PROMPT, seed=7)
    for at, rows in enumerate((POOR, GOOD, POOR)):
        alone = run(comfy, "Refine", image=image(rows), prompt=PROMPT, seed=7 + at)
        assert torch.equal(found["image"][at], alone["image"][0])
    assert len(json.loads(found["report"])) == 3


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures_keep_their_channels(comfy, channels):
    picture = torch.full((1, 128, 128, channels), 0.5)
    assert run(comfy, "Refine", image=picture, prompt=PROMPT)["image"].shape == picture.shape


def test_values_that_are_no_numbers_or_beyond_the_range_do_no_harm(comfy):
    picture = image(POOR)
    picture[0, 0, 0] = torch.tensor([float("nan"), 7.0, -3.0])
    run(comfy, "Refine", image=picture, prompt=PROMPT)


def test_one_bundle_stays_loaded_until_another_is_asked_for(comfy):
    for name in ("Assess", "Plan", "Refine"):
        run(comfy, name, image=image(POOR), prompt=PROMPT)
    assert comfy.opened == [("mini", "auto")]
    run(comfy, "Assess", image=image(POOR), prompt=PROMPT, device="cpu")
    run(comfy, "Assess", image=image(POOR), prompt=PROMPT, device="cpu")
    assert comfy.opened == [("mini", "auto"), ("mini", "cpu")]


def test_a_bundle_made_anew_is_loaded_anew(comfy, tmp_path):
    for text in ("{}", "{} "):
        (tmp_path / "bundle.json").write_text(text)
        run(comfy, "Assess", image=image(GOOD), prompt=PROMPT, bundle=str(tmp_path))
        os.utime(tmp_path / "bundle.json", ns=(1, len(text)))
    assert len(comfy.opened) == 2


def test_progress_rises_to_its_end(comfy):
    run(comfy, "Refine", image=image(POOR, POOR), prompt=PROMPT)
    values, ends = zip(*comfy.progress, strict=True)
    assert list(values) == sorted(values)
    assert values[-1] == ends[-1]
    assert len(set(ends)) == 1


@pytest.mark.parametrize("name", ["Assess", "Plan", "Refine"])
def test_the_user_can_cancel(comfy, name):
    comfy.cancelled = True
    with pytest.raises(fake_comfyui.Interrupted):
        run(comfy, name, image=image(POOR), prompt=PROMPT)


def test_options_are_lines_and_wrong_ones_one_sentence(comfy):
    given = {"image": image(POOR), "prompt": PROMPT}
    found = run(comfy, "Plan", **given, options="# none\n\n--stage2-steps = 3\ndrafts=2", negative="fog")
    (plan,) = found["plan"]
    assert (plan.stage2_steps, plan.drafts, plan.settings.negative) == (3, 2, "fog")
    for wrong in ("drafts", "drafts=many", "drats=2"):
        with pytest.raises(OptionError):
            run(comfy, "Plan", **given, options=wrong)


def test_wrong_inputs_are_refused(comfy):
    with pytest.raises(PromptError):
        run(comfy, "Refine", image=image(POOR), prompt=" ")
    planned = run(comfy, "Plan", image=image(POOR, POOR), prompt=PROMPT)["plan"]
    with pytest.raises(OptionError, match="2 plans for 1 pictures"):
        run(comfy, "Refine", image=image(POOR), prompt=PROMPT, plan=planned)
    with pytest.raises(OptionError, match="3 masks for 2 pictures"):
        run(comfy, "Refine", image=image(POOR, POOR), prompt=PROMPT, mask=torch.zeros(3, 128, 128))
    with pytest.raises(OptionError, match="shape"):
        run(comfy, "Assess", image=torch.zeros(128, 128, 3), prompt=PROMPT)


def test_a_bundle_that_is_not_there_is_one_sentence(monkeypatch):
    comfy = fake_comfyui.Comfy(monkeypatch)
    comfy.load(PACK)
    with pytest.raises(BundleError):
        run(comfy, "Assess", image=image(POOR), prompt=PROMPT, bundle="/nowhere")


@pytest.mark.skipif(not (MINI / "bundle.json").is_file(), reason="the embedded bundle is not trained yet")
def test_the_embedded_bundle_in_the_nodes(monkeypatch):
    comfy = fake_comfyui.Comfy(monkeypatch)
    comfy.load(PACK)
    path = ROOT / "examples" / "wrong_colour.png"
    array = np.asarray(Image.open(path).convert("RGB"))
    given = {
        "image": torch.from_numpy(array.astype(np.float32) / 255)[None],
        "prompt": path.with_suffix(".txt").read_text(),
        "device": "cpu",
    }
    with Refiner.load("mini", "cpu") as refiner:
        expected = refiner.refine(array, given["prompt"], seed=1)
    refined = run(comfy, "Refine", seed=1, **given)
    assert np.array_equal(np.rint(refined["image"][0].numpy() * 255), np.asarray(expected.image))
    assert refined["mask"].sum() == expected.plan.mask.sum() > 0


def test_the_registry_s_fields_bind_nobody(comfy):
    fields = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    project, registry = fields["project"], fields["tool"]["comfy"]
    assert project["version"] == __version__
    assert project["dependencies"] == []
    assert not (PACK / "requirements.txt").exists()
    assert {"PublisherId", "DisplayName"} <= set(registry)
    assert (PACK / project["license"]["file"]).read_bytes() == (ROOT / "LICENSE").read_bytes()
