"""Recipes: all that are shipped can be read, and every mistake in one of your own is told with file and key."""

import re

import pytest

from grefine_export import recipes
from grefine_export.hub import is_hub_id
from grefine_export.recipes import OPTIONS, Checkpoint, load, shipped, with_checkpoints, with_operators

NAMES = {"mini", "sdxl-pasd", "sdxl-pasd-light", "sdxl-lcm-pasd"}
CLIP = """
name = "own"
version = "1"
description = "Assesses."
license = "MIT"
[clip]
size = 224
graph_bytes = 300
[clip.checkpoint]
source = "owner/clip"
license = "MIT"
"""
PLAN = """
[plan]
tau = 0.5
strength_min = 0.3
strength_max = 1
joining = "union"
strength_rule = "deficit"
missing_region = "ancestor"
grow = 1.0
feather = 0.5
min_area = 0.01
p_bound = 1.0
"""
INPAINT = """
[inpaint]
graph_bytes = 600
[inpaint.checkpoint]
source = "owner/sdxl"
license = "RAIL"
[inpaint.options]
"""


@pytest.fixture
def own(tmp_path):
    def write(text):
        path = tmp_path / "own.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_these_are_shipped():
    assert shipped().keys() == NAMES


def test_in_a_wheel_they_lie_in_the_package(monkeypatch, tmp_path):
    (tmp_path / "recipe_files").mkdir()
    (tmp_path / "recipe_files" / "own.toml").write_text(CLIP + PLAN)
    monkeypatch.setattr(recipes, "_PACKAGE", tmp_path)
    assert load("own").description == "Assesses."


@pytest.mark.parametrize("name", sorted(NAMES - {"mini"}))
def test_shipped_recipes_name_pinned_files_of_the_hub(name):
    recipe = load(name)
    assert recipe.name == name
    assert {"clip.checkpoint", "inpaint.checkpoint", "inpaint.vae", "restore.checkpoint", "restore.base"} <= {
        *recipe.checkpoints
    }
    for checkpoint in recipe.checkpoints.values():
        assert is_hub_id(checkpoint.source)
        assert re.fullmatch("[0-9a-f]{40}", checkpoint.revision)
        assert checkpoint.files
        assert checkpoint.bytes > 1e8
        if checkpoint.part:
            assert all(file.startswith(checkpoint.part) for file in checkpoint.files)
    assert recipe.graph_bytes > 1e10


def test_the_recipes_differ_where_their_names_do():
    plain, light, lcm = (load(name) for name in ("sdxl-pasd", "sdxl-pasd-light", "sdxl-lcm-pasd"))
    assert (plain.clip, plain.plan, plain.inpaint) == (light.clip, light.plan, light.inpaint)
    assert "pasd_light" in light.restore.checkpoint.part
    assert plain.restore == lcm.restore
    assert (lcm.inpaint.options.solver, lcm.inpaint.options.guidance) == ("lcm", 1.0)
    assert lcm.inpaint.lora is not None
    assert plain.inpaint.lora is None


def test_mini_is_trained():
    recipe = load("mini")
    assert recipe.training.budget == "cpu"
    assert recipe.checkpoints == {}


