"""The assessor as a library: one picture or many, of any sizes, from the parts that assess alone."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from grefine_rt import Assessor, BundleError, ImageError, OptionError, PromptError, Refiner
from grefine_rt.assess.indicator import AssessOptions
from grefine_rt.bundle.store import verify
from tests.support import assess_bundle as small
from tests.support import fake_bundle

ASSESSES = {"perceptual", "alignment_image", "alignment_text"}
PROMPTS = ["a house", "a tall tree", "the sea", "a house and a tree", "a tree", "a house"]
SIZES = [(128, 128), (64, 96), (300, 200), (17, 40), (128, 256), (50, 50)]


def scenes():
    rows = [["house", "sea"], ["tree", "poor"]]
    return [fake_bundle.scene(rows, width, height) for width, height in SIZES]


def noise(count=6, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (16 + 20 * index, 90 - 10 * index, 3), np.uint8) for index in range(count)]


def same(one, other, tolerance=0.0):
    """Whether two assessments agree in every number."""
    for name in ("perceptual", "alignment"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=tolerance)
    for name in ("perceptual_map", "alignment_map"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=tolerance)
    assert [phrase.text for phrase in one.phrases] == [phrase.text for phrase in other.phrases]
    np.testing.assert_allclose(
        [phrase.phrase_score for phrase in one.phrases],
        [phrase.phrase_score for phrase in other.phrases],
        atol=tolerance,
    )
    assert (one.prompt, one.notes) == (other.prompt, other.notes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small.save(tmp_path_factory.mktemp("bundles") / "small")


def test_many_pictures_of_many_sizes_are_as_each_alone():
    bundle = fake_bundle.Bundle()
    alone = [Refiner(bundle).assess(rgb, prompt) for rgb, prompt in zip(scenes(), PROMPTS, strict=True)]
    bundle = fake_bundle.Bundle()
    together = list(Assessor(bundle).assess_batch(scenes(), PROMPTS, batch=4))
    for one, other, (width, height) in zip(alone, together, SIZES, strict=True):
        same(one, other)
        assert other.perceptual_map.shape == other.alignment_map.shape == (height, width)
    assert bundle.engines["perceptual"].calls == 2


@pytest.mark.parametrize("axes", [{}, {"batch": 4}, {"length": "l"}])
def test_graphs_with_fixed_and_free_axes_agree(tmp_path, folder, axes):
    with Assessor.load(folder, "cpu", threads=1) as assessor:
        alone = [assessor.assess(rgb, prompt) for rgb, prompt in zip(noise(), PROMPTS, strict=True)]
    with Assessor.load(small.save(tmp_path / "other", **axes), "cpu", threads=1) as assessor:
        together = list(assessor.assess_batch(noise(), PROMPTS))
    for one, other in zip(alone, together, strict=True):
        same(one, other, 1e-5)


def test_the_embedded_bundle_gives_the_refiners_scores(mini):
    pictures, prompts = noise(3), ["a red house", "a sun and a tree", "a (red:1.2) house"]
    with Refiner.load(mini, "cpu", threads=1) as refiner:
        alone = [refiner.assess(rgb, prompt) for rgb, prompt in zip(pictures, prompts, strict=True)]
    with Assessor.load(mini, "cpu", threads=1) as assessor:
        together = list(assessor.assess_batch(pictures, prompts))
    for one, other in zip(alone, together, strict=True):
        same(one, other, 1e-4)


def test_no_part_that_refines_is_loaded():
    bundle = fake_bundle.Bundle()
    with Assessor(bundle) as assessor:
        list(assessor.assess_batch(scenes(), PROMPTS))
    assert set(bundle.asked) == ASSESSES


def test_one_prompt_serves_all_pictures():
    assessor = Assessor(fake_bundle.Bundle())
    found = list(assessor.assess_batch(scenes(), "a house", batch=4))
    assert [assessment.prompt for assessment in found] == ["a house"] * len(SIZES)


def test_pictures_are_read_when_their_batch_is_due():
    read = []

    def pictures():
        for rgb in scenes():
            read.append(len(read))
            yield rgb

    found = Assessor(fake_bundle.Bundle()).assess_batch(pictures(), PROMPTS, batch=2)
    assert read == []
    next(found)
    assert read == [0, 1]
    assert len(list(found)) == 5


def test_paths_bytes_and_images_are_taken(tmp_path):
    rgb = scenes()[1]
    path = tmp_path / "picture.png"
    Image.fromarray(rgb).save(path)
    assessor = Assessor(fake_bundle.Bundle())
    sources = [rgb, path, str(path), path.read_bytes(), Image.open(path)]
    first, *others = assessor.assess_batch(sources, "a house")
    for other in others:
        same(first, other)


def test_options_reach_the_scores():
    assessor = Assessor(fake_bundle.Bundle())
    calibrated, published = (
        next(assessor.assess_batch(scenes()[:1], "a house", AssessOptions(scoring)))
        for scoring in ("calibrated", "published")
    )
    assert calibrated.perceptual != published.perceptual


def test_each_difference_from_the_script_is_a_switch():
    """Alone, `published` is the script as it is called: p the overall pair's, the map bilinear."""

    def assessed(**readings):
        options = AssessOptions("published", **readings)
        return next(Assessor(fake_bundle.Bundle()).assess_batch(scenes()[:1], "a house", options))

    script = assessed()
    assert script.perceptual == script.factors["overall"]
    multi, own = assessed(factors="product"), assessed(factors="product", bounds="own")
    assert multi.perceptual <= own.perceptual <= script.perceptual
    assert multi.perceptual < script.perceptual
    assert np.array_equal(multi.perceptual_map, script.perceptual_map)
    bicubic = assessed(upsampling="bicubic")
    assert not np.allclose(bicubic.perceptual_map, script.perceptual_map, atol=1e-3)
    assert np.array_equal(bicubic.alignment_map, script.alignment_map)
    for wrong in ({"factors": "x"}, {"bounds": "x"}, {"upsampling": "nearest"}):
        with pytest.raises(OptionError, match=f"The option '{next(iter(wrong))}' must be"):
            AssessOptions(**wrong)


