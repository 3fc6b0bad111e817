"""IP-IQA at run time: three graphs, any batch, names and units of its scores."""

import json

import numpy as np
import pytest

from grefine_rt import Assessor, BundleError
from grefine_rt.assess import ip_iqa
from grefine_rt.assess.texts import TextFeatures
from grefine_rt.bundle.manifest import IpIqa, Manifest
from tests.support import assess_bundle as small

PROMPTS = ["a red house", "tree", "a tall tree and a red house"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small.save(tmp_path_factory.mktemp("bundles") / "small")


def pictures(count=3):
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (small.SIDE, small.SIDE, 3), np.uint8) for _ in range(count)]


def expected(rgb, prompt):
    """What the three graphs must give together, in float64."""
    ids = [1, *(small.WORDS.index(word) for word in prompt.split()), 2]
    features = small.QA_TABLE[ids].max(axis=0)
    both = np.concatenate([small.tokens(rgb).max(axis=0), features])
    return both @ small.HEAD.astype(np.float64)


def test_scores_are_those_of_the_graphs(folder):
    images = pictures()
    with Assessor.load(folder, "cpu", threads=1) as assessor:
        found = [assessor.assess(*pair).ip_iqa for pair in zip(images, PROMPTS, strict=True)]
    for scores, rgb, prompt in zip(found, images, PROMPTS, strict=True):
        assert list(scores) == ["quality", "alignment"]
        np.testing.assert_allclose(list(scores.values()), expected(rgb, prompt), atol=1e-5)


def test_the_prompt_is_read_without_weights_and_tags(folder):
    (rgb,) = pictures(1)
    with Assessor.load(folder, "cpu", threads=1) as assessor:
        plain, weighted = (
            assessor.assess(rgb, text).ip_iqa for text in ("a red house", "a (red:1.3) house<lora:x:1>")
        )
    assert plain == weighted


def test_a_bundle_without_ip_iqa_says_none(tmp_path):
    folder = small.save(tmp_path / "without", ip_iqa=False)
    with Assessor.load(folder, "cpu", threads=1) as assessor:
        assert assessor.assess(pictures(1)[0], "tree").ip_iqa is None


def test_a_graph_with_another_number_of_scores_is_named(folder):
    with Assessor.load(folder, "cpu", threads=1) as assessor:
        bundle = assessor.bundle
        texts = TextFeatures(bundle, "ip_iqa_text")
        with pytest.raises(BundleError, match="names 1 scores of IP-IQA, but its graph gives 2"):
            ip_iqa.rate(bundle, IpIqa(small.SIDE, ("quality",)), pictures(1), ["tree"], texts)


def read(change):
    data = {**small.manifest(), "files": {}}
    change(data)
    names = [*data["components"].values(), "tokenizers/words.json"]
    data["files"] = {name: {"size": 1, "sha256": "0" * 64} for name in names}
    return Manifest.from_json(json.dumps(data))


def test_the_section_may_be_null_or_missing_with_its_components():
    parts = ("ip_iqa_image", "ip_iqa_text", "ip_iqa_fusion")

    def without(data):
        for part in parts:
            del data["components"][part]
        del data["tokenizers"]["ip_iqa_text"]
        data["ip_iqa"] = None

    def missing(data):
        without(data)
        del data["ip_iqa"]

    assert read(lambda data: None).ip_iqa == IpIqa(small.SIDE, ("quality", "alignment"))
    assert read(without) == read(missing)
    assert read(without).ip_iqa is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(ip_iqa=None), "null for 'ip_iqa' but the component 'ip_iqa_fusion'"),
        (lambda d: d["components"].pop("ip_iqa_text"), "lacks the component 'ip_iqa_text'"),
        (lambda d: d["tokenizers"].pop("ip_iqa_text"), "lacks the tokenizer of 'ip_iqa_text'"),
        (lambda d: d["ip_iqa"].update(resolution=0), r"out of range in 'ip_iqa\.resolution'"),
        (lambda d: d["ip_iqa"].update(outputs=["alignment"]), r"out of range in 'ip_iqa\.outputs'"),
        (lambda d: d["ip_iqa"].update(outputs=["beauty"]), r"'beauty' at 'ip_iqa\.outputs\.0'"),
        (lambda d: d.update(ip_iqa=3), "3 at 'ip_iqa' where IpIqa"),
    ],
)
def test_bad_sections_are_refused(change, message):
    with pytest.raises(BundleError, match=message):
        read(change)