def test_a_recipe_of_ones_own(own):
    recipe = load(own(CLIP + PLAN + INPAINT + "interval = [0.2, 1]\nsteps = 20"))
    assert recipe.clip.weights == "fp16"
    assert recipe.plan.strength_max == 1.0
    assert (recipe.inpaint.options.interval, recipe.inpaint.options.steps) == ((0.2, 1.0), 20)
    assert recipe.restore is None
    assert recipe.graph_bytes == 900


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not valid TOML (Invalid value"),
        (CLIP, "lacks 'plan': a bundle cannot do without"),
        (CLIP.partition("[clip]")[0] + PLAN, "lacks 'clip': a bundle cannot do without"),
        (CLIP.replace('name = "own"', "") + PLAN, "lacks the key 'name': add it"),
        (CLIP + PLAN.replace("tau = 0.5", ""), "lacks the key 'plan.tau': add it"),
        (CLIP + 'sha = "1"' + PLAN, "has the unknown key 'clip.checkpoint.sha': use one of license, source"),
        (CLIP + PLAN + INPAINT + "stepz = 1", "has the unknown key 'inpaint.options.stepz': use one of"),
        (CLIP + PLAN + "[video]", "has the unknown key 'video': use one of name, version"),
        (CLIP.replace("224", "224.0") + PLAN, "has 224.0 at 'clip.size' where int is wanted"),
        (CLIP.replace("224", "true") + PLAN, "has True at 'clip.size' where int is wanted"),
        (CLIP + PLAN.replace("0.5", "nan", 1), "has nan at 'plan.tau' where float is wanted"),
        (
            CLIP + PLAN.replace("union", "both"),
            "has 'both' at 'plan.joining' where 'union' or 'product' is wanted",
        ),
        (CLIP + PLAN + INPAINT + "interval = [0.5]", "has [0.5] at 'inpaint.options.interval' where"),
        (CLIP + PLAN + INPAINT + 'steps = "ten"', "has 'ten' at 'inpaint.options.steps' where int is wanted"),
        (
            CLIP + PLAN + "[restore]\ngraph_bytes = 1\noptions = 3",
            "lacks the key 'restore.checkpoint': add it",
        ),
        ("inpaint = 3\n" + CLIP + PLAN, "has 3 at 'inpaint' where Inpaint is wanted"),
    ],
)
def test_mistakes(own, text, message):
    path = own(text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(path)
    assert str(caught.value).startswith(f"'{path}' ")
    assert "\n" not in str(caught.value)


def test_training_stands_alone(own):
    training = '[training]\nbudget = "smoke"\nattention = "vv"\nwork = "w"\nhours = 1\ngraph_bytes = 3\n'
    assert load(own(CLIP.partition("[clip]")[0] + training)).graph_bytes == 3
    with pytest.raises(ValueError, match="has 'training' beside other tables"):
        load(own(CLIP + PLAN + training))


def test_no_such_recipe():
    with pytest.raises(
        FileNotFoundError, match=r"^there is no recipe 'maxi': give one of mini, sdxl-lcm-pasd, "
    ):
        load("maxi")


def test_checkpoints_are_replaced(own):
    recipe = load(own(CLIP + PLAN + INPAINT))
    other = with_checkpoints(
        recipe,
        {"clip.checkpoint": "my/clip", "inpaint.vae": "vae.safetensors", "ip_iqa.checkpoint": "runs/ip-iqa"},
    )
    assert other.checkpoints == {
        "clip.checkpoint": Checkpoint("unknown", "my/clip"),
        "ip_iqa.checkpoint": Checkpoint("unknown", "runs/ip-iqa"),
        "inpaint.checkpoint": Checkpoint("RAIL", "owner/sdxl"),
        "inpaint.vae": Checkpoint("unknown", "vae.safetensors"),
    }
    assert other.clip.size == 224
    with pytest.raises(ValueError, match=r"^the recipe 'own' has no 'restore': leave --base out$"):
        with_checkpoints(recipe, {"restore.base": "sd15"})
    with pytest.raises(ValueError, match=r"has no 'ip_iqa': leave --ip-iqa out"):
        with_checkpoints(load("mini"), {"ip_iqa.checkpoint": "runs/ip-iqa"})


def test_every_place_has_its_option():
    places = {place for name in NAMES for place in load(name).checkpoints}
    assert places < OPTIONS.keys()


def test_operators_are_those_of_both_stages():
    recipe = load("sdxl-pasd")
    assert recipe.inpaint.options.operators == recipe.restore.options.operators == "portable"
    fused = with_operators(recipe, "onnxruntime-cuda")
    assert fused.inpaint.options.operators == fused.restore.options.operators == "onnxruntime-cuda"
    assert with_operators(load("mini"), "onnxruntime-cuda") == load("mini")