@pytest.mark.parametrize("prompts", [PROMPTS[:5], [*PROMPTS, "one more"], []])
def test_as_many_prompts_as_pictures_are_wanted(prompts):
    with pytest.raises(OptionError, match="one prompt for each picture"):
        list(Assessor(fake_bundle.Bundle()).assess_batch(scenes(), prompts, batch=3))


def test_what_cannot_be_assessed_is_said(tmp_path):
    assessor = Assessor(fake_bundle.Bundle())
    with pytest.raises(OptionError, match="'batch' must be 1 or more"):
        assessor.assess_batch([], [], batch=0)
    with pytest.raises(ImageError, match="There is no image"):
        assessor.assess(tmp_path / "none.png", "a house")
    with pytest.raises(PromptError, match="The prompt is empty"):
        list(assessor.assess_batch(scenes(), ""))
    assert list(assessor.assess_batch([], [])) == []


def test_it_closes_like_a_file():
    with Assessor(fake_bundle.Bundle()) as assessor:
        assert assessor.bundle.manifest.name == "fake"
    assessor.close()
    for use in (lambda: assessor.bundle, lambda: assessor.assess_batch([], [])):
        with pytest.raises(BundleError, match="This assessor is closed"):
            use()


def test_device_and_threads_reach_the_bundle(folder):
    with Assessor.load(str(folder), device="cpu", threads=1) as assessor:
        assert assessor.bundle.engine("perceptual").device == "cpu"
    with pytest.raises(OptionError, match="threads must be at least 1"):
        Assessor.load(folder, "cpu", threads=0).assess(noise(1)[0], "a house")


