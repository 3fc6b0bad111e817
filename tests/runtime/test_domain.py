"""The domain of a bundle: pictures and words that it was not made for are told, and left alone unless asked for."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from grefine_rt import Assessor, BundleError, DomainError, OptionError, PlanOptions, RefineOptions, Refiner
from grefine_rt.assess import domain
from grefine_rt.assess.alignment import overall, regions, score_phrases
from grefine_rt.assess.domain import Domain, Membership
from grefine_rt.assess.prompt import prompt_phrases
from grefine_rt.bundle.manifest import Manifest
from grefine_rt.bundle.store import find_bundle, write
from grefine_rt.cli import app
from grefine_rt.imaging.image import encoder_input
from tests.support import assess_bundle as small

PROMPT = "a red house and a tall tree"


def add_domain(folder, mean, whiten, threshold=1.0, words=None):
    """Enters a domain into a bundle on disk; None leaves pictures or words open. Foreign pictures are all as far."""
    (folder / "domain").mkdir(exist_ok=True)
    data = json.loads((folder / "bundle.json").read_text())
    data["domain"] = {"pictures": None, "words": None}
    if mean is not None:
        far = mean + 1000 * np.eye(len(mean))[0]
        arrays = {"foreign_mean": far, "foreign_whiten": np.eye(len(mean)) / 1000}
        np.savez(folder / "domain" / "pictures.npz", mean=mean, whiten=whiten, **arrays)
        data["domain"]["pictures"] = {"file": "domain/pictures.npz", "threshold": threshold}
    if words is not None:
        (folder / "domain" / "words.txt").write_text("\n".join(words), encoding="utf-8")
        data["domain"]["words"] = "domain/words.txt"
    write(folder, data)
    return folder


def stripes(seed):
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.integers(0, 256, (4, 3), np.uint8), 8, axis=0)
    return np.repeat(rows[:, None], small.SIDE, axis=1)


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (small.SIDE, small.SIDE, 3), np.uint8)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A bundle for pictures whose tokens are those of one, and for the words of a few phrases."""
    folder = small.save(tmp_path_factory.mktemp("bundles") / "small")
    tokens = small.tokens(noise(0))
    mean = domain.features_of(tokens / np.linalg.norm(tokens, axis=1, keepdims=True))
    words = ["a", "and", "the", "red", "house", "tall", "sea"]
    return add_domain(folder, mean, np.eye(2 * small.WIDTH) * 10, 1.0, words)


def test_the_distance_is_that_from_the_kind_over_that_from_foreign_pictures(narrow):
    with Assessor.load(narrow, "cpu", 1) as assessor:
        near, far = (assessor.assess(rgb, "a red house").domain for rgb in (noise(0), stripes(3)))
        image = {"image": encoder_input(stripes(3), small.SIDE)}
        patches = assessor.bundle.engine("perceptual").run(image)["tokens"][0, 1:]
    mean = np.load(narrow / "domain" / "pictures.npz")["mean"]
    offset = np.concatenate([patches.mean(axis=0), patches.std(axis=0)]) - mean
    foreign = offset - 1000 * np.eye(len(mean))[0]
    expected = 10 * np.linalg.norm(offset) / (np.linalg.norm(foreign) / 1000)
    assert (near.inside, near.distance, near.threshold) == (True, pytest.approx(0, abs=1e-4), 1.0)
    assert (far.inside, far.distance) == (False, pytest.approx(expected, abs=1e-3))
    assert near.notes == ()
    assert (
        "of the kind that bundle 'only-assesses' was made for (distance 0.00, at most 1.00)"
        in near.picture_sentence
    )
    assert far.notes == (far.picture_sentence,)


def test_an_open_bundle_takes_everything(tmp_path):
    for folder in (
        small.save(tmp_path / "open"),
        add_domain(small.save(tmp_path / "words"), None, None, words=["tree"]),
    ):
        with Assessor.load(folder, "cpu", 1) as assessor:
            found = assessor.assess(stripes(3), "a tall tree")
        assert found.domain is None or (found.domain.inside and found.domain.distance is None)
        assert domain.check_domain(found.domain, "refuse") == ()
    assert found.domain.words == ("a", "tall")
    assert [phrase.known for phrase in found.phrases] == [True]