def test_heat_maps_as_arrays_and_pictures():
    rgb = fake_bundle.scene([["house", "poor"], ["tree", "sea"]])
    found = Assessor(fake_bundle.Bundle()).assess(rgb, "a house")
    heat = found.heat()
    assert list(heat) == ["perceptual", "alignment", "technical", "rationality", "naturalness"]
    np.testing.assert_array_equal(heat["perceptual"], 1 - found.perceptual_map)
    np.testing.assert_array_equal(heat["alignment"], found.alignment_map)
    assert heat["perceptual"][32, 96] > 0.9 > 0.1 > heat["perceptual"][96, 32]  # hot where it is poor
    plain, over = found.heat_map(), found.heat_map("perceptual", rgb)
    assert plain.size == over.size == (128, 128)
    assert np.asarray(plain, int)[32, 96].sum() > np.asarray(plain, int)[96, 32].sum()
    assert not np.array_equal(plain, over)
    with pytest.raises(OptionError, match="no heat map 'overall'"):
        found.heat_map("overall")
    with pytest.raises(OptionError, match="has 128 x 128 pixels, but the picture 64 x 128"):
        found.heat_map("alignment", rgb[:, :64])


def test_a_bundle_that_only_assesses_is_whole_and_no_refiner(folder):
    manifest = verify(folder)
    assert (manifest.refines, manifest.inpaint, manifest.restore) == (False, None, None)
    for use in (lambda: Refiner.load(folder, "cpu"), lambda: manifest.stages):
        with pytest.raises(BundleError, match="only assesses and cannot refine: use it with Assessor"):
            use()


def test_the_command_assesses_with_such_a_bundle(folder, run, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(noise(1)[0]).save(path)
    asked = ["assess", path, "-p", "a red house", "--bundle", folder, "--device", "cpu", "--threads", "1"]
    done = run(*asked, "--json", "--report", tmp_path / "r.html", "--maps", tmp_path / "maps")
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert result["mask"] is None
    assert result["before"]["ip_iqa"].keys() == {"quality", "alignment"}
    assert "only assesses, so no refining is planned" in done.stderr
    assert not (tmp_path / "maps" / "picture.mask.png").exists()
    told = run(*asked)
    assert (told.exit_code, "Refining would" in told.stdout) == (0, False)
    shown = run("bundle", "show", folder)
    assert (shown.exit_code, "ip_iqa" in shown.stdout) == (0, True)
    refused = run("refine", path, "-p", "a red house", "--bundle", folder, "--device", "cpu")
    assert refused.exit_code == 1
    assert "only assesses and cannot refine" in refused.stderr


def test_the_reward_is_told_where_the_bundle_has_it(folder, run, tmp_path):
    rewarded = small.save(tmp_path / "rewarded", reward=True)
    rgb = np.full((small.SIDE, small.SIDE, 3), 51, np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(rgb).save(path)
    asked = ["assess", path, "-p", "a red house", "--device", "cpu", "--threads", "1", "--bundle"]
    before = json.loads(run(*asked, rewarded, "--json").stdout)["before"]
    assert before["image_reward"] == pytest.approx(0.2 + small.WORDS.index("house"), abs=1e-5)
    assert "image reward" in run(*asked, rewarded).stdout
    counted = json.loads(run(*asked, rewarded, "--reading", "alignment_score=reward", "--json").stdout)[
        "before"
    ]
    assert counted["alignment"] == pytest.approx(1 / (1 + math.exp(-before["image_reward"])), abs=1e-5)
    refused = run(*asked, folder, "--reading", "alignment_score=reward")
    assert refused.exit_code == 2
    assert "no ImageReward" in refused.stderr
    assert "image_reward\n  slope: 1.0" in run("bundle", "show", rewarded).stdout
    assert "image_reward" not in json.loads(run(*asked, folder, "--json").stdout)["before"]