def test_a_phrase_of_an_unknown_noun_counts_in_no_score(narrow):
    with Assessor.load(narrow, "cpu", 1) as assessor:
        both = assessor.assess(noise(0), PROMPT)
        manifest = assessor.bundle.manifest
    known = {phrase.noun: phrase.known for phrase in both.phrases}
    assert known == {"house": True, "tree": False}
    assert next(phrase for phrase in both.phrases if phrase.noun == "tree").defect is None
    assert both.domain.words == ("tree",)
    assert both.domain.phrases == ("a tall tree",)
    assert both.domain.words_sentence == (
        "Bundle 'only-assesses' does not know the words of 'a tall tree': this phrase counts in no score and is never "
        "redrawn."
    )
    assert both.domain.words_sentence in both.notes
    # The score is that of the whole prompt and of the known phrase alone.
    house = next(phrase for phrase in both.phrases if phrase.noun == "house")
    with Assessor.load(narrow, "cpu", 1) as assessor:
        alone = assessor.assess(noise(0), "a red house")
    assert house.phrase_score == pytest.approx(alone.phrases[0].phrase_score, abs=1e-5)
    penalty = min(house.phrase_score / manifest.alignment.beta, 1)
    assert both.alignment <= penalty + 1e-6


def test_an_unknown_phrase_has_no_defect_no_region_and_claims_no_place():
    phrases = prompt_phrases("a dragon, a red house, a tree")
    side = 4
    rows = np.full((3, 1 + side * side), 0.1, np.float32)
    rows[1] = 0.9  # the house is there, the dragon and the tree are not
    rows[0, 1:] = 1.0
    scored = score_phrases(phrases, rows, rows, a_bound=0.5, beta=0.4, known=[False, True, True])
    assert [(phrase.known, phrase.defect) for phrase in scored] == [
        (False, None),
        (True, None),
        (True, "noun"),
    ]
    assert overall(0.8, scored, 0.4) == pytest.approx(0.8 * 0.1 / 0.4)
    (region,) = regions(scored)
    assert region.phrase == 2
    without = score_phrases(phrases[1:], rows[1:], rows[1:], a_bound=0.5, beta=0.4)
    np.testing.assert_array_equal(region.map, regions(without)[0].map)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("a red house", ()),
        ("two Houses, three puppies; the wolf's leaf", ("wolf's",)),
        ("knives and leaves", ()),
        ("a hot-air balloon", ()),
        ("a hot-mud balloon", ("hot-mud",)),
        ("ein Drache, ein Drache", ("ein", "drache")),
        ("8k, 3 houses", ()),
        ("", ()),
    ],
)
def test_words_are_known_in_singular_plural_and_parts(text, unknown):
    words = [
        "a",
        "red",
        "house",
        "two",
        "three",
        "puppy",
        "the",
        "leaf",
        "knife",
        "and",
        "hot",
        "air",
        "balloon",
        "k",
    ]
    section = SimpleNamespace(pictures=None, words="w")
    bundle = SimpleNamespace(
        manifest=SimpleNamespace(domain=section, name="x"),
        file=lambda path: SimpleNamespace(read_text=lambda encoding: "\n".join(words)),
    )
    assert Domain(bundle).unknown(text) == unknown


def test_sentences_name_a_few_words_and_count_the_rest():
    found = Membership("b", True, None, None, tuple("abcdefghij"))
    assert found.words_sentence.startswith("Bundle 'b' does not know 'a', 'b',")
    assert "'h' and 2 more" in found.words_sentence
    assert "these phrases count" in Membership("b", True, 1.0, 2.0, ("x",), ("an x", "a y")).words_sentence


def test_a_domain_of_another_encoder_is_refused(tmp_path):
    folder = add_domain(small.save(tmp_path / "other"), np.zeros(4), np.eye(4))
    with (
        Assessor.load(folder, "cpu", 1) as assessor,
        pytest.raises(BundleError, match=r"has 4 features, but .* 12"),
    ):
        assessor.assess(noise(0), "tree")


def test_bad_domains_are_refused(narrow, tmp_path):
    good = json.loads((narrow / "bundle.json").read_text())
    for change, message in (
        ({"pictures": {"file": "domain/none.npz", "threshold": 1.0}}, "lacks the size and SHA-256 of file"),
        (
            {"pictures": {"file": "domain/pictures.npz", "threshold": 0}},
            r"out of range in 'domain\.pictures\.thr",
        ),
        ({"colours": "x"}, r"unknown 'domain\.colours'"),
    ):
        with pytest.raises(BundleError, match=message):
            Manifest.from_json(json.dumps({**good, "domain": {**good["domain"], **change}}))
    foreign = {"foreign_mean": np.zeros(2), "foreign_whiten": np.eye(2)}
    for name, make in {
        "text": lambda file: file.write_text("no archive"),
        "lacking": lambda file: np.savez(file, mean=np.zeros(2), whiten=np.eye(2)),
        "shapes": lambda file: np.savez(file, mean=np.zeros(3), whiten=np.eye(2), **foreign),
        "pickle": lambda file: np.savez(file, mean=np.array([{}], object), whiten=np.eye(2), **foreign),
        "nan": lambda file: np.savez(file, mean=np.zeros(2), whiten=np.full((2, 2), np.nan), **foreign),
    }.items():
        folder = shutil.copytree(narrow, tmp_path / name)
        make(folder / "domain" / "pictures.npz")
        with pytest.raises(BundleError, match=r"domain/pictures\.npz' was changed|has .* bytes instead of"):
            Assessor.load(folder, "cpu", 1)
        write(folder, good)
        with pytest.raises(BundleError, match=r"is no domain of pictures|do not fit"):
            Assessor.load(folder, "cpu", 1)


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """The embedded bundle with a domain around one of its example pictures."""
    folder = shutil.copytree(find_bundle("mini"), tmp_path_factory.mktemp("bundles") / "mini")
    with Assessor.load(folder, "cpu", 1) as assessor:
        image = encoder_input(scene(), assessor.bundle.manifest.alignment.resolution)
        mean = domain.features_of(
            assessor.bundle.engine("alignment_image").run({"image": image})["tokens"][0]
        )
    return add_domain(folder, mean, np.eye(len(mean)) * 100, 1.0)


def scene():
    """A house of flat colours under a sky."""
    rgb = np.full((128, 128, 3), (120, 180, 230), np.uint8)
    rgb[80:] = (90, 160, 80)
    rgb[50:90, 40:90] = (200, 40, 40)
    return rgb


def test_refine_refuses_a_picture_outside_unless_asked(mini, tmp_path):
    picture, out, report = (tmp_path / name for name in ("in.png", "out.png", "report.html"))
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (128, 128, 3), np.uint8)).save(picture)
    asked = ("refine", picture, "-p", "a red house", "-o", out, "--bundle", mini, "--device", "cpu")
    asked += ("--stages", "2", "--stage2-steps", "1", "--report", report, "--json")  # type: ignore[assignment]
    refused = run(*asked)
    assert (refused.exit_code, out.exists(), report.exists()) == (1, False, False)
    assert refused.stderr.startswith(
        "error: The picture is unlike those that bundle 'mini' was made for (distance "
    )
    assert "--outside refine" in refused.stderr
    assert refused.stderr.strip().count("\n") == 0
    done = run(*asked, "--outside", "refine")
    assert (done.exit_code, out.exists()) == (0, True), done.output
    found = json.loads(done.stdout)["domain"]
    assert (found["inside"], found["distance"] > found["threshold"], found["unknown_words"]) == (
        False,
        True,
        [],
    )
    assert "refined although the bundle was not made for its kind" in done.stderr
    page = report.read_text("utf-8")
    assert "refined although the bundle was not made for its kind" in page
    assert "The picture is unlike those that bundle" in page


def test_a_picture_inside_is_refined_as_ever(mini):
    options = RefineOptions(plan=PlanOptions(stages=(2,), stage2_steps=1))
    with Refiner.load(mini, "cpu", 1) as refiner:
        before = refiner.assess(scene(), "a red house")
        assert before.domain.inside
        refined = refiner.refine(scene(), "a red house", options=options)
        assert not any("made for" in note for note in refined.notes)
        assert refined.before.domain.distance == pytest.approx(before.domain.distance, abs=1e-3)
        foreign = np.random.default_rng(1).integers(0, 256, (128, 128, 3), np.uint8)
        with pytest.raises(
            DomainError, match="is not refined: use a bundle for its kind, or add --outside refine"
        ):
            refiner.refine(foreign, "a red house", options=options)
    with pytest.raises(OptionError, match="'outside' must be 'refuse' or 'refine', not 'maybe'"):
        dataclasses.replace(options, outside="maybe")


def test_assess_says_it_in_json_report_and_table(mini, tmp_path):
    picture, report = tmp_path / "in.png", tmp_path / "report.html"
    Image.fromarray(scene()).save(picture)
    asked = ("assess", picture, "-p", "a red house", "--bundle", mini, "--device", "cpu")
    sentence = "The picture is of the kind that bundle 'mini' was made for (distance 0.00, at most 1.00)."
    shown = run(*asked, "--report", report)
    assert sentence in shown.stdout
    assert sentence.replace("'", "&#x27;") in report.read_text("utf-8")
    assert json.loads(run(*asked, "--json").stdout)["domain"]["sentence"] == sentence


def test_an_unknown_phrase_is_shown_as_unknown(narrow, tmp_path):
    picture, report = tmp_path / "in.png", tmp_path / "report.html"
    Image.fromarray(noise(0)).save(picture)
    asked = ("assess", picture, "-p", PROMPT, "--bundle", narrow, "--device", "cpu", "--report", report)
    shown = run(*asked)
    assert next(line.split()[-1] for line in shown.stdout.splitlines() if "tall tree" in line) == "unknown"
    assert ">unknown</span>" in report.read_text("utf-8")
    phrases = json.loads(run(*asked, "--json").stdout)["phrases"]
    assert {phrase["noun"]: (phrase["known"], phrase["defect"]) for phrase in phrases}["tree"] == (
        False,
        None,
    )
